"""What a run would take: closed forms, what an actual run takes, and that nothing is touched by asking."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from typing import Any

import pytest
from pydantic import BaseModel
from support import FakeProvider, Simulate

from llm_fanout import ConfigError, Endpoint, FanOut, Limits, Prompt
from llm_fanout.core.limits import DAY
from llm_fanout.llm.plan import FIRST_GUESS, FIRST_TOKEN, NEXT_TOKEN
from llm_fanout.llm.worst import AROUND_CALL, AROUND_MESSAGE
from llm_fanout.sim import Box, SimConfig

MakeFan = Callable[..., FanOut]
URL = "http://127.0.0.1:1/v1"
NUMBERS = count()
SECONDS = FIRST_TOKEN + FIRST_GUESS * NEXT_TOKEN  # of an answer, as long as none came


class City(BaseModel):
    name: str
    population: int


def fan(limits: Limits | None = None, model: str = "openai/gpt-4o-mini", **endpoint: Any) -> FanOut:
    """A client of an account of its own."""
    api_key = f"key-of-estimate-{next(NUMBERS)}"
    return FanOut(Endpoint(model, base_url=URL, api_key=api_key, limits=limits or Limits(adapt=False), **endpoint))


def test_the_requests_a_minute_bind() -> None:
    """The first of 1,000 calls at one a second goes at once, the last after 999 seconds."""
    estimate = fan(Limits(rpm=60)).estimate(["x"] * 1_000)

    assert (estimate.calls, estimate.refused, estimate.binding) == (1_000, 0, "requests")
    assert estimate.earliest_finish == pytest.approx(999 + SECONDS)


def test_the_tokens_a_minute_bind() -> None:
    """Calls of 501 tokens, one and 500, go at the rate of their tokens, once the burst is used up."""
    estimate = fan(Limits(tpm=60_000)).estimate(["x"] * 1_000, max_tokens=500)

    assert (estimate.input_tokens, estimate.output_tokens, estimate.binding) == (1_000, 500_000, "tokens")
    assert estimate.earliest_finish == pytest.approx((1_000 * 501 - 1_000) / (59_000 / 60) + SECONDS, rel=0.01)


def test_the_slots_bind() -> None:
    """Ten at once: a hundred calls take ten times the seconds of one."""
    estimate = fan(Limits(max_concurrency=10, adapt=False)).estimate(["x"] * 100, max_tokens=100)

    assert estimate.binding == "concurrency"
    assert estimate.earliest_finish == pytest.approx(10 * (FIRST_TOKEN + 100 * NEXT_TOKEN))


def test_the_requests_of_a_day_bind() -> None:
    """What is above the day's quota waits for the next."""
    estimate = fan(Limits(rpd=100)).estimate(["x"] * 150)

    assert estimate.binding == "day"
    assert estimate.earliest_finish == pytest.approx(DAY, rel=0.01)


def test_nothing_binds() -> None:
    """Without limits all calls go at once, and the answers are all that is waited for; no call takes nothing at all."""
    unlimited, none = fan().estimate(["x"] * 100), fan().estimate([])

    assert (unlimited.binding, unlimited.earliest_finish) == ("provider", pytest.approx(SECONDS))
    assert (none.calls, none.binding, none.earliest_finish, none.cost) == (0, "provider", 0.0, (0.0, 0.0))


def test_unused_tokens_come_back_unless_they_are_charged() -> None:
    """Reserved are `max_tokens`, likely are 500: where the provider charges what was reserved, it takes longer."""
    used, reserved = (
        fan(Limits(tpm=60_000, settle=settle)).estimate(["x"] * 300, max_tokens=2_000)  # type: ignore[arg-type]  # both are
        for settle in ("used", "reserved")
    )

    assert reserved.earliest_finish == pytest.approx(300 * 2_001 / (59_000 / 60), rel=0.02)
    assert used.earliest_finish < 0.7 * reserved.earliest_finish


def test_calls_at_once_grow_as_they_would() -> None:
    """From 64 on, where nothing is stated: 6,400 calls take a fifth of a hundred rounds, or less."""
    estimate = fan(Limits()).estimate(["x"] * 6_400)

    assert 7 * SECONDS <= estimate.earliest_finish <= 20 * SECONDS


@pytest.mark.parametrize(
    ("limits", "options"),
    [
        (Limits(rpm=120), {}),
        (Limits(rpm=600, burst=30, headroom=0.2), {}),
        (Limits(rpm=6_000, tpm=20_000), {"max_tokens": 100}),
        (Limits(otpm=9_000, settle="reserved"), {"max_tokens": 100}),
        (Limits(max_concurrency=7), {}),
        (Limits(max_concurrency=20, rpm=900), {}),
        (Limits(), {}),
    ],
    ids=str,
)
def test_a_run_takes_as_long_as_estimated(
    simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan, limits: Limits, options: dict[str, Any]
) -> None:
    """After a few calls, from which it learns how answers are, an estimate is right to within a few per cent."""
    prompts = [f"prompt {number}" for number in range(250)]

    async def main() -> Any:
        async with fan_of(limits) as fan:
            await fan.map(prompts[:100], **options)
            await asyncio.sleep(120)  # what was used is back
            estimate = fan.estimate(prompts, **options)
            report = await fan.map(prompts, **options)
            return estimate, report.summary

    estimate, summary = simulate(main)

    assert estimate.earliest_finish == pytest.approx(summary.elapsed, rel=0.03)
    assert (estimate.calls, estimate.binding) == (summary.done, summary.binding)


def test_answers_teach_it(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """Their length and their time."""
    provider.seconds = 30.0
    body = {
        "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2_500, "total_tokens": 2_501},
    }
    provider.answers = [(200, {}, json.dumps(body).encode())]

    async def main() -> Any:
        async with fan_of() as fan:
            await fan.call("x")
            return fan.estimate(["x"])

    estimate = simulate(main)

    assert estimate.output_tokens == (FIRST_GUESS + 2_500) / 2
    assert estimate.earliest_finish == pytest.approx(30.0 * (FIRST_TOKEN + 15) / (FIRST_TOKEN + 25))


async def test_nothing_is_sent_and_no_quota_touched() -> None:
    """The provider hears nothing; the live quota grants, waits and learns nothing."""
    with Box(SimConfig()) as box:
        async with FanOut("openai/x", base_url=box.url, api_key="k", limits=Limits(rpm=60, tpm=60_000)) as fan:
            quota = next(route for _, route in fan._runs.routes).hold.quota
            before = quota.limits()
            estimate = fan.estimate(["x"] * 100)

            assert estimate.calls == 100
            assert box.stats["requests"] == 0
            assert (quota.limits(), quota.slots.in_use, quota._calls, quota._tokens) == (before, 0, 0, 0.0)
            assert quota.is_unused(0.0)
            assert quota.waits.held(1.0) == {}
            assert fan.summary.attempts == 0


def test_what_it_costs() -> None:
    """The likely: estimated input and a usual answer. The most: what a budget would set aside, and the longest answer."""
    estimate = fan(price=(10.0, 100.0)).estimate(["eight by"] * 10, max_tokens=1_000)
    most = 8 + AROUND_MESSAGE + AROUND_CALL

    assert estimate.cost == pytest.approx(
        ((10 * 3 * 10.0 + 10 * 500 * 100.0) / 1e6, (10 * most * 10.0 + 10 * 1_000 * 100.0) / 1e6)
    )


@pytest.mark.parametrize(
    ("model", "longest"),
    [
        ("openai/gpt-4", 8_192),  # its context window
        ("openai/gpt-5-mini", 128_000),
        ("openai/nobody-knows-it", 128_000),
        ("anthropic/claude-haiku-4-5", 16_384),  # what is sent, for that API wants to be told
    ],
)
def test_the_longest_answer_where_nobody_says(model: str, longest: int) -> None:
    """As long as the model can write, or as it is told to."""
    estimate = fan(model=model, price=(0.0, 1.0)).estimate(["x"])

    assert estimate.cost == pytest.approx((500e-6, longest * 1e-6))


def test_list_prices_count() -> None:
    """Those of the model, where nobody says another; what is not known is not said to cost nothing."""
    known = fan(model="openai/gpt-4o-mini").estimate(["x"], max_tokens=500)
    mixed = fan(model="openai/gpt-4o-mini").estimate(["x", Prompt("x", model=Endpoint("openai/what", api_key="k"))])

    assert known.cost is not None
    assert known.cost[0] == pytest.approx(0.15e-6 + 500 * 0.6e-6)
    assert mixed.cost is None


def test_what_is_said_of_the_run_or_a_prompt_counts() -> None:
    """Instructions, the schema, options and models of single prompts."""
    plain = fan().estimate(["hello"])
    told = fan().estimate(["hello"], instructions="Be very brief, please.")
    fitting = fan().estimate(["hello"], response_format=City)
    single = fan().estimate(["hello", Prompt("hello", max_tokens=5), Prompt("hello", instructions="Be brief.")])
    other = fan(Limits(rpm=60)).estimate([Prompt("x", model=Endpoint("openai/y", api_key="k"))] * 100)

    assert plain.input_tokens == 1
    assert told.input_tokens > 5
    assert fitting.input_tokens > 20
    assert (single.input_tokens, single.output_tokens) == (3 + 3, 500 + 5 + 500)
    assert other.binding == "concurrency"  # 64 at first: the account of y has no rate
    assert fan().estimate(["x"], model=Endpoint("openai/y", api_key="k", price=(1.0, 1.0))).cost is not None


def test_balanced_endpoints_share_the_calls() -> None:
    """Two accounts take half the time; the cost lies between what it is if one of them takes all."""
    keys = [
        Endpoint("openai/x", base_url=URL, api_key=f"balanced-{price}", limits=Limits(rpm=60), price=(0.0, price))
        for price in (1.0, 2.0)
    ]

    estimate = FanOut(keys).estimate(["x"] * 200, max_tokens=500)

    assert estimate.earliest_finish == pytest.approx(99 + SECONDS)
    assert estimate.cost == pytest.approx((200 * 500e-6, 200 * 1_000e-6))


def test_calls_on_one_account_share_its_quota() -> None:
    """Those of another model that shares it, and those that could as well have gone elsewhere."""
    one, other, third = (
        Endpoint(f"openai/{model}", base_url=URL, api_key=key, quota="shared", limits=Limits(rpm=60))
        for model, key in (("a", "one-of-two"), ("b", "one-of-two"), ("a", "two-of-two"))
    )

    models = FanOut(one).estimate(["x", Prompt("x", model=other)] * 50)
    balanced = FanOut([one, third]).estimate(["x", Prompt("x", model=one)] * 100)

    assert models.earliest_finish == pytest.approx(99 + SECONDS)
    assert balanced.earliest_finish == pytest.approx(
        99 + SECONDS, abs=1.5
    )  # one of the first ones was free to go either way


def test_what_would_fail_unsent_is_counted_apart() -> None:
    """Too large for the quota, no prompt, or for a model that is not known; a run goes on, and so does this."""
    rows: list[Any] = ["x", Prompt("x", max_tokens=9_000), 7, Prompt("x", model="nobody/x"), "y"]

    estimate = fan(Limits(tpm=6_000)).estimate(iter(rows))

    assert (estimate.calls, estimate.refused) == (5, 3)
    assert (estimate.input_tokens, estimate.output_tokens) == (2, 1_000)


def test_a_fallback_takes_what_fits_nowhere_else() -> None:
    """A call that its first choice could never grant is asked, and paid for, at the next."""
    large = Endpoint("openai/large", base_url=URL, api_key="large", limits=Limits(tpm=600_000), price=(0.0, 1.0))

    estimate = fan(Limits(tpm=6_000)).estimate(["x"], max_tokens=9_000, fallbacks=[large])

    assert estimate.refused == 0
    assert estimate.cost is not None
    assert estimate.cost[1] == pytest.approx(9_000e-6)


async def test_a_scope_bounds_it() -> None:
    """Inside a scope it goes by the calls at once of that scope and of those around it."""
    fanned = fan()
    async with fanned.scope("around", max_concurrency=2), fanned.scope("inner", max_concurrency=4):
        estimate = fanned.estimate(["x"] * 10)

    assert estimate.earliest_finish == pytest.approx(5 * SECONDS)


def test_prompts_are_pulled_one_after_another() -> None:
    """None is kept: what they need does not grow with their number."""
    alive = most = 0

    class Text(str):
        def __init__(self, _: str) -> None:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    estimate = fan(Limits(rpm=60)).estimate(Text("x") for _ in range(1_000))

    assert estimate.calls == 1_000
    assert most <= 3


def test_what_the_source_raises_is_passed_on() -> None:
    """It is the caller's own."""

    def rows() -> Iterator[str]:
        yield "x"
        raise OSError("the file is gone")

    with pytest.raises(OSError, match="the file is gone"):
        fan().estimate(rows())


async def test_mistakes_are_refused() -> None:
    """One prompt, prompts that have to be waited for, unknown options, an API that is not there: each with what to do."""

    async def rows() -> AsyncIterator[str]:
        yield "x"

    with pytest.raises(ConfigError, match="hand in a list of prompts"):
        fan().estimate("x")
    with pytest.raises(ConfigError, match=r"\[prompt async for prompt in prompts\]"):
        fan().estimate(rows())  # type: ignore[arg-type]  # it is refused
    with pytest.raises(ConfigError, match="did you mean max_tokens"):
        fan().estimate(["x"], max_token=5)  # type: ignore[call-arg]  # there is none
    with pytest.raises(ConfigError, match="has no responses"):
        fan(model="anthropic/claude-haiku-4-5", api="responses").estimate(["x"])
