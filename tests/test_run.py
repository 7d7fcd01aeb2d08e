"""A run, however it is consumed, in virtual time."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from support import Simulate, consume, in_thread

from llm_fanout import ConfigError, Executor, FanOut, Limits, RateLimited, RunFailed, Summary, Unavailable, clock
from llm_fanout.flow import BREATH, PARKED_CAP, WINDOW


async def echo(number: int) -> int:
    await asyncio.sleep(1 + number % 3)
    return number


def test_iterating_gives_results_as_they_are_done(simulate: Simulate[Any]) -> None:
    """`async for` hands each result over as soon as it is there, exactly once."""

    async def last_first(number: int) -> int:
        await asyncio.sleep(10 - number)
        return number

    async def main() -> Any:
        return [result.value async for result in Executor().map(last_first, range(6))]

    assert simulate(main) == [5, 4, 3, 2, 1, 0]


def test_ordered_gives_input_order(simulate: Simulate[Any]) -> None:
    """`ordered` hands them over in input order, exactly once."""

    async def main() -> Any:
        return [result.value async for result in Executor(max_concurrency=2).map(echo, range(20)).ordered()]

    assert simulate(main) == list(range(20))


def test_async_sources_are_pulled(simulate: Simulate[Any]) -> None:
    """An async iterable is as good as an iterable, and slow items of it block nobody."""

    async def source() -> AsyncIterator[int]:
        for number in range(4):
            await asyncio.sleep(10)
            yield number

    async def main() -> Any:
        report = await Executor().map(echo, source())
        return report.values, report.summary.elapsed

    assert simulate(main) == ([0, 1, 2, 3], pytest.approx(41, abs=0.01))


def test_awaiting_twice_gives_the_same_report(simulate: Simulate[Any]) -> None:
    """A run that was awaited is done: awaiting it again runs nothing again."""

    async def main() -> Any:
        run = Executor().map(echo, range(3))
        first, second = await run, await run
        return first.values, second.values, second.summary.attempts

    assert simulate(main) == ([0, 1, 2], [0, 1, 2], 3)


def test_two_may_await_one_run(simulate: Simulate[Any]) -> None:
    """Two tasks that await the same run get the same values."""

    async def main() -> Any:
        run = Executor().map(echo, range(3))
        reports = await asyncio.gather(run, run)
        return [report.values for report in reports]

    assert simulate(main) == [[0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize("first", ["await", "iterate"])
def test_iterating_what_was_consumed_is_an_error(simulate: Simulate[Any], first: str) -> None:
    """Results are handed over once: iterating again says so."""

    async def main() -> None:
        run = Executor().map(echo, range(3))
        if first == "await":
            await run
        else:
            async for _ in run:
                pass
        run.ordered()

    with pytest.raises(ConfigError, match="consumed already"):
        simulate(main)


def test_awaiting_what_is_iterated_is_an_error(simulate: Simulate[Any]) -> None:
    """A run that was iterated has no report of results to give."""

    async def main() -> None:
        run = Executor().map(echo, range(3))
        async for _ in run:
            pass
        await run

    with pytest.raises(ConfigError, match="consumed already"):
        simulate(main)


def test_a_run_nobody_consumes_warns() -> None:
    """Forgetting `await` is told when the run is thrown away."""
    runs = [Executor().map(echo, range(3))]

    with pytest.warns(RuntimeWarning, match="never awaited"):
        runs.clear()


def test_an_empty_source_gives_an_empty_report(simulate: Simulate[Any]) -> None:
    """No items, no results, no error."""

    async def main() -> Any:
        return await Executor().map(echo, [])

    report = simulate(main)

    assert len(report) == 0
    assert report.summary.total == 0


def test_leaving_the_run_early_cancels_the_rest(simulate: Simulate[Any]) -> None:
    """`async with run` cancels what is in flight on leaving, awaits its clean-up, and starts nothing more."""
    cleaned: list[int] = []

    async def long(number: int) -> int:
        try:
            await asyncio.sleep(number + 1)
        finally:
            await asyncio.sleep(0.5)
            cleaned.append(number)
        return number

    async def main() -> Any:
        async with Executor(max_concurrency=4).map(long, range(100)) as run:
            async for result in run:
                first = result.value
                break
        return first, run.summary, len(asyncio.all_tasks())

    first, summary, tasks = simulate(main)

    assert first == 0
    assert sorted(cleaned) == [0, 1, 2, 3, 4]
    assert summary.in_flight == 0
    assert summary.total == 100
    assert tasks <= 2  # the second is asyncio closing the abandoned iterator


def test_leaving_a_run_that_never_started_is_silent(simulate: Simulate[Any]) -> None:
    """`async with run: pass` sends nothing, and does not warn."""

    async def main() -> Any:
        async with Executor().map(echo, range(3)) as run:
            pass
        return await run

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = simulate(main)

    assert [result.error.kind for result in report] == ["not_attempted"] * 3


def test_cancel_ends_the_run_with_a_report(simulate: Simulate[Any]) -> None:
    """After `cancel` every item has exactly one Result: done, cancelled or not attempted; whoever awaits gets them."""

    async def main() -> Any:
        run = Executor(max_concurrency=2).map(echo, range(50))
        waiting = asyncio.ensure_future(consume(run))
        await asyncio.sleep(2.5)
        run.cancel()
        run.cancel()
        return await waiting

    report = simulate(main)

    assert [result.index for result in report] == list(range(50))
    assert report.summary.succeeded == 2
    assert set(report.summary.errors) == {"cancelled", "not_attempted"}
    assert report.summary.stopped is not None
    assert "the run was cancelled" in str(report)


def test_cancel_before_the_start(simulate: Simulate[Any]) -> None:
    """A run that is cancelled before anybody consumes it sends nothing, and still has a Result for every item."""

    async def main() -> Any:
        run = Executor().map(echo, range(3))
        run.cancel()
        return await run

    report = simulate(main)

    assert report.summary.attempts == 0
    assert [result.error.kind for result in report] == ["not_attempted"] * 3


def test_cancel_after_the_end_changes_nothing(simulate: Simulate[Any]) -> None:
    """A run that is over cannot be cancelled."""

    async def main() -> Any:
        run = Executor().map(echo, range(2))
        await run
        run.cancel()
        return run.summary.stopped

    assert simulate(main) is None


def test_cancel_after_the_source_has_ended(simulate: Simulate[Any]) -> None:
    """When all items were handed in, those that wait, run or are in backoff are ended."""

    async def main() -> Any:
        async def third_fails(number: int) -> int:
            if number == 2:
                raise ConnectionError("again and again")
            return await echo(number)

        run = Executor(max_concurrency=3).map(third_fails, range(5))
        waiting = asyncio.ensure_future(consume(run))
        await asyncio.sleep(0.001)
        run.cancel()
        return await waiting, asyncio.all_tasks()

    report, tasks = simulate(main)

    assert [result.error.kind for result in report] == ["cancelled"] * 5
    assert len(tasks) == 1


def test_cancel_from_another_thread() -> None:
    """`cancel` may be called from any thread."""

    async def main() -> Any:
        run = Executor().map(asyncio.sleep, [60.0] * 5)
        waiting = asyncio.ensure_future(consume(run))
        await asyncio.sleep(0)
        thread = threading.Thread(target=run.cancel)
        thread.start()
        report = await waiting
        thread.join()
        return report

    report = in_thread(lambda: asyncio.run(main()))

    assert {result.error.kind for result in report} == {"cancelled"}


def test_cancelling_the_consumer_cancels_the_calls_and_keeps_what_is_done(simulate: Simulate[Any]) -> None:
    """The task that awaits is cancelled: calls are cleaned up, CancelledError goes on, `report` has what was done."""
    cleaned: list[int] = []

    async def watched(number: int) -> int:
        try:
            return await echo(number)
        finally:
            cleaned.append(number)

    async def main() -> Any:
        run = Executor(max_concurrency=4).map(watched, iter(range(100)))
        waiting = asyncio.ensure_future(consume(run))
        await asyncio.sleep(1.5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return run.report, asyncio.all_tasks()

    report, tasks = simulate(main)

    assert [result.value for result in report.successes] == [0, 3]
    assert len(report) == report.summary.total
    assert len(cleaned) == report.summary.attempts
    assert len(tasks) == 1


def test_who_is_cancelled_again_waits_no_more(simulate: Simulate[Any]) -> None:
    """A consumer that is cancelled while it waits for the clean-up leaves at once, out of everything around the run, too."""

    async def stubborn(number: int) -> None:
        try:
            await asyncio.sleep(3_600)
        finally:
            await asyncio.sleep(3_600)

    async def consumer() -> None:
        async with Executor() as executor, executor.map(stubborn, range(3)) as run:
            async for _ in run:
                pass

    async def main() -> float:
        consuming = asyncio.ensure_future(consumer())
        for _ in range(2):
            await asyncio.sleep(1)
            consuming.cancel()
        await asyncio.wait([consuming])
        return clock.now() - 1_000.0

    assert simulate(main) == pytest.approx(2, abs=0.1)


def test_reports_so_far(simulate: Simulate[Any]) -> None:
    """`report` and `summary` can be read at any time while the run goes on."""

    async def main() -> Any:
        run = Executor(max_concurrency=2).map(echo, range(4))
        before = run.summary
        waiting = asyncio.ensure_future(consume(run))
        await asyncio.sleep(1.5)
        during, report = run.summary, run.report
        await waiting
        return before, during, report, run.summary

    before, during, report, after = simulate(main)

    assert (before.total, before.done, before.elapsed, before.eta) == (4, 0, 0.0, None)
    assert (during.done, during.in_flight, during.elapsed) == (1, 2, pytest.approx(1.5))
    assert during.eta == pytest.approx(4.5)
    assert [result.index for result in report] == [0]
    assert (after.done, after.in_flight) == (4, 0)
    assert after.binding == "concurrency"


def test_report_of_an_iterated_run_has_what_nobody_took(simulate: Simulate[Any]) -> None:
    """Results that were handed over are the taker's; those that were not yet are still there."""

    async def main() -> Any:
        run = Executor().map(echo, range(6))
        results = aiter(run)
        first = await anext(results)
        await asyncio.sleep(10)
        report = run.report
        await results.aclose()  # type: ignore[attr-defined]  # an async generator
        return first.index, [result.index for result in report]

    assert simulate(main) == (0, [1, 2, 3, 4, 5])


def test_a_source_lets_others_breathe(simulate: Simulate[list[int]]) -> None:
    """A wide window is filled some items at a time, between turns of the event loop; calls that end together are replaced
    together, or calls that are quick would wait for the source."""
    pulled, let_go = 0, asyncio.Event()

    def source() -> Iterator[int]:
        nonlocal pulled
        while pulled < 5_000:
            pulled += 1
            yield pulled

    async def held(number: int) -> int:
        if number <= 100:
            await let_go.wait()
        else:
            await asyncio.sleep(1)
        return number

    async def main() -> list[int]:
        seen = []
        running = asyncio.ensure_future(consume(Executor(max_concurrency=100).map(held, source())))
        for turn in range(100):
            await asyncio.sleep(0)
            seen.append(pulled)
            if turn == 50:
                let_go.set()
        await running
        return seen

    seen = simulate(main)
    steps = [after - before for before, after in pairwise(seen)]

    assert max(steps[:50]) == BREATH
    assert seen[50] == WINDOW * 100
    assert seen[60] == (WINDOW + 1) * 100
    assert len([step for step in steps[50:] if step]) <= 2


def test_read_ahead_is_bounded_by_the_window(simulate: Simulate[Any]) -> None:
    """A slow reader of an endless source holds it back: never more than a window is pulled and not taken."""
    pulled = 0

    def endless() -> Iterator[int]:
        nonlocal pulled
        while True:
            pulled += 1
            yield pulled

    async def main() -> int:
        most = taken = 0
        async with Executor(max_concurrency=10).map(echo, endless()) as run:
            async for _ in run:
                taken += 1
                await asyncio.sleep(0.5)
                most = max(most, pulled - taken)
                if taken == 200:
                    break
        return most

    assert simulate(main) <= WINDOW * 10 + 1


def test_read_ahead_with_every_second_call_backing_off(simulate: Simulate[Any]) -> None:
    """Calls in backoff do not count against the window, but have their own cap: five windows in all."""
    pulled = 0

    def endless() -> Iterator[int]:
        nonlocal pulled
        while True:
            pulled += 1
            yield pulled

    async def every_second_fails(number: int) -> int:
        if number % 2:
            raise ConnectionError("down")
        return number

    async def main() -> tuple[int, int]:
        taken = 0

        async def take() -> None:
            nonlocal taken
            async for _ in Executor(max_concurrency=10, retry_on=lambda error: 1_000.0).map(every_second_fails, endless()):
                taken += 1

        taking = asyncio.ensure_future(take())
        await asyncio.sleep(500)
        ahead = pulled - taken
        taking.cancel()
        await asyncio.wait([taking])
        return ahead, taken

    ahead, taken = simulate(main)

    assert PARKED_CAP * WINDOW * 10 <= ahead <= (1 + PARKED_CAP) * WINDOW * 10
    assert taken >= PARKED_CAP * WINDOW * 10 - 1  # healthy calls went on while the others waited


def test_a_row_that_cannot_be_opened_costs_itself(simulate: Simulate[Any], fan_of: Callable[..., FanOut]) -> None:
    """A long series of bad rows does not block the loop, nor end the run."""
    turns = 0

    async def clockwork() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main() -> Any:
        ticking = asyncio.ensure_future(clockwork())
        async with fan_of() as fan:
            report = await fan.map(iter([None] * 5_000))  # type: ignore[list-item]  # the bad rows
        ticking.cancel()
        return report

    report = simulate(main)

    assert report.summary.errors == {"invalid": 5_000}
    assert turns > 40


def test_progress_is_told(simulate: Simulate[Any]) -> None:
    """A progress function gets Summaries, not more than ten a second, and the final one last."""
    told: list[Summary] = []

    async def main() -> Any:
        return await Executor(max_concurrency=10).map(echo, range(100), progress=told.append)

    simulate(main)

    assert told[-1].done == told[-1].total == 100
    assert [summary.done for summary in told] == sorted(summary.done for summary in told)
    assert len(told) <= told[-1].elapsed / 0.1 + 2


def test_progress_that_raises_ends_the_run(simulate: Simulate[Any]) -> None:
    """Whoever watches may stop the run by raising: RunFailed has its exception and the report so far."""

    def alarm(summary: Summary) -> None:
        if summary.done > 3:
            raise OverflowError("too expensive")

    async def main() -> Any:
        await Executor(max_concurrency=2).map(echo, range(50), progress=alarm)

    with pytest.raises(RunFailed, match="progress raised OverflowError") as caught:
        simulate(main)

    assert isinstance(caught.value.__cause__, OverflowError)
    assert len(caught.value.report) == 50


def test_source_that_raises_while_iterated(simulate: Simulate[Any]) -> None:
    """Everything that was handed in before is given out first; then RunFailed."""

    def source() -> Iterator[int]:
        yield from range(3)
        raise LookupError("end of tape")

    async def main() -> Any:
        values = []
        try:
            async for result in Executor().map(echo, source()).ordered():
                values.append(result.value)
        except RunFailed as exc:
            return values, exc.__cause__
        return None

    values, cause = simulate(main)

    assert values == [0, 1, 2]
    assert isinstance(cause, LookupError)


def test_times_add_up(simulate: Simulate[Any]) -> None:
    """`latency` is from handed in to done, `service_time` the last attempt, `queue_time` the rest, retries included."""
    tries: dict[int, int] = {}

    async def second_time_lucky(number: int) -> int:
        tries[number] = tries.get(number, 0) + 1
        await asyncio.sleep(2)
        if tries[number] == 1:
            raise Unavailable("busy", kind="server", retry_after=10.0)
        return number

    async def main() -> Any:
        return await Executor().map(second_time_lucky, [7])

    result = simulate(main)[0]

    assert result.service_time == pytest.approx(2.0)
    assert result.latency == pytest.approx(14.25, abs=0.26)
    assert result.queue_time == pytest.approx(result.latency - 2.0)


def test_a_cancelled_call_is_not_swallowed(simulate: Simulate[Any]) -> None:
    """A function that raises CancelledError by itself ends as cancelled; the others go on."""

    async def quits(number: int) -> int:
        if number == 1:
            raise asyncio.CancelledError
        return number

    async def main() -> Any:
        return await Executor().map(quits, range(3))

    report = simulate(main)

    assert [result.ok for result in report] == [True, False, True]
    assert report[1].error.kind == "cancelled"


def test_bar_is_drawn_on_request(simulate: Simulate[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """`progress=True` asks for the bar; by default only a notebook does."""
    asked: list[str] = []

    def no_bar(name: str) -> Any:
        asked.append(name)
        return lambda: lambda summary: None

    monkeypatch.setattr("llm_fanout.progress.hook", no_bar)

    async def main() -> Any:
        await Executor().map(echo, range(2))
        await Executor().map(echo, range(2), progress=False)
        before = list(asked)
        await Executor().map(echo, range(2), progress=True)
        monkeypatch.setattr("builtins.__IPYTHON__", True, raising=False)
        monkeypatch.setitem(__import__("sys").modules, "ipykernel", pytest)
        await Executor().map(echo, range(2))
        return before

    assert simulate(main) == []
    assert asked == ["bar", "bar"]


def test_pause_and_resume(simulate: Simulate[Any]) -> None:
    """Paused, nothing more starts and what is under way ends; resumed, it goes on; other runs are not touched."""

    async def main() -> Any:
        executor = Executor(max_concurrency=2)
        run = executor.map(asyncio.sleep, [1.0] * 10)
        waiting = asyncio.ensure_future(consume(run))
        await asyncio.sleep(2.5)
        run.pause()
        run.pause()
        await asyncio.sleep(10)
        paused = run.summary
        other = await executor.map(asyncio.sleep, [1.0] * 4)
        run.resume()
        run.resume()
        report = await waiting
        return paused, other.summary.elapsed, report.summary

    paused, other, final = simulate(main)

    assert (paused.done, paused.in_flight) == (6, 0)
    assert other == pytest.approx(2)
    assert (final.succeeded, final.elapsed) == (10, pytest.approx(2.5 + 10 + 2 + 2))


def test_a_paused_run_starts_nothing_at_all(simulate: Simulate[Any]) -> None:
    """A run may be paused before it is consumed, and cancelled while it is paused."""

    async def main() -> Any:
        run = Executor().map(asyncio.sleep, [1.0] * 3)
        run.pause()
        waiting = asyncio.ensure_future(consume(run))
        await asyncio.sleep(100)
        run.cancel()
        return await waiting

    summary = simulate(main).summary

    assert (summary.attempts, summary.errors) == (0, {"cancelled": 3})


def test_a_run_that_ends_paused_leaves_nothing_behind(simulate: Simulate[Any]) -> None:
    """Nobody can resume it any more: what comes later is not charged for passing it."""

    async def main() -> Any:
        executor = Executor(max_concurrency=1)
        run = executor.map(asyncio.sleep, [1.0] * 3)
        run.pause()
        waiting = asyncio.ensure_future(consume(run))
        await asyncio.sleep(100)
        lane = run._flow._terms.lane
        passed = len(lane.stalled)
        run.cancel()
        await waiting
        return passed, len(lane.stalled), (await executor.map(asyncio.sleep, [1.0])).summary.succeeded

    assert simulate(main) == (1, 0, 1)


def test_what_was_never_called_is_no_attempt(simulate: Simulate[Any]) -> None:
    """A call that a run begins in the step in which it is cancelled has not made its first step: it was not tried."""
    called: list[int] = []

    async def main() -> Any:
        async def only(number: int) -> int:
            called.append(number)
            run.cancel()
            return number

        run = Executor(max_concurrency=1).map(only, range(3))
        return await run

    report = simulate(main)

    assert called == [0]
    assert report.summary.attempts == 1
    assert [result.attempts for result in report] == [1, 0, 0]


def test_pause_and_resume_from_another_thread() -> None:
    """Both may be called from any thread; the loop of the run notices."""

    async def main() -> Any:
        tries = 0

        async def quick(number: int) -> int:
            nonlocal tries
            tries += 1
            await asyncio.sleep(0)
            return number

        run = Executor(max_concurrency=1).map(quick, range(300))
        waiting = asyncio.ensure_future(consume(run))
        while tries < 10:
            await asyncio.sleep(0)
        await asyncio.to_thread(run.pause)
        while run.summary.in_flight:
            await asyncio.sleep(0)
        paused = tries
        for _ in range(100):
            await asyncio.sleep(0)
        still = tries
        await asyncio.to_thread(run.resume)
        return paused, still, await waiting

    paused, still, report = in_thread(lambda: asyncio.run(main()))

    assert paused == still < 300
    assert report.values == list(range(300))


def test_a_minute_without_progress_is_told(simulate: Simulate[Any], caplog: pytest.LogCaptureFixture) -> None:
    """After 60 s in which nothing ended and nothing is under way, a warning says what is waited for; then once a minute."""
    tries = 0

    async def refused_once(_: int) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RateLimited("later", kind="rate_limited", retry_after=150.0)

    async def main() -> None:
        await Executor(max_concurrency=1).map(refused_once, range(3))

    with caplog.at_level(logging.WARNING, "llm_fanout"):
        simulate(main)

    assert [record.getMessage() for record in caplog.records] == [
        "no result for 60 s: 3 calls wait for gate; they go on as soon as they can"
    ] * 2


def test_slow_calls_and_steady_progress_are_not_warned_of(simulate: Simulate[Any], caplog: pytest.LogCaptureFixture) -> None:
    """A call under way is no reason to warn, nor are waits of less than a minute."""

    async def main() -> None:
        await Executor(max_concurrency=1).map(asyncio.sleep, [500.0])
        await Executor(rate=Limits(rpm=2, burst=1)).map(asyncio.sleep, [0.0] * 6)

    with caplog.at_level(logging.WARNING, "llm_fanout"):
        simulate(main)

    assert not caplog.records


def test_a_run_prints_where_it_stands(simulate: Simulate[Any]) -> None:
    """Before it is consumed, under way, and at the end; in a notebook cell it is its report so far."""

    async def main() -> Any:
        run = Executor(max_concurrency=1).map(asyncio.sleep, [1.0] * 4)
        before = repr(run), run._repr_html_()
        waiting = asyncio.ensure_future(consume(run))
        await asyncio.sleep(2.5)
        during = repr(run)
        await waiting
        return before, during, repr(run), run._repr_html_() == run.report._repr_html_()

    before, during, after, html = simulate(main)

    assert before == ("<Run: not started>", "<p>&lt;Run: not started&gt;</p>")
    assert during == "<Run: 2 of 4 calls in 2.5 s: 2 succeeded, 0 failed>"
    assert after == "<Run: 4 calls in 4 s: 4 succeeded, 0 failed>"
    assert html


def test_a_run_from_an_async_source_can_be_left_before_it_begins(simulate: Simulate[Any]) -> None:
    """Cancelled before anybody consumes it, its source is never touched."""

    async def source() -> AsyncIterator[int]:
        raise AssertionError
        yield 1

    async def main() -> Any:
        run = Executor().map(echo, source())
        run.cancel()
        return await run

    report = simulate(main)

    assert len(report) == 0
    assert report.summary.stopped is not None


def test_cancelling_does_not_wait_for_an_async_source(simulate: Simulate[Any]) -> None:
    """A source that takes its time to tidy up, or fails at it, keeps no call alive: nothing more starts."""
    tidied: list[float] = []

    async def slow() -> AsyncIterator[float]:
        try:
            for _ in range(100):
                yield 10.0
        finally:
            await asyncio.sleep(50)
            tidied.append(clock.now())
            raise OSError("tidying up failed")

    async def main() -> Any:
        begun = clock.now()
        run = Executor(max_concurrency=2).map(asyncio.sleep, slow())
        run.pause()
        task = asyncio.ensure_future(consume(run))
        await asyncio.sleep(1)
        run.cancel()
        with pytest.raises(RunFailed, match="tidying up failed"):
            await task
        return run.report, clock.now() - begun

    report, took = simulate(main)

    assert {result.error.kind for result in report if result.error} == {"cancelled"}
    assert report.summary.attempts == 0
    assert tidied
    assert took == pytest.approx(51, abs=1)


def test_a_cancelled_list_has_a_result_for_every_item(simulate: Simulate[Any]) -> None:
    """Paused and cancelled before anything started: a Result for each, and the last report counts them all."""
    told: list[Summary] = []

    async def main() -> Any:
        run = Executor(max_concurrency=2).map(asyncio.sleep, [1.0] * 1_000, progress=told.append)
        run.pause()
        task = asyncio.ensure_future(consume(run))
        await asyncio.sleep(1)
        run.cancel()
        return await task

    report = simulate(main)

    assert len(report) == report.summary.total == 1_000
    assert (told[-1].done, told[-1].total) == (1_000, 1_000)


def test_a_list_that_fails_while_the_rest_is_given_up(simulate: Simulate[Any]) -> None:
    """It ends the run, as a source that raises does, and nothing escapes or hangs."""

    class Failing(list[float]):
        def __iter__(self) -> Iterator[float]:
            yield from [1.0] * 300
            raise OSError("disk")

    async def main() -> Any:
        run = Executor(max_concurrency=2).map(asyncio.sleep, Failing([1.0] * 500))
        task = asyncio.ensure_future(consume(run))
        await asyncio.sleep(0.5)
        run.cancel()
        with pytest.raises(RunFailed, match="disk"):
            await task
        return run.report

    assert simulate(main).summary.done >= 200


def test_a_run_that_stands_still_tells_so(simulate: Simulate[Any]) -> None:
    """Paused, its progress is told all the same, without a guess of when it will be done."""
    told: list[Summary] = []

    async def main() -> Any:
        run = Executor(max_concurrency=2).map(asyncio.sleep, [1.0] * 20, progress=told.append)
        task = asyncio.ensure_future(consume(run))
        await asyncio.sleep(3.5)
        run.pause()
        await asyncio.sleep(10)
        paused = run.summary
        run.resume()
        await task
        return paused, run.summary

    paused, ended = simulate(main)

    assert (paused.waits_for, paused.eta, ended.waits_for) == ("paused", None, "")
    assert sum(summary.waits_for == "paused" for summary in told) >= 8


def test_two_iterators_of_one_run(simulate: Simulate[Any]) -> None:
    """The second is refused though the first was not begun yet."""

    async def main() -> list[int]:
        run = Executor().map(asyncio.sleep, [0.0, 0.0])
        first = aiter(run)
        with pytest.raises(ConfigError, match="consumed already"):
            aiter(run)
        return [result.index async for result in first]

    assert sorted(simulate(main)) == [0, 1]


def test_a_generator_that_is_left_is_closed(simulate: Simulate[Any]) -> None:
    """An async source that was pulled half-way may tidy up when the run is left."""
    closed: list[bool] = []

    async def source() -> AsyncIterator[float]:
        try:
            while True:
                yield 0.0
        finally:
            closed.append(True)

    async def main() -> None:
        run = Executor(max_concurrency=1).map(asyncio.sleep, source())
        async with run:
            async for _ in run:
                break

    simulate(main)

    assert closed == [True]


def test_an_exit_in_progress_ends_the_run() -> None:
    """SystemExit raised by the last report goes to whoever runs the loop; leaving the run does not hang."""

    def leave(summary: Summary) -> None:
        if summary.done == 2:
            sys.exit(3)

    def main() -> str:
        loop = asyncio.new_event_loop()
        run = Executor().map(asyncio.sleep, [0.0, 0.0], progress=leave)
        task = loop.create_task(consume(run))
        with pytest.raises(SystemExit):
            loop.run_until_complete(task)
        loop.run_until_complete(asyncio.wait_for(run.leave(), 30))
        loop.run_until_complete(task)
        loop.close()
        return str(run.summary.done)

    assert in_thread(main) == "2"


def test_cancelling_after_its_loop_was_closed(simulate: Simulate[Any]) -> None:
    """There is nothing under way any more, and nothing to complain about."""

    def main() -> Any:
        loop = asyncio.new_event_loop()
        run = Executor().map(asyncio.sleep, [100.0])
        task = loop.create_task(consume(run))
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is abandoned on purpose
        loop.run_until_complete(asyncio.sleep(0.01))
        for each in asyncio.all_tasks(loop):
            each._log_destroy_pending = False  # type: ignore[attr-defined]  # as above
        loop.close()
        run.cancel()
        return run.summary.stopped

    assert in_thread(main) is not None
