"""One loop's shell: timeouts kept to the instant, however many there are, and nothing remembered for long."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import threading
from collections import Counter
from contextlib import nullcontext
from math import inf
from typing import Any
from weakref import WeakSet

import pytest
from support import Simulate, Step, consume, forever, in_thread, job, nothing

from llm_fanout import Executor, clock
from llm_fanout.core.job import Attempt, Job, Outcome
from llm_fanout.core.quota import Quota
from llm_fanout.core.stated import Limits
from llm_fanout.engine import Engine
from llm_fanout.shell import IN_ONE_TASK, Shell

UNLIMITED = Limits(adapt=False)


def test_each_timeout_ends_at_its_own_instant(simulate: Simulate[Any]) -> None:
    """Calls with several timeouts at once, the longest begun first: each is cut off exactly then, and says `late`."""

    async def main() -> Any:
        engine, quota = Engine(), Quota(UNLIMITED)
        begun = clock.now()
        steps = []
        for seconds in (60.0, 5.0, 0.25, 5.0, 17.0, 1.0):
            each, step = job(quota, forever, seconds)
            steps.append(step)
            engine.hand_in([each])
        await asyncio.sleep(100)
        return [(step.timeout, step.ended_at[0] - begun, step.errors) for step in steps]

    for seconds, took, errors in simulate(main):
        assert took == pytest.approx(seconds, abs=1e-6)
        assert errors == [f"late after {seconds} s"]


def test_a_timer_that_rings_early_does_not_spin(simulate: Simulate[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a loop that rounds to milliseconds, as uvloop does, each start takes one more ring at the most."""
    asked: list[float] = []

    async def main() -> int:
        loop = asyncio.get_running_loop()
        exact = loop.call_later

        def rounded(delay: float, *rest: Any, **options: Any) -> asyncio.TimerHandle:
            asked.append(delay)
            return exact(round(delay, 3) if len(asked) < 1_000 else delay, *rest, **options)

        monkeypatch.setattr(loop, "call_later", rounded)
        executor = Executor(rate=Limits(rpm=60 / 0.0104, burst=1))
        return len((await consume(executor.map(asyncio.sleep, [0] * 20))).successes)

    assert simulate(main) == 20
    assert len(asked) <= 2 * 20


def test_equal_timeouts_end_in_the_order_of_their_starts(simulate: Simulate[Any]) -> None:
    """Calls that begin one after another have each their whole time."""

    async def main() -> Any:
        engine, quota = Engine(), Quota(UNLIMITED)
        begun, steps = clock.now(), []
        for _ in range(5):
            each, step = job(quota, forever, 3.0)
            steps.append(step)
            engine.hand_in([each])
            await asyncio.sleep(0.5)
        await asyncio.sleep(10)
        return [step.ended_at[0] - begun for step in steps]

    assert simulate(main) == pytest.approx([3.0, 3.5, 4.0, 4.5, 5.0])


def test_no_timeout_is_no_bound(simulate: Simulate[Any]) -> None:
    """Without a timeout, or with an endless one, a call takes as long as it takes."""

    async def main() -> Any:
        engine, quota = Engine(), Quota(UNLIMITED)
        first, without = job(quota, forever)
        second, endless = job(quota, forever, inf)
        engine.hand_in([first, second])
        await asyncio.sleep(3_601)
        return without.errors + endless.errors

    assert simulate(main) == ["None", "None"]


def test_an_answer_in_time_is_not_cut_off(simulate: Simulate[Any]) -> None:
    """A call that ends before its timeout ends as itself, and what comes later in its queue is cut off all the same."""

    async def quick() -> Outcome:
        await asyncio.sleep(1)
        return Outcome()

    async def main() -> Any:
        engine, quota = Engine(), Quota(UNLIMITED)
        begun = clock.now()
        first, in_time = job(quota, quick, 3.0)
        second, late = job(quota, forever, 3.0)
        engine.hand_in([first, second])
        await asyncio.sleep(10)
        return in_time.errors, late.errors, late.ended_at[0] - begun

    assert simulate(main) == (["None"], ["late after 3.0 s"], pytest.approx(3.0))


def test_cancelled_wins_over_late(simulate: Simulate[Any]) -> None:
    """A call that is cancelled while it cleans up after its timeout was cancelled, not late: it is not tried again."""

    async def stubborn() -> Outcome:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(5)
        return Outcome()

    async def main() -> Any:
        engine, quota = Engine(), Quota(UNLIMITED)
        first, step = job(quota, stubborn, 1.0)
        engine.hand_in([first])
        await asyncio.sleep(2)
        engine.cancel([first])
        await asyncio.sleep(10)
        return step.errors

    assert simulate(main) == ["the call was cancelled before it was answered"]


def test_a_call_that_swallows_its_cancellation_ends_as_it_likes(simulate: Simulate[Any]) -> None:
    """What a call brings in spite of its timeout counts; it holds its slot until then, and the loop goes on."""

    async def deaf() -> Outcome:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await asyncio.sleep(7)
        return Outcome(value="late, but here")

    async def main() -> Any:
        engine, quota = Engine(), Quota(Limits(max_concurrency=1))
        begun = clock.now()
        first, step = job(quota, deaf, 2.0)
        second, after = job(quota, nothing)
        engine.hand_in([first, second])
        await asyncio.sleep(20)
        return step.outcomes[0].value, step.ended_at[0] - begun, after.ended_at[0] - begun

    assert simulate(main) == ("late, but here", pytest.approx(9.0), pytest.approx(9.0))


def test_an_executors_timeout_is_said_and_tried_again(simulate: Simulate[Any]) -> None:
    """Through the public surface: each of three attempts is cut off after exactly its two seconds."""
    lengths: list[float] = []

    async def hangs(_: int) -> None:
        begun = clock.now()
        try:
            await asyncio.sleep(100)
        finally:
            lengths.append(clock.now() - begun)

    async def main() -> Any:
        return await Executor(timeout=2.0, max_retries=2).map(hangs, [0])

    error = simulate(main)[0].error

    assert lengths == pytest.approx([2.0, 2.0, 2.0])
    assert (error.kind, error.message) == ("timeout", "no answer within 2 s; raise timeout= if it needs longer")


def test_long_timeouts_of_quick_calls_are_forgotten(simulate: Simulate[Any]) -> None:
    """Thousands of quick calls with an hour's timeout, beside one that is slow: only a handful of them is remembered."""
    held = []

    async def quick() -> Outcome:
        await asyncio.sleep(0.01)
        return Outcome()

    async def main() -> Any:
        engine, quota = Engine(), Quota(UNLIMITED)
        slow, step = job(quota, forever, 3_600.5)
        engine.hand_in([slow])
        for _ in range(100):
            engine.hand_in([job(quota, quick, 3_600.0)[0] for _ in range(20)])
            await asyncio.sleep(0.02)
        gc.collect()
        held.append(sum(isinstance(each, Attempt) for each in gc.get_objects()))
        await asyncio.sleep(3_600)
        return step.errors

    assert simulate(main) == ["None"]
    assert held[0] < 200


def test_a_loop_without_calls_has_no_timer(simulate: Simulate[Any]) -> None:
    """When the last call has ended, the timers of timeouts that never rang are gone with it."""

    async def main() -> Any:
        await Executor(timeout=500).map(asyncio.sleep, [0.1] * 5)
        loop: Any = asyncio.get_running_loop()
        return [timer for timer in loop._scheduled if not timer.cancelled()]

    assert simulate(main) == []


def test_the_run_that_is_over_is_not_kept_by_its_timeouts(simulate: Simulate[Any]) -> None:
    """What a run's calls brought is free as soon as nobody has the report, though others keep the loop's shell busy."""

    class Answer:
        """Something to be held on to."""

    answers: WeakSet[Answer] = WeakSet()

    async def answer(_: int) -> Answer:
        answers.add(made := Answer())
        return made

    async def main() -> Any:
        executor = Executor(timeout=1_000)
        busy = asyncio.ensure_future(consume(executor.map(asyncio.sleep, [50])))
        await asyncio.sleep(1)
        await executor.map(answer, range(30))
        await asyncio.sleep(1)
        gc.collect()
        left = len(answers)
        await busy
        return left

    assert simulate(main) == 0


def test_a_timeout_behind_one_that_rested_is_not_late(simulate: Simulate[Any]) -> None:
    """An attempt that waited for a run of its own ends later than it stood in line to: those behind it are not kept."""
    executor = Executor(timeout=1.0, max_retries=0)

    async def work(number: int) -> None:
        if number == 0:
            await executor.map(asyncio.sleep, [0.7])
        await asyncio.sleep(0.9 if number == 0 else 100)

    async def main() -> Any:
        return await executor.map(work, range(2))

    first, second = simulate(main)

    assert first.ok
    assert second.service_time == pytest.approx(1.0)


def test_what_is_left_of_a_timeout_is_kept_to(simulate: Simulate[Any]) -> None:
    """After it rested, a call has what was left of its time; many such calls leave nothing behind."""
    executor = Executor(timeout=10.0, max_retries=0)

    async def work(number: int) -> None:
        await asyncio.sleep(number / 100)
        await executor.map(asyncio.sleep, [5.0])
        await asyncio.sleep(100 if number == 7 else 0)

    async def main() -> Any:
        shells: list[Any] = []
        run = executor.map(work, range(200))
        async for result in run:
            shells.append(len(next(iter(executor._engine._shells.values()))._odd_ends) if executor._engine._shells else 0)
            if result.index == 7:
                late = result
        return late, shells

    late, odd = simulate(main)

    assert late.error is not None
    assert late.error.kind == "timeout"
    assert late.service_time == pytest.approx(15.0, abs=0.1)
    assert max(odd) <= 2 * 200 + 64 + 1


def test_a_timer_from_another_thread_does_not_put_off_an_earlier_one() -> None:
    """Whoever comes first with a later instant is not obeyed any more when an earlier one has been set meanwhile."""

    async def main() -> float:
        shell = Shell(Engine(), asyncio.get_running_loop())
        now = clock.now()
        thread = threading.Thread(target=shell.set_timer, args=(now + 150,))
        thread.start()
        thread.join()
        shell._set_timer(now + 20)
        await asyncio.sleep(0)
        rings_in = shell._rings_at - now
        shell.close()
        return rings_in

    assert in_thread(lambda: asyncio.run(main())) == pytest.approx(20)


@pytest.mark.parametrize("answer", [AttributeError("status"), "soon"])
def test_what_is_asked_about_a_timeout_may_fail(simulate: Simulate[Any], answer: Any) -> None:
    """A predicate that raises, or says nonsense, about a timeout costs its item: the slot comes back, the run ends."""

    def odd(error: Exception) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def main() -> Any:
        executor = Executor(max_concurrency=1, timeout=1.0, retry_on=odd)
        return await executor.map(asyncio.sleep, [100, 0.5]), executor._quota.slots.in_use

    report, in_use = simulate(main)

    assert [result.ok for result in report] == [False, True]
    assert in_use == 0


def test_late_before_the_first_step_is_late(simulate: Simulate[Any]) -> None:
    """A call that the loop was too busy to begin within its timeout has timed out, and was not cancelled by anybody."""

    async def main() -> Any:
        engine, quota = Engine(), Quota(UNLIMITED)
        each, step = job(quota, nothing, 5.0)
        engine.hand_in([each])
        attempt = each.running
        assert attempt is not None
        attempt.ends_at = clock.now()
        each.payload.shell._ends[5.0][0] = (attempt.ends_at, attempt)
        each.payload.shell._expire(clock.now())
        await asyncio.sleep(1)
        return step.errors

    assert simulate(main) == ["late after 5.0 s"]


def test_an_attempt_that_ended_while_it_was_handed_over_is_not_begun_again(simulate: Simulate[Any]) -> None:
    """Nor settled, lent or given a slot: it is over, whatever another thread had begun to do for it."""

    async def main() -> Any:
        engine, quota = Engine(), Quota(UNLIMITED)
        each, step = job(quota, nothing)
        engine.hand_in([each])
        attempt = each.running
        assert attempt is not None
        shell = each.payload.shell
        await asyncio.sleep(1)
        shell.begin(attempt)
        engine.settle(attempt, Outcome())
        engine.lend(attempt)
        waits = engine.reclaim(attempt).done()
        each.payload = None
        engine._begin([attempt], None)
        await asyncio.sleep(1)
        return step.begun, len(step.outcomes), quota.slots.in_use, waits

    assert simulate(main) == (1, 1, 0, True)


def test_cancelled_while_it_is_handed_over(simulate: Simulate[Any]) -> None:
    """A call whose start was decided elsewhere, and that is cancelled before this loop has begun it, is not made."""

    async def main() -> Any:
        engine, quota = Engine(), Quota(UNLIMITED)
        made: list[int] = []

        async def make() -> Outcome:
            made.append(1)
            return Outcome()

        each, step = job(quota, make)
        each.cancelled = True
        engine.hand_in([each])
        await asyncio.sleep(1)
        return made, step.errors

    made, errors = simulate(main)

    assert made == []
    assert len(errors) == 1


def test_a_task_of_a_closed_loop_gives_nothing_back_twice() -> None:
    """What it held is given back when the loop is found closed, and not once more when it is collected."""
    executor = Executor(max_concurrency=4)

    def abandon() -> Any:
        loop = asyncio.new_event_loop()

        async def begin() -> Any:
            run = executor.map(asyncio.sleep, [100.0] * 3)
            task = asyncio.ensure_future(consume(run))
            await asyncio.sleep(0.01)
            return run, task

        kept = loop.run_until_complete(begin())
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # they are abandoned on purpose
        loop.close()
        return kept

    kept: Any = in_thread(abandon)
    before = executor._quota.slots.in_use
    in_thread(lambda: asyncio.run(consume(executor.map(asyncio.sleep, [0.0]))))
    buried = executor._quota.slots.in_use
    del kept
    gc.collect()

    assert (before, buried, executor._quota.slots.in_use) == (3, 0, 0)


NAME = contextvars.ContextVar("NAME", default="nobody")


class Sharing(Step):
    """A payload whose attempts run in copies of the same context, and note their tasks."""

    def __init__(self, perform: Any, context: contextvars.Context) -> None:
        super().__init__(perform)
        self.context = context
        self.tasks: list[Any] = []
        self.names: list[str] = []

    def started(self, attempt: Attempt) -> contextvars.Context:
        super().started(attempt)
        return self.context

    async def steps_noted(self) -> Outcome:
        self.tasks.append(asyncio.current_task())
        self.names.append(NAME.get())
        return await self.steps()

    def perform(self, quota: Quota) -> Any:
        return self.steps_noted()


def sharing(quota: Quota, *performs: Any) -> tuple[list[Job], list[Sharing]]:
    """A job for each of `performs`, all in the same context."""
    context = contextvars.copy_context()
    steps = [Sharing(each, context) for each in performs]
    return [Job(quota, payload=step) for step in steps], steps


async def brief() -> Outcome:
    """An attempt that takes a second."""
    await asyncio.sleep(1)
    return Outcome()


def test_attempts_follow_each_other_in_one_task(simulate: Simulate[Any]) -> None:
    """In the same context, and not for ever: a task has some of them, and another goes on."""

    async def main() -> Any:
        engine, quota = Engine(), Quota(Limits(max_concurrency=2))
        jobs, steps = sharing(quota, *[brief] * 200)
        engine.hand_in(jobs)
        await asyncio.sleep(101)
        return Counter(id(step.tasks[0]) for step in steps), [step.errors for step in steps]

    tasks, errors = simulate(main)

    assert errors == [["None"]] * 200
    assert max(tasks.values()) == IN_ONE_TASK
    assert len(tasks) <= 2 * (100 // IN_ONE_TASK + 1)


def test_attempts_that_wait_for_nothing_let_others_breathe(simulate: Simulate[Any]) -> None:
    """However many of them there are: the loop turns between a few."""

    async def main() -> Any:
        engine, quota = Engine(), Quota(Limits(max_concurrency=1))
        jobs, steps = sharing(quota, *[nothing] * 1_000)
        engine.hand_in(jobs)
        seen = []
        for _ in range(100):
            await asyncio.sleep(0)
            seen.append(sum(bool(step.outcomes) for step in steps))
        return seen

    seen = simulate(main)

    assert seen[-1] == 1_000
    assert max(after - before for before, after in itertools.pairwise(seen)) <= IN_ONE_TASK


class Incomparable:
    """A value that cannot be compared with others, such as an array."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("which of its elements?")

    __hash__ = None  # type: ignore[assignment]  # as those have none


@pytest.mark.parametrize(("ours", "theirs"), [("ours", "theirs"), (Incomparable(), Incomparable())], ids=["texts", "arrays"])
def test_who_sets_a_variable_has_its_task_to_itself(simulate: Simulate[Any], ours: Any, theirs: Any) -> None:
    """What a call leaves in its context is not seen by the next one."""

    async def renames() -> Outcome:
        NAME.set(theirs)
        return await brief()

    async def main() -> Any:
        NAME.set(ours)
        engine, quota = Engine(), Quota(Limits(max_concurrency=1))
        jobs, steps = sharing(quota, renames, brief, brief)
        engine.hand_in(jobs)
        await asyncio.sleep(10)
        return [step.tasks[0] for step in steps], [step.names[0] for step in steps]

    tasks, names = simulate(main)

    assert tasks[0] is not tasks[1]
    assert tasks[1] is tasks[2]
    assert [name is ours for name in names] == [True] * 3


def test_a_cancellation_that_was_swallowed_ends_the_task(simulate: Simulate[Any]) -> None:
    """The call's outcome counts; the next one has a task that nobody has cancelled."""

    async def deaf() -> Outcome:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            pass
        return Outcome()

    async def main() -> Any:
        engine, quota = Engine(), Quota(Limits(max_concurrency=1))
        jobs, steps = sharing(quota, deaf, brief)
        engine.hand_in(jobs)
        await asyncio.sleep(1)
        steps[0].tasks[0].cancel()
        await asyncio.sleep(10)
        return [step.errors for step in steps], [step.tasks[0] for step in steps]

    errors, tasks = simulate(main)

    assert errors == [["None"], ["None"]]
    assert tasks[0] is not tasks[1]


def test_a_follower_that_is_cancelled_at_once_was_never_asked(simulate: Simulate[Any]) -> None:
    """Cancelled in the step in which the one before it ends, it is over before its first step, and the next one goes on."""

    async def main() -> Any:
        engine, quota = Engine(), Quota(Limits(max_concurrency=1))
        jobs, steps = sharing(quota, brief, brief, brief)

        begin = Shell._begin

        def begun(shell: Shell, attempt: Attempt) -> None:
            begin(shell, attempt)
            if attempt.job is jobs[1]:
                engine.cancel([jobs[1]])

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Shell, "_begin", begun)
            engine.hand_in(jobs)
            await asyncio.sleep(10)
        attempt = steps[1].attempt
        return [step.errors for step in steps], len(steps[1].tasks), attempt is not None and attempt.unborn

    errors, asked, unborn = simulate(main)

    assert errors == [["None"], ["the call was cancelled before it was answered"], ["None"]]
    assert (asked, unborn) == (0, True)


@pytest.mark.parametrize("fault", [ValueError("a bug"), KeyboardInterrupt()], ids=["bug", "Ctrl-C"])
def test_a_task_that_breaks_takes_no_other_attempt_with_it(fault: BaseException) -> None:
    """What follows from an end may raise, by a fault or by Ctrl-C: the attempt that was to go on there has its own task."""
    engine, quota = Engine(), Quota(Limits(max_concurrency=1))
    jobs, steps = sharing(quota, nothing, nothing)

    def broken(*_: Any) -> None:
        raise fault

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        steps[0].ended = broken  # type: ignore[method-assign]  # the fault that is meant
        engine.hand_in(jobs)
        await asyncio.sleep(0.1)

    def run() -> None:
        with pytest.raises(KeyboardInterrupt) if isinstance(fault, KeyboardInterrupt) else nullcontext():
            asyncio.run(main())

    in_thread(run)

    interrupted = isinstance(fault, KeyboardInterrupt)  # then asyncio cancels whatever is left
    assert steps[1].errors == ["the call was cancelled before it was answered" if interrupted else "None"]
    assert quota.is_unused(clock.now())
