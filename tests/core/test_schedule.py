"""Who goes next: the schedule step by step."""

from __future__ import annotations

import pytest

from llm_fanout.core.job import Attempt, Cost, Job, Outcome, State
from llm_fanout.core.quota import Quota
from llm_fanout.core.retry import Again, RetryPolicy
from llm_fanout.core.schedule import UNTOLD_GATE, Schedule
from llm_fanout.core.stated import Limits

AGAIN = Outcome(Again.TRANSIENT)
DONE = Outcome()


@pytest.fixture
def schedule() -> Schedule:
    """A schedule whose jitter is always half."""
    return Schedule(lambda: 0.5)


def begin(schedule: Schedule, now: float) -> Attempt:
    """The attempt that starts now; there must be one."""
    attempt = schedule.start(now)
    assert attempt is not None
    return attempt


def test_first_in_first_out(schedule: Schedule) -> None:
    """Jobs of one quota start in the order in which they were handed in."""
    quota = Quota()
    jobs = [Job(quota) for _ in range(5)]
    for job in jobs:
        schedule.add(job, 0.0)

    started = [begin(schedule, 0.0).job for _ in jobs]

    assert started == jobs
    assert schedule.start(0.0) is None
    assert schedule.next_timer() is None


def test_a_large_job_is_not_overtaken(schedule: Schedule) -> None:
    """While the head waits for its tokens, no smaller job behind it takes them."""
    quota = Quota(Limits(tpm=600))
    first, large, small = Job(quota, Cost(10)), Job(quota, Cost(200)), Job(quota, Cost(1))
    for job in (first, large, small):
        schedule.add(job, 0.0)

    begin(schedule, 0.0)
    blocked = schedule.start(0.0)
    when = schedule.next_timer()

    assert blocked is None
    assert when is not None
    assert begin(schedule, when).job is large


def test_quotas_do_not_hold_each_other_up(schedule: Schedule) -> None:
    """A full quota and a closed gate stop their own jobs only; lines with room take turns."""
    full, free, gated = Quota(Limits(max_concurrency=1)), Quota(), Quota()
    schedule.gate(gated, 100.0)
    for quota in (full, gated, free, full, gated, free):
        schedule.add(Job(quota), 0.0)

    started = [begin(schedule, 0.0).job.quota for _ in range(3)]

    assert started == [full, free, free]
    assert schedule.start(0.0) is None
    assert schedule.next_timer() == 100.0
    assert begin(schedule, 100.0).job.quota is gated


def test_a_retry_holds_nothing_and_comes_back_to_its_place(schedule: Schedule) -> None:
    """While it waits its slot is free; when its time has come it goes before those handed in after it."""
    quota = Quota(Limits(max_concurrency=1))
    failing, others = Job(quota), [Job(quota) for _ in range(3)]
    for job in (failing, *others):
        schedule.add(job, 0.0)

    verdict = schedule.finish(begin(schedule, 0.0), AGAIN, 1.0)
    second = begin(schedule, 1.0)
    early = schedule.start(1.24)
    schedule.finish(second, DONE, 2.0)
    third = begin(schedule, 2.0)

    assert verdict.retry_at == 1.25
    assert not verdict.over
    assert second.job is others[0]
    assert early is None
    assert third.job is failing
    assert failing.attempts == 2


def test_the_last_failure_ends_the_job_at_once(schedule: Schedule) -> None:
    """When no try is left there is no wait: the job is over with that very outcome."""
    job = Job(Quota(), retry=RetryPolicy(max_retries=1))
    schedule.add(job, 0.0)

    first = schedule.finish(begin(schedule, 0.0), AGAIN, 0.0)
    last = schedule.finish(begin(schedule, 10.0), AGAIN, 10.0)

    assert (first.over, last.over) == (False, True)
    assert job.state is State.OVER
    assert schedule.next_timer() is None


def test_retry_for_ends_it_before_a_wait_that_would_be_too_long(schedule: Schedule) -> None:
    """A retry that would start later than `retry_for` after the first start is not waited for."""
    job = Job(Quota(), retry=RetryPolicy(retry_for=10.0))
    schedule.add(job, 0.0)

    in_time = schedule.finish(begin(schedule, 5.0), Outcome(Again.PUSHBACK, told=9.0), 5.0)
    too_late = schedule.finish(begin(schedule, 14.5), Outcome(Again.PUSHBACK, told=9.0), 14.5)

    assert in_time.retry_at == pytest.approx(14.125)
    assert too_late.over


def test_a_refusal_with_a_gate_stops_everyone_of_its_quota(schedule: Schedule) -> None:
    """Nobody of the quota starts before the told wait is over, and the job itself is not over."""
    quota, other = Quota(), Quota()
    for each in (quota, quota, other):
        schedule.add(Job(each), 0.0)
    refused = begin(schedule, 0.0)

    verdict = schedule.finish(refused, Outcome(Again.PUSHBACK, told=20.0, gate=True), 0.0)
    started = begin(schedule, 0.0)

    assert started.job.quota is other
    assert schedule.start(19.9) is None
    assert verdict.retry_at == schedule.next_timer() == pytest.approx(20.125)
    assert begin(schedule, 20.125).job is refused.job


def test_a_refusal_that_names_no_time_stops_everyone_for_a_moment(schedule: Schedule) -> None:
    """The job backs off by itself; the others go on after a quarter of a second at the most."""
    quota = Quota()
    refused, other = Job(quota), Job(quota)
    schedule.add(refused, 0.0)
    schedule.add(other, 0.0)
    attempt = begin(schedule, 0.0)

    verdict = schedule.finish(attempt, Outcome(Again.PUSHBACK, gate=True), 0.0)

    assert verdict.retry_at == 0.5
    assert schedule.start(0.2) is None
    assert begin(schedule, UNTOLD_GATE).job is other


def test_a_gate_closes_even_if_its_messenger_gives_up(schedule: Schedule) -> None:
    """A call whose patience ends with the refusal has still told everyone else to wait."""
    quota = Quota()
    impatient, other = Job(quota, retry=RetryPolicy(retry_for=1.0)), Job(quota)
    schedule.add(impatient, 0.0)
    schedule.add(other, 0.0)

    verdict = schedule.finish(begin(schedule, 0.0), Outcome(Again.PUSHBACK, told=20.0, gate=True), 0.0)

    assert verdict.over
    assert schedule.start(19.9) is None


def test_cancelling_a_waiting_job_ends_it_at_once(schedule: Schedule) -> None:
    """It leaves its line, and those behind it may go."""
    quota = Quota(Limits(tpm=600))
    first, large, small = Job(quota, Cost(10)), Job(quota, Cost(500)), Job(quota, Cost(0))
    for job in (first, large, small):
        schedule.add(job, 0.0)
    begin(schedule, 0.0)
    assert schedule.start(0.0) is None

    attempts = schedule.cancel(large)

    assert attempts == []
    assert large.state is State.OVER
    assert begin(schedule, 0.0).job is small


def test_cancelling_a_running_job_hands_its_attempt_back(schedule: Schedule) -> None:
    """The attempt holds its lease until it is finished, and then the job is over whatever the outcome."""
    quota = Quota(Limits(max_concurrency=1))
    job = Job(quota)
    schedule.add(job, 0.0)
    attempt = begin(schedule, 0.0)

    attempts = schedule.cancel(job)
    still_held = quota.is_unused(0.0)
    verdict = schedule.finish(attempt, AGAIN, 1.0)

    assert attempts == [attempt]
    assert not still_held
    assert verdict.over
    assert quota.is_unused(1.0)


def test_cancelling_a_parked_job_forgets_its_timer(schedule: Schedule) -> None:
    """Jobs that were cancelled while they waited for a retry do not pile up until their time would have come."""
    quota = Quota()
    jobs = [Job(quota) for _ in range(100)]
    for job in jobs:
        schedule.add(job, 0.0)
        schedule.finish(begin(schedule, 0.0), Outcome(Again.PUSHBACK, told=3_600.0), 0.0)

    for job in jobs[:99]:
        schedule.cancel(job)

    assert len(schedule._timers) <= 3
    assert schedule.start(4_000.0) is not None
    assert schedule.start(4_000.0) is None


def test_a_cancelled_timer_that_was_not_swept_rings_in_vain(schedule: Schedule) -> None:
    """One cancelled among many parked: its timer is passed over."""
    quota = Quota()
    jobs = [Job(quota) for _ in range(4)]
    for job in jobs:
        schedule.add(job, 0.0)
        schedule.finish(begin(schedule, 0.0), Outcome(Again.PUSHBACK, told=1.0), 0.0)

    schedule.cancel(jobs[0])
    started = [begin(schedule, 10.0).job for _ in range(3)]

    assert started == jobs[1:]
    assert schedule.start(10.0) is None


def test_an_empty_line_is_forgotten(schedule: Schedule) -> None:
    """A quota for which nothing waits costs nothing, and waking it does no harm."""
    quota = Quota()
    schedule.add(Job(quota), 0.0)
    attempt = begin(schedule, 0.0)

    assert schedule.start(0.0) is None
    assert not schedule._lines
    schedule.finish(attempt, DONE, 1.0)
    schedule.wake(quota)
    assert schedule.start(1.0) is None


def test_retuning_lets_those_start_who_fit_now(schedule: Schedule) -> None:
    """More slots: the next job in line goes at once."""
    quota = Quota(Limits(max_concurrency=1))
    for _ in range(2):
        schedule.add(Job(quota), 0.0)
    begin(schedule, 0.0)
    assert schedule.start(0.0) is None

    schedule.retune(quota, Limits(max_concurrency=2), 0.0)

    assert schedule.start(0.0) is not None


def test_a_later_timer_of_a_line_does_not_replace_an_earlier_one(schedule: Schedule) -> None:
    """A line that is looked at again while it waits keeps one timer, the earliest."""
    quota = Quota(Limits(rpm=60, burst=1))
    for _ in range(2):
        schedule.add(Job(quota), 0.0)
    begin(schedule, 0.0)
    schedule.start(0.0)

    schedule.wake(quota)
    schedule.start(0.5)

    assert len(schedule._timers) == 1
    assert schedule.next_timer() == pytest.approx(1.0)
