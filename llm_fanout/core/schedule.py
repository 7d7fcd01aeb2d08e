"""Who goes next, when a retry may start, how one refusal slows everyone: pure arithmetic on `now`.

Theory of operation. Jobs wait in one line per quota, first handed in first served. `start` looks at the head of each line
that something happened to; if every limit of its quota admits it, the limits are taken all at once and an `Attempt` goes
out, else the line sleeps until an instant (a timer) or until something is given back. The head of a line is never
overtaken within its quota, so a large job cannot be starved by small ones. A job that is to be tried again holds
nothing: it is a timer, and comes back to its old place in line.

The contract for the shell: after every call of `add`, `finish`, `cancel`, `gate` or `retune`, call `start` until it gives
None; then, if nothing else happens first, do so again at `next_timer()`. `now` never decreases between calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from heapq import heapify, heappop, heappush
from math import inf

from .announced import Announced
from .quota import Cost, Lease, Limits, Quota, Signal
from .retry import Again, RetryPolicy, Tries

ONE_REQUEST = Cost()
UNTOLD_GATE = 0.25  # seconds at the most that everybody waits after a refusal which names no time: one call's backoff is
# the guess of one call, and with one refusal in twenty the guesses of a few would stop all the others for good
DEFAULT_POLICY = RetryPolicy()


class State(Enum):
    """Where a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    PARKED = "parked"
    OVER = "over"


@dataclass(slots=True, eq=False)
class Job:
    """One unit of work: it ends exactly once, after one attempt or several.

    Args:
        quota: The limits it needs.
        cost: What each of its attempts reserves.
        retry: How hard it tries.
        payload: The caller's own; never looked at here.
    """

    quota: Quota
    cost: Cost = ONE_REQUEST
    retry: RetryPolicy = DEFAULT_POLICY
    payload: object = None
    state: State = State.WAITING
    place: int = 0
    attempts: int = 0
    added_at: float = 0.0
    first_start: float = inf
    tries: Tries = field(default_factory=Tries)
    running: Attempt | None = None
    cancelled: bool = False


@dataclass(slots=True, eq=False)
class Attempt:
    """One try of a job: it holds its lease until `Schedule.finish`."""

    job: Job
    lease: Lease
    started_at: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended, as far as scheduling cares, and what it brought.

    Args:
        again: Why it may be tried again; NO ends the job.
        told: Seconds the other side asked to wait, if it did.
        gate: Whether everybody on the quota has to wait: as long as was told, or a moment.
        shrink: Whether it says that there are too many calls at once.
        outage: Whether it would look like this if the other side were down.
        announced: What the other side said of its quota, if it did.
        used: What it really used up; None if nobody knows (the reservation stands).
        value: What it brought; carried, not looked at.
        error: Why it failed; carried, not looked at. None is success.
    """

    again: Again = Again.NO
    told: float | None = None
    gate: bool = False
    shrink: bool = False
    outage: bool = False
    announced: Announced | None = None
    used: Cost | None = None
    value: object = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from an outcome: the job is over, or waits until `retry_at` and holds nothing."""

    retry_at: float | None

    @property
    def over(self) -> bool:
        """Whether the job has ended."""
        return self.retry_at is None


OVER = Verdict(None)


class _Line:
    """The jobs that wait for one quota, in the order in which they were handed in."""

    __slots__ = ("jobs", "quota", "timer")

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self.jobs: list[tuple[int, Job]] = []
        self.timer = inf

    def push(self, job: Job) -> None:
        job.state = State.WAITING
        heappush(self.jobs, (job.place, job))

    def head(self) -> Job | None:
        """The first job that is still wanted."""
        while self.jobs:
            job = self.jobs[0][1]
            if job.state is State.WAITING:
                return job
            heappop(self.jobs)
        return None


class Schedule:
    """Starts jobs as early as their quotas admit them.

    Args:
        random: Gives draws from [0, 1), for the jitter of retries.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._lines: dict[Quota, _Line] = {}
        self._awake: dict[_Line, None] = {}  # lines worth a look, in turn: an ordered set
        self._timers: list[tuple[float, int, Job | _Line]] = []
        self._count = 0
        self._stale = 0

    def add(self, job: Job, now: float) -> None:
        """Put `job` at the end of its quota's line."""
        job.place = self._next()
        job.added_at = now
        self._enter(job)

    def start(self, now: float) -> Attempt | None:
        """The next attempt that may go at `now`, its capacity taken; None if none may."""
        self._ring(now)
        while self._awake:
            line = next(iter(self._awake))
            job = line.head()
            if job is None:
                self._drop(line)
                continue
            ready = line.quota.ready_at(job.cost, now)
            if ready <= now:
                return self._begin(line, job, now)
            self._sleep(line, ready)
        return None

    def finish(self, attempt: Attempt, outcome: Outcome, now: float) -> Verdict:
        """Settle an attempt: its lease goes back, and its job is over or waits for another try."""
        job = attempt.job
        job.running = None
        job.quota.give(attempt.lease, outcome.used, now, _signal_of(outcome))
        self.wake(job.quota)
        again = outcome.again is not Again.NO and job.tries.spend(outcome.again, job.retry)
        retry_at = now + job.tries.wait(outcome.again, outcome.told, self._random()) if again else inf
        if outcome.gate and again:
            self.gate(job.quota, retry_at if outcome.told is not None else min(retry_at, now + UNTOLD_GATE))
        if job.cancelled or retry_at > job.first_start + job.retry.retry_for or retry_at == inf:
            job.state = State.OVER
            return OVER
        self._park(job, retry_at)
        return Verdict(retry_at)

    def cancel(self, job: Job) -> list[Attempt]:
        """End `job`. One that waits is over at once; else the attempts are handed back, to be cancelled and finished."""
        if job.running is not None:
            job.cancelled = True
            return [job.running]
        if job.state is State.PARKED:
            self._stale += 1
            self._sweep()
        job.state = State.OVER
        self.wake(job.quota)
        return []

    def gate(self, quota: Quota, until: float) -> None:
        """Let nobody of `quota` start before `until`."""
        quota.close_until(until)
        self.wake(quota)

    def retune(self, quota: Quota, limits: Limits, now: float) -> None:
        """Give `quota` new figures from `now` on."""
        quota.retune(limits, now)
        self.wake(quota)

    def next_timer(self) -> float | None:
        """The instant at which to call `start` again if nothing happens first; None if no time is of any use."""
        return self._timers[0][0] if self._timers else None

    def wake(self, quota: Quota) -> None:
        """Look at `quota` again: something of it has changed (a permit was granted, say)."""
        line = self._lines.get(quota)
        if line is not None:
            self._awake[line] = None

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _enter(self, job: Job) -> None:
        line = self._lines.get(job.quota)
        if line is None:
            line = self._lines[job.quota] = _Line(job.quota)
        line.push(job)
        self._awake[line] = None

    def _begin(self, line: _Line, job: Job, now: float) -> Attempt:
        heappop(line.jobs)
        del self._awake[line]
        self._awake[line] = None  # to the end: lines take turns
        job.state = State.RUNNING
        job.attempts += 1
        job.first_start = min(job.first_start, now)
        job.running = Attempt(job, job.quota.take(job.cost, now), now)
        return job.running

    def _sleep(self, line: _Line, ready: float) -> None:
        del self._awake[line]
        if ready < line.timer:
            line.timer = ready
            heappush(self._timers, (ready, self._next(), line))

    def _park(self, job: Job, until: float) -> None:
        job.state = State.PARKED
        heappush(self._timers, (until, self._next(), job))

    def _ring(self, now: float) -> None:
        """Act on every timer that is due."""
        while self._timers and self._timers[0][0] <= now:
            _, _, due = heappop(self._timers)
            if isinstance(due, _Line):
                due.timer = inf
                self.wake(due.quota)
            elif due.state is State.PARKED:
                self._enter(due)

    def _drop(self, line: _Line) -> None:
        del self._awake[line]
        del self._lines[line.quota]

    def _sweep(self) -> None:
        """Forget timers of cancelled jobs once they are the greater part, so that long waits do not pile up."""
        if self._stale * 2 > len(self._timers):
            self._timers = [timer for timer in self._timers if not _is_over(timer[2])]
            heapify(self._timers)
            self._stale = 0


def _signal_of(outcome: Outcome) -> Signal:
    if outcome.shrink:
        return Signal.PUSHBACK
    return Signal.OK if outcome.error is None and outcome.again is Again.NO else Signal.NEUTRAL


def _is_over(due: Job | _Line) -> bool:
    return isinstance(due, Job) and due.state is State.OVER
