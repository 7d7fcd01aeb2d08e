"""Second copies of calls that take too long: through clients, in virtual time and over sockets."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import statistics
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from support import Given, Simulate, answer_of, completion, consume, in_thread, served

from llm_fanout import ConfigError, Endpoint, FanOut, Limits, Prompt, RateLimited, Report, RunFailed, Unavailable
from llm_fanout.llm.calls import PromptCall
from llm_fanout.llm.times import Timeouts
from llm_fanout.providers import Reply, Request
from llm_fanout.quotas import quotas
from llm_fanout.spending import Usage

SECOND = 1.0
Answers = Callable[[str, int], Awaitable[str | Reply]]


class Provider:
    """Answers after a second; what is said of a text and the number of its try, it does instead.

    Attributes:
        tries: How often each text was asked.
        cut: How many requests were cancelled.
    """

    def __init__(self, seconds: Callable[[str, int], float] = lambda text, number: SECOND) -> None:
        self._seconds = seconds
        self.tries: Counter[str] = Counter()
        self.cut = 0
        self.running = 0
        self.fails: set[tuple[str, int]] = set()

    async def __call__(self, request: Request) -> Reply:
        text = request.messages[-1]["content"]
        self.tries[text] += 1
        number = self.tries[text]
        self.running += 1
        try:
            await asyncio.sleep(self._seconds(text, number))
        except asyncio.CancelledError:
            self.cut += 1
            raise
        finally:
            self.running -= 1
        if (text, number) in self.fails:
            raise Unavailable("it broke", kind="server")
        return Reply(text=f"{text}, try {number}", usage=Usage(10, 1), finish_reason="stop")


class Empty(Exception):
    """What an SDK raises for an account without credit: one such answer closes it."""

    status_code = 402


def slow_first(text: str, number: int) -> float:
    """Those that are called so take a minute, the first time."""
    return 60.0 if text.startswith("slow") and number == 1 else SECOND


def fan_of(provider: Any, limits: Limits | None = None, **options: Any) -> FanOut:
    """A client of `provider`."""
    price = options.pop("price", None)
    return FanOut(Endpoint("mine/x", provider=provider, limits=limits or Limits(adapt=False), price=price), **options)


def row(number: int = 99, *others: str) -> list[str]:
    """So many usual prompts, and others after them."""
    return [*(f"p{index}" for index in range(number)), *others]


def test_a_straggler_is_asked_twice(simulate: Simulate[Report[str]]) -> None:
    """Its second copy answers, the first is cancelled; both are counted, and its times are its own."""
    provider = Provider(slow_first)

    report = simulate(lambda: consume(fan_of(provider).map(row(99, "slow"), hedge=0.05)))

    slow = report[-1]
    assert (slow.text, slow.attempts, slow.ok) == ("slow, try 2", 2, True)
    assert (provider.cut, report.summary.attempts, report.summary.in_flight) == (1, 101, 0)
    assert slow.latency == pytest.approx(2.5 * SECOND, rel=0.05)  # sent when the first had taken half as long again
    assert slow.service_time == pytest.approx(SECOND)
    assert report.summary.elapsed == slow.latency
    assert sum(each.calls for each in report.summary.spending) == 101
    assert report.summary.unpriced == 101  # there is no price; and nobody knows what the first copy has used
    assert report.summary.usage == Usage(1_000, 100)


def test_there_are_no_copies_unless_asked_for(simulate: Simulate[Report[str]]) -> None:
    """Each is billed, so it is off by default; a prompt may say so, too."""
    provider = Provider(slow_first)

    report = simulate(lambda: consume(fan_of(provider).map(row(99, "slow"))))
    other = simulate(lambda: consume(fan_of(Provider(slow_first)).map([*row(), Prompt("slow", hedge=0.0)], hedge=0.05)))

    assert (report[-1].attempts, other[-1].attempts) == (1, 1)
    assert report.summary.elapsed == pytest.approx(60.0)


@pytest.mark.parametrize("hedge", [1.0, -0.1, "p95", True])
def test_a_share_is_a_share(hedge: Any) -> None:
    """Refused before anything starts."""
    with pytest.raises(ConfigError, match="hedge must be a share"):
        fan_of(Provider()).map(["a"], hedge=hedge)


def test_whoever_is_first_counts(simulate: Simulate[Report[str]]) -> None:
    """If that is the first copy after all, the second is cancelled."""
    provider = Provider(lambda text, number: [SECOND, 2.0, 10.0][number if text == "slow" else 0])

    report = simulate(lambda: consume(fan_of(provider).map(row(99, "slow"), hedge=0.05)))

    assert (report[-1].text, report[-1].attempts) == ("slow, try 1", 2)
    assert (provider.cut, report.summary.elapsed) == (1, pytest.approx(2.0))


def test_a_copy_that_fails_changes_nothing(simulate: Simulate[Report[str]]) -> None:
    """The first goes on, and counts."""
    provider = Provider(lambda text, number: 5.0 if (text, number) == ("slow", 1) else SECOND)
    provider.fails.add(("slow", 2))

    report = simulate(lambda: consume(fan_of(provider).map(row(99, "slow"), hedge=0.05)))

    assert (report[-1].text, report[-1].attempts) == ("slow, try 1", 2)
    assert (provider.cut, report.summary.elapsed) == (0, pytest.approx(5.0))


def test_a_first_that_fails_waits_for_its_copy(simulate: Simulate[Report[str]]) -> None:
    """The call has failed only when both have."""
    provider = Provider(lambda text, number: {1: 2.0, 2: 5.0}[number] if text.startswith("slow") else SECOND)
    provider.fails |= {("slow a", 1), ("slow b", 1), ("slow b", 2)}

    report = simulate(lambda: consume(fan_of(provider).map(row(98, "slow a", "slow b"), hedge=0.05, max_retries=0)))

    assert (report[-2].text, report[-2].attempts) == ("slow a, try 2", 2)
    assert (report[-1].error is not None, report[-1].attempts) == (True, 2)
    assert (provider.cut, report.summary.elapsed) == (0, pytest.approx(6.5, rel=0.02))


def test_a_copy_outlives_a_retry(simulate: Simulate[Report[str]]) -> None:
    """The first waits out a backoff while the copy answers: that is the answer."""
    provider = Provider(lambda text, number: {1: 1.6, 2: 0.5}.get(number, 9.0) if text == "slow" else SECOND)
    provider.fails |= {("slow", 1)}

    report = simulate(lambda: consume(fan_of(provider).map(row(99, "slow"), hedge=0.05)))

    assert report[-1].text == "slow, try 2"
    assert report.summary.elapsed == pytest.approx(2.0, rel=0.05)


def test_no_copy_while_others_wait(simulate: Simulate[Report[str]]) -> None:
    """Whoever waits to start goes first; then it is the copy's turn."""
    provider = Provider(slow_first)
    limits = Limits(max_concurrency=10, adapt=False)

    report = simulate(lambda: consume(fan_of(provider, limits).map(["slow", *row(99)], hedge=0.05)))

    assert report[0].text == "slow, try 2"
    assert report.summary.elapsed == pytest.approx(12.0)  # 99 calls in nine slots take eleven seconds, then the copy


def test_a_copy_that_still_waits_is_called_back(simulate: Simulate[Report[str]]) -> None:
    """It was never sent: nobody is cut off, and nothing is counted."""
    provider = Provider(lambda text, number: 3.5 if text == "slow" else SECOND)
    limits = Limits(max_concurrency=10, adapt=False)

    report = simulate(lambda: consume(fan_of(provider, limits).map(["slow", *row(300)], hedge=0.01)))

    assert (report[0].attempts, report.summary.attempts, provider.cut) == (1, 301, 0)


def test_a_budget_that_has_no_room_has_no_copies(simulate: Simulate[list[Report[str]]]) -> None:
    """A copy is paid for like any try: never more than the budget, and what it may have used is booked."""
    provider = Provider(slow_first)

    async def main() -> list[Report[str]]:
        tight = fan_of(provider, price=(0.0, 1e6), max_tokens=1, budget=100.5)
        wide = fan_of(provider, price=(0.0, 1e6), max_tokens=1, budget=200.0)
        return [await tight.map(row(99, "slow 1"), hedge=0.05), await wide.map(row(99, "slow 2"), hedge=0.05)]

    tight, wide = simulate(main)

    assert (tight[-1].attempts, wide[-1].attempts) == (1, 2)
    assert [report.summary.elapsed for report in (tight, wide)] == pytest.approx([60.0, 2.5], rel=0.05)


@pytest.mark.parametrize("seconds", [1.6, 2.1])
def test_a_run_that_is_cancelled_ends_both(simulate: Simulate[Report[str]], seconds: float) -> None:
    """Copies are calls like others: a deadline cuts them off, and nothing is left under way."""
    provider = Provider(lambda text, number: 60.0 if text == "slow" else SECOND)

    report = simulate(lambda: consume(fan_of(provider).map(row(99, "slow"), hedge=0.05, deadline=seconds)))

    error = report[-1].error
    assert error is not None
    assert (error.kind, report[-1].attempts, provider.running) == ("deadline", 2, 0)
    assert report.summary.elapsed == pytest.approx(seconds)


def test_a_run_that_winds_down_lets_copies_end(simulate: Simulate[Report[str]]) -> None:
    """What is under way may end, be it the second copy alone."""
    provider = Provider(lambda text, number: {1: 1.8, 2: 3.0}[number] if text == "slow" else SECOND)
    provider.fails.add(("slow", 1))

    async def main() -> Report[str]:
        run = fan_of(provider).map(row(99, "slow"), hedge=0.05, max_retries=0)
        waiting = asyncio.ensure_future(consume(run))
        await asyncio.sleep(2.0)
        run.wind_down()
        return await waiting

    assert simulate(main)[-1].text == "slow, try 2"


def test_single_calls_learn_from_each_other(simulate: Simulate[Any]) -> None:
    """Of calls that are made one by one, the client knows how long they take."""
    provider = Provider(slow_first)

    async def main() -> Any:
        fan = fan_of(provider, hedge=0.05)
        for prompt in row(30):
            await fan.call(prompt)
        return await fan.call("slow")

    result = simulate(main)

    assert (result.text, result.latency) == ("slow, try 2", pytest.approx(2.5, rel=0.05))


def test_slots_come_back(simulate: Simulate[int]) -> None:
    """After many histories with failures, stragglers and cancelled runs the quota holds nothing; every call ended once."""

    async def history(seed: int) -> int:
        draw = random.Random(seed)
        provider = Provider(lambda text, number: 40.0 if draw.random() < 0.1 else draw.uniform(0.5, 1.5))
        provider.fails = {(f"p{draw.randrange(60)}", draw.randint(1, 3)) for _ in range(12)}
        fan = fan_of(provider, Limits(max_concurrency=draw.choice([5, 60]), adapt=False))
        run = fan.map(row(60), hedge=draw.choice([0.05, 0.2, 0.5]), dedupe=draw.random() < 0.3)
        asyncio.get_running_loop().call_later(draw.uniform(0.1, 30.0), run.cancel)
        report = await run
        assert [result.index for result in report] == list(range(60))
        assert report.summary.in_flight == provider.running == 0
        assert report.summary.attempts == sum(result.attempts for result in report) == sum(provider.tries.values())
        quota = next(route.hold.quota for _, route in fan._runs.routes)
        assert quota.slots.in_use == 0
        await fan.aclose()
        return provider.cut

    async def main() -> int:
        return sum([await history(seed) for seed in range(40)])

    assert simulate(main) > 40
    assert not quotas.engine._shells


def test_heavy_tails_are_cut(simulate: Simulate[float]) -> None:
    """Two hundred at once, one in a hundred of which takes twenty times as long: the end comes in 40 % of the time."""

    async def makespan(seed: int, hedge: float) -> float:
        draw = random.Random(seed)
        provider = Provider(lambda text, number: draw.lognormvariate(0.0, 0.5) * (20 if draw.random() < 0.01 else 1))
        report = await fan_of(provider).map(row(200), hedge=hedge)
        assert report.summary.attempts <= 210
        assert report.summary.succeeded == 200
        return report.summary.elapsed

    async def ratio(seed: int) -> float:
        return await makespan(seed, 0.05) / await makespan(seed, 0.0)

    async def main() -> float:
        return statistics.median([await ratio(seed) for seed in range(7)])

    assert simulate(main) <= 0.4


async def test_heavy_tails_are_cut_over_sockets() -> None:
    """The same over a real server: stragglers' connections are cut, and at most one request in twenty is extra."""
    requests, hung_up = Counter[str](), 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal hung_up
        text = (await request.json())["messages"][-1]["content"]
        requests[text] += 1
        try:
            await asyncio.sleep(20.0 if text in ("p3", "p77") and requests[text] == 1 else 1.0)
        except asyncio.CancelledError:
            hung_up += 1
            raise
        return web.json_response(completion(text))

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    async with served(app, backlog=512) as port:
        endpoint = Endpoint("openai/x", base_url=f"http://127.0.0.1:{port}/v1", api_key="k", limits=Limits(adapt=False))
        async with FanOut(endpoint) as fan:
            report = await fan.map(row(200), hedge=0.05)
        await asyncio.sleep(0)

    assert report.summary.succeeded == 200
    assert report.summary.elapsed < 0.4 * 20.0
    assert sum(requests.values()) <= 210
    assert (requests["p3"], requests["p77"]) == (2, 2)


def chunk(text: str, reason: str | None = None) -> bytes:
    """An event of a streamed chat completion."""
    said = {"role": "assistant", "content": text}
    choice = {"index": 0, "delta": said, "finish_reason": reason}
    event = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "x", "choices": [choice]}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


async def test_the_first_piece_decides() -> None:
    """Of two streams the one that says something first goes on, however long it takes; nobody reads a mixture of both."""
    tries: Counter[str] = Counter()

    async def answer(request: web.Request) -> web.StreamResponse:
        text = (await request.json())["messages"][-1]["content"]
        tries[text] += 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        number = tries[text]
        await asyncio.sleep(30.0 if text == "slow" and number == 1 else 0.02)
        for piece in ("try ", str(number)):
            await response.write(chunk(piece))
            await asyncio.sleep(0.5 if text == "slow" else 0.0)
        await response.write(chunk("", "stop") + b"data: [DONE]\n\n")
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    async with (
        served(app) as port,
        FanOut("openai/x", base_url=f"http://127.0.0.1:{port}/v1", api_key="k", hedge=0.04) as fan,
    ):
        for number in range(30):
            async with fan.stream(f"p{number}") as pieces:
                assert [piece async for piece in pieces] == ["try ", "1"]
        async with fan.stream("slow") as pieces:
            heard = [piece async for piece in pieces]

    assert heard == ["try ", "2"]
    assert pieces.result.attempts == 2
    assert pieces.result.text == "try 2"


def test_a_call_left_to_others_keeps_its_copy(simulate: Simulate[Any]) -> None:
    """A run that is cancelled leaves its call, and the copy of it, to whoever waits for the answer."""
    provider = Provider(slow_first)

    async def main() -> Any:
        fan = fan_of(provider)
        first = fan.map(row(99, "slow"), hedge=0.05, dedupe=True)
        second = fan.map(["slow"], dedupe=True)
        leading = asyncio.ensure_future(consume(first))
        await asyncio.sleep(0.5)
        following = asyncio.ensure_future(consume(second))
        await asyncio.sleep(1.5)
        first.cancel()
        return await asyncio.gather(leading, following)

    first, second = simulate(main)

    assert first[-1].error.kind == "cancelled"
    assert (second[0].text, second.summary.elapsed) == ("slow, try 2", pytest.approx(2.0, rel=0.05))
    assert provider.running == 0


class Streams:
    """What stands for a lane, and streams each answer in virtual time.

    Attributes:
        waits: The seconds before each piece, by the text and the number of its try; a second for one piece, else.
        broken: Tries that end before their last piece.
    """

    via = "wire"

    def __init__(self) -> None:
        self.waits: dict[tuple[str, int], list[float]] = {}
        self.broken: set[tuple[str, int]] = set()
        self.tries: Counter[str] = Counter()

    async def post(self, request: Request, timeouts: Timeouts) -> Given:
        """Answer with a stream, whatever was asked."""
        text = request.messages[-1]["content"]
        self.tries[text] += 1
        given = answer_of(200, {"content-type": "text/event-stream"})
        given.chunks = self._written(text, self.tries[text])
        return given

    async def _written(self, text: str, number: int) -> AsyncIterator[bytes]:
        *waits, last = self.waits.get((text, number), [SECOND])
        for seconds in waits:
            await asyncio.sleep(seconds)
            yield chunk(f"{number}")
        await asyncio.sleep(last)
        if (text, number) not in self.broken:
            yield chunk(f"{number}", "stop") + b"data: [DONE]\n\n"


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Streams:
    """Whoever is asked over HTTP streams its answer."""
    streams = Streams()
    monkeypatch.setattr("llm_fanout.llm.routes.lanes.WireLane", lambda wire, place, form: streams)
    return streams


def streamed(**options: Any) -> FanOut:
    """A client of `streams`."""
    url = "http://127.0.0.1:1/v1"
    return FanOut("openai/fake", base_url=url, api_key="k-hedged", limits=Limits(adapt=False), **options)


@pytest.mark.parametrize("leaves_at", [0.7, 2.2])
def test_a_stream_left_to_others_begins_there(simulate: Simulate[Any], streams: Streams, leaves_at: float) -> None:
    """A run that is cancelled before the first piece leaves its call to whoever waits for it, its copy included."""
    streams.waits = {("slow", 1): [3.0, 1.0], ("slow", 2): [3.0]}

    async def main() -> Any:
        fan = streamed()
        first = fan.map(row(99, "slow"), hedge=0.05, dedupe=True, stream=True)
        leading = asyncio.ensure_future(consume(first))
        await asyncio.sleep(0.5)
        following = asyncio.ensure_future(consume(fan.map(["slow"], dedupe=True, stream=True)))
        await asyncio.sleep(leaves_at - 0.5)
        first.cancel()
        return await asyncio.gather(leading, following)

    first, second = simulate(main)

    assert (second[0].text, second.summary.elapsed) == ("11", pytest.approx(3.5))
    assert first[-1].attempts == streams.tries["slow"] == (1 if leaves_at < 1.5 else 2)
    assert first.summary.attempts == sum(result.attempts for result in first)


@pytest.mark.parametrize("first", ["under way", "waits"])
def test_a_copy_that_breaks_off_is_tried_again(
    simulate: Simulate[Any], streams: Streams, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Once its answer has begun it is the call, which has its tries still, wherever the first copy is by then."""
    streams.waits = {("slow", 1): [60.0 if first == "under way" else 2.3], ("slow", 2): [1.0, 1.0], ("slow", 3): [2.0]}
    streams.broken = {("slow", 1), ("slow", 2)}
    monkeypatch.setattr(quotas.engine._schedule, "_random", lambda: 0.99)  # the whole backoff, half a second

    async def main() -> tuple[Report[str], Any]:
        run = streamed().map(row(99, "slow"), hedge=0.05, stream=True)
        return await run, run

    report, run = simulate(main)

    slow = report[-1]
    assert (slow.text, slow.attempts, streams.tries["slow"]) == ("3", 3, 3)
    assert report.summary.attempts == 102
    assert slow.latency == pytest.approx(report.summary.elapsed)
    assert run._flow._calls.parked == 0


def test_a_copy_that_waits_is_called_back_when_the_run_winds_down(simulate: Simulate[Any]) -> None:
    """Nothing more is sent then, while what is under way ends."""
    provider = Provider(lambda text, number: 20.0 if text == "slow" else SECOND)
    sent = 0

    async def main() -> Report[str]:
        nonlocal sent
        run = fan_of(provider, Limits(max_concurrency=10, adapt=False)).map(["slow", *row(300)], hedge=0.05)
        waiting = asyncio.ensure_future(consume(run))
        await asyncio.sleep(5.5)
        sent = sum(provider.tries.values())
        run.wind_down()
        return await waiting

    report = simulate(main)

    assert (report[0].text, report[0].attempts) == ("slow, try 1", 1)
    assert report.summary.attempts == sum(provider.tries.values()) == sent


@pytest.mark.parametrize("bound", ["wound down", "budget"])
def test_a_copy_under_way_outlives_the_last_try(simulate: Simulate[Any], bound: str) -> None:
    """A call that may not be tried again has its copy still: what was sent may end, and was paid for."""
    provider = Provider(lambda text, number: {1: 2.0, 2: 3.0}[number] if text == "slow" else SECOND)
    provider.fails.add(("slow", 1))
    budget = 101.5 if bound == "budget" else None

    async def main() -> Report[str]:
        fan = fan_of(provider, price=(0.0, 1e6), max_tokens=1)
        run = fan.map(row(99, "slow"), hedge=0.05, max_retries=2, budget=budget)
        if bound == "wound down":
            asyncio.get_running_loop().call_later(1.8, run.wind_down)
        return await run

    slow = simulate(main)[-1]

    assert (slow.text, slow.attempts) == ("slow, try 2", 2)


def test_another_try_takes_the_place_of_a_copy_that_waits(simulate: Simulate[Any]) -> None:
    """It was paid for once: both would be more than the budget has."""
    provider = Provider(lambda text, number: 6.9 if text == "slow" and number == 1 else SECOND)
    provider.fails.add(("slow", 1))

    async def main() -> tuple[Report[str], Any]:
        fan = fan_of(provider, Limits(max_concurrency=10, adapt=False), max_tokens=1, price=(0.0, 1e6))
        run = fan.map(["slow", *row(63)], hedge=0.05, budget=65.0)  # in nine slots they take seven seconds
        return await run, run

    report, run = simulate(main)

    assert (report[0].text, report[0].attempts, provider.tries["slow"]) == ("slow, try 2", 2, 2)
    assert run._flow._calls.parked == 0


def test_a_copy_that_waits_where_nobody_is_let_in_is_called_back_once(simulate: Simulate[Any]) -> None:
    """The answer that closes it sends the call elsewhere, too: both are said of the copy, and everybody is told."""
    provider = Provider(lambda text, number: 3.2 if text == "slow" else SECOND)
    faults: list[Any] = []

    async def refusing(request: Request) -> Reply:
        reply = await provider(request)
        if request.messages[-1]["content"] == "slow":
            raise Empty("the account has no credit left")
        return reply

    async def main() -> Report[str]:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
        limits = Limits(max_concurrency=10, adapt=False)
        first = Endpoint("mine/x", provider=refusing, limits=limits)
        fan = FanOut(first, fallbacks=[Endpoint("mine/y", provider=provider, limits=limits)])
        return await fan.map(["slow", *row(100)], hedge=0.05)

    report = simulate(main)

    assert (report.summary.succeeded, report[0].attempts, faults) == (101, 2, [])


def test_closed_loops_are_let_go_of() -> None:
    """What a client learns of single calls on an event loop goes with that; so does what was under way there."""
    fan = fan_of(Provider(lambda text, number: 0.0 if text != "slow" else 60.0), hedge=0.05)
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def main() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        for prompt in row(3):
            await fan.call(prompt)

    def twice() -> None:
        for _ in range(2):
            asyncio.run(main())
        abandoned = asyncio.new_event_loop()
        task = abandoned.create_task(fan.call("slow"))
        abandoned.run_until_complete(asyncio.sleep(0.01))
        task.cancel()
        abandoned.close()
        loops.append(weakref.ref(abandoned))
        del abandoned, task
        asyncio.run(main())

    in_thread(twice)
    gc.collect()

    assert [loop() for loop in loops] == [None] * 4


@pytest.mark.parametrize("text", ["p1", "slow", "slow to fail"])
def test_a_fault_after_an_answer_ends_the_run(simulate: Simulate[Any], monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """What cannot be made a Result of, be it a copy's answer, is said at once: nobody waits for it for ever."""
    provider = Provider(lambda text, number: 1.8 if (text, number) == ("slow to fail", 1) else slow_first(text, number))
    provider.fails.add(("slow to fail", 1))
    original = PromptCall.result

    def result(self: PromptCall, *rest: Any) -> Any:
        if self.prompt.content == text:
            raise AttributeError("no such thing")
        return original(self, *rest)

    monkeypatch.setattr(PromptCall, "result", result)

    with pytest.raises(RunFailed, match="llm_fanout raised AttributeError: no such thing"):
        simulate(lambda: consume(fan_of(provider).map(row(98, "slow", "slow to fail"), hedge=0.05, max_retries=0)))

    assert provider.running == 0


def test_a_fault_before_another_try_ends_the_run(simulate: Simulate[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The other try is not made: nobody would hear of it."""
    provider = Provider()
    provider.fails.add(("p1", 1))

    def faulty(*_: object) -> None:
        raise AttributeError("no such thing")

    monkeypatch.setattr("llm_fanout.underway.UnderWay._wait_out", faulty)

    with pytest.raises(RunFailed, match="no such thing"):
        simulate(lambda: consume(fan_of(provider).map(row(3))))

    assert (provider.running, provider.tries["p1"]) == (0, 1)


def test_a_copy_that_waits_for_what_closes_is_not_sent(simulate: Simulate[Any]) -> None:
    """The first may end: it was sent before the answer to another call that closed its quota."""
    provider = Provider(lambda text, number: {"slow": 5.0, "bad": 3.2}.get(text, SECOND))

    async def refusing(request: Request) -> Reply:
        reply = await provider(request)
        if request.messages[-1]["content"] == "bad":
            raise Empty("the account has no credit left")
        return reply

    async def main() -> Report[str]:
        limits = Limits(max_concurrency=10, adapt=False)
        fan = FanOut(Endpoint("mine/x", provider=refusing, limits=limits))
        return await fan.map(["slow", "bad", *row(100)], hedge=0.1)

    report = simulate(main)

    assert (report[0].text, report[0].attempts) == ("slow, try 1", 1)
    assert report.summary.errors["not_attempted"] > 50


def test_a_copy_may_be_late_itself(simulate: Simulate[Report[str]]) -> None:
    """It is cut off by the timeout as any attempt; the call goes on with its own tries."""
    provider = Provider(lambda text, number: {1: 60.0, 2: 60.0}.get(number, 2.0) if text == "slow" else SECOND)

    report = simulate(lambda: consume(fan_of(provider).map(row(99, "slow"), hedge=0.05, timeout=3)))

    assert (report[-1].text, report[-1].attempts, provider.cut) == ("slow, try 3", 3, 2)


def test_a_copy_that_is_refused_for_now_has_had_its_try(simulate: Simulate[Report[str]]) -> None:
    """It does not wait for another: the first goes on alone."""
    provider = Provider(lambda text, number: {1: 6.0}.get(number, SECOND) if text == "slow" else SECOND)

    async def refusing(request: Request) -> Reply:
        reply = await provider(request)
        if reply.text == "slow, try 2":
            raise RateLimited("too many at once", kind="rate_limited", retry_after=1.0)
        return reply

    report = simulate(lambda: consume(fan_of(refusing).map(row(99, "slow"), hedge=0.05)))

    assert (report[-1].text, report[-1].attempts, provider.tries["slow"]) == ("slow, try 1", 2, 2)
