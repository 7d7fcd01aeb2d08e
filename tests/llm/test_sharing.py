"""Identical calls under way, shared: seen through clients, with the provider as the witness."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from support import FakeProvider, Given, Simulate, answer_of, completion, consume, in_thread

from llm_fanout import FanOut, Limits, Prompt, Rejected, Report, Run, clock
from llm_fanout.llm.times import Timeouts
from llm_fanout.providers import Request
from llm_fanout.quotas import quotas
from llm_fanout.sim import Box, SimConfig

MakeFan = Callable[..., FanOut]
SEEDS = 200
CHUNK = 25


class Label(BaseModel):
    topic: str


@pytest.fixture
def box() -> Iterator[Box]:
    """A quick provider without limits or faults."""
    with Box(SimConfig(latency=0.03, jitter=0.0, answer_tokens=10)) as box:
        yield box


@pytest.fixture
async def fan(box: Box) -> AsyncIterator[FanOut]:
    """A client of that provider."""
    async with FanOut("sim/gpt-sim", base_url=box.url) as fan:
        yield fan


def leaders_of(fan: FanOut) -> dict[bytes, Any]:
    """The calls of a client that others may follow, on this event loop."""
    return fan._runs._shared.here()._leaders


async def under_way(provider: FakeProvider) -> None:
    """Wait until a request is under way: half of the virtual second that an answer takes."""
    await asyncio.sleep(0.5)
    assert provider.running


def test_a_gate_holds_nothing_once_its_run_has_ended(simulate: Simulate[Any], fan_of: MakeFan) -> None:
    """Who waited for a call that waited for the cache is over, too, though the first of its group goes on for others."""
    head = "the same beginning " * 400

    async def main() -> list[Report[str]]:
        fan = fan_of()
        first = fan.map([f"{head}a", f"{head}b", f"{head}b"], dedupe=True, warm_first=True)
        leading = asyncio.ensure_future(consume(first))
        await asyncio.sleep(0.2)
        following = asyncio.ensure_future(consume(fan.map([f"{head}a"], dedupe=True)))
        await asyncio.sleep(0.2)
        first.cancel()
        return await asyncio.gather(leading, following)

    first, second = simulate(main)

    assert first.summary.errors == {"cancelled": 3}
    assert (second.summary.succeeded, second.summary.elapsed) == (1, pytest.approx(0.8))


async def test_identical_prompts_make_one_request(fan: FanOut, box: Box) -> None:
    """Of fifty prompts in two kinds the box sees two; who shares says so, and has what is his own."""
    prompts = [Prompt(f"[[answer:{n % 2}]]", id=f"row-{n}", tag=n) for n in range(50)]

    report = await fan.map(prompts, dedupe=True)

    assert box.stats["requests"] == 2
    assert Counter(result.source for result in report) == {"provider": 2, "shared": 48}
    assert [(r.index, r.id, r.tag, r.prompt, r.text) for r in report] == [
        (n, f"row-{n}", n, prompts[n], str(n % 2)) for n in range(50)
    ]
    assert not leaders_of(fan)


async def test_what_is_shared_is_paid_once(box: Box) -> None:
    """Tokens, cost and attempts are those of one request; the others have none."""
    async with FanOut("openai/gpt-5-mini", base_url=box.url, api_key="key-of-test") as fan:
        report = await fan.map(["the same"] * 10, dedupe=True)
        alone = await fan.map(["the same"])

    assert report.summary.usage == alone.summary.usage == report[0].usage
    assert report.summary.cost == pytest.approx(alone.summary.cost)
    assert alone.summary.cost > 0
    assert [result.attempts for result in report] == [1] + [0] * 9
    assert [result.cost for result in report[1:]] == [None] * 9
    assert report.summary.attempts == 1


async def test_failures_are_shared(fan: FanOut, box: Box) -> None:
    """What is refused to one is refused to all, with one request."""
    report = await fan.map(["[[fault:400]]"] * 5, dedupe=True)

    assert box.stats["requests"] == 1
    assert [result.source for result in report] == ["provider"] + ["shared"] * 4
    assert {type(result.error) for result in report} == {Rejected}
    assert report.summary.failed == 5


def test_an_answer_that_has_come_is_not_used_again(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """Who asks after the answer asks anew, in the same run and in the next."""

    async def twice() -> AsyncIterator[str]:
        yield "the same"
        await asyncio.sleep(1.5)  # of virtual time: the answer takes one second
        yield "the same"

    async def main() -> list[str]:
        async with fan_of() as fan:
            first = await fan.map(twice(), dedupe=True)
            second = await fan.map(["the same"], dedupe=True)
            return [result.source for result in (*first, *second)]

    assert simulate(main) == ["provider"] * 3
    assert len(provider.asked) == 3


async def test_never_unless_asked(fan: FanOut, box: Box) -> None:
    """Without `dedupe` each prompt is a request, also while another run shares the same."""
    plain, sharing = await asyncio.gather(
        consume(fan.map(["the same"] * 3)), consume(fan.map(["the same"] * 3, dedupe=True))
    )

    assert box.stats["requests"] == 3 + 1
    assert {result.source for result in plain} == {"provider"}
    assert [result.source for result in sharing] == ["provider", "shared", "shared"]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"temperature": 0.5}, id="temperature"),
        pytest.param({"instructions": "Be brief."}, id="instructions"),
        pytest.param({"response_format": Label}, id="schema"),
    ],
)
async def test_what_shapes_an_answer_tells_calls_apart(fan: FanOut, box: Box, other: dict[str, Any]) -> None:
    """The same prompt with another parameter, instruction or schema is another call."""
    await asyncio.gather(consume(fan.map(["the same"], dedupe=True)), consume(fan.map(["the same"], dedupe=True, **other)))

    assert box.stats["requests"] == 2


async def test_runs_of_one_client_share(fan: FanOut, box: Box) -> None:
    """Two runs at once ask once together; another client asks for itself."""
    async with FanOut("sim/gpt-sim", base_url=box.url) as another:
        reports: list[Report[str]] = await asyncio.gather(
            *(consume(each.map(["the same"], dedupe=True)) for each in (fan, fan, another))
        )

    assert box.stats["requests"] == 2
    assert [report[0].source for report in reports] == ["provider", "shared", "provider"]
    assert fan.summary.attempts == 1


async def test_another_event_loop_asks_for_itself(box: Box) -> None:
    """A call is waited for only where it is made."""
    fan = FanOut("sim/gpt-sim", base_url=box.url)

    async def main() -> Report[str]:
        try:
            return await fan.map(["the same"] * 2, dedupe=True)
        finally:
            await fan.aclose()

    reports = await asyncio.gather(*(asyncio.to_thread(in_thread, lambda: asyncio.run(main())) for _ in range(2)))

    assert box.stats["requests"] == 2
    assert [[result.source for result in report] for report in reports] == [["provider", "shared"]] * 2


def sharing_runs(fan: FanOut, count: int = 2) -> tuple[list[Run[str]], list[asyncio.Task[Report[str]]]]:
    """Runs that ask the same, and the tasks that consume them."""
    runs = [fan.map(["the same"], dedupe=True) for _ in range(count)]
    return runs, [asyncio.ensure_future(consume(run)) for run in runs]


def test_messages_that_are_added_to_meanwhile_cost_no_result(
    simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan
) -> None:
    """An agent goes on with the list that it has handed in, while that is under way: the answer comes all the same."""

    async def main() -> Report[str]:
        async with fan_of() as fan:
            messages: list[Any] = [{"role": "user", "content": "the same"}]
            task = asyncio.ensure_future(consume(fan.map([messages, "the same"], dedupe=True)))
            await under_way(provider)
            messages.append({"role": "assistant", "content": "more"})
            report = await task
            assert not leaders_of(fan)
            return report

    assert simulate(main).values == ["the same"] * 2


def test_the_first_leaves_and_the_others_get_the_answer(
    simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan
) -> None:
    """The run that asked is cancelled: its call goes on for those who wait, with one request in all, paid by the next."""

    async def main() -> list[Report[str]]:
        async with fan_of() as fan:
            runs, tasks = sharing_runs(fan, 3)
            await under_way(provider)
            runs[0].cancel()
            first = await tasks[0]
            assert provider.running == 1
            reports = [first, *await asyncio.gather(*tasks[1:])]
            assert not leaders_of(fan)
            assert fan.summary.usage.output_tokens == 1
            return reports

    first, *others = simulate(main)

    assert len(provider.asked) == 1
    assert (first[0].error.kind, first.summary.usage.output_tokens) == ("cancelled", 0)
    assert [(report[0].text, report[0].source) for report in others] == [("the same", "shared")] * 2
    assert [report.summary.usage.output_tokens for report in others] == [1, 0]


def test_a_follower_leaves_alone(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """A run that waits for another's call and is cancelled ends at once; the call goes on."""

    async def main() -> list[Report[str]]:
        async with fan_of() as fan:
            runs, tasks = sharing_runs(fan)
            await under_way(provider)
            runs[1].cancel()
            second = await tasks[1]
            assert provider.running == 1
            return [await tasks[0], second]

    first, second = simulate(main)

    assert len(provider.asked) == 1
    assert (first[0].text, first[0].source) == ("the same", "provider")
    assert (second[0].error.kind, second[0].source) == ("cancelled", "none")


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)], ids=str)
def test_the_last_to_leave_ends_the_request(
    simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan, order: tuple[int, ...]
) -> None:
    """In whatever order they leave, the request goes on while one waits, and is aborted when none does."""

    async def main() -> list[int]:
        async with fan_of() as fan:
            runs, tasks = sharing_runs(fan, 3)
            await under_way(provider)
            running = []
            for number in order:
                runs[number].cancel()
                await tasks[number]
                running.append(provider.running)
            assert not leaders_of(fan)
            return running

    assert simulate(main) == [1, 1, 0]
    assert len(provider.asked) == 1


def test_a_call_that_waits_for_its_slot_goes_on_for_others(
    simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan
) -> None:
    """A call that was not sent yet is inherited as well: whoever waits for it has it sent."""

    async def main() -> Report[str]:
        async with fan_of(Limits(max_concurrency=1)) as fan:
            before = asyncio.ensure_future(consume(fan.map(["another"])))
            await under_way(provider)
            runs, tasks = sharing_runs(fan)
            await asyncio.sleep(0.2)
            runs[0].cancel()
            await tasks[0]
            await before
            return await tasks[1]

    report = simulate(main)

    assert [text for _, text in provider.asked] == ["another", "the same"]
    assert report[0].text == "the same"


def test_a_backoff_goes_on_for_others(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """A call that waits to be tried again is inherited with its tries."""
    provider.answers = [(500, {}, b"{}")]

    async def main() -> Report[str]:
        async with fan_of() as fan:
            runs, tasks = sharing_runs(fan)
            await asyncio.sleep(1.0)  # the first answer has come, and no other is asked for yet
            runs[0].cancel()
            await tasks[0]
            assert provider.running == 0
            return await tasks[1]

    report = simulate(main)

    assert len(provider.asked) == 2
    assert report[0].text == "the same"


@pytest.mark.parametrize("paused_after", [0.0, 0.5, 1.5], ids=["waiting", "running", "to be tried again"])
def test_a_paused_run_that_leaves_holds_nobody(
    simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan, paused_after: float
) -> None:
    """The run that asked is paused and then cancelled, at any step of its call: who waits for that gets the answer."""
    provider.answers = [(500, {"retry-after": "2"}, b"{}")]

    async def main() -> Report[str]:
        async with fan_of() as fan:
            runs = [fan.map(["the same"], dedupe=True) for _ in range(2)]
            if not paused_after:
                runs[0].pause()
            tasks = [asyncio.ensure_future(consume(run)) for run in runs]
            await asyncio.sleep(paused_after)
            runs[0].pause()
            await asyncio.sleep(0.1)
            runs[0].cancel()
            await tasks[0]
            return await tasks[1]

    report = simulate(main)

    assert report[0].text == "the same"
    assert len(provider.asked) == 2


def test_a_deadline_of_the_first_binds_nobody_else(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """The run that asked runs out of time: who waits longer gets the answer."""

    async def main() -> tuple[Report[str], Report[str]]:
        async with fan_of() as fan:
            first, second = await asyncio.gather(
                consume(fan.map(["the same"], dedupe=True, deadline=0.5)), consume(fan.map(["the same"], dedupe=True))
            )
            return first, second

    first, second = simulate(main)

    assert first[0].error.kind == "deadline"
    assert second[0].text == "the same"
    assert len(provider.asked) == 1


def test_who_has_more_time_asks_again(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """The next try comes too late for the run that asked, and for all its own; another run has the time, and tries."""
    provider.answers = [(429, {"retry-after": "10"}, b"{}")]

    async def main() -> list[Report[str]]:
        async with fan_of() as fan:
            hurried = fan.map(["the same"] * 3, dedupe=True, deadline=5)
            return await asyncio.gather(consume(hurried), consume(fan.map(["the same"] * 2, dedupe=True)))

    hurried, patient = simulate(main)

    assert [result.error.kind for result in hurried] == ["rate_limited"] * 3
    assert [result.source for result in hurried] == ["provider", "shared", "shared"]
    assert [(result.text, result.source) for result in patient] == [("the same", "provider"), ("the same", "shared")]
    assert len(provider.asked) == 2


def test_a_run_that_winds_down_lets_the_others_ask(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """A call that was not begun ends with its run, and who waited for it asks himself."""

    async def main() -> tuple[Report[str], Report[str]]:
        async with fan_of(Limits(max_concurrency=1)) as fan:
            before = asyncio.ensure_future(consume(fan.map(["another"])))
            await under_way(provider)
            runs, tasks = sharing_runs(fan)
            await asyncio.sleep(0.2)
            runs[0].wind_down()
            first = await tasks[0]
            await before
            return first, await tasks[1]

    first, second = simulate(main)

    assert first[0].error.kind == "cancelled"
    assert (second[0].text, second[0].source) == ("the same", "provider")


async def test_a_schema_is_shared_as_instances(fan: FanOut, box: Box) -> None:
    """Each has an instance of his own."""
    prompts = ['[[answer:{"topic": "law"}]]'] * 3

    report = await fan.map(prompts, response_format=Label, dedupe=True)

    assert report.values == [Label(topic="law")] * 3
    assert len({id(value) for value in report.values}) == 3
    assert box.stats["requests"] == 1


async def test_shared_answers_are_in_the_journal(fan: FanOut, box: Box, tmp_path: Path) -> None:
    """Each row has its own record, its answer counts as paid once, and the next run asks nothing."""
    prompts = [Prompt("the same", id=number) for number in range(4)]

    first = await fan.map(prompts, dedupe=True, journal=tmp_path / "run.db")
    second = await fan.map(prompts, dedupe=True, journal=tmp_path / "run.db")

    assert [result.source for result in first] == ["provider", "shared", "shared", "shared"]
    assert [(result.id, result.source) for result in second] == [(number, "journal") for number in range(4)]
    assert {result.text for result in second} == {first[0].text}
    assert box.stats["requests"] == 1


def test_a_shared_answer_is_charged_to_one_budget(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """Of a budget that has room for one call, many that are alike are answered."""

    async def main() -> Report[str]:
        async with fan_of() as fan:
            return await fan.map(["the same"] * 20, dedupe=True, max_tokens=5_000, token_budget=7_500)

    report = simulate(main)

    assert len(report.values) == 20
    assert len(provider.asked) == 1


class Moody(FakeProvider):
    """It answers after a drawn while, and fails now and then; it notes how often each prompt is under way at once."""

    def __init__(self, draw: random.Random) -> None:
        super().__init__()
        self._draw = draw
        self.given = 0
        self.at_once: Counter[str] = Counter()
        self.worst = 0

    async def post(self, request: Request, timeouts: Timeouts) -> Given:
        text = request.messages[-1]["content"]
        self.asked.append((clock.now(), text))
        self.at_once[text] += 1
        self.worst = max(self.worst, self.at_once[text])
        self.running += 1
        try:
            await asyncio.sleep(self._draw.choice([0.0, 0.1, 1.0, self._draw.uniform(0, 3)]))
        finally:
            self.running -= 1
            self.at_once[text] -= 1
        if self._draw.random() < 0.2:
            return answer_of(self._draw.choice([429, 500, 503]), {}, b"{}")
        self.given += 1
        return answer_of(200, {}, json.dumps(completion(text)).encode())


async def end_somehow(run: Run[str], task: asyncio.Task[Report[str]], draw: random.Random) -> bool:
    """Let a run go on, or end it in one way or another, after a while; whether it was let go on."""
    how = draw.choice(["not", "not", "cancel", "task", "leave", "wind down"])
    if how != "not":
        await asyncio.sleep(draw.choice([0.0, 0.1, 1.0, draw.uniform(0, 5)]))
    if how == "cancel":
        run.cancel()
    elif how == "task":
        task.cancel()
    elif how == "leave":
        await run.leave()
    elif how == "wind down":
        run.wind_down()
    await asyncio.wait([task])
    return how == "not"


async def share(fan: FanOut, draw: random.Random) -> list[tuple[Run[str], bool]]:
    """Runs that ask the same few things at about the same time, and whether each was let go on to its end."""
    runs, ends = [], []
    for _ in range(draw.randint(2, 6)):
        prompts = [f"text {draw.randint(0, 3)}" for _ in range(draw.randint(1, 8))]
        deadline = {"deadline": draw.uniform(0.1, 5)} if draw.random() < 0.15 else {}
        run = fan.map(prompts, dedupe=True, **deadline)
        runs.append((run, bool(deadline)))
        ends.append(asyncio.ensure_future(end_somehow(run, asyncio.ensure_future(consume(run)), draw)))
        await asyncio.sleep(draw.choice([0.0, 0.0, 0.1, 1.0]))
    went_on = await asyncio.gather(*ends)
    return [(run, full and not bounded) for (run, bounded), full in zip(runs, went_on, strict=True)]


async def history(draw: random.Random, provider: Moody, fan: FanOut) -> None:
    """One history of runs that share, and what has to hold in the end."""
    async with fan, asyncio.timeout(3600):
        runs = await share(fan, draw)
        for run, whole in runs:
            report = run.report
            assert [result.index for result in report] == list(range(len(report)))
            assert all(result.text == result.prompt.content for result in report if result.ok)
            assert not whole or len(report.values) == run.summary.total
            assert run._flow._calls.parked == 0
        assert not leaders_of(fan)
        assert (provider.running, fan.summary.in_flight) == (0, 0)
        assert provider.worst <= 1
        assert sum(run.summary.usage.output_tokens for run, _ in runs) == provider.given


def test_histories_of_sharing(
    seeds: range, simulate: Simulate[Any], monkeypatch: pytest.MonkeyPatch, fan_of: MakeFan
) -> None:
    """Runs end at any step: the others get their answers, each is asked once at a time and paid once, nothing is left."""
    for seed in seeds:
        draw = random.Random(f"sharing {seed}")
        provider = Moody(draw)
        fan = fan_of(Limits(max_concurrency=draw.choice([1, 2, 8])))
        monkeypatch.setattr("llm_fanout.llm.routes.lanes.WireLane", lambda wire, place, form, to=provider: to)
        monkeypatch.setattr(quotas.engine._schedule, "_random", random.Random(seed).random)
        try:
            simulate(partial(history, draw, provider, fan))
        except AssertionError as exc:
            exc.add_note(f"seed {seed}")
            raise
