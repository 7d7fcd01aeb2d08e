"""Who goes next, when a retry may start, how one refusal slows everyone: pure arithmetic on `now`.

Theory of operation. Jobs wait in one line per quota, in which lanes take turns (see `lanes`). `start` looks at the head of
each line that something happened to; if every limit of its quota admits it, the limits are taken all at once and an
`Attempt` goes out, else the line sleeps until an instant (a timer) or until something is given back. The head of a line is
not overtaken within its quota, so a large job cannot be starved by small ones. A job that is to be tried again holds
nothing: it is a timer, and comes back to its old place in line.

The contract for the shell: after every call of `add`, `finish`, `cancel`, `gate`, `retune`, `lend`, `reclaim` or `resume`,
call `start` until it gives None; then, if nothing else happens first, do so again at `next_timer()`. `now` never decreases
between calls.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import inf

from .job import OVER, Attempt, Job, Outcome, State, Verdict
from .lanes import Lane
from .line import Line, Tree, refund, tree_of
from .quota import NEUTRAL, OK, PUSHBACK, Quota
from .retry import Again, Tries
from .stated import Limits

NO = Again.NO
WAITING, RUNNING, PARKED, ENDED = State
UNTOLD_GATE = 0.25  # seconds at the most that everybody waits after a refusal which names no time: one call's backoff is
# the guess of one call, and with one refusal in twenty the guesses of a few would stop all the others for good


class Schedule:
    """Starts jobs as early as their quotas admit them.

    Args:
        random: Gives draws from [0, 1), for the jitter of retries.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._lines: dict[Quota, Line] = {}
        self.awake: dict[Line, None] = {}  # lines worth a look, in turn: an ordered set; if empty, `start` gives nothing
        self._timers: list[tuple[float, int, Job | Line]] = []
        self._anyone = Lane()
        self._count = 0
        self._stale = 0

    def add(self, job: Job, now: float) -> None:
        """Put `job` at the end of its lane's line."""
        self._count += 1
        job.place = self._count
        job.added_at = now
        self._enter(job)

    def start(self, now: float) -> Attempt | None:
        """The next attempt that may go at `now`, its capacity taken; None if none may.

        An attempt that had lent its slot comes out once more, as soon as it has one again: before anything new.
        """
        if self._timers and self._timers[0][0] <= now:
            self._ring(now)
        while self.awake:
            line = next(iter(self.awake))
            if line.returning:
                if (attempt := self._return(line)) is not None:
                    return attempt
                self._sleep(line, inf)
                continue
            job = line.foreground.head() or line.background.head()
            if job is None:
                del self.awake[line]
                line.quota.waits_for(None, now)
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
        self._settle(attempt, outcome, now)
        verdict = OVER if outcome.again is NO else self._again(job, outcome, now)
        if verdict.retry_at is None:
            job.state = ENDED
            return verdict
        self._park(job, verdict.retry_at)
        return verdict

    def cancel(self, job: Job) -> list[Attempt]:
        """End `job`. One that waits is over at once; else the attempts are handed back, to be cancelled and finished."""
        if job.running is not None:
            job.cancelled = True
            return [job.running]
        if job.state is PARKED:
            self._stale += 1
            self._sweep()
        job.state = ENDED
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

    def lend(self, attempt: Attempt) -> None:
        """Let others have the slot of `attempt` while it waits for calls of its own."""
        attempt.job.quota.lend(attempt.lease)
        self.wake(attempt.job.quota)

    def reclaim(self, attempt: Attempt) -> None:
        """`attempt` wants to go on: `start` gives it out again when it has a slot."""
        line = self._line(attempt.job.quota)
        line.returning.append(attempt)
        self.awake[line] = None

    def pause(self, lane: Lane) -> None:
        """Start nothing of `lane`, nor of those below it, until `resume`."""
        lane.pause()

    def resume(self, lane: Lane) -> None:
        """Let `lane` start again."""
        lane.paused = False
        self._wake_all(lane.reopen())

    def next_timer(self) -> float | None:
        """The instant at which to call `start` again if nothing happens first; None if no time is of any use."""
        return self._timers[0][0] if self._timers else None

    def wake(self, quota: Quota) -> None:
        """Look at `quota` again: something of it has changed (a permit was granted, say)."""
        line = self._lines.get(quota)
        if line is not None:
            self.awake[line] = None

    def forget(self, quota: Quota) -> bool:
        """`quota` is not used any more. False if a job still waits for it, if only for its lane or its next try: it is kept.

        Looks at every lane and timer, so it is not for each call.
        """
        line = self._lines.get(quota)
        if line is None:
            return True
        if line.is_wanted or any(_is_parked(due, quota) for _, _, due in self._timers):
            return False
        del self._lines[quota]
        self.awake.pop(line, None)
        return True

    def _line(self, quota: Quota) -> Line:
        line = self._lines.get(quota)
        if line is None:
            line = self._lines[quota] = Line(quota)
        return line

    def _enter(self, job: Job) -> None:
        line = self._line(job.quota)
        line.push(job, job.lane or self._anyone)
        self.awake[line] = None

    def _begin(self, line: Line, job: Job, now: float) -> Attempt:
        quota = line.quota
        tree_of(job).start(job)
        job.state = RUNNING
        job.attempts += 1
        if job.attempts == 1:
            job.first_start = now
        job.running = attempt = Attempt(job, quota.take(job.cost, now), now)
        if quota.is_full:
            del self.awake[line]  # no need to look: whatever gives a slot back wakes it
            quota.waits_for(None if line.is_empty else "concurrency", now)
        elif len(self.awake) > 1:
            del self.awake[line]
            self.awake[line] = None  # to the end: lines take turns
        return attempt

    def _return(self, line: Line) -> Attempt | None:
        """The first attempt that gets its slot back; those that have ended meanwhile want none."""
        while line.returning:
            attempt = line.returning[0]
            if attempt.job.running is attempt:
                if not line.quota.reclaim(attempt.lease):
                    return None
                return line.returning.popleft()
            line.returning.popleft()
        return None

    def _settle(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        """Give back what was held, and learn from how it went."""
        job, lease = attempt.job, attempt.lease
        quota, lane = job.quota, job.lane
        if outcome.error is None and outcome.again is NO:
            used = quota.give(lease, outcome.used, now, OK, outcome.pace)
            if quota.budget.spent:
                quota.budget.answered(job.tries, now)
        else:
            used = quota.give(lease, outcome.used, now, PUSHBACK if outcome.shrink else NEUTRAL)
            if outcome.gate and outcome.told is not None:
                quota.told_to_wait(lease, now)
        if outcome.announced is not None:
            # After the refund: the provider may have made it, too, before it wrote what remains.
            quota.hear(lease, outcome.announced, now)
        if outcome.outage or lease.probe or not quota.breaker.calm:
            self._tell_breaker(attempt, outcome, now)
        if job.charged and used is not lease.cost:
            refund(job, job.charged - quota.share_of(used))
        if lane is not None and lane.limited:
            self._wake_all(lane.leave())
        self.awake[tree_of(job).line] = None

    def _tell_breaker(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        job, lease = attempt.job, attempt.lease
        breaker = job.quota.breaker
        if outcome.outage:
            tries = _tries_of(job)
            tries.outage += 1
            breaker.failed(probe=lease.probe, first=tries.outage == 1, now=now)
        elif outcome.heard:
            breaker.answered(attempt.started_at)
        elif lease.probe:
            breaker.released(lease.probe)

    def _again(self, job: Job, outcome: Outcome, now: float) -> Verdict:
        """What follows from a failure that may be tried again."""
        again, told, quota, tries = outcome.again, outcome.told, job.quota, _tries_of(job)
        excused = outcome.outage and quota.breaker.excuses
        if excused:
            self._count += 1
            job.place = self._count  # to the end: the next probe is another call, should this one be at fault itself
        elif not tries.spend(again, job.retry):
            return OVER
        retry_at = now + tries.wait(again, told, self._random())
        if outcome.gate and retry_at < inf:  # never: that is said of this call, and would close the quota for good
            self.gate(quota, retry_at if told is not None else min(retry_at, now + UNTOLD_GATE))
        if job.cancelled:
            return OVER
        priced = told is None and not excused and (outcome.outage or outcome.shrink)
        if priced:
            affordable_at = quota.budget.ready_at(again, now)
            if affordable_at > now and outcome.outage and not quota.breaker.trusted:
                return OVER
            retry_at = max(retry_at, affordable_at)
        if retry_at == inf or retry_at > min(job.first_start + job.retry.retry_for, job.deadline):
            return Verdict(too_long=retry_at - now)
        if priced:
            quota.budget.take(again, tries, now)  # not before: a retry that is never made costs nothing
        return Verdict(retry_at)

    def _park(self, job: Job, until: float) -> None:
        job.state = PARKED
        self._count += 1
        heappush(self._timers, (until, self._count, job))

    def _sleep(self, line: Line, ready: float) -> None:
        del self.awake[line]
        if ready < line.timer:
            line.timer = ready
            self._count += 1
            heappush(self._timers, (ready, self._count, line))

    def _ring(self, now: float) -> None:
        """Act on every timer that is due."""
        while self._timers and self._timers[0][0] <= now:
            at, _, due = heappop(self._timers)
            if isinstance(due, Line):
                if at == due.timer:
                    due.timer = inf
                self.awake[due] = None
            elif due.state is PARKED:
                self._enter(due)

    def _wake_all(self, trees: list[Tree]) -> None:
        for tree in trees:
            self.awake[tree.line] = None

    def _sweep(self) -> None:
        """Forget timers of cancelled jobs once they are the greater part, so that long waits do not pile up."""
        if self._stale * 2 > len(self._timers):
            self._timers = [timer for timer in self._timers if not _is_over(timer[2])]
            heapify(self._timers)
            self._stale = 0


def _tries_of(job: Job) -> Tries:
    if job.tries is None:
        job.tries = Tries()
    return job.tries


def _is_over(due: Job | Line) -> bool:
    return isinstance(due, Job) and due.state is ENDED


def _is_parked(due: Job | Line, quota: Quota) -> bool:
    return isinstance(due, Job) and due.quota is quota and due.state is PARKED
