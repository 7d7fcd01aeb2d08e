"""The executor: any async function, in virtual time."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

import pytest
from aiolimiter import AsyncLimiter
from support import Simulate, consume, in_thread

from llm_fanout import (
    BadReply,
    ConfigError,
    Executor,
    Limits,
    RateLimited,
    Rejected,
    RunFailed,
    Stopped,
    Task,
    Unavailable,
    clock,
)

NO_JITTER = "llm_fanout.engine.random.random"


async def double(number: int) -> int:
    await asyncio.sleep(1)
    return number * 2


def test_map_keeps_input_order(simulate: Simulate[Any]) -> None:
    """One Result per item, in input order, whatever order they end in."""

    async def slow_first(number: int) -> int:
        await asyncio.sleep(10 - number)
        return number

    async def main() -> list[int]:
        return (await Executor().map(slow_first, range(10))).values

    assert simulate(main) == list(range(10))


def test_max_concurrency_is_never_exceeded(simulate: Simulate[Any]) -> None:
    """With 7 slots, 70 calls of a second take exactly ten, seven at once."""
    at_once: list[int] = []
    running = 0

    async def watched(_: int) -> None:
        nonlocal running
        running += 1
        at_once.append(running)
        await asyncio.sleep(1)
        running -= 1

    async def main() -> float:
        report = await Executor(max_concurrency=7).map(watched, range(70))
        return report.summary.elapsed

    assert simulate(main) == pytest.approx(10, abs=0.001)
    assert max(at_once) == 7


def test_failure_is_isolated(simulate: Simulate[Any]) -> None:
    """An item that raises costs its own Result, which keeps the exception as the cause of its error."""

    async def odd_fails(number: int) -> int:
        if number % 2:
            raise KeyError(number)
        return number

    async def main() -> Any:
        return await Executor().map(odd_fails, range(4))

    report = simulate(main)

    assert [result.ok for result in report] == [True, False, True, False]
    assert isinstance(report[1].error, Rejected)
    assert report[1].error.kind == "exception"
    assert isinstance(report[1].error.__cause__, KeyError)


def test_timeout_is_retried_and_its_clean_up_awaited(simulate: Simulate[Any]) -> None:
    """A call over its timeout is cancelled, its `finally` runs to the end before the next attempt, which may succeed."""
    events: list[str] = []

    async def hangs_once(_: int) -> str:
        events.append("start")
        if len(events) > 1:
            return "done"
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(3)
            events.append("cleaned")
        return "never"

    async def main() -> Any:
        return await Executor(timeout=5).map(hangs_once, [0])

    report = simulate(main)

    assert events == ["start", "cleaned", "start"]
    assert report[0].attempts == 2
    assert report[0].value == "done"


def test_timeout_after_all_retries_says_so(simulate: Simulate[Any]) -> None:
    """When every attempt times out the error is Unavailable of kind timeout and names the seconds."""

    async def hangs(_: int) -> None:
        await asyncio.sleep(100)

    async def main() -> Any:
        return await Executor(timeout=5, max_retries=1).map(hangs, [0])

    error = simulate(main)[0].error

    assert isinstance(error, Unavailable)
    assert error.kind == "timeout"
    assert "5 s" in error.message


def test_no_wait_after_the_last_attempt(simulate: Simulate[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """With two retries the run lasts exactly the two waits: 0.5 s and 1 s at the most of the jitter."""
    monkeypatch.setattr(NO_JITTER, lambda: 0.999999)

    async def fails(_: int) -> None:
        raise ConnectionError("no")

    async def main() -> float:
        report = await Executor(max_retries=2).map(fails, [0])
        assert report[0].error is not None
        assert report[0].error.kind == "connection"
        return report.summary.elapsed

    assert simulate(main) == pytest.approx(1.5, abs=0.001)


def test_backoff_holds_no_slot(simulate: Simulate[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """With one slot, a poison item that keeps failing delays nobody: the others run while it waits."""
    monkeypatch.setattr(NO_JITTER, lambda: 0.999999)
    ended: dict[int, float] = {}

    async def poison(number: int) -> None:
        if number == 0:
            raise ConnectionError("no")
        await asyncio.sleep(0.1)
        ended[number] = clock.now()

    async def main() -> float:
        begun = clock.now()
        await Executor(max_concurrency=1).map(poison, range(11))
        return max(ended.values()) - begun

    assert simulate(main) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (ConnectionError("x"), 3),
        (RuntimeError("x"), 3),
        (TypeError("x"), 1),
        (NotImplementedError("x"), 1),
        (Rejected("x", kind="invalid"), 1),
        (Stopped("x", kind="cancelled"), 1),
        (Unavailable("x", kind="server"), 3),
        (BadReply("x", kind="empty"), 3),
    ],
)
def test_what_is_retried_by_default(simulate: Simulate[Any], error: Exception, attempts: int) -> None:
    """Faults of the code and final errors are tried once; everything else again."""

    async def fails(_: int) -> None:
        raise error

    async def main() -> Any:
        return await Executor(max_retries=2).map(fails, [0])

    assert simulate(main)[0].attempts == attempts


def test_retry_on_types(simulate: Simulate[Any]) -> None:
    """Only the types that are named are tried again."""

    async def fails(error: Exception) -> None:
        raise error

    async def main() -> Any:
        executor = Executor(max_retries=1, retry_on=(KeyError, OSError))
        return await executor.map(fails, [KeyError("x"), ValueError("x"), TimeoutError("x")])

    assert [result.attempts for result in simulate(main)] == [2, 1, 2]


def test_retry_on_single_type(simulate: Simulate[Any]) -> None:
    """One type needs no tuple."""

    async def fails(_: int) -> None:
        raise KeyError("x")

    async def main() -> Any:
        return await Executor(max_retries=1, retry_on=KeyError).map(fails, [0])

    assert simulate(main)[0].attempts == 2


def test_retry_on_names_the_wait(simulate: Simulate[Any]) -> None:
    """A predicate that gives seconds is obeyed: not earlier, a little later at most; and it costs no retry."""
    starts: list[float] = []

    async def busy_twice(_: int) -> str:
        starts.append(clock.now())
        if len(starts) < 3:
            raise RuntimeError("busy")
        return "done"

    async def main() -> Any:
        return await Executor(max_retries=0, retry_on=lambda error: 4.0).map(busy_twice, [0])

    report = simulate(main)

    assert report[0].value == "done"
    assert all(4.0 <= later - earlier <= 4.2 for earlier, later in itertools.pairwise(starts))


def test_retry_after_of_our_own_errors_is_obeyed(simulate: Simulate[Any]) -> None:
    """A RateLimited that says when is tried again then."""
    starts: list[float] = []

    async def limited_once(_: int) -> str:
        starts.append(clock.now())
        if len(starts) == 1:
            raise RateLimited("wait", kind="rate_limited", retry_after=30.0)
        return "done"

    async def main() -> Any:
        return await Executor().map(limited_once, [0])

    assert simulate(main)[0].value == "done"
    assert 30.0 <= starts[1] - starts[0] <= 30.25


def test_retry_for_bounds_the_time(simulate: Simulate[Any]) -> None:
    """No try starts later than `retry_for` after the first."""
    starts: list[float] = []

    async def fails(_: int) -> None:
        starts.append(clock.now())
        raise RuntimeError("no")

    async def main() -> Any:
        return await Executor(retry_for=10, retry_on=lambda error: 3.0).map(fails, [0])

    report = simulate(main)

    assert not report[0].ok
    assert len(starts) == 4
    assert starts[-1] - starts[0] <= 10


@pytest.mark.parametrize(("answer", "attempts"), [(None, 1), (False, 1), (True, 2), (float("inf"), 1)])
def test_what_a_predicate_may_answer(simulate: Simulate[Any], answer: Any, attempts: int) -> None:
    """True and False are obeyed; no answer is no, and a wait without end is not waited for."""

    async def fails(_: int) -> None:
        raise RuntimeError("no")

    async def main() -> Any:
        return await Executor(max_retries=1, retry_on=lambda error: answer).map(fails, [0])

    assert simulate(main)[0].attempts == attempts


def test_a_raising_predicate_costs_its_item_only(simulate: Simulate[Any]) -> None:
    """A `retry_on` that raises fails the item that it was asked about, and gives its slot back."""

    def broken(error: Exception) -> bool:
        raise LookupError("predicate")

    async def fails_first(number: int) -> int:
        if number == 0:
            raise RuntimeError("no")
        return number

    async def main() -> Any:
        return await Executor(max_concurrency=1, retry_on=broken).map(fails_first, range(3))

    report = simulate(main)

    assert [result.ok for result in report] == [False, True, True]
    assert "predicate" in str(report[0].error)


def test_rate_limiter_is_obeyed_without_a_slot(simulate: Simulate[Any]) -> None:
    """Each attempt acquires the AsyncLimiter once; 24 calls at 8 a second take two seconds after the first burst."""

    async def main() -> Any:
        async def quick(_: int) -> float:
            return clock.now()

        report = await Executor(rate=AsyncLimiter(8, 1)).map(quick, range(24))
        return report, asyncio.all_tasks()

    report, tasks = simulate(main)

    assert report.summary.elapsed == pytest.approx(2.0, abs=0.01)
    assert report.summary.binding == "permits"
    assert len(tasks) == 1


def test_rate_limiter_wait_ends_with_the_run(simulate: Simulate[Any]) -> None:
    """A run that is cancelled while its permit is awaited leaves no task behind, and the executor still works."""

    async def main() -> Any:
        limiter = AsyncLimiter(1, 8)
        executor = Executor(rate=limiter)
        run = executor.map(double, range(5))
        waiting = asyncio.ensure_future(consume(run))
        await asyncio.sleep(3)
        run.cancel()
        first = await waiting
        await asyncio.sleep(0.01)
        left = len(asyncio.all_tasks())
        second = await executor.map(double, [4])
        return first, left, second

    first, left, second = simulate(main)

    assert [result.ok for result in first] == [True, False, False, False, False]
    assert left == 1
    assert second.values == [8]


def test_run_takes_tasks(simulate: Simulate[Any]) -> None:
    """`run` calls each task's function with its arguments; ids come back."""

    async def join(left: str, right: str) -> str:
        return left + right

    async def main() -> Any:
        return await Executor().run([Task(join, "a", "b"), Task(join, "c", "d", id="second")])

    report = simulate(main)

    assert report.values == ["ab", "cd"]
    assert [result.id for result in report] == [0, "second"]


def test_duplicate_task_ids_are_refused_before_anything_starts() -> None:
    """Two tasks of a list with one id: a ConfigError that names it."""
    with pytest.raises(ConfigError, match="'same'"):
        Executor().run([Task(double, 1, id="same"), Task(double, 2, id="same")])


def test_tasks_of_a_generator_are_read_at_once() -> None:
    """So the second of two equal ids is found before anything starts, too; and what the generator raises is raised."""

    def broken() -> Iterator[Task[int]]:
        yield Task(double, 1)
        raise OSError("disk")

    with pytest.raises(ConfigError, match="'a'"):
        Executor().run(Task(double, number, id=name) for number, name in enumerate(["a", "b", "a"]))
    with pytest.raises(OSError, match="disk"):
        Executor().run(broken())


def test_wrong_tasks_that_come_one_by_one_cost_their_rows(simulate: Simulate[Any]) -> None:
    """The second of two equal ids fails, and what is no task; the others run."""

    async def source() -> AsyncIterator[Any]:
        for number, name in enumerate(["a", "b", "a"]):
            yield Task(double, number, id=name)
        yield double

    async def main() -> Any:
        return await Executor().run(source())

    report = simulate(main)

    assert [result.ok for result in report] == [True, True, False, False]
    assert [result.error.kind for result in report[2:]] == ["invalid"] * 2


def test_a_broken_source_of_tasks_starts_none(simulate: Simulate[Any]) -> None:
    """An async iterable that raises before all tasks are there ends the run, and those that were there say so."""

    async def source() -> AsyncIterator[Task[int]]:
        yield Task(double, 1)
        raise OSError("disk")

    async def main() -> Any:
        await Executor().run(source())

    with pytest.raises(RunFailed, match="the source raised OSError: disk") as caught:
        simulate(main)

    assert [result.error.kind for result in caught.value.report] == ["cancelled"]


def test_what_is_no_task_is_refused() -> None:
    """Something else in the list is named with its position."""
    with pytest.raises(ConfigError, match="item 1 is not a Task"):
        Executor().run([Task(double, 1), double])  # type: ignore[list-item]  # the mistake under test


@pytest.mark.parametrize("wrong", [3, (n for n in ())])
def test_what_cannot_be_called_is_refused(wrong: Any) -> None:
    """A function is needed, before anything starts."""
    with pytest.raises(ConfigError, match="async function"):
        Executor().map(wrong, [1])


def test_a_sync_function_fails_with_advice(simulate: Simulate[Any]) -> None:
    """A function that returns a plain value: its row says to use async def."""

    def plain(number: int) -> int:
        return number

    async def main() -> Any:
        return await Executor().map(plain, [1])  # type: ignore[arg-type]  # the mistake under test

    report = simulate(main)

    assert report[0].attempts == 1
    assert "async def" in str(report[0].error)


def test_a_function_that_returns_an_awaitable_is_enough(simulate: Simulate[Any]) -> None:
    """`def` with an awaitable as its value is as good as `async def`."""

    def gives_awaitable(number: int) -> Awaitable[int]:
        return double(number)

    async def main() -> Any:
        return await Executor().map(gives_awaitable, [1])

    assert simulate(main).values == [2]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"max_concurrency": -1}, "max_concurrency"),
        ({"max_concurrency": 2.5}, "max_concurrency"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": "5"}, "timeout"),
        ({"max_retries": -1}, "max_retries"),
        ({"max_retries": 1.5}, "max_retries"),
        ({"max_retries": True}, "max_retries"),
        ({"retry_for": -3}, "retry_for"),
        ({"rate": 5}, "AsyncLimiter"),
        ({"rate": Limits(tpm=1_000)}, "no tokens to count"),
        ({"rate": Limits(itpm=1_000, rpm=5)}, "no tokens to count"),
        ({"rate": Limits(otpm=1_000)}, "no tokens to count"),
        ({"rate": Limits(max_concurrency=3)}, "say it once"),
        ({"rate": AsyncLimiter(0.5, 1)}, "never a whole one"),
        ({"retry_on": (ValueError, 3)}, "retry_on"),
        ({"retry_on": BaseException}, "retry_on"),
        ({"retry_on": 7}, "retry_on"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], match: str) -> None:
    """An argument out of its range is a ConfigError that names it."""
    with pytest.raises(ConfigError, match=match):
        Executor(**options)


def test_the_context_is_the_one_of_the_map_call(simulate: Simulate[Any]) -> None:
    """Context variables are those of the moment `map` was called, and a call's changes reach no other."""
    name = contextvars.ContextVar("name", default="nobody")

    async def who(_: int) -> str:
        seen = name.get()
        name.set("somebody else")
        return seen

    async def main() -> Any:
        name.set("me")
        run = Executor(max_concurrency=1).map(who, range(3))
        name.set("later")
        return await run

    assert simulate(main).values == ["me", "me", "me"]


def test_leaving_the_executor_cancels_its_runs(simulate: Simulate[Any]) -> None:
    """What still runs at the end of `async with` is cancelled and its clean-up awaited."""
    cleaned: list[int] = []

    async def long(number: int) -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            cleaned.append(number)

    async def main() -> Any:
        async with Executor() as executor:
            waiting = asyncio.ensure_future(consume(executor.map(long, range(3))))
            unused = executor.map(long, range(3))
            await asyncio.sleep(1)
        assert unused.summary.stopped is not None
        return await waiting

    report = simulate(main)

    assert cleaned == [0, 1, 2]
    assert {result.error.kind for result in report} == {"cancelled"}
    assert report.summary.stopped is not None


def test_a_source_that_raises_keeps_what_is_done(simulate: Simulate[Any]) -> None:
    """RunFailed carries the report of everything that was handed in before, and the source's own error."""

    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("disk")

    async def main() -> Any:
        await Executor().map(double, source())

    with pytest.raises(RunFailed, match="the source raised OSError: disk") as caught:
        simulate(main)

    assert caught.value.report.values == [2, 4]  # type: ignore[attr-defined]  # a Report
    assert isinstance(caught.value.__cause__, OSError)


def test_limits_as_a_rate(simulate: Simulate[Any]) -> None:
    """`rate=Limits(rpm=, burst=)`: the burst at once, then one after another; in any minute no more than rpm."""

    async def main() -> Any:
        async def when(_: int) -> float:
            return clock.now()

        begun = clock.now()
        report = await Executor(rate=Limits(rpm=60, burst=10)).map(when, range(130))
        return [at - begun for at in report.values], report.summary.binding

    starts, binding = simulate(main)

    assert sum(at == 0 for at in starts) == 10
    assert all(sum(at <= other < at + 60 for other in starts) <= 60 for at in starts)
    assert starts[-1] == pytest.approx(120 / 51 * 60, abs=1)  # after the burst 51 a minute: any minute holds 60
    assert binding == "requests"


def test_headroom_leaves_room(simulate: Simulate[Any]) -> None:
    """With `headroom=0.5` half of the rate is used."""

    async def main() -> Any:
        one = await Executor(rate=Limits(rpm=120, burst=1)).map(asyncio.sleep, [0.0] * 61)
        half = await Executor(rate=Limits(rpm=120, burst=1, headroom=0.5)).map(asyncio.sleep, [0.0] * 61)
        return one.summary.elapsed, half.summary.elapsed

    assert simulate(main) == (pytest.approx(30), pytest.approx(60))


def test_a_days_requests(simulate: Simulate[Any]) -> None:
    """`rpd`: as many as that in 24 hours, and the next when the first is a day old."""

    async def main() -> Any:
        return (await Executor(rate=Limits(rpd=5)).map(asyncio.sleep, [0.0] * 6)).summary.elapsed

    assert simulate(main) == pytest.approx(86_400, abs=61)


def test_one_rate_is_shared_by_all_runs_of_an_executor(simulate: Simulate[Any]) -> None:
    """Two runs at once keep to it together, retries included."""
    starts: list[float] = []

    async def fails_first(number: int) -> None:
        starts.append(clock.now())
        if number % 2 and len(starts) < 20:
            raise ConnectionError("once")

    async def main() -> None:
        executor = Executor(rate=Limits(rpm=60, burst=1))
        await asyncio.gather(executor.map(fails_first, range(10)), executor.map(fails_first, range(10)))

    simulate(main)

    assert len(starts) > 20
    assert all(later - earlier >= 0.999 for earlier, later in itertools.pairwise(starts))


def test_a_refusal_slows_everybody_and_costs_no_retry(simulate: Simulate[Any]) -> None:
    """RateLimited with a time: nobody of the executor starts before it is over; with no retries left it still goes on."""
    starts: list[float] = []

    async def refused_three_times(number: int) -> int:
        starts.append(clock.now())
        await asyncio.sleep(0.1)
        if len(starts) in (3, 4, 5):
            raise RateLimited("slow down", kind="rate_limited", retry_after=20.0)
        return number

    async def main() -> Any:
        return await Executor(max_concurrency=1, max_retries=0).map(refused_three_times, range(8))

    report = simulate(main)

    assert report.values == list(range(8))
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert max(gaps[:2]) < 1
    assert min(gaps[2:5]) >= 20.0
    assert max(gaps[2:5]) <= 25.0


def test_a_refusal_without_a_time_is_not_a_retry(simulate: Simulate[Any]) -> None:
    """RateLimited that says nothing: fewer at once for a while, tried again until it passes, though `max_retries` is 0."""
    running = most = refused = 0

    async def four_at_once(number: int) -> int:
        nonlocal running, most, refused
        running += 1
        try:
            if running > 4:
                refused += 1
                raise RateLimited("too many", kind="rate_limited")
            await asyncio.sleep(1)
            return number
        finally:
            running -= 1

    async def main() -> Any:
        return await Executor(max_concurrency=50, max_retries=0).map(four_at_once, range(200))

    report = simulate(main)

    assert report.values == list(range(200))
    assert refused < 400


def test_unavailable_with_a_time_waits_alone(simulate: Simulate[Any]) -> None:
    """Another error that names a wait holds only its own call back."""

    async def first_is_busy(number: int, tries: list[int]) -> float:
        tries.append(number)
        if number == 0 and tries.count(0) == 1:
            raise Unavailable("busy", kind="server", retry_after=50.0)
        await asyncio.sleep(1)
        return clock.now()

    async def main() -> Any:
        tries: list[int] = []
        begun = clock.now()
        report = await Executor(max_concurrency=1).run([Task(first_is_busy, number, tries) for number in range(5)])
        return [at - begun for at in report.values]

    first, *others = simulate(main)

    assert first >= 51
    assert max(others) == pytest.approx(4)


def test_a_rate_limiter_is_asked_on_its_own_loop() -> None:
    """Resumed from another thread, a run with an AsyncLimiter goes on."""

    async def main() -> int:
        run = Executor(rate=AsyncLimiter(100, 1)).map(asyncio.sleep, [0.0] * 5)
        run.pause()
        task = asyncio.ensure_future(consume(run))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(run.resume)
        return len(await asyncio.wait_for(task, 30))

    assert in_thread(lambda: asyncio.run(main())) == 5


def test_leaving_an_executor_leaves_other_loops_alone() -> None:
    """What runs on another event loop is that loop's business."""
    executor = Executor()

    async def elsewhere() -> int:
        return (await executor.map(asyncio.sleep, [0.2])).summary.succeeded

    async def main() -> int:
        async with executor:
            other = asyncio.ensure_future(asyncio.to_thread(lambda: asyncio.run(elsewhere())))
            await asyncio.sleep(0.05)
        return await other

    assert in_thread(lambda: asyncio.run(main())) == 1


def test_resuming_before_anything_was_handed_in(simulate: Simulate[Any]) -> None:
    """Without a loop there is nothing to ask the AsyncLimiter for yet."""
    run = Executor(rate=AsyncLimiter(100, 1)).map(asyncio.sleep, [0.0])
    run.pause()
    run.resume()

    assert simulate(lambda: consume(run)).summary.succeeded == 1


def test_a_retry_that_is_due_at_once_is_no_longer_parked(simulate: Simulate[Any]) -> None:
    """However many calls are tried again in the very step in which they failed: pulling goes on."""
    seen: set[int] = set()

    async def once(number: int) -> int:
        if number not in seen:
            seen.add(number)
            raise OSError("reset")
        return number

    async def main() -> Any:
        return await Executor(max_concurrency=1, retry_on=lambda error: 0.0).map(once, iter(range(100)))

    assert simulate(main).values == list(range(100))


def test_what_is_no_exception_costs_its_item_only(simulate: Simulate[Any]) -> None:
    """`pytest.fail` and its like come from BaseException: the item fails, its slot comes back, and the run ends."""

    class Odd(BaseException):
        pass

    async def odd(number: int) -> int:
        if number == 1:
            raise Odd("no")
        return number

    async def main() -> Any:
        return await Executor(max_concurrency=1).map(odd, range(3))

    assert [result.error and result.error.kind for result in simulate(main)] == [None, "exception", None]


def test_a_source_that_knows_its_length_may_be_good_for_one_pass(simulate: Simulate[Any]) -> None:
    """It is not used up by checking it."""

    class Once:
        def __init__(self) -> None:
            self.tasks = iter([Task(value_of, number) for number in range(3)])

        def __len__(self) -> int:
            return 3

        def __iter__(self) -> Iterator[Task[int]]:
            return self.tasks

    async def value_of(number: int) -> int:
        return number

    async def main() -> Any:
        return await Executor().run(Once())

    assert simulate(main).values == [0, 1, 2]
