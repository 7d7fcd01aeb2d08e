"""Budgets end to end: what the provider in a box bills is the witness."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import spender
from aiohttp import web
from pydantic import BaseModel
from support import FakeProvider, Simulate, completion, consume, in_thread, served

from llm_fanout import ConfigError, Endpoint, FanOut, Limits, Prompt, Report, Stopped
from llm_fanout.budgets import AHEAD
from llm_fanout.errors import CallError, JournalError, RunFailed
from llm_fanout.journal import accounts
from llm_fanout.providers import Reply, Request
from llm_fanout.quotas import quotas
from llm_fanout.sim import Box, SimConfig
from llm_fanout.sim.calls import Calls
from llm_fanout.spending import Usage

FAST = SimConfig(latency=0.01, jitter=0.0, answer_tokens=50)
PRICE = (1_000.0, 3_000.0)  # USD per million tokens
DEARER = (2_000.0, 9_000.0)
EPSILON = 1e-9


class Billed(NamedTuple):
    """What a box has billed for one request, answered or not: all that had been let in."""

    seed: int  # of the box
    text: str
    input: int
    output: int

    def usd(self, price: tuple[float, float] = PRICE) -> float:
        return (self.input * price[0] + self.output * price[1]) / 1e6


class Meter(list[Billed]):
    """What all boxes have billed."""

    def usd(self, word: str = "", prices: tuple[tuple[float, float], ...] = (PRICE,)) -> float:
        """For requests with that word in their text; prices by the box's seed."""
        return sum(each.usd(prices[each.seed]) for each in self if word in each.text)

    @property
    def tokens(self) -> int:
        return sum(each.input + each.output for each in self)


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Meter:
    """Reads what boxes bill, of requests that break off or are hung up on, too."""
    meter, reply = Meter(), Calls._reply

    async def read(self: Calls, call: Any, asked: Any, fate: Any, said: Any) -> Any:
        meter.append(Billed(self._config.seed, asked.text, asked.tokens, said.tokens))
        return await reply(self, call, asked, fate, said)

    monkeypatch.setattr(Calls, "_reply", read)
    return meter


@pytest.fixture
def box(meter: Meter) -> Iterator[Box]:
    """A quick provider without limits or faults."""
    with Box(FAST) as box:
        yield box


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without delay: every draw of the jitter is zero."""
    monkeypatch.setattr(quotas.engine._schedule, "_random", lambda: 0.0)


def at(box: Box, price: tuple[float, float] | None = PRICE, **more: Any) -> Endpoint:
    return Endpoint("sim/x", base_url=box.url, price=price, **more)


def client(box: Box, **options: Any) -> FanOut:
    return FanOut(at(box), limits=Limits(max_concurrency=16), **options)


def kinds(report: Report[Any]) -> dict[str, int]:
    """How many calls failed, by kind; the answered ones under "ok"."""
    found: dict[str, int] = {}
    for result in report:
        kind = "ok" if result.error is None else result.error.kind
        found[kind] = found.get(kind, 0) + 1
    return found


FAULTS = {
    **dict.fromkeys(("500", "429", "hang", "cut", "malformed"), 0.06),
    **dict.fromkeys(("truncated", "empty", "error200", "stall", "error_event", "bad_utf8"), 0.03),
}


class Sized(BaseModel):
    """What no answer of these boxes is."""

    size: int


def prompts(word: str, number: int, draw: random.Random) -> list[Prompt]:
    """Of any length, some with a length of their answers."""
    made = []
    for at in range(number):
        options: dict[str, Any] = {"max_tokens": draw.choice([5, 30, 200])} if draw.random() < 0.5 else {}
        text = f"{word} {at} [[wait:0.01]] " + "x \u00e9\U0001f600, 1" * draw.randrange(40)
        made.append(Prompt(text, **options))
    return made


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("seed", range(4))
async def test_no_budget_is_ever_exceeded(seed: int, meter: Meter) -> None:
    """Client, nested scopes and runs, each with its own: maps, streams, repairs and vectors, while all goes wrong, with a
    fallback at another price. Whatever the boxes billed for whatever was within a budget is no more than that.
    """
    draw = random.Random(seed)
    limits = {name: draw.uniform(0.5, 4.0) for name in ("client", "outer", "inner", "map", "stream")}
    with ExitStack() as stack:
        boxes = [
            stack.enter_context(Box(SimConfig(latency=0.01, answer_tokens=50, faults=FAULTS, seed=at))) for at in (0, 1)
        ]
        fan = FanOut(
            at(boxes[0], PRICE),
            limits=Limits(max_concurrency=16),
            fallbacks=[at(boxes[1], DEARER)],
            budget=limits["client"],
            timeout=0.25,
            max_retries=2,
        )
        async with fan, fan.scope("outer", budget=limits["outer"]):
            one = fan.map(prompts("map", 25, draw), budget=limits["map"])
            two = fan.map(prompts("stream", 15, draw), stream=True, budget=limits["stream"])
            repairs = fan.map(["[[answer:{}]] [[wait:0.01]] repair"] * 3, response_format=Sized)
            reports = asyncio.gather(one, two, repairs)
            async with fan.scope("inner", budget=limits["inner"]):
                within = await asyncio.gather(
                    fan.map(prompts("inner", 10, draw)), fan.embed([f"inner vector {at} [[wait:0.01]]" for at in range(10)])
                )
            found = [*await reports, *within]

    prices = (PRICE, DEARER)
    assert meter.usd("", prices) <= min(limits["client"], limits["outer"]) + EPSILON
    assert meter.usd("inner", prices) <= limits["inner"] + EPSILON
    assert meter.usd("map", prices) <= limits["map"] + EPSILON
    assert meter.usd("stream", prices) <= limits["stream"] + EPSILON
    assert [len(report) for report in found] == [25, 15, 3, 10, 10]
    assert meter.usd("", prices) > 0.05


@pytest.mark.usefixtures("_quick")
async def test_no_token_budget_is_ever_exceeded(meter: Meter) -> None:
    """The same in tokens, with retries of what may have been paid for."""
    with Box(SimConfig(latency=0.01, answer_tokens=300, faults=FAULTS)) as box:
        async with FanOut(at(box, None), timeout=0.25, max_retries=3, limits=Limits(max_concurrency=8)) as fan:
            report = await fan.map(prompts("any", 60, random.Random(5)), token_budget=20_000)

    assert 5_000 < meter.tokens <= 20_000
    assert report.summary.stopped is not None


async def test_two_event_loops_share_a_budget(box: Box, meter: Meter) -> None:
    """Two threads with a loop each ask through one client: together they stay within, and use most of it."""
    fan = client(box, budget=2.0, max_tokens=60)

    async def ask(word: str) -> Report[str]:
        return await fan.map([f"{word} {at}" for at in range(60)])

    reports: list[Report[str]] = []
    threads = [threading.Thread(target=lambda word=word: reports.append(asyncio.run(ask(word)))) for word in ("one", "two")]
    for thread in threads:
        thread.start()
    await asyncio.to_thread(lambda: [thread.join() for thread in threads])
    await fan.aclose()

    assert 1.4 < meter.usd() <= 2.0 + EPSILON
    assert all(report.summary.stopped is not None for report in reports)


async def test_a_loop_that_ends_leaves_nobody_waiting_for_the_disk(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that had a ceiling raised is gone before the disk has answered: others that wait for it go on."""
    ready, raise_ceiling = threading.Event(), accounts.raise_ceiling

    def late(*said: Any) -> None:
        ready.wait(5)
        raise_ceiling(*said)

    async def ask_and_leave(fan: FanOut) -> None:
        async with fan.map(["hello"]) as run:
            following = asyncio.ensure_future(consume(run))
            await asyncio.sleep(0)
        await following

    monkeypatch.setattr(accounts, "raise_ceiling", late)
    async with FanOut(at(box)) as fan, fan.scope("both", budget=50.0, journal=tmp_path / "run.db"):
        await asyncio.to_thread(lambda: asyncio.run(ask_and_leave(fan)))
        run = fan.map(["hello"], deadline=5)
        following = asyncio.ensure_future(consume(run))
        await asyncio.sleep(0)
        ready.set()
        report = await following

    assert kinds(report) == {"ok": 1}


async def test_what_a_scope_leaves_under_way_elsewhere_may_have_been_paid_for(tmp_path: Path) -> None:
    """A call of another thread is still cleaning up when the scope, and its journal, is left: all of it counts."""
    started, go_on = threading.Event(), threading.Event()

    async def answer(request: Request) -> str:
        started.set()
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.to_thread(go_on.wait, 5)
        return ""

    fan = FanOut(Endpoint("own/f", provider=answer))
    async with fan.scope("both", token_budget=10_000, journal=tmp_path / "run.db"):
        thread = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(consume(fan.map(["a"], max_tokens=7_000)))))
        await asyncio.to_thread(started.wait, 5)
    go_on.set()
    with pytest.raises(JournalError, match="was closed"):
        await thread
    report = await fan.map(["b"], max_tokens=4_000, token_budget=10_000, journal=tmp_path / "run.db", deadline=5)

    assert kinds(report) == {"budget": 1}


async def test_what_is_cancelled_in_mid_flight_may_have_been_paid_for(meter: Meter) -> None:
    """Calls that were cut off keep what was set aside for them; the next run has only the rest."""
    with Box(SimConfig(latency=0.3, jitter=0.0, answer_tokens=50)) as box:
        async with client(box, budget=1.5, max_tokens=50) as fan:
            run = fan.map([f"first {at}" for at in range(3)])
            going = asyncio.ensure_future(consume(run))
            while box.stats["in_flight"] < 3:
                await asyncio.sleep(0.01)
            run.cancel()
            await going
            report = await fan.map([f"second {at}" for at in range(20)])

    assert meter.usd("first") > 0.3
    assert meter.usd("second") > 0
    assert meter.usd() <= 1.5 + EPSILON
    assert "of 1.5 USD" in str(report.summary.stopped)


@pytest.mark.parametrize("budget", [None, 1_000.0])
async def test_a_generous_budget_costs_no_concurrency(budget: float | None, meter: Meter) -> None:
    """Without max_tokens, as many calls are in flight as without a budget."""
    with Box(SimConfig(latency=0.3, jitter=0.0)) as box:
        options: dict[str, Any] = {} if budget is None else {"budget": budget}
        async with FanOut(at(box)) as fan:
            report = await fan.map([f"number {at}" for at in range(128)], **options)
        peak = box.stats["peak_in_flight"]

    assert report.summary.succeeded == 128
    assert peak >= 64


async def test_a_spent_budget_ends_the_run(box: Box, meter: Meter) -> None:
    """What is under way ends, what was not started is not; the Report says what was stopped and why, and others go on."""
    async with client(box, max_tokens=60) as fan:
        report = await fan.map([f"number {at}" for at in range(100)], budget=1.0)
        other = await fan.map(["another"])

    found, stopped = kinds(report), report.summary.stopped
    assert stopped is not None
    assert (stopped.kind, set(found)) == ("budget", {"ok", "budget", "not_attempted"})
    assert "the budget of the run is spent: of 1 USD" in str(stopped)
    assert found["ok"] + 1 == len(meter)
    assert box.stats["requests"] == len(meter)
    assert report.summary.cost == pytest.approx(meter.usd("number"))
    assert report.summary.cost <= 1.0 + EPSILON
    assert other.summary.succeeded == 1


async def test_a_row_that_is_dearer_than_the_budget_costs_one_row(box: Box) -> None:
    """The others are asked, and the run does not end."""
    async with client(box, max_tokens=10) as fan:
        report = await fan.map(["short", "x" * 5_000, Prompt("long", max_tokens=9_000), "short"], budget=2.0)

    assert kinds(report) == {"ok": 2, "budget": 2}
    assert "more than the budget of the run (2 USD)" in str(report[1].error)
    assert report.summary.stopped is None


async def test_a_budget_of_nothing(box: Box, meter: Meter) -> None:
    """Nothing is sent, and the run ends with its first call, whatever comes after."""

    def forever() -> Iterator[str]:
        while True:
            yield "more"

    async with client(box) as fan:
        report = await fan.map(forever(), budget=0)
        tokens = await fan.map(["more"] * 3, token_budget=0)

    assert not meter
    assert report.summary.stopped is not None
    assert "more than the budget of the run (0 USD)" in str(report.summary.stopped)
    assert tokens.summary.stopped is not None


async def test_a_higher_budget_goes_on(box: Box, meter: Meter, tmp_path: Path) -> None:
    """With the journal, whose budget has to hold both lives, or with the report, whose answers are paid for: nothing is
    asked twice."""
    texts = [f"number {at}" for at in range(30)]
    journal = tmp_path / "run.db"
    async with client(box, max_tokens=60) as fan:
        first = await fan.map(texts, budget=1.0, journal=journal)
        same = await fan.map(texts, budget=1.0, journal=journal)
        spent = meter.usd()
        reused = await fan.map(texts, budget=9.0, reuse=first)
        paid = meter.usd() - spent
        done = await fan.map(texts, budget=20.0, journal=journal)

    assert 0.5 < spent <= 1.0 + EPSILON
    assert 0 < kinds(first)["ok"] < 30
    assert kinds(same)["ok"] == kinds(first)["ok"]
    assert kinds(reused) == kinds(done) == {"ok": 30}
    assert reused.summary.cost == pytest.approx(paid)
    assert len(meter) == kinds(first)["ok"] + 2 * (30 - kinds(first)["ok"])


async def test_a_clean_end_gives_back_what_was_not_used(box: Box, meter: Meter, tmp_path: Path) -> None:
    """Lives of one row each, over one journal: all that was set aside and not used is there for the next ones."""
    journal, lives = tmp_path / "run.db", 0
    async with client(box, max_tokens=60) as fan:
        while True:
            report = await fan.map([f"life {lives}"], budget=1.0, journal=journal)
            if report.summary.stopped is not None:
                break
            lives += 1

    cost_at_most = (len("life 10") + 200) * PRICE[0] / 1e6 + 60 * PRICE[1] / 1e6
    assert 1.0 - cost_at_most < meter.usd() <= 1.0 + EPSILON
    assert lives == len(meter)


async def test_what_was_spent_before_there_was_a_budget_counts(box: Box, meter: Meter, tmp_path: Path) -> None:
    """A journal that was used without one is charged for what was reported then."""
    journal = tmp_path / "run.db"
    async with client(box, max_tokens=60) as fan:
        await fan.map([f"free {at}" for at in range(5)], journal=journal)
        before = meter.usd()
        report = await fan.map([f"bound {at}" for at in range(50)], journal=journal, budget=before + 0.5)

    assert meter.usd() <= before + 0.5 + EPSILON
    assert meter.usd("bound") > 0.1
    assert report.summary.stopped is not None


async def test_answers_that_were_reused_are_not_charged_to_a_journal(box: Box, meter: Meter, tmp_path: Path) -> None:
    """They were paid for elsewhere: a second life has as much left as the first had."""
    journal, texts = tmp_path / "run.db", [f"number {at}" for at in range(10)]
    async with client(box, max_tokens=60) as fan:
        report = await fan.map(texts)
        paid = meter.usd()
        await fan.map(texts, reuse=report, journal=journal, budget=1.0)
        more = await fan.map([f"more {at}" for at in range(3)], journal=journal, budget=1.0)

    assert paid > 0.7
    assert more.summary.succeeded == 3


async def test_a_scope_knows_what_is_recorded_elsewhere(box: Box, meter: Meter, tmp_path: Path) -> None:
    """A run within that has a journal of its own is paid for by the scope's budget, over the whole life of its journal."""
    async with client(box, max_tokens=60) as fan:
        for life in range(6):
            async with fan.scope("s", budget=1.0, journal=tmp_path / "scope.db"):
                await fan.map([f"life {life} {at}" for at in range(3)], journal=tmp_path / "run.db")

    assert 0.5 < meter.usd() <= 1.0 + EPSILON


@pytest.mark.parametrize("where", ["run", "client", "scope", "fallback"])
async def test_without_a_price_nothing_is_sent(where: str, box: Box, meter: Meter) -> None:
    """The error names what to say instead, and comes before anything is sent."""
    endpoint = at(box, None)
    async with FanOut(at(box) if where == "fallback" else endpoint, **({"budget": 1.0} if where == "client" else {})) as fan:
        options: dict[str, Any] = {"budget": 1.0} if where in ("run", "fallback") else {}
        if where == "fallback":
            options["fallbacks"] = [endpoint]
        async with fan.scope("s", **({"budget": 1.0} if where == "scope" else {})):
            with pytest.raises(ConfigError, match=r"Endpoint\('sim/x', price=.*token_budget="):
                fan.map(["hello"], **options)

    assert not meter


async def test_a_model_of_a_prompts_own_without_a_price_costs_that_row(box: Box) -> None:
    """The others are asked."""
    async with client(box) as fan:
        report = await fan.map(["one", Prompt("two", model=at(box, None, quota="other")), "three"], budget=9.0)

    assert kinds(report) == {"ok": 2, "invalid": 1}
    assert "token_budget=" in str(report[1].error)


async def test_an_answer_that_the_budget_cut(meter: Meter) -> None:
    """It is no answer, and says so; what came is kept, and paid for. One that says max_tokens is cut there as ever."""
    with Box(SimConfig(latency=0.01, answer_tokens=9_000)) as box:
        async with FanOut(at(box, None)) as fan:
            report = await fan.map(["tell me all"], token_budget=3_000)
            stated = await fan.map(["tell me all"], token_budget=3_000, max_tokens=500)

    error = report[0].error
    assert isinstance(error, Stopped)
    assert (error.kind, report[0].ok, stated[0].ok) == ("budget", False, True)
    assert "cut at 2," in error.message
    assert "raise it, or say max_tokens" in error.message
    assert error.partial.startswith("[simulated answer]")
    assert report.summary.usage.output_tokens >= 2_000
    assert stated[0].finish_reason == "length"


OPENAI = (
    "max_tokens is too large: {asked}. This model supports at most 16384 completion tokens, whereas you provided {asked}."
)
ANTHROPIC = "max_tokens: {asked} > 16384, which is the maximum allowed number of output tokens for claude-3-5-haiku-20241022"
VLLM = (
    "This model's maximum context length is 16406 tokens. However, you requested 99999 tokens (22 in the messages, {asked} "
    "in the completion). Please reduce the length of the messages or completion."
)


@pytest.mark.parametrize("wording", [OPENAI, ANTHROPIC, VLLM])
async def test_a_model_that_takes_fewer_tokens_is_asked_for_these(wording: str) -> None:
    """Its refusal costs nothing, the call is asked anew, and those that come later are not refused."""
    lengths: list[int] = []

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        lengths.append(body["max_tokens"])
        if body["max_tokens"] <= 16_384:
            return web.json_response(completion("yes"))
        error = {"message": wording.format(asked=body["max_tokens"]), "type": "invalid_request_error", "code": None}
        return web.json_response({"error": error}, status=400)

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    async with served(app) as port:
        endpoint = Endpoint("openai/some", base_url=f"http://127.0.0.1:{port}/v1", api_key="none", price=(1.0, 1.0))
        async with FanOut(endpoint, budget=50.0) as fan:
            first, second = await fan.call("hello"), await fan.call("hello again")

    assert (first.value, second.value) == ("yes", "yes")
    assert first.cost == pytest.approx(2e-6)
    assert lengths[:2] == [32_768, 16_384]
    assert len(lengths) == 3
    assert lengths[2] <= 16_384


@pytest.mark.parametrize("fault", ["400", "401", "413", "429"])
async def test_a_refusal_costs_nothing(fault: str, box: Box, meter: Meter) -> None:
    """Refused once, a call may use the budget that was set aside for all of it."""
    texts = [f"[[faults:{fault},ok]] [[wait:0.01]] {at}" for at in range(2)]
    async with client(box, max_tokens=60, budget=0.75) as fan:
        report = await fan.map(texts)
        again = await fan.map(["and then"] * 2)

    assert fan._runs._purses[0].budget.used == pytest.approx(meter.usd())
    assert report.summary.cost + again.summary.cost == pytest.approx(meter.usd())


async def test_a_refusal_that_names_no_length_is_final(box: Box) -> None:
    """The length that the budget allows was not at fault, and stays what it is."""
    async with client(box, budget=1_000.0) as fan:
        report = await fan.map(["[[fault:400]]", "[[answer:yes]]"])

    assert kinds(report) == {"ok": 1, "invalid": 1}
    assert box.stats["requests"] == 2


async def test_a_refused_connection_costs_nothing() -> None:
    """Nobody was there."""
    with Box(FAST) as box:
        endpoint = at(box)
    async with FanOut(endpoint, budget=20.0, max_retries=1) as fan:
        report = await fan.map(["hello"] * 3)

    assert kinds(report) == {"connection": 3}
    assert fan._runs._purses[0].budget.used == 0.0
    assert fan._runs._purses[0].budget.room == pytest.approx(20.0)


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("fault", ["reset", "504"])
async def test_what_broke_on_the_way_back_may_have_been_paid_for(fault: str, box: Box) -> None:
    """A connection that is closed before the answer, and a proxy that gave up: the model may have been at work."""
    async with client(box, max_tokens=60, budget=5.0, max_retries=0) as fan:
        run = await fan.map([Prompt(f"[[fault:{fault}]]")])

    assert not run[0].ok
    assert fan._runs._purses[0].budget.used == pytest.approx((len(f"[[fault:{fault}]]") + 136) * 1e-3 + 0.18)


async def test_a_failed_call_is_not_tried_again_without_budget_for_that(meter: Meter) -> None:
    """What it used may have been paid for, and there is no more: it says what it failed by."""
    with Box(SimConfig(latency=0.01, answer_tokens=50, faults={"malformed": 1.0})) as box:
        async with client(box, max_tokens=60) as fan:
            report = await fan.map(["hello"], budget=0.5)

    error = report[0].error
    assert isinstance(error, CallError)
    assert error.kind == "budget"
    assert "no budget left for another try after: the answer is none of the chat API" in error.message
    assert len(meter) == 1
    assert report[0].attempts == 1


async def test_a_repair_is_paid_for_with_all_that_it_says(box: Box, meter: Meter) -> None:
    """The bad answer goes along, and costs input: where the budget has no room for that, it is not asked for again."""
    text = f"[[answer:{'no ' * 700}]]"
    async with client(box, max_tokens=1_500) as fan:
        report = await fan.map([text], response_format=Sized, token_budget=7_000)
        more = await fan.map([text], response_format=Sized, token_budget=40_000)

    assert (kinds(report), len(meter)) == ({"budget": 1}, 1 + 3)
    assert "another try after: the answer does not fit its schema" in str(report[0].error)
    assert (kinds(more), more[0].attempts) == ({"schema": 1}, 3)


async def test_what_is_said_of_half_an_answer_is_not_believed() -> None:
    """Anthropic counts a token of output at the beginning of a stream: if it breaks off, all of it may have been used."""

    async def answer(request: Request) -> Reply:
        return Reply("half an ans", finish_reason=None, usage=Usage(10, 1))

    fan = FanOut(Endpoint("own/f", provider=answer), token_budget=5_000, max_tokens=900, max_retries=0)
    report = await fan.map(["hello"])

    assert kinds(report) == {"truncated": 1}
    assert fan._runs._purses[0].budget.used > 900


async def test_a_deadline_ends_what_waits_for_budget(meter: Meter) -> None:
    """Calls for which there may be room later are told of the deadline, and never sent."""
    with Box(SimConfig(latency=30.0)) as box:
        async with client(box, max_tokens=60) as fan:
            report = await fan.map([f"{at}" for at in range(10)], budget=0.75, deadline=0.3)

    assert kinds(report) == {"deadline": 10}
    assert len(meter) == 2


def test_a_run_that_waits_for_budget_is_paused(simulate: Simulate[Any], provider: FakeProvider, fan_of: Any) -> None:
    """What comes free while it is paused is for those that go on; resumed, it waits for its turn, and ends if cancelled."""

    async def main() -> Any:
        async with fan_of(token_budget=3_000) as fan, fan.scope("agent"):
            runs = {name: fan.map([name], max_tokens=2_500) for name in ("first", "paused", "ended", "last")}
            waiting = []
            for run in runs.values():
                waiting.append(asyncio.ensure_future(consume(run)))
                await asyncio.sleep(0.1)
            runs["paused"].pause()
            runs["ended"].pause()
            await asyncio.sleep(5)
            asked = [text for _, text in provider.asked]
            runs["ended"].cancel()
            runs["paused"].resume()
            return asked, [(await each).summary.errors for each in waiting]

    asked, errors = simulate(main)

    assert asked == ["first", "last"]
    assert errors == [{}, {}, {"cancelled": 1}, {}]
    assert provider.asked[-1][1] == "paused"


async def test_ctrl_c_keeps_what_is_set_aside(box: Box, meter: Meter, tmp_path: Path) -> None:
    """A loop that ends in the middle of its calls leaves a journal whose next life counts them as paid for."""
    journal = tmp_path / "run.db"

    async def interrupted() -> None:
        fan = client(box, max_tokens=60)
        run = fan.map([f"[[latency:30]] {at}" for at in range(5)], budget=1.2, journal=journal)
        going = asyncio.ensure_future(consume(run))
        while len(meter) < 3:
            await asyncio.sleep(0.01)
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
        await run.leave()
        await fan.aclose()

    await asyncio.to_thread(in_thread, lambda: asyncio.run(interrupted()))
    async with client(box, max_tokens=60) as fan:
        report = await fan.map([f"more {at}" for at in range(20)], budget=1.2, journal=journal)

    assert meter.usd() <= 1.2 + EPSILON
    assert report.summary.stopped is not None


async def test_who_shares_an_answer_pays_once(box: Box, meter: Meter) -> None:
    """Twenty that ask the same, at once: one is sent, and paid for."""
    async with client(box, max_tokens=60) as fan:
        report = await fan.map(["the same"] * 20, budget=0.5, dedupe=True)

    assert kinds(report) == {"ok": 20}
    assert len(meter) == 1
    assert report.summary.cost == pytest.approx(meter.usd())


async def test_calls_of_other_budgets_are_not_shared(box: Box, meter: Meter) -> None:
    """What one run pays for is not another's, whose budget would not know."""
    async with client(box, max_tokens=60) as fan:
        reports = await asyncio.gather(*(fan.map(["the same"], budget=0.5, dedupe=True) for _ in range(2)))

    assert [report.summary.succeeded for report in reports] == [1, 1]
    assert len(meter) == 2


@pytest.mark.usefixtures("_quick")
async def test_a_call_that_is_left_to_others_keeps_the_budget(meter: Meter) -> None:
    """Its run is cancelled, another waits for its answer: the tries that follow are paid for by the budget they share."""
    with Box(SimConfig(latency=0.2, jitter=0.0, answer_tokens=50)) as box:
        async with client(box, max_tokens=60, budget=1.0, max_retries=5) as fan:
            text = "[[faults:malformed,malformed,malformed,ok]]"
            one, two = (fan.map([text], dedupe=True) for _ in range(2))
            first, second = (asyncio.ensure_future(consume(run)) for run in (one, two))
            while not meter:
                await asyncio.sleep(0.01)
            one.cancel()
            await asyncio.gather(first, second)
            more = await fan.map([f"more {at}" for at in range(10)])

    assert meter.usd() <= 1.0 + EPSILON
    assert more.summary.stopped is not None
    assert fan._runs._purses[0].budget.reserved == pytest.approx(0.0)


async def test_killing_it_refills_nothing(meter: Meter, tmp_path: Path) -> None:
    """Killed twice, and gone on with under the same budget each time: what the box has billed in all three lives is no more
    than that; a kill costs no more than what was under way, twice, and what may have been begun since.
    """
    journal, budget, kills = str(tmp_path / "run.db"), 10.0, 2
    with Box(SimConfig(latency=0.03, answer_tokens=50)) as box:
        for life in range(kills):
            victim = await asyncio.create_subprocess_exec(sys.executable, spender.__file__, box.url, journal, str(budget))
            while len(meter) < 60 * (life + 1):
                assert victim.returncode is None
                await asyncio.sleep(0.01)
            victim.kill()
            await victim.wait()
        stopped = await spender.spend(box.url, journal, budget)

    most = (200 * spender.PRICE[0] + spender.MAX_TOKENS * spender.PRICE[1]) / 1e6
    billed = meter.usd(prices=(spender.PRICE,))
    assert stopped == "budget"
    assert budget - kills * (2 * 16 + AHEAD + 2) * most < billed <= budget + EPSILON


async def test_vectors_are_within_a_budget(box: Box, meter: Meter) -> None:
    """They cost their input, and are not asked for any length."""
    async with client(box) as fan:
        report = await fan.embed([f"text {at}" for at in range(5)], budget=1.0)

    assert kinds(report) == {"ok": 5}
    assert report.summary.cost == pytest.approx(meter.usd())


async def test_a_function_is_within_a_budget() -> None:
    """What it does not report counts as all that it may have used."""

    async def answer(request: Request) -> str:
        return "yes"

    fan = FanOut(Endpoint("own/f", provider=answer), token_budget=5_000)
    report = await fan.map(["hello"] * 20, max_tokens=1_000)

    assert kinds(report)["ok"] == 4


async def test_several_answers_to_one_call_are_within_a_budget() -> None:
    """Each may be as long as leaves room for the others."""

    async def answer(request: Request) -> Reply:
        number = request.params["extra_body"]["n"]
        return Reply("yes", usage=Usage(10, number * request.params["max_tokens"]))

    fan = FanOut(Endpoint("own/f", provider=answer))
    report = await fan.map(["hello"], token_budget=6_000, extra_body={"n": 4})

    assert kinds(report) == {"ok": 1}
    assert 4_000 < report.summary.usage.output_tokens < 6_000


async def test_a_budget_is_no_reason_to_be_refused(meter: Meter) -> None:
    """Where the provider counts max_tokens against a minute, so do we: nothing is refused, and the calls go on."""
    with Box(SimConfig(latency=0.03, answer_tokens=50, tpm=600_000)) as box:
        async with FanOut(at(box), limits=Limits(tpm=600_000)) as fan:
            report = await fan.map([f"number {at}" for at in range(20)], budget=10_000.0)
        refused = box.stats["refused"]

    assert kinds(report) == {"ok": 20}
    assert refused == 0


async def test_a_minute_too_short_for_the_most_is_long_enough_for_most(box: Box) -> None:
    """A quota through which the longest answer would never pass takes calls all the same."""
    async with FanOut(at(box), limits=Limits(tpm=1_500)) as fan:
        report = await fan.map(["hello"], budget=1_000.0)

    assert kinds(report) == {"ok": 1}


async def test_a_disk_that_cannot_be_written_to_breaks_the_run(
    box: Box, meter: Meter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may be paid for has to be known there first: nothing is sent."""

    def full(file: object, unit: str, ceiling: float) -> None:
        raise JournalError("the disk is full")

    monkeypatch.setattr(accounts, "raise_ceiling", full)
    async with client(box, max_tokens=60) as fan:
        with pytest.raises(RunFailed, match="the disk is full"):
            await fan.map(["hello"] * 3, budget=1.0, journal=tmp_path / "run.db")

    assert not meter
