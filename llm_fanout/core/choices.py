"""Where else a job may go: to another member of its pool, or on to its next choice; and what an answer closes for all."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from .job import Attempt, Choice, Job, Outcome
from .quota import Quota
from .retry import Tries
from .timers import tries_of


def last_start(job: Job) -> float:
    """The instant after which no try of `job` may start where it is."""
    return min(job.first_start + job.retry.retry_for, job.deadline)


def leave_alone(job: Job, quota: Quota, until: float, now: float) -> float:
    """Let `job` not start at `quota` until then, if it has others: the instant from which it may start at another member of
    its source that takes calls, `inf` for never."""
    members = job.source.members
    if len(members) == 1:
        return inf
    tries = tries_of(job)
    tries.rests = {**(tries.rests or {}), quota: until}
    others = [each for each in members if each is not quota and each.closure is None]
    others = [each for each in others if not each.is_shut] or others
    return min((max(now, tries.rests.get(each, now)) for each in others), default=inf)


def move_on(job: Job, *, must: bool = False) -> bool:
    """Give `job` its next choice that takes calls, and let it begin afresh there; if it `must` leave, also one that is down.
    False if there is none.

    What it leaves only because that is down stays a choice, the last one.
    """
    able = [each for each in job.fallbacks if each.source.closure is None and each.source.fits_ever(each.cost)]
    chosen = next((each for each in able if not each.source.is_shut), able[0] if must and able else None)
    if chosen is None:
        return False
    left = () if must else (Choice(job.source, job.cost),)
    job.fallbacks = (*(each for each in job.fallbacks if each is not chosen), *left)
    job.source, job.cost = chosen
    job.first_start = inf
    job.tries = None if job.tries is None else Tries(until=job.tries.until)  # its timer is for others to forget
    return True


def closed_by(attempt: Attempt, outcome: Outcome, now: float) -> Sequence[Quota]:
    """The quotas that `outcome` closes, or keeps closed."""
    quota, at_once = attempt.lease.quota, outcome.closes_at_once
    if not outcome.closes:
        if outcome.heard and not outcome.outage:
            quota.access.answered(attempt.lease)
        else:
            quota.access.released(attempt.lease)
        return ()
    if not quota.access.refused(attempt.lease, outcome.error, now, at_once=at_once):
        return ()
    kin = [] if outcome.closes == "quota" else [each for each in quota.kin(outcome.closes) if each.closure is None]
    kin = [each for each in kin if at_once or not each.access.met]  # one that let calls in is not at fault
    for each in kin:
        each.access.close(outcome.error, now)
    return (quota, *kin)
