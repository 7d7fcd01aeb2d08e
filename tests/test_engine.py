"""The engine where several loops and threads meet, and where things end badly."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from contextvars import Context
from typing import Any

import pytest
from support import Simulate, consume, forever, in_thread, job, nothing

from llm_fanout import Executor, clock
from llm_fanout.core.job import Attempt, Outcome
from llm_fanout.core.pool import Pool
from llm_fanout.core.quota import Quota
from llm_fanout.core.stated import Limits
from llm_fanout.engine import Engine
from llm_fanout.errors import Unavailable


def test_two_threads_share_the_slots() -> None:
    """Runs of one executor on two loops in two threads together never have more calls under way than it has slots."""
    executor = Executor(max_concurrency=4)
    lock = threading.Lock()
    running = most = 0

    async def watched(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        await asyncio.sleep(0.005)
        with lock:
            running -= 1
        return number

    def run(base: int) -> list[int]:
        return asyncio.run(consume(executor.map(watched, range(base, base + 40)))).values

    results: dict[int, list[int]] = {}
    threads = [threading.Thread(target=lambda base=base: results.update({base: run(base)})) for base in (0, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == {0: list(range(40)), 100: list(range(100, 140))}
    assert most <= 4


def test_one_loop_wakes_another_that_waits_for_a_slot() -> None:
    """A call that waits in one loop starts as soon as another loop gives the only slot back."""
    engine, quota = Engine(), Quota(Limits(max_concurrency=1))
    held, ended = threading.Event(), threading.Event()

    async def hold() -> Outcome:
        held.set()
        await asyncio.sleep(0.05)
        return Outcome()

    async def holder() -> None:
        engine.hand_in([job(quota, hold)[0]])
        while not ended.is_set():
            await asyncio.sleep(0.001)

    async def waiter() -> bool:
        waiting, step = job(quota, nothing)
        engine.hand_in([waiting])
        async with asyncio.timeout(30):
            while not step.outcomes:
                await asyncio.sleep(0.001)
        return True

    thread = threading.Thread(target=lambda: asyncio.run(holder()))
    thread.start()
    held.wait()
    got_it = in_thread(lambda: asyncio.run(waiter()))
    ended.set()
    thread.join()

    assert got_it


def abandon(engine: Engine, quota: Quota) -> None:
    """Close a loop while two jobs of `engine` are there, the first of them under way, and cancel neither."""
    loop = asyncio.new_event_loop()

    async def start() -> None:
        engine.hand_in([job(quota, forever)[0], job(quota, forever)[0]])
        await asyncio.sleep(0)

    loop.run_until_complete(start())
    task = next(iter(asyncio.all_tasks(loop)))
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is abandoned on purpose
    loop.close()


def test_a_loop_that_was_closed_gives_back_what_it_held() -> None:
    """A loop that ends with a call under way, without cancelling it, does not keep its slot."""
    engine, quota = Engine(), Quota(Limits(max_concurrency=1))

    async def after() -> list[str]:
        last, step = job(quota, nothing)
        engine.hand_in([last])
        await asyncio.sleep(0.01)
        return step.errors

    in_thread(lambda: abandon(engine, quota))
    errors = in_thread(lambda: asyncio.run(after()))

    assert errors == ["None"]
    assert quota.is_unused(clock.now())


def test_new_limits_start_nothing_on_the_one_loop_that_was_closed() -> None:
    """Nobody else uses the engine yet: what waited there is over, and nothing is raised in whoever states the limits."""
    engine, quota = Engine(), Quota(Limits(max_concurrency=1))

    abandon(engine, quota)
    engine.retune(quota, Limits(max_concurrency=2))

    assert quota.is_unused(clock.now())
    assert engine.forget(quota)


def test_handing_to_a_loop_that_closes_in_between_does_no_harm(simulate: Simulate[Any]) -> None:
    """The moment between a look at a loop and its closing: the next pump notices, nothing is raised."""
    engine, quota = Engine(), Quota(Limits(max_concurrency=1))

    def abandon() -> Any:
        loop = asyncio.new_event_loop()
        waiting, step = job(quota, forever)

        async def start() -> None:
            engine.hand_in([waiting])
            await asyncio.sleep(0)

        loop.run_until_complete(start())
        task = next(iter(asyncio.all_tasks(loop)))
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is abandoned on purpose
        loop.close()
        return step.shell

    shell = in_thread(abandon)
    shell.close()

    async def after() -> int:
        engine.hand_in([job(quota, nothing)[0]])
        await asyncio.sleep(1)
        return len(asyncio.all_tasks())

    assert simulate(after) == 1


def test_a_task_cancelled_before_its_first_step_gives_its_slot_back(simulate: Simulate[Any]) -> None:
    """Cancelled in the very moment in which it started: the lease still comes back, exactly once."""
    engine, quota = Engine(), Quota(Limits(max_concurrency=1))

    async def main() -> Any:
        first, step = job(quota, forever)
        engine.hand_in([first])
        assert engine.cancel([first]) == []
        await asyncio.sleep(0.1)
        return step.begun, step.errors

    begun, errors = simulate(main)

    assert begun == 1
    assert errors == ["the call was cancelled before it was answered"]
    assert quota.is_unused(0.0)


def test_aborting_what_has_ended_does_no_harm(simulate: Simulate[Any]) -> None:
    """The order to stop may arrive when the attempt is over already."""
    engine, quota = Engine(), Quota()

    async def main() -> Any:
        first, step = job(quota, nothing)
        engine.hand_in([first])
        attempt, shell = first.running, step.shell
        await asyncio.sleep(0.1)
        shell.abort(attempt)
        return step.errors

    assert simulate(main) == ["None"]


def test_a_payload_that_raises_ends_its_job(simulate: Simulate[Any]) -> None:
    """A layer above that breaks its promise costs its job, not the engine."""
    engine, quota = Engine(), Quota(Limits(max_concurrency=1))

    async def broken() -> Outcome:
        raise ZeroDivisionError("a bug")

    async def main() -> Any:
        first, step = job(quota, broken)
        second, healthy = job(quota, nothing)
        engine.hand_in([first, second])
        await asyncio.sleep(0.1)
        return step.errors, healthy.errors

    bad, good = simulate(main)

    assert bad == ["ZeroDivisionError: a bug"]
    assert good == ["None"]


@pytest.mark.parametrize("number", [1, 3_000])
def test_a_payload_that_raises_when_it_starts_ends_its_job(simulate: Simulate[Any], number: int) -> None:
    """As one whose try raises, and however many there are: nothing is sent, and the slot is free again."""
    engine, quota = Engine(), Quota(Limits(max_concurrency=1))

    def broken(attempt: Attempt) -> Context:
        raise AttributeError("a bug")

    async def main() -> Any:
        jobs = [job(quota, nothing) for _ in range(number)]
        for _, step in jobs:
            step.started = broken  # type: ignore[method-assign]  # the fault that is meant
        last, healthy = job(quota, nothing)
        engine.hand_in([*(each for each, _ in jobs), last])
        await asyncio.sleep(0.1)
        return {error for _, step in jobs for error in step.errors}, healthy.errors, jobs[0][1].quotas

    assert simulate(main) == ({"AttributeError: a bug"}, ["None"], [])
    assert quota.is_unused(0.0)


def test_a_payload_that_raises_when_it_ends_stops_nobody(simulate: Simulate[Any]) -> None:
    """Those who waited for its slot start, and the loop is told of the fault."""
    engine, quota = Engine(), Quota(Limits(max_concurrency=1))
    faults: list[str] = []

    def broken(*_: object) -> None:
        raise AttributeError("a bug")

    async def main() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(str(context["exception"])))
        first, step = job(quota, nothing)
        step.ended = broken  # type: ignore[method-assign]  # the fault that is meant
        second, healthy = job(quota, nothing)
        engine.hand_in([first, second])
        await asyncio.sleep(0.1)
        return healthy.errors

    assert simulate(main) == ["None"]
    gc.collect()
    assert faults == ["a bug"]


def test_keyboard_interrupt_in_a_call_gives_its_slot_back() -> None:
    """Ctrl-C that lands inside a call goes to whoever runs the loop, and the slot is free again."""
    engine, quota = Engine(), Quota(Limits(max_concurrency=1))
    interrupted, step = job(quota, nothing)

    async def interrupt() -> Outcome:
        raise KeyboardInterrupt

    async def main() -> None:
        step.steps = interrupt
        engine.hand_in([interrupted])
        await asyncio.sleep(60)

    def run() -> None:
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(main())

    in_thread(run)

    assert step.errors == ["the call was cancelled before it was answered"]
    assert quota.is_unused(clock.now())


def test_the_loop_has_one_task_per_attempt_and_one_timer(simulate: Simulate[Any]) -> None:
    """However many jobs wait, there are as many tasks as slots, and one timer."""

    async def main() -> Any:
        run = Executor(max_concurrency=5).map(asyncio.sleep, [10.0] * 1_000)
        waiting = asyncio.ensure_future(consume(run))
        await asyncio.sleep(1)
        tasks = len(asyncio.all_tasks())
        waiting.cancel()
        await asyncio.wait([waiting])
        return tasks

    assert simulate(main) == 5 + 2  # this test, and who awaits the run


NO_CREDIT = Outcome(closes="quota", closes_at_once=True, error=Unavailable("no credit"))


async def no_credit() -> Outcome:
    """An attempt that is told, after a second, that nothing will be taken."""
    await asyncio.sleep(1)
    return NO_CREDIT


def test_jobs_that_wait_for_what_closes_are_told(simulate: Simulate[Any]) -> None:
    """Once, with the error; none of them is begun, and nothing is left of them."""
    engine, quota = Engine(), Quota(Limits(max_concurrency=1))

    async def main() -> Any:
        jobs, steps = zip(*(job(quota, no_credit) for _ in range(3)), strict=True)
        engine.hand_in(jobs)
        await asyncio.sleep(2)
        return [(step.begun, step.errors, step.evictions, step.ended_at) for step in steps]

    first, *others = simulate(main)

    assert first == (1, ["no credit"], [], [1_001.0])
    assert others == [(0, [], [NO_CREDIT.error], [1_001.0])] * 2
    assert not engine._shells


def test_an_attempt_knows_its_quota(simulate: Simulate[Any]) -> None:
    """The member of the pool that it runs on."""
    engine, quotas = Engine(), [Quota(Limits(max_concurrency=1)) for _ in range(2)]

    async def main() -> list[Quota]:
        jobs, steps = zip(*(job(Pool(quotas), nothing) for _ in range(2)), strict=True)
        engine.hand_in(jobs)
        await asyncio.sleep(1)
        return [quota for step in steps for quota in step.quotas]

    assert set(simulate(main)) == set(quotas)


def test_jobs_of_another_loop_are_told_there() -> None:
    """In its own thread, however long it may be busy, and also if they are cancelled there in the meantime."""
    engine, quota = Engine(), Quota(Limits(max_concurrency=1))
    held, handed_in, told = threading.Event(), threading.Event(), threading.Event()
    threads: list[int] = []

    async def hold() -> Outcome:
        held.set()
        while not handed_in.is_set():
            await asyncio.sleep(0.001)
        return NO_CREDIT

    async def closer() -> None:
        engine.hand_in([job(quota, hold)[0]])
        while not told.is_set():
            await asyncio.sleep(0.001)

    async def waiter() -> list[Exception | None]:
        waiting, step = job(quota, nothing)
        engine.hand_in([waiting])
        handed_in.set()
        async with asyncio.timeout(30):
            while not step.evictions:
                await asyncio.sleep(0.001)
        threads.extend((step.told_in, threading.get_ident()))
        told.set()
        return step.evictions

    thread = threading.Thread(target=lambda: asyncio.run(closer()))
    thread.start()
    held.wait()
    evictions = in_thread(lambda: asyncio.run(waiter()))
    thread.join()

    assert evictions == [NO_CREDIT.error]
    assert threads[0] == threads[1]
    assert not engine._shells


def test_ten_thousand_cancellations_leave_nothing(simulate: Simulate[Any]) -> None:
    """Runs that are cancelled at random moments leak no slot and no task: ten calls out of ten succeed afterwards."""
    draw = random.Random(7)

    async def flaky(number: int) -> int:
        await asyncio.sleep(draw.random())
        if draw.random() < 0.3:
            raise ConnectionError("flaky")
        return number

    async def main() -> Any:
        executor = Executor(max_concurrency=20, timeout=0.8)
        cancelled = 0
        while cancelled < 10_000:
            run = executor.map(flaky, range(100))
            waiting = asyncio.ensure_future(consume(run))
            await asyncio.sleep(draw.random() * draw.choice([0.0, 0.01, 2.0]))
            waiting.cancel()
            await asyncio.wait([waiting])
            cancelled += run.report.summary.errors.get("cancelled", 0)
        report = await Executor.map(executor, asyncio.sleep, [0.5] * 10)
        return report.summary.succeeded, report.summary.elapsed, len(asyncio.all_tasks()), executor._quota

    succeeded, elapsed, tasks, quota = simulate(main)

    assert succeeded == 10
    assert elapsed == pytest.approx(0.5, abs=0.01)
    assert tasks == 1
    assert quota.is_unused(0.0)
