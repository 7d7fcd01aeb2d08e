"""asyncio around the pure core: one lock per schedule, and one shell for each event loop that hands something in.

Theory of operation. Whatever happens (jobs are handed in, an attempt ends, a timer rings) ends in `pump`: ask the schedule
for attempts until it has none, start each on the loop where its job was handed in, and set the loops' timers to the instant
the schedule names. Nothing polls, and there are as many tasks as attempts under way, however many jobs wait.

Several loops, in several threads, may share an engine. The schedule is touched only under the lock, and no code of the
user runs under it; what belongs to another loop is handed to it. A loop that was closed without ending its tasks is
noticed, and what it held is given back.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Protocol

from . import clock
from .core.job import Attempt, Job, Outcome
from .core.lanes import Lane
from .core.limits import Permits
from .core.quota import Quota
from .core.schedule import Schedule
from .core.stated import Limits
from .shell import Shell, cancelled


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

    def hand_in(self, jobs: Iterable[Job]) -> None:
        """Add `jobs`, whose payloads are `Payload`s, on the running loop; each starts as soon as its quota admits it."""
        with self._lock:
            shell = self._shell_here()
            now = clock.now()
            for job in jobs:
                shell.jobs.add(job)
                job.payload.shell = shell
                self._schedule.add(job, now)
        self.pump()

    def cancel(self, jobs: Iterable[Job]) -> list[Job]:
        """End `jobs`. Those that waited are over and come back; the others end as soon as their attempt has."""
        over = []
        with self._lock:
            for job in jobs:
                attempts = self._schedule.cancel(job)
                for attempt in attempts:
                    job.payload.shell.abort(attempt)
                if not attempts:
                    self._forget(job)
                    over.append(job)
        self.pump()
        return over

    def hand_over(self, job: Job, lane: Lane) -> None:
        """Let `job` use the share of `lane`, from the next `pump` on."""
        with self._lock:
            self._schedule.hand_over(job, lane)

    def settle(self, attempt: Attempt, outcome: Outcome) -> None:
        """An attempt has ended: give back what it held, start what can start now, tell its payload, and those it evicts."""
        job = attempt.job
        with self._lock:
            if job.running is not attempt:
                return  # its loop was closed, and what it held given back
            now = clock.now()
            verdict = self._schedule.finish(attempt, outcome, now)
            if verdict.retry_at is None:
                self._forget(job)
            evicted = [(each, each.payload) for each in verdict.evicted]
            for each in verdict.evicted:
                self._forget(each)
        try:
            # First: a retry that is due at once may be among those that begin, and what waited for this may be more urgent.
            job.payload.ended(attempt, outcome, verdict, now)
        finally:  # whatever it raises is its own affair: others go on
            self.pump()
            for each, payload in evicted:
                payload.shell.evict(each, payload, outcome.error, now)

    def lend(self, attempt: Attempt) -> None:
        """Let others have the slot of `attempt` while it waits for calls of its own; its timeout rests."""
        with self._lock:
            if attempt.job.running is not attempt:
                return
            shell: Shell = attempt.job.payload.shell
            shell.suspend(attempt)
            self._schedule.lend(attempt)
        # Not at once: what it waits for is about to be handed in, and goes first.
        shell.loop.call_soon_threadsafe(self.pump)

    def reclaim(self, attempt: Attempt) -> Future[None]:
        """Done as soon as `attempt` has a slot again: before anything new starts."""
        with self._lock:
            if attempt.job.running is not attempt:
                ended: Future[None] = Future()
                ended.set_result(None)
                return ended
            going_on: Future[None] = attempt.job.payload.shell.going_on(attempt)
            self._schedule.reclaim(attempt)
        self.pump()
        return going_on

    def retune(self, quota: Quota, limits: Limits) -> None:
        """Give `quota` new figures, from now on."""
        with self._lock:
            self._schedule.retune(quota, limits, clock.now())
        self.pump()

    def forget(self, quota: Quota) -> bool:
        """`quota` is not used any more. False if somebody still waits for it: then it is kept."""
        with self._lock:
            return self._schedule.forget(quota)

    def grant(self, quota: Quota, permits: Permits) -> None:
        """One more permit for `quota` has arrived."""
        with self._lock:
            permits.grant()
            self._schedule.wake(quota)
        self.pump()

    def pause(self, lane: Lane) -> None:
        """Start nothing more of `lane`, until `resume`."""
        with self._lock:
            self._schedule.pause(lane)

    def resume(self, lane: Lane) -> None:
        """Let `lane` start again."""
        with self._lock:
            self._schedule.resume(lane)
        self.pump()

    def pump(self) -> None:
        """Start whatever may start now, and see to it that the next timer rings."""
        with self._lock:
            begun, timer = self._startable(clock.now())
        self._begin(begun, timer)

    def _startable(self, now: float) -> tuple[list[Attempt], float | None]:
        """The attempts that may go, their capacity taken, and when to ask again. Under the lock."""
        self._bury_the_dead()
        begun = []
        schedule = self._schedule
        while (attempt := schedule.start(now)) is not None:
            begun.append(attempt)
            if not schedule.awake:
                break
        return begun, schedule.next_timer()

    def _begin(self, attempts: list[Attempt], timer: float | None) -> None:
        """Start `attempts`, each on its loop, and see to what else follows from a change."""
        for attempt in attempts:
            payload = attempt.job.payload
            if payload is not None:  # its loop may have ended it meanwhile
                payload.shell.begin(attempt)
        if timer is not None:
            for shell in tuple(self._shells.values()):
                shell.set_timer(timer)
        if self._fetch is not None:
            self._fetch(self, busy=bool(self._shells))

    def _shell_here(self) -> Shell:
        loop = asyncio.get_running_loop()
        shell = self._shells.get(loop)
        if shell is None:
            shell = self._shells[loop] = Shell(self, loop)
        return shell

    def _forget(self, job: Job) -> None:
        shell: Shell = job.payload.shell
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
