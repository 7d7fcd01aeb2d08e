"""Who goes next, when a retry may start, how one refusal slows everyone: pure arithmetic on `now`.

Theory of operation. Jobs wait in one line per source: a quota, or a pool of several. In a line lanes take turns (see
`lanes`). `start` looks at the head of each line that something happened to; if every limit of its quota admits it, the
limits are taken all at once and an `Attempt` goes out, else the line sleeps until an instant (a timer) or until something is
given back. The head of a line is not overtaken within it, so a large job cannot be starved by small ones; lines that share
a quota take turns. A job that is to be tried again holds nothing: it is a timer, and comes back to its old place in line.

Where there is a choice. A pool's job that is refused by one member has to leave that one alone for a while, be it told or a
backoff, and may start at another at once; so it may when one turns out to be down. A job with fallbacks goes on to the next
of them, where it begins afresh, when its tries are over and somebody else may do better, when its source is closed, and when
its source is down: then all that wait there move, and those that come later do not even begin to wait, but for one at a time
that looks whether it is back.

What is closed (see `access`) takes no job any more: those that wait there and have no other choice are handed back, to be
told so.

The contract for the shell: after every call of `add`, `finish`, `cancel`, `hand_over`, `gate`, `retune`, `lend`, `reclaim`
or `resume`, call `start` until it gives None; then, if nothing else happens first, do so again at `next_timer()`. `now`
never decreases between calls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf

from .choices import closed_by, last_start, leave_alone, move_on
from .job import OVER, Attempt, Job, Outcome, State, Verdict
from .lanes import BACKGROUND, COPY, Lane
from .line import Line, Tree, lane_of, refund, tree_of
from .pool import best_of
from .quota import NEUTRAL, OK, PUSHBACK, STRAIN, Quota, Signal
from .retry import Again, told_wait
from .source import Source
from .stated import Limits
from .timers import Timers, tries_of

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
        self._lines: dict[Source, Line] = {}
        self._lines_on: dict[Quota, dict[Line, None]] = {}  # by member, those that take turns there, in turn
        self.awake: dict[Line, None] = {}  # lines worth a look, in turn: an ordered set; if empty, `start` gives nothing
        self._returning: dict[Quota, deque[Attempt]] = {}  # attempts that lent their slot and want one back
        self._timers = Timers()
        self._anyone = Lane()
        self._count = 0

    def add(self, job: Job, now: float) -> None:
        """Put `job` at the end of its lane's line."""
        self._count += 1
        job.place = self._count
        job.added_at = now
        if job.fallbacks and job.source.is_shut and not self._looks(job.source, now):
            move_on(job)
        self._enter(job, job.source)

    def start(self, now: float) -> Attempt | None:
        """The next attempt that may go at `now`, its capacity taken; None if none may.

        An attempt that had lent its slot comes out once more, as soon as it has one again: before anything new.
        """
        timers = self._timers.heap
        if timers and timers[0][0] <= now:
            self._ring(now)
        if self._returning and (attempt := self._return()) is not None:
            return attempt
        while self.awake:
            line = next(iter(self.awake))
            job = line.foreground.head() or line.head()
            if job is None:
                del self.awake[line]
                line.source.waits.turn_to(None, now)
                if line.promised is not None:
                    self._promise(line, None, inf)
                continue
            ready = line.source.ready_at(job.cost, now)
            if ready <= now:
                return self._begin(line, job, now)
            if job.rank < COPY:
                line.source.waits.turn_to(line.source.chosen.why, now)
            del self.awake[line]
            self._timers.wake(line, ready)
            if line.shares:
                self._promise(line, line.source.chosen if ready < inf and job.rank < BACKGROUND else None, ready)
        return None

    def finish(self, attempt: Attempt, outcome: Outcome, now: float) -> Verdict:
        """Settle an attempt: its lease goes back, and its job is over or waits for another try.

        Jobs that were evicted are over, too: see `Verdict`.
        """
        job = attempt.job
        job.running = None
        shut = self._settle(attempt, outcome, now)
        if outcome.error is None and outcome.again is NO:
            job.state = ENDED
            return OVER
        verdict = OVER if outcome.again is NO else self._again(attempt, outcome, now)
        verdict = self._beyond(attempt, outcome, verdict, now)
        if verdict.retry_at is None:
            job.state = ENDED
        else:
            self._park(job, verdict.retry_at)
        return replace(verdict, evicted=self._clear(shut, now)) if shut else verdict

    def cancel(self, job: Job) -> list[Attempt]:
        """End `job`. One that waits is over at once; else the attempts are handed back, to be cancelled and finished."""
        if job.running is not None:
            job.cancelled = True
            return [job.running]
        self._timers.forget(job)
        job.state = ENDED
        self.awake[tree_of(job).line] = None
        return []

    def hand_over(self, job: Job, lane: Lane) -> None:
        """Let `job` use the share of `lane` from its next start on."""
        job.lane = lane
        if job.state is WAITING:
            line = tree_of(job).line
            line.remove((job,))
            line.push(job, lane)
            self.awake[line] = None

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
        quota = attempt.lease.quota
        quota.lend(attempt.lease)
        self.wake(quota)

    def reclaim(self, attempt: Attempt) -> None:
        """`attempt` wants to go on: `start` gives it out again when it has a slot."""
        quota = attempt.lease.quota
        self._returning.setdefault(quota, deque()).append(attempt)
        self.wake(quota)

    def pause(self, lane: Lane) -> None:
        """Start nothing of `lane`, nor of those below it, until `resume`."""
        lane.pause()

    def resume(self, lane: Lane) -> None:
        """Let `lane` start again."""
        lane.paused = False
        self._wake_all(lane.reopen())

    def next_timer(self) -> float | None:
        """The instant at which to call `start` again if nothing happens first; None if no time is of any use."""
        timers = self._timers.heap
        return timers[0][0] if timers else None

    def wake(self, quota: Quota) -> None:
        """Look at `quota` again: something of it has changed (a permit was granted, say)."""
        for line in self._lines_on.get(quota, ()):
            self.awake[line] = None

    def forget(self, quota: Quota) -> bool:
        """`quota` is not used any more. False if a job still waits for it, if only for its lane or its next try: it is kept.

        Looks at every lane and timer, so it is not for each call.
        """
        lines = tuple(self._lines_on.get(quota, ()))
        if quota in self._returning or any(True for line in lines for _ in line.waiting):
            return False
        if any(quota in job.source.members for job in self._timers.parked()):
            return False
        for line in lines:
            self._drop(line)
        return True

    def _line(self, source: Source) -> Line:
        line = self._lines.get(source)
        if line is None:
            line = self._lines[source] = Line(source)
            for member in source.members:
                lines = self._lines_on.setdefault(member, {})
                lines[line] = None
                if len(lines) > 1:
                    for each in lines:
                        each.shares = True
        return line

    def _drop(self, line: Line) -> None:
        self._promise(line, None, inf)
        del self._lines[line.source]
        self.awake.pop(line, None)
        for member in line.source.members:
            lines = self._lines_on[member]
            del lines[line]
            if not lines:
                del self._lines_on[member]

    def _enter(self, job: Job, source: Source) -> None:
        """Let `job` wait for `source`: its own, or one member of that."""
        line = self._line(source)
        line.push(job, job.lane or self._anyone)
        self.awake[line] = None

    def _begin(self, line: Line, job: Job, now: float) -> Attempt:
        source = line.source
        tree_of(job).start(job)
        job.state = RUNNING
        job.attempts += 1
        if job.first_start == inf:
            job.first_start = now
        if job.tries is not None:
            self._timers.forget(job)
        job.running = attempt = Attempt(job, source.take(job.cost, now), now)
        if line.shares:
            lines = self._lines_on[attempt.lease.quota]
            del lines[line]
            lines[line] = None  # to the end, for when they are woken
            self._promise(line, None, inf)
        if source.is_full:
            del self.awake[line]  # no need to look: whatever gives a slot back wakes it
            source.waits.turn_to(None if line.is_empty else "concurrency", now)
        elif len(self.awake) > 1:
            del self.awake[line]
            self.awake[line] = None  # to the end: lines take turns
        return attempt

    def _promise(self, line: Line, quota: Quota | None, at: float) -> None:
        """Let nobody take what the first job of `line` waits for at `quota`, if other lines wait there as well: it would be
        overtaken for ever by smaller ones. What it was promised elsewhere is for others again."""
        before = line.promised
        if before is not None and before is not quota:
            line.promised = before.promise = None
            self.wake(before)
        if quota is not None and (quota.promise is None or quota.promise[1] is line.source):
            line.promised = quota
            quota.promise = at, line.source

    def _return(self) -> Attempt | None:
        """An attempt that gets its slot back; those that have ended meanwhile want none."""
        for quota, attempts in tuple(self._returning.items()):
            while attempts:
                attempt = attempts[0]
                wants_it = attempt.job.running is attempt
                if wants_it and not quota.reclaim(attempt.lease):
                    break
                attempts.popleft()
                if not attempts:
                    del self._returning[quota]
                if wants_it:
                    return attempt
        return None

    def _settle(self, attempt: Attempt, outcome: Outcome, now: float) -> Sequence[Quota]:
        """Give back what was held, and learn from how it went; the quotas that nobody should wait for any more."""
        job, lease = attempt.job, attempt.lease
        quota, lane = lease.quota, lane_of(job)
        shut: Sequence[Quota] = ()
        if outcome.error is None and outcome.again is NO:
            used = quota.give(lease, outcome.used, now, OK, outcome.pace)
            if quota.budget.spent:
                quota.budget.answered(job.tries, now)
        else:
            used = quota.give(lease, outcome.used, now, _signal_of(outcome, quota))
            if outcome.gate and outcome.told is not None:
                quota.told_to_wait(lease, now)
                if outcome.again is NO:  # final for this call alone
                    self.gate(quota, now + told_wait(outcome.told, self._random()))
        if outcome.announced is not None:
            # After the refund: the provider may have made it, too, before it wrote what remains.
            quota.hear(lease, outcome.announced, now)
        if outcome.outage or lease.probe or not quota.breaker.calm:
            self._tell_breaker(attempt, outcome, now)
            if outcome.outage and not quota.breaker.closed:
                shut = (quota,)
        if outcome.closes or not quota.access.calm:
            shut = closed_by(attempt, outcome, now) or shut
        if job.charged and used is not lease.cost:
            refund(job, job.charged - tree_of(job).line.source.share_of(used))
        if lane.limited:
            self._wake_all(lane.leave())
        for line in self._lines_on.get(quota, ()):
            self.awake[line] = None
        return shut

    def _tell_breaker(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        lease = attempt.lease
        breaker = lease.quota.breaker
        if outcome.outage:
            tries = tries_of(attempt.job)
            tries.outage += 1
            breaker.failed(probe=lease.probe, first=tries.outage == 1, now=now)
        elif outcome.heard:
            breaker.answered(attempt.started_at)
        elif lease.probe:
            breaker.released(lease.probe)

    def _again(self, attempt: Attempt, outcome: Outcome, now: float) -> Verdict:
        """What follows from a failure that may be tried again where the job waits."""
        job, quota = attempt.job, attempt.lease.quota
        again, told, tries = outcome.again, outcome.told, tries_of(job)
        excused = outcome.outage and quota.breaker.is_open and job.source.is_trusted
        if excused:
            if job.source.is_shut:
                self._count += 1
                job.place = self._count  # to the end: the next probe is another call, should this one be at fault itself
        elif not tries.spend(again, job.retry):
            return OVER
        wait = tries.wait(again, told, self._random())
        retry_at = now + wait
        if outcome.gate and retry_at < inf:  # never: that is said of this call, and would close the quota for good
            self.gate(quota, retry_at if told is not None else min(retry_at, now + UNTOLD_GATE))
        if job.cancelled:
            return OVER
        priced = told is None and not excused and (outcome.outage or outcome.shrink)
        affordable_at = quota.budget.ready_at(again, now) if priced else now
        if affordable_at > now and outcome.outage and not job.source.is_trusted:
            return OVER
        retry_at = max(retry_at, affordable_at)
        if excused or told is not None or again is Again.PUSHBACK:  # it says something of the place, not of the call
            retry_at = min(retry_at, max(affordable_at, leave_alone(job, quota, retry_at, now)))
        elif again is Again.TRANSIENT:  # it may be either: others first
            leave_alone(job, quota, retry_at + wait, now)
        if retry_at == inf or retry_at > last_start(job):
            return Verdict(too_long=retry_at - now)
        if priced:
            quota.budget.take(again, tries, now)  # not before: a retry that is never made costs nothing
        if outcome.next_cost is not None:
            job.cost = outcome.next_cost
        return Verdict(retry_at)

    def _beyond(self, attempt: Attempt, outcome: Outcome, verdict: Verdict, now: float) -> Verdict:
        """What `verdict` becomes where there is more than the one quota on which the attempt was made."""
        job, closure, other_at = attempt.job, attempt.job.source.closure, inf
        if job.cancelled or now > job.deadline:
            return verdict
        if outcome.again is NO and (outcome.elsewhere or outcome.closes):
            # A member that has refused it for good is asked no more, but another may take it.
            other_at = leave_alone(job, attempt.lease.quota, inf, now)
        if other_at <= now <= last_start(job):
            return Verdict(now)
        if closure is not None and closure.at > attempt.started_at:
            verdict = replace(verdict, retry_at=None)  # under way when another's answer closed what it would come back to
        if verdict.retry_at is None:
            moves = (outcome.elsewhere or closure is not None) and move_on(job, must=True)
        else:
            moves = job.source.is_shut and move_on(job)
        if moves:
            return Verdict(now)
        return Verdict(other_at) if other_at < inf and other_at <= last_start(job) else verdict

    def _looks(self, source: Source, now: float) -> bool:
        """Whether a job that comes now is to look if `source`, which is shut, is back."""
        return source.probe_at() <= now and self._line(source).is_empty

    def _clear(self, shut: Sequence[Quota], now: float) -> list[Job]:
        """Nobody should wait for `shut`: those who have another choice move there; those who have none and never will be
        taken are over, and are given back."""
        evicted: list[Job] = []
        lines = {line: None for quota in shut for line in self._lines_on.get(quota, ()) if line.source.is_shut}
        for line in lines:
            leaving = {job: None for job in line.waiting if self._leaves(job, line.source)}
            line.remove(leaving)
            self.awake[line] = None
            for job in leaving:
                self._go(job, now, evicted)
        for job in self._timers.parked():
            if job.source.is_shut and self._leaves(job, job.source):
                self._go(job, now, evicted)
        return evicted

    def _leaves(self, job: Job, place: Source) -> bool:
        """Whether `job` has to leave `place`, which is shut: it has somewhere else to go then, or is to be evicted."""
        if job.source is not place and not job.source.is_shut:
            return True  # it waited for one member alone
        is_closed = job.source.closure is not None
        return move_on(job, must=is_closed) or is_closed

    def _go(self, job: Job, now: float, evicted: list[Job]) -> None:
        self._timers.forget(job)
        if job.source.closure is not None:
            job.state = ENDED
            evicted.append(job)
        else:
            self._come_back(job, now)

    def _come_back(self, job: Job, now: float) -> None:
        """Let `job` wait again: for all of its source, or for one member as long as others are not to be asked."""
        tries, source = job.tries, job.source
        if tries is None or tries.rests is None:
            self._enter(job, source)
            return
        tries.rests = {member: at for member, at in tries.rests.items() if at > now}
        back_at = min(tries.rests.values(), default=inf)
        free = [member for member in source.members if member not in tries.rests and member.closure is None]
        if free and len(free) < len(source.members):
            self._timers.set(job, back_at)
            self._enter(job, best_of(source, free, job.cost, now)[0])
        elif free or back_at == inf:  # what has refused it for good is asked again, once nobody else is left
            self._enter(job, source)
        else:
            self._park(job, back_at)

    def _park(self, job: Job, until: float) -> None:
        job.state = PARKED
        self._timers.set(job, until)

    def _ring(self, now: float) -> None:
        """Act on every timer that is due."""
        for due in self._timers.due(now):
            if isinstance(due, Line):
                self.awake[due] = None
                continue
            if due.state is WAITING:  # for one member, while another was not to be asked
                tree_of(due).line.remove((due,))
                self.awake[tree_of(due).line] = None
            self._come_back(due, now)

    def _wake_all(self, trees: list[Tree]) -> None:
        for tree in trees:
            self.awake[tree.line] = None


def _signal_of(outcome: Outcome, quota: Quota) -> Signal:
    """What a failure says of the capacity of `quota`. While that is taken to be down, failures say nothing of it."""
    if not outcome.shrink:
        return NEUTRAL
    if outcome.outage:
        return STRAIN if quota.breaker.closed else NEUTRAL
    return PUSHBACK
