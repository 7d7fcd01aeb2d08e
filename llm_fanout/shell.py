"""One event loop's part of an engine: the tasks of its attempts, their timeouts, and one timer for everything."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import Context, copy_context
from heapq import heapify, heappop, heappush
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from . import clock
from .core.job import Attempt, Job, Outcome, Verdict
from .errors import Rejected, Stopped

if TYPE_CHECKING:
    from .core.quota import Quota
    from .engine import Engine

TICK = 0.001  # the shortest wait, in seconds: uvloop rounds to milliseconds, and would spin for the last half of one
SPARE = 64  # attempts that have ended which may still be queued for their timeouts
IN_ONE_TASK = 32  # attempts one after another: should none of them ever wait for anything, the loop is held up no longer


class Payload(Protocol):
    """What a job carries for the engine: how to try once, in which context, for how long, and whom to tell."""

    shell: Shell | None

    @property
    def timeout(self) -> float | None:
        """Seconds that one attempt may take; None for no bound."""

    def perform(self, quota: Quota) -> Coroutine[Any, Any, Outcome]:
        """Try once, on `quota`. A failure is an Outcome; only CancelledError is raised."""

    def late(self) -> Outcome:
        """What is said of an attempt that took longer than its timeout."""

    def started(self, attempt: Attempt) -> Context:
        """An attempt begins; the context of which it is to run in a copy, maybe in that of one that had the same before."""

    def ended(self, attempt: Attempt, outcome: Outcome, verdict: Verdict, now: float) -> None:
        """An attempt has ended, and by `verdict` its job with it, or not yet."""

    def evicted(self, job: Job, error: Exception | None, now: float) -> None:
        """The job is over before another try: whatever it could be tried on was closed, by an answer with that error."""


_End = tuple[float, Attempt]  # an instant, and the attempt that is cut off then


class Shell:
    """One event loop's part of an engine: its jobs, its tasks, its timer.

    A timeout is a place in a queue, not a timer of the loop: thousands of calls a second set one, and hardly any rings.

    An attempt that begins because another has ended goes on in its task, if it is to run in the same context. That saves
    a task and a turn of the event loop; and what a call has used is freed before the next one needs as much. If all those
    whose answers are there end first, and the next ones begin together, the garbage collector takes that for growth.
    """

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.jobs: set[Job] = set()
        self._engine = engine
        self._thread = threading.get_ident()
        self._running = 0
        self._unborn: dict[Attempt, asyncio.Task[None]] = {}  # tasks that have not made their first step
        self._context = Context()
        self._free: tuple[asyncio.Task[None], Context] | None = None  # a task whose attempt ends just now, and its context
        self._follower: Attempt | None = None  # the attempt that goes on in that
        self._ends: dict[float, deque[_End]] = {}  # by timeouts, those that end first in front
        self._odd_ends: list[tuple[float, int, Attempt]] = []  # a heap: of attempts that go on with what is left
        self._serial = 0
        self._returning: dict[Attempt, Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = inf

    def begin(self, attempt: Attempt) -> None:
        """Start the task of `attempt`, or let it go on if it has one."""
        if threading.get_ident() == self._thread:
            self._begin(attempt)
        else:
            self._here(self._begin, attempt)

    def abort(self, attempt: Attempt) -> None:
        """Cancel the task of `attempt`; its clean-up is awaited before it counts as ended."""
        self._here(self._abort, attempt)

    def evict(self, job: Job, payload: Payload, error: Exception | None, now: float) -> None:
        """Tell `payload` that its `job` is over, and by which error."""
        self._here(payload.evicted, job, error, now)

    def set_timer(self, at: float) -> None:
        """Pump at the instant `at`, or earlier; a timer that rings early finds nothing to do and sets itself again."""
        if at < self._rings_at:
            self._here(self._set_timer, at)

    def suspend(self, attempt: Attempt) -> None:
        """The timeout of `attempt` does not run until it goes on."""
        attempt.left = attempt.ends_at - clock.now()
        attempt.ends_at = inf

    def going_on(self, attempt: Attempt) -> Future[None]:
        """Done when `attempt` is begun again; code in another thread may wait for it."""
        going_on = self._returning[attempt] = Future()
        return going_on

    def close(self) -> None:
        """There is nothing left to wait for."""
        self._here(self._stop_timer)

    def _here(self, step: Callable[..., None], *args: object) -> None:
        """Do `step` on this shell's loop: at once if we are on it, else as soon as it turns."""
        if threading.get_ident() == self._thread:
            step(*args)
            return
        try:
            self.loop.call_soon_threadsafe(step, *args)
        except RuntimeError:
            pass  # the loop was closed just now: the next pump gives back what it held

    def _begin(self, attempt: Attempt) -> None:
        if attempt.job.running is not attempt:
            return  # it ended while it was handed over
        if self._returning and (going_on := self._returning.pop(attempt, None)) is not None:
            self._bound_again(attempt)
            going_on.set_result(None)
            return
        payload: Payload = attempt.job.payload
        try:
            context = payload.started(attempt)
        except Exception as exc:  # as below; not at once, for we may be in the middle of a pump
            self.loop.call_soon(self._engine.settle, attempt, _fault(exc), context=self._context)
            return
        self._running += 1
        if self._free is not None and self._free[1] is context:
            attempt.task, self._free, self._follower = self._free[0], None, attempt
        else:
            self._make_task(attempt, context)
        if payload.timeout is not None:
            self._bound(attempt, payload.timeout)

    def _make_task(self, attempt: Attempt, context: Context) -> None:
        # Not `create_task`: an eager factory would run the call within the step that starts it.
        task = asyncio.Task(self._carry_out(attempt, context), loop=self.loop, context=context.copy())
        attempt.task = self._unborn[attempt] = task
        task.add_done_callback(self._stillborn)
        if attempt.job.cancelled:  # while it was handed over
            task.cancel()

    async def _carry_out(self, attempt: Attempt, context: Context) -> None:
        """A task: one try, then whatever follows from it, in the same step; then that of an attempt that goes on in it."""
        task = self._unborn.pop(attempt)
        task.remove_done_callback(self._stillborn)
        following: Attempt | None = attempt
        left = IN_ONE_TASK
        while following is not None:
            attempt, left = following, left - 1
            following = self._followed(attempt, await self._outcome_of(attempt), task, context, is_last=not left)

    async def _outcome_of(self, attempt: Attempt) -> Outcome:
        """How the one try ended; one that was cut short is told of at once, for its task ends with it."""
        payload: Payload = attempt.job.payload
        try:
            return await payload.perform(attempt.lease.quota)
        except asyncio.CancelledError:
            self._ended(attempt, _cut_short(attempt))
            raise
        except Exception as exc:  # a fault of the layer above, whose promise is to raise nothing
            return _fault(exc)
        except (KeyboardInterrupt, SystemExit):  # asyncio hands them to whoever runs the loop
            self._ended(attempt, cancelled())
            raise
        except GeneratorExit:
            raise  # its loop was closed
        except BaseException as exc:  # pytest.fail and its like
            return _fault(exc)

    def _followed(
        self, attempt: Attempt, outcome: Outcome, task: asyncio.Task[None], context: Context, *, is_last: bool
    ) -> Attempt | None:
        """`attempt` has ended, and so will `task`, unless one that begins because of that goes on in it: then that one."""
        if not is_last and _is_as_begun(context):
            self._free = task, context
        goes_on = False
        try:
            self._ended(attempt, outcome)
            goes_on = not task.cancelling()
        finally:
            follower, self._free, self._follower = self._follower, None, None
            if follower is not None and not goes_on:  # it is cancelled already, or a KeyboardInterrupt ends this task
                self._make_task(follower, context)
        return follower if goes_on else None

    def _stillborn(self, task: asyncio.Task[None]) -> None:
        """A task that was cancelled before its first step never enters its coroutine."""
        attempt = next(attempt for attempt, each in self._unborn.items() if each is task)
        del self._unborn[attempt]
        attempt.unborn = True
        self._ended(attempt, _cut_short(attempt))

    def _abort(self, attempt: Attempt) -> None:
        if attempt.task is not None:
            attempt.task.cancel()

    def _ended(self, attempt: Attempt, outcome: Outcome) -> None:
        attempt.task = None
        self._running -= 1
        if self._returning and (going_on := self._returning.pop(attempt, None)) is not None:
            going_on.set_result(None)  # for a task that it left behind
        # What follows is not within the call that has ended, whose context is only its own.
        self._context.run(self._engine.settle, attempt, outcome)

    def _bound(self, attempt: Attempt, seconds: float) -> None:
        """Cut `attempt` off so many seconds after its start."""
        attempt.ends_at = attempt.started_at + seconds
        queue = self._ends.get(seconds)
        if queue is None:
            queue = self._ends[seconds] = deque()
        while queue and queue[0][1].task is None:  # it has ended, as nearly all have that began first
            queue.popleft()
        if len(queue) > 2 * self._running + SPARE:
            queue = self._ends[seconds] = deque(end for end in queue if _is_due(*end))
        queue.append((attempt.ends_at, attempt))
        self._set_timer(attempt.ends_at)

    def _bound_again(self, attempt: Attempt) -> None:
        """Cut `attempt` off when what was left of its timeout is over."""
        if attempt.left == inf:
            return
        attempt.ends_at = clock.now() + attempt.left
        if len(self._odd_ends) > 2 * self._running + SPARE:
            self._odd_ends = [end for end in self._odd_ends if _is_due(end[0], end[2])]
            heapify(self._odd_ends)
        self._serial += 1
        heappush(self._odd_ends, (attempt.ends_at, self._serial, attempt))
        self._set_timer(attempt.ends_at)

    def _expire(self, now: float) -> None:
        """Cut off the attempts whose time is over, and see to it that the next one will be."""
        for seconds, queue in list(self._ends.items()):
            while queue and (queue[0][0] <= now or not _is_due(*queue[0])):
                self._cut_off(*queue.popleft())
            if queue:
                self._set_timer(queue[0][0])
            else:
                del self._ends[seconds]
        odd = self._odd_ends
        while odd and (odd[0][0] <= now or not _is_due(odd[0][0], odd[0][2])):
            at, _, attempt = heappop(odd)
            self._cut_off(at, attempt)
        if odd:
            self._set_timer(odd[0][0])

    def _cut_off(self, at: float, attempt: Attempt) -> None:
        if _is_due(at, attempt) and attempt.task is not None:
            attempt.late = True
            attempt.task.cancel()

    def _set_timer(self, at: float) -> None:
        if at >= self._rings_at:
            return
        self._stop_timer()
        self._rings_at = at
        wait = at - clock.now()
        self._timer = self.loop.call_later(max(TICK, wait) if wait > 0 else 0.0, self._ring)

    def _stop_timer(self) -> None:
        self._rings_at = inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._stop_timer()
        self._expire(clock.now())
        self._engine.pump()


def cancelled() -> Outcome:
    """What is said of a call that was cancelled before it ended."""
    return Outcome(heard=False, error=Stopped("the call was cancelled before it was answered", kind="cancelled"))


def _cut_short(attempt: Attempt) -> Outcome:
    """What is said of an attempt that was cancelled: by its timeout, or by somebody."""
    if not attempt.late or attempt.job.cancelled:
        return cancelled()
    try:
        payload: Payload = attempt.job.payload
        return payload.late()
    except Exception as exc:  # what is to be done about a timeout, the user says: see `Executor(retry_on=)`
        return _fault(exc)


def _is_as_begun(context: Context) -> bool:
    """Whether the running code, which began in a copy of `context`, has set none of its variables to anything else."""
    try:
        return copy_context() == context
    except Exception:  # somebody's values that cannot be compared, such as arrays: one was set
        return False


def _is_due(at: float, attempt: Attempt) -> bool:
    """Whether `attempt` is still to be cut off at that instant: it may have ended, or rest, or have another."""
    return attempt.task is not None and attempt.ends_at == at


def _fault(exc: BaseException) -> Outcome:
    error = Rejected(f"{type(exc).__name__}: {exc}", kind="exception")
    error.__cause__ = exc
    return Outcome(error=error)
