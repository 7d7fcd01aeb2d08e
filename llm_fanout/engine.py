"""asyncio around the pure core: one task per attempt, one timer per loop, one lock per schedule.

Theory of operation. Whatever happens (a job is handed in, an attempt ends, a timer rings) ends in `pump`: ask the
schedule for attempts until it has none, start each on the loop where its job was handed in, and set the loops' timers to
the instant the schedule names. Nothing polls, and there are as many tasks as attempts under way, however many jobs wait.

Several loops, in several threads, may share an engine. The schedule is touched only under the lock, and no code of the
user runs under it; what belongs to another loop is handed to it. A loop that was closed without ending its tasks is
noticed, and what it held is given back.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Coroutine, Iterable
from contextvars import Context
from functools import partial
from math import inf
from typing import Any, Protocol

from . import clock
from .core.limits import Permits
from .core.quota import Limits, Quota
from .core.schedule import Attempt, Job, Outcome, Schedule, Verdict
from .errors import Rejected, Stopped


class Payload(Protocol):
    """What a job carries for the engine: how to try once, in which context, and whom to tell."""

    context: Context
    shell: Shell | None

    def perform(self) -> Coroutine[Any, Any, Outcome]:
        """Try once. A failure is an Outcome; only CancelledError is raised."""

    def started(self) -> None:
        """An attempt has begun."""

    def ended(self, attempt: Attempt, outcome: Outcome, verdict: Verdict, now: float) -> None:
        """An attempt has ended, and by `verdict` its job with it, or not yet."""


class Fetch(Protocol):
    """How capacity that somebody else rations is fetched, piece by piece."""

    def __call__(self, engine: Engine, *, busy: bool) -> None:
        """Called after every pump: fetch what is wanted, or stop fetching if no job is left."""


class Engine:
    """Carries out what its schedule decides, on every event loop that hands something in.

    Args:
        fetch: Gets permits, if the quota has any.
    """

    def __init__(self, fetch: Fetch | None = None) -> None:
        self._fetch = fetch
        self._lock = threading.RLock()
        self._schedule = Schedule(random.random)
        self._shells: dict[asyncio.AbstractEventLoop, Shell] = {}

    def hand_in(self, job: Job) -> None:
        """Add `job`, whose payload is a `Payload`, on the running loop; it starts as soon as its quota admits it."""
        with self._lock:
            shell = self._shell_here()
            shell.jobs.add(job)
            _payload(job).shell = shell
            self._schedule.add(job, clock.now())
        self.pump()

    def cancel(self, jobs: Iterable[Job]) -> list[Job]:
        """End `jobs`. Those that waited are over and come back; the others end as soon as their attempt has."""
        over = []
        with self._lock:
            for job in jobs:
                attempts = self._schedule.cancel(job)
                for attempt in attempts:
                    _shell(job).abort(attempt)
                if not attempts:
                    self._forget(job)
                    over.append(job)
        self.pump()
        return over

    def settle(self, attempt: Attempt, outcome: Outcome) -> None:
        """An attempt has ended: give back what it held, tell its payload, start what can start now."""
        job = attempt.job
        with self._lock:
            now = clock.now()
            verdict = self._schedule.finish(attempt, outcome, now)
            if verdict.over:
                self._forget(job)
        _payload(job).ended(attempt, outcome, verdict, now)
        self.pump()

    def retune(self, quota: Quota, limits: Limits) -> None:
        """Give `quota` new figures, from now on."""
        with self._lock:
            self._schedule.retune(quota, limits, clock.now())
        self.pump()

    def grant(self, quota: Quota, permits: Permits) -> None:
        """One more permit for `quota` has arrived."""
        with self._lock:
            permits.grant()
            self._schedule.wake(quota)
        self.pump()

    def pump(self) -> None:
        """Start whatever may start now, and see to it that the next timer rings."""
        with self._lock:
            self._bury_the_dead()
            now = clock.now()
            begun = []
            while (attempt := self._schedule.start(now)) is not None:
                begun.append(attempt)
            timer = self._schedule.next_timer()
            shells = list(self._shells.values()) if timer is not None else []
        for attempt in begun:
            _shell(attempt.job).begin(attempt)
        for shell in shells:
            shell.set_timer(inf if timer is None else timer)
        if self._fetch is not None:
            self._fetch(self, busy=bool(self._shells))

    def _shell_here(self) -> Shell:
        loop = asyncio.get_running_loop()
        if loop not in self._shells:
            self._shells[loop] = Shell(self, loop)
        return self._shells[loop]

    def _forget(self, job: Job) -> None:
        shell = _shell(job)
        shell.jobs.discard(job)
        if not shell.jobs and self._shells.get(shell.loop) is shell:
            del self._shells[shell.loop]
            shell.close()

    def _bury_the_dead(self) -> None:
        """Give back what loops hold that were closed before their tasks had ended."""
        for loop in [loop for loop in self._shells if loop.is_closed()]:
            for job in self._shells.pop(loop).jobs:
                for attempt in self._schedule.cancel(job):
                    self._schedule.finish(attempt, cancelled(), clock.now())


class Shell:
    """One event loop's part of an engine: its jobs, its tasks, its timer."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.jobs: set[Job] = set()
        self._engine = engine
        self._thread = threading.get_ident()
        self._tasks: dict[Attempt, asyncio.Task[Outcome]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = inf

    def begin(self, attempt: Attempt) -> None:
        """Start the task of `attempt`."""
        self._here(self._begin, attempt)

    def abort(self, attempt: Attempt) -> None:
        """Cancel the task of `attempt`; its clean-up is awaited before it counts as ended."""
        self._here(self._abort, attempt)

    def set_timer(self, at: float) -> None:
        """Pump at the instant `at`, or earlier; a timer that rings early finds nothing to do and sets itself again."""
        if at < self._rings_at:
            self._here(self._set_timer, at)

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
        payload = _payload(attempt.job)
        payload.started()
        task = self.loop.create_task(payload.perform(), context=payload.context.copy())
        self._tasks[attempt] = task
        # A callback, not a `finally` in the coroutine: a task that is cancelled before its first step never enters it.
        task.add_done_callback(partial(self._done, attempt))

    def _abort(self, attempt: Attempt) -> None:
        task = self._tasks.get(attempt)
        if task is not None:
            task.cancel()

    def _done(self, attempt: Attempt, task: asyncio.Task[Outcome]) -> None:
        del self._tasks[attempt]
        self._engine.settle(attempt, _outcome_of(task))

    def _set_timer(self, at: float) -> None:
        self._stop_timer()
        self._rings_at = at
        self._timer = self.loop.call_later(max(0.0, at - clock.now()), self._ring)

    def _stop_timer(self) -> None:
        self._rings_at = inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._stop_timer()
        self._engine.pump()


def cancelled() -> Outcome:
    """What is said of a call that was cancelled before it ended."""
    return Outcome(error=Stopped("the call was cancelled before it was answered", kind="cancelled"))


def _outcome_of(task: asyncio.Task[Outcome]) -> Outcome:
    if task.cancelled():
        return cancelled()
    failure = task.exception()
    if failure is None:
        return task.result()
    if isinstance(failure, Exception):  # a fault of the layer above, whose promise is to raise nothing
        error = Rejected(f"{type(failure).__name__}: {failure}", kind="exception")
        error.__cause__ = failure
        return Outcome(error=error)
    return cancelled()  # KeyboardInterrupt, SystemExit: asyncio hands them to whoever runs the loop


def _payload(job: Job) -> Payload:
    payload: Any = job.payload  # the core does not look into it; `hand_in` says what it must be
    return payload  # type: ignore[no-any-return]  # see above


def _shell(job: Job) -> Shell:
    shell = _payload(job).shell
    assert shell is not None
    return shell
