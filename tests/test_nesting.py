"""Calls made from within calls: no depth and no width locks up, and nothing is held twice or lost."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from support import Simulate, consume

from llm_fanout import Endpoint, Executor, FanOut, Limits, clock
from llm_fanout.nesting import depth
from llm_fanout.run import Run

ONE = Limits(max_concurrency=1, adapt=False)


class Gauge:
    """How many functions run at once, those not counted that wait for a run of their own."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0

    def begin(self) -> None:
        self.running += 1
        self.most = max(self.most, self.running)

    def end(self) -> None:
        self.running -= 1


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_ten_levels_finish(simulate: Simulate[Any], slots: int) -> None:
    """Runs inside calls inside runs, ten deep, end with as few slots as one, and never use more of them."""
    gauge = Gauge()

    async def main() -> Any:
        executor = Executor(max_concurrency=slots)

        async def level(left: int) -> int:
            gauge.begin()
            try:
                await asyncio.sleep(0.1)
                if not left:
                    return 1
                gauge.end()
                report = await executor.map(level, [left - 1] * (1 + left % 2))
                gauge.begin()
                await asyncio.sleep(0.1)
                return sum(report.values)
            finally:
                gauge.end()

        report = await executor.map(level, [10])
        return report.values, executor._quota.slots.in_use, len(asyncio.all_tasks())

    values, in_use, tasks = simulate(main)

    assert values == [32]
    assert gauge.most == slots
    assert (in_use, tasks) == (0, 1)


def test_ten_levels_of_scopes_finish(simulate: Simulate[Any]) -> None:
    """Calls of a client within calls of an executor, ten deep, in a scope each, with one slot everywhere."""

    async def answer(request: object) -> str:
        await asyncio.sleep(0.1)
        return "yes"

    async def main() -> Any:
        executor = Executor(max_concurrency=1)
        async with FanOut(Endpoint("own/f", provider=answer, limits=ONE)) as fan:

            async def level(left: int) -> int:
                async with fan.scope(f"level {left}", max_concurrency=1) as scope:
                    await fan.map(["x", "y"])
                    if left:
                        await executor.map(level, [left - 1])
                    return scope.summary.succeeded

            return (await executor.map(level, [9])).values, fan.summary.succeeded, len(asyncio.all_tasks())

    assert simulate(main) == ([20], 20, 1)


def test_a_function_may_ask_its_own_client(simulate: Simulate[Any]) -> None:
    """A provider that is a function may make calls of the client that it answers for, ten deep, with one slot."""
    levels: list[int] = []

    async def answer(request: object) -> str:
        levels.append(depth())
        await asyncio.sleep(0.1)
        if len(levels) < 10:
            async with fan.scope("deeper"):
                return (await fan.call("x")).value
        return "bottom"

    fan = FanOut(Endpoint("own/f", provider=answer, limits=ONE))

    async def main() -> Any:
        async with asyncio.timeout(10), fan:
            return (await fan.call("x")).value, fan.summary.succeeded

    assert simulate(main) == ("bottom", 10)
    assert levels == list(range(1, 11))


def test_depth_is_how_deep_we_are(simulate: Simulate[Any]) -> None:
    """None outside, one in a call, two in a call that a call has made."""

    async def main() -> Any:
        executor = Executor()

        async def inner(_: int) -> int:
            return depth()

        async def outer(_: int) -> list[int]:
            return [depth(), *(await executor.map(inner, [0])).values]

        return depth(), (await executor.map(outer, [0])).values

    assert simulate(main) == (0, [[1, 2]])


def test_a_nested_run_is_paused(simulate: Simulate[Any]) -> None:
    """While a run within a call is paused, others have the call's slot; resumed, it ends, and the call after it."""

    async def main() -> Any:
        executor = Executor(max_concurrency=1)
        nested: list[Run[None]] = []

        async def call(_: int) -> float:
            nested.append(executor.map(asyncio.sleep, [1.0] * 3))
            await nested[0]
            return clock.now() - begun

        begun = clock.now()
        outer = asyncio.ensure_future(consume(executor.map(call, [1])))
        await asyncio.sleep(1.5)
        nested[0].pause()
        await asyncio.sleep(3.5)
        paused = nested[0].summary
        other = await executor.map(asyncio.sleep, [1.0] * 2)
        nested[0].resume()
        return (await outer).values, paused.done, other.summary.elapsed, executor._quota.slots.in_use

    assert simulate(main) == ([8.0], 2, 2.0, 0)


def test_two_executors_that_call_each_other(simulate: Simulate[Any]) -> None:
    """Calls that go to and fro between two executors of one slot each come back."""

    async def main() -> Any:
        one, other = Executor(max_concurrency=1), Executor(max_concurrency=1)

        async def ping(left: int) -> int:
            await asyncio.sleep(0.1)
            return 0 if not left else 1 + sum((await other.map(pong, [left - 1])).values)

        async def pong(left: int) -> int:
            await asyncio.sleep(0.1)
            return 0 if not left else 1 + sum((await one.map(ping, [left - 1])).values)

        async with asyncio.timeout(1_000):
            report = await one.map(ping, [9, 4])
        return report.values, one._quota.slots.in_use, other._quota.slots.in_use

    assert simulate(main) == ([9, 4], 0, 0)


def test_two_executors_called_from_both_ends(simulate: Simulate[Any]) -> None:
    """Runs on two executors of one slot whose calls wait for each other's executor cannot block each other."""

    async def main() -> Any:
        one, other = Executor(max_concurrency=1), Executor(max_concurrency=1)

        async def leaf(number: int) -> int:
            await asyncio.sleep(1)
            return number

        async def through(to: Executor) -> int:
            await asyncio.sleep(1)
            return sum((await to.map(leaf, [1, 2])).values)

        async with asyncio.timeout(1_000):
            reports = await asyncio.gather(one.map(through, [other] * 3), other.map(through, [one] * 3))
        return [report.values for report in reports]

    assert simulate(main) == [[3, 3, 3], [3, 3, 3]]


async def test_a_run_in_another_thread() -> None:
    """A call that waits for a thread whose own event loop runs calls of the same executor lends them its slot, too."""
    executor = Executor(max_concurrency=1)

    async def leaf(number: int) -> int:
        await asyncio.sleep(0.001)
        return number

    async def outer(_: int) -> list[int]:
        report = await asyncio.to_thread(lambda: asyncio.run(consume(executor.map(leaf, range(5)))))
        return report.values

    async with asyncio.timeout(60):
        report = await executor.map(outer, range(3))

    assert report.values == [[0, 1, 2, 3, 4]] * 3


def test_the_timeout_of_one_that_waits_rests(simulate: Simulate[Any]) -> None:
    """A call may wait for its own calls as long as they take: its two seconds are those in which it does something."""

    async def main() -> Any:
        executor = Executor(max_concurrency=1, timeout=2.0, max_retries=0)

        async def leaf(_: int) -> None:
            await asyncio.sleep(1.5)

        async def outer(rest: float) -> None:
            await asyncio.sleep(1)
            await executor.map(leaf, range(10))
            await asyncio.sleep(rest)

        begun = clock.now()
        fine = await executor.map(outer, [0.9])
        took = clock.now() - begun
        late = await executor.map(outer, [50.0])
        return fine[0].ok, took, late[0].error, clock.now() - begun - took

    ok, took, error, second = simulate(main)

    assert ok
    assert took == pytest.approx(1 + 15 + 0.9)
    assert error.kind == "timeout"
    assert second == pytest.approx(1 + 15 + 1)


def test_what_was_lent_comes_back_before_new_starts(simulate: Simulate[Any]) -> None:
    """A call that has waited for its own takes the next slot that is free, before anything that is waiting to begin."""
    order: list[str] = []

    async def main() -> None:
        executor = Executor(max_concurrency=1)

        async def leaf(_: int) -> None:
            await asyncio.sleep(1)
            order.append("leaf")

        async def outer(number: int) -> None:
            order.append(f"{number} begins")
            if number == 0:
                await executor.map(leaf, [0])
                order.append("0 goes on")
            await asyncio.sleep(1)

        await executor.map(outer, range(4))

    simulate(main)

    assert order == ["0 begins", "leaf", "1 begins", "0 goes on", "2 begins", "3 begins"]


def test_runs_from_within_go_first(simulate: Simulate[Any]) -> None:
    """The slot of a call that waits for a run of its own is that run's, not that of the calls in line before it."""
    order: list[str] = []

    async def main() -> None:
        executor = Executor(max_concurrency=1)

        async def leaf(number: int) -> None:
            order.append(f"leaf {number}")
            await asyncio.sleep(1)

        async def outer(number: int) -> None:
            order.append(f"outer {number}")
            await executor.map(leaf, range(3))

        await executor.map(outer, range(2))

    simulate(main)

    assert order[:4] == ["outer 0", "leaf 0", "leaf 1", "leaf 2"]


def test_iterating_inside_a_call(simulate: Simulate[Any]) -> None:
    """`async for` in a call gives its slot up only while it waits for a result, and has it when it looks at one."""
    gauge = Gauge()

    async def main() -> Any:
        executor = Executor(max_concurrency=1)

        async def leaf(number: int) -> int:
            gauge.begin()
            await asyncio.sleep(1)
            gauge.end()
            return number

        async def outer(_: int) -> list[int]:
            values = []
            async for result in executor.map(leaf, range(5)).ordered():
                gauge.begin()
                await asyncio.sleep(0.5)
                gauge.end()
                values.append(result.value)
            return values

        return (await executor.map(outer, range(2))).values

    assert simulate(main) == [[0, 1, 2, 3, 4]] * 2
    assert gauge.most == 1


def test_leaving_a_run_inside_a_call(simulate: Simulate[Any]) -> None:
    """A call that takes the first result of its own run and leaves the others has its slot when it goes on."""

    async def main() -> Any:
        executor = Executor(max_concurrency=2)

        async def leaf(number: int) -> int:
            await asyncio.sleep(number)
            return number

        async def outer(_: int) -> int:
            async with executor.map(leaf, [3, 100, 200]) as run:
                async for result in run:
                    return result.value
            return -1

        report = await executor.map(outer, range(4))
        await asyncio.sleep(0.1)
        return report.values, executor._quota.slots.in_use

    assert simulate(main) == ([3] * 4, 0)


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_cancelling_does_not_wait_for_a_slot(simulate: Simulate[Any], levels: int) -> None:
    """A run whose calls wait for calls, with one slot, ends in the instant in which it is cancelled."""

    async def main() -> Any:
        executor = Executor(max_concurrency=1)

        async def level(left: int) -> None:
            if left:
                await executor.map(level, [left - 1])
            await asyncio.sleep(1_000)

        waiting = asyncio.ensure_future(consume(executor.map(level, [levels])))
        await asyncio.sleep(5)
        begun = clock.now()
        waiting.cancel()
        await asyncio.wait([waiting])
        return clock.now() - begun, executor._quota.slots.in_use, len(asyncio.all_tasks())

    took, in_use, tasks = simulate(main)

    assert took < 0.001
    assert (in_use, tasks) == (0, 1)


def test_cancelling_an_iteration_does_not_wait_for_a_slot(simulate: Simulate[Any]) -> None:
    """The same where the call that waits takes its results one by one."""

    async def main() -> Any:
        executor = Executor(max_concurrency=1)

        async def outer(_: int) -> None:
            async for result in executor.map(asyncio.sleep, [1_000]):
                assert result.ok

        run = executor.map(outer, [0])
        waiting = asyncio.ensure_future(consume(run))
        await asyncio.sleep(5)
        begun = clock.now()
        run.cancel()
        await waiting
        return clock.now() - begun, executor._quota.slots.in_use

    took, in_use = simulate(main)

    assert took < 0.001
    assert in_use == 0


def test_a_call_that_gives_up_its_run_takes_a_slot_to_go_on(simulate: Simulate[Any]) -> None:
    """A call that bounds its own run with `asyncio.timeout` goes on as one of `max_concurrency`, not beside them."""
    gauge = Gauge()

    async def main() -> Any:
        executor = Executor(max_concurrency=2)

        async def busy(_: int) -> None:
            gauge.begin()
            await asyncio.sleep(7)
            gauge.end()

        async def outer(_: int) -> str:
            try:
                async with asyncio.timeout(10):
                    await executor.map(asyncio.sleep, [1_000])
            except TimeoutError:
                gauge.begin()
                await asyncio.sleep(5)
                gauge.end()
            return "gave up"

        first = asyncio.ensure_future(consume(executor.map(outer, [0])))
        await asyncio.sleep(0.1)
        second = asyncio.ensure_future(consume(executor.map(busy, range(6))))
        return (await first).values, len((await second).successes)

    assert simulate(main) == (["gave up"], 6)
    assert gauge.most <= 2


def test_runs_left_behind_by_a_call_hold_nobody_up(simulate: Simulate[Any]) -> None:
    """A task that a call has started and not awaited may go on making calls when the call has ended."""
    left: list[asyncio.Task[Any]] = []

    async def main() -> Any:
        executor = Executor(max_concurrency=1)

        async def leaf(number: int) -> int:
            await asyncio.sleep(1)
            return number

        async def twice() -> list[int]:
            first = await executor.map(leaf, range(3))
            return first.values + (await executor.map(leaf, range(2))).values

        async def outer(_: int) -> None:
            left.append(asyncio.ensure_future(twice()))
            await asyncio.sleep(0.5)

        await executor.map(outer, range(2))
        late = await asyncio.gather(*left)
        again = await asyncio.ensure_future(consume(executor.map(leaf, [9])))
        return late, again.values, executor._quota.slots.in_use

    assert simulate(main) == ([[0, 1, 2, 0, 1]] * 2, [9], 0)


@pytest.mark.parametrize(("patience", "values"), [(100.0, [4.0]), (3.0, [])])
def test_a_call_that_waits_again_before_its_slot_is_back(simulate: Simulate[Any], patience: float, values: Any) -> None:
    """Cancelled while it waited for its slot, a call may wait for another run at once: it lends that slot, too."""

    async def main() -> Any:
        executor = Executor(max_concurrency=1)

        async def sleeps(seconds: float) -> float:
            await asyncio.sleep(seconds)
            return seconds

        async def within(seconds: float, patience: float) -> list[float]:
            try:
                async with asyncio.timeout(patience):
                    return (await executor.map(sleeps, [seconds])).values
            except TimeoutError:
                return []

        async def outer(_: int) -> list[float]:
            await within(1.0, 2.0)  # done after a second; the slot is not back after two
            return await within(4.0, patience)

        first = asyncio.ensure_future(consume(executor.map(outer, [0])))
        await asyncio.sleep(0.5)
        others = asyncio.ensure_future(consume(executor.map(sleeps, [10.0])))  # has the slot when the inner run is done
        return (await first).values, (await others).values, executor._quota.slots.in_use

    assert simulate(main) == ([values], [10.0], 0)


def test_a_task_left_behind_does_not_wait_for_a_slot_that_is_gone(simulate: Simulate[Any]) -> None:
    """A call may end while a task of its own waits for its slot: that task goes on without one."""
    left: list[asyncio.Task[Any]] = []

    async def main() -> Any:
        executor = Executor(max_concurrency=1)

        async def outer(_: int) -> None:
            left.append(asyncio.ensure_future(consume(executor.map(asyncio.sleep, [1.0]))))
            await asyncio.sleep(2)

        first = asyncio.ensure_future(consume(executor.map(outer, [0])))
        await asyncio.sleep(0.5)
        others = asyncio.ensure_future(consume(executor.map(asyncio.sleep, [10.0])))
        begun = clock.now()
        await first
        await left[0]
        took = clock.now() - begun
        await others
        return took, executor._quota.slots.in_use

    assert simulate(main) == (pytest.approx(1.5), 0)


@pytest.mark.parametrize("seed", range(4))
def test_cancelling_at_any_moment_leaks_no_slot(simulate: Simulate[Any], seed: int) -> None:
    """Trees of runs, cancelled at random moments from above and from within: all slots come back, and none is used twice."""
    draw = random.Random(seed)
    gauge = Gauge()

    async def main() -> Any:
        executor = Executor(max_concurrency=3, timeout=3.0, max_retries=1)

        async def node(left: int) -> int:
            gauge.begin()
            counted = True
            try:
                await asyncio.sleep(draw.random())
                if left:
                    run = executor.map(node, [left - 1] * draw.choice([1, 2, 3]))
                    gauge.end()
                    counted = False
                    try:
                        async with asyncio.timeout(draw.choice([0.1, 2.0, 100.0])):
                            if draw.random() < 0.5:
                                await run
                            else:
                                async with run:
                                    async for _ in run:
                                        if draw.random() < 0.3:
                                            break
                    except TimeoutError:
                        pass
                    gauge.begin()
                    counted = True
                    await asyncio.sleep(draw.random())
                return left
            finally:
                if counted:
                    gauge.end()

        for _ in range(25):
            waiting = asyncio.ensure_future(consume(executor.map(node, [3] * 4)))
            await asyncio.sleep(draw.random() * draw.choice([0.01, 1.0, 10.0]))
            waiting.cancel()
            await asyncio.wait([waiting])
        await asyncio.sleep(1)
        left = len(asyncio.all_tasks())
        report = await executor.map(asyncio.sleep, [1.0] * 9)
        return left, report.summary.succeeded, report.summary.elapsed, executor._quota.slots.in_use

    left, succeeded, elapsed, in_use = simulate(main)

    assert (left, succeeded, in_use) == (1, 9, 0)
    assert elapsed == pytest.approx(3.0)
    assert gauge.running == 0
