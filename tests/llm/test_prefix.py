"""What prompts begin with, and what becomes of it: one goes first, and the others find the provider's cache warm."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from support import FakeProvider, Simulate

from llm_fanout import Endpoint, FanOut, Prompt, Report
from llm_fanout.llm.digest import Frame
from llm_fanout.llm.prefix import prefix_of
from llm_fanout.providers import FORMATS, Request
from llm_fanout.providers.writing import body_of
from llm_fanout.sim import Box, SimConfig

LONG = "One of the rules that hold for all of these questions is written here. " * 90  # some 1,300 tokens


@pytest.fixture
def box() -> Iterator[Box]:
    """A provider with a prompt cache; a stream of it takes a while from its first piece to its end."""
    with Box(SimConfig(latency=0.4, ttft=0.1, jitter=0.0, answer_tokens=8)) as box:
        yield box


@pytest.fixture
async def fan(box: Box) -> AsyncIterator[FanOut]:
    """A client of that provider, at a price of its own."""
    async with FanOut(Endpoint("sim/x", base_url=box.url, price=(10.0, 20.0, 1.0)), instructions=LONG) as fan:
        yield fan


def key(*messages: tuple[str, Any], **params: Any) -> bytes | None:
    """The prefix of a request with these messages."""
    request = Request("x", [{"role": role, "content": content} for role, content in messages], params)
    return prefix_of(request, Frame([("x", "chat", "")], params))


def test_all_but_the_last_message_is_the_beginning() -> None:
    """If it is long; then questions differ, and beginnings do not."""
    assert key(("system", LONG), ("user", "a")) == key(("system", LONG), ("user", "b")) is not None
    assert key(("system", LONG), ("user", "a")) != key(("system", LONG + "!"), ("user", "a"))
    assert key(("system", "short"), ("user", "a")) is None


def test_a_long_text_has_a_beginning_of_its_own() -> None:
    """Where the messages before it are short: its first 4,096 characters."""
    assert key(("user", LONG + "a")) == key(("user", LONG + "b")) is not None
    assert key(("user", "a" + LONG)) != key(("user", "b" + LONG))
    assert key(("system", "1"), ("user", LONG)) != key(("system", "2"), ("user", LONG))
    assert key(("user", [{"type": "text", "text": LONG}])) is None


def test_tools_are_a_part_of_it() -> None:
    """They come first of all."""
    tools = [{"type": "function", "function": {"name": "f", "description": LONG}}]

    assert key(("user", "a"), tools=tools) == key(("user", "b"), tools=tools) is not None


async def test_one_goes_first_and_warms_the_cache(fan: FanOut, box: Box) -> None:
    """The others find their beginning cached; what that has saved is told."""
    report = await fan.map([f"Question {number}" for number in range(20)], warm_first=True)

    usage = report.summary.usage
    assert report.summary.succeeded == 20
    assert usage.cached_tokens == 19 * (report[1].usage.cached_tokens) > 19 * 1_000
    assert report[0].usage.cached_tokens == 0
    assert report.summary.saved == pytest.approx(usage.cached_tokens * 9e-6)
    assert f"{usage.cached_tokens:,} cached, which saved ${report.summary.saved:.4f}" in str(report)


async def test_all_at_once_finds_it_cold(fan: FanOut) -> None:
    """Without it, a fan-out pays for the same beginning each time."""
    report = await fan.map([f"Question {number}" for number in range(20)])

    assert (report.summary.usage.cached_tokens, report.summary.saved) == (0, 0.0)
    assert "cached" not in str(report)


async def test_the_others_go_at_the_first_piece(fan: FanOut, box: Box) -> None:
    """The first is streamed for that; its answer is the same as ever, and it need not have ended."""

    class Label(BaseModel):
        topic: str

    report = await fan.map(["a", "b", "c"], warm_first=True, response_format=Label)

    assert [result.ttft is not None for result in report] == [True, False, False]
    assert all(isinstance(result.value, Label) for result in report)
    assert report.summary.elapsed < 0.4 + 0.4 + 0.2  # 0.1 to the first piece, and then the rest; with slack


async def test_a_first_that_fails_lets_the_others_go(fan: FanOut) -> None:
    """And groups do not wait for each other."""
    other = [{"role": "system", "content": LONG[::-1]}, {"role": "user", "content": "x"}]

    report = await fan.map(["[[fault:400]]", "b", Prompt(other), "c"], warm_first=True)  # type: ignore[arg-type]  # messages

    assert [result.ok for result in report] == [False, True, True, True]


def test_short_prompts_do_not_wait(provider: FakeProvider, fan_of: Callable[..., FanOut], simulate: Simulate[Any]) -> None:
    """What cannot be cached goes at once; embeddings have no beginning."""

    async def main() -> Any:
        fan = fan_of()
        return await fan.map(["a", "b", "c"], warm_first=True)

    assert simulate(main).summary.elapsed == pytest.approx(1.0)


def test_a_run_that_ends_early_ends_those_that_wait(
    provider: FakeProvider, fan_of: Callable[..., FanOut], simulate: Simulate[Any]
) -> None:
    """At any instant, each has its one Result, with and without a budget."""

    async def history(seed: int) -> Report[str]:
        draw = random.Random(seed)
        options: dict[str, Any] = {"token_budget": 100_000_000} if seed % 2 else {}
        fan = fan_of(**options)
        run = fan.map([f"{LONG}{draw.randrange(9)}" for _ in range(40)], warm_first=True, dedupe=seed % 3 == 0)
        asyncio.get_running_loop().call_later(draw.uniform(0.0, 2.2), run.cancel if seed % 4 else run.wind_down)
        return await run

    async def main() -> list[Report[str]]:
        return [await history(seed) for seed in range(40)]

    reports = simulate(main)

    assert all([result.index for result in report] == list(range(40)) for report in reports)
    assert {report.summary.in_flight for report in reports} == {0}
    assert {result.error.kind for report in reports for result in report if result.error} == {"cancelled"}


def test_anthropic_is_told_what_to_cache() -> None:
    """The last block that is shared is marked, unless something there is marked already; others never are."""
    form = FORMATS["messages"]
    messages = [{"role": "system", "content": "Rules."}, {"role": "user", "content": "A question."}]
    marked = {"type": "text", "text": "Rules.", "cache_control": {"type": "ephemeral"}}
    own = [{"type": "text", "text": "Rules.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]

    told = body_of(form, Request("x", messages, shared=1))
    said = body_of(form, Request("x", [{"role": "system", "content": own}, messages[1]], shared=1))
    nothing = body_of(form, Request("x", [{"role": "user", "content": None}, messages[1]], shared=1))

    assert (told["system"], told["messages"]) == ([marked], [messages[1]])
    assert said["system"] == own
    assert nothing["messages"][0]["content"] is None
    assert body_of(form, Request("x", messages))["system"] == "Rules."
    assert "cache_control" not in str(body_of(FORMATS["chat"], Request("x", messages, shared=1)))


async def test_it_is_marked_only_where_that_was_wished(box: Box) -> None:
    """Anthropic bills what is written to its cache."""
    async with FanOut("anthropic/x", base_url=box.url.removesuffix("/v1"), api_key="k", instructions=LONG) as fan:
        cold = await fan.map(["a", "b"])
        warm = await fan.map(["c", "d"], warm_first=True)

    assert cold.summary.succeeded == warm.summary.succeeded == 2
