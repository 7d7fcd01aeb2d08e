"""Who goes next: the schedule step by step."""

from __future__ import annotations

from itertools import pairwise
from math import inf
from typing import Any

import pytest

from llm_fanout.core.breaker import LAST_PROBE
from llm_fanout.core.job import Attempt, Cost, Job, Outcome, State
from llm_fanout.core.lanes import BACKGROUND, COPY, DEFAULT, Lane
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

    started = [begin(schedule, 0.0).job.source for _ in range(3)]

    assert started == [full, free, free]
    assert schedule.start(0.0) is None
    assert schedule.next_timer() == 100.0
    assert begin(schedule, 100.0).job.source is gated


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

    assert started.job.source is other
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


def test_never_is_said_of_one_call(schedule: Schedule) -> None:
    """A refusal that says never to come back ends its call, and closes the quota for nobody else."""
    quota = Quota()
    refused, other = Job(quota), Job(quota)
    schedule.add(refused, 0.0)
    schedule.add(other, 0.0)

    verdict = schedule.finish(begin(schedule, 0.0), Outcome(Again.PUSHBACK, told=inf, gate=True), 0.0)

    assert verdict.over
    assert verdict.too_long == inf
    assert begin(schedule, 0.0).job is other


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


def test_a_forgotten_quota_costs_nothing(schedule: Schedule) -> None:
    """A quota that is not used any more is dropped; waking or forgetting it again does no harm."""
    quota = Quota()
    schedule.add(Job(quota), 0.0)
    schedule.finish(begin(schedule, 0.0), DONE, 1.0)

    forgotten = schedule.forget(quota), schedule.forget(quota)
    schedule.wake(quota)

    assert forgotten == (True, True)
    assert not schedule._lines
    assert schedule.start(1.0) is None


def test_a_quota_for_which_a_paused_lane_waits_is_kept(schedule: Schedule) -> None:
    """Its jobs start one after the other when the lane is resumed, and then the quota is forgotten."""
    quota, lane = Quota(Limits(rpm=60)), Lane(Lane())
    schedule.pause(lane)
    for _ in range(3):
        schedule.add(Job(quota, lane=lane), 0.0)
    passed = schedule.start(0.0)

    kept = schedule.forget(quota)
    schedule.resume(lane)
    starts = [0.0]
    for _ in range(3):
        schedule.finish(begin(schedule, starts[-1]), DONE, starts[-1])
        if schedule.start(starts[-1]) is None and (timer := schedule.next_timer()) is not None:
            starts.append(timer)

    assert passed is None
    assert not kept
    assert starts == pytest.approx([0.0, 1.0, 2.0])
    assert schedule.forget(quota)


@pytest.mark.parametrize("rank", [DEFAULT, BACKGROUND])
def test_a_quota_for_which_a_full_lane_waits_is_kept(schedule: Schedule, rank: int) -> None:
    """The lane is full of calls of another quota: it was passed, and its jobs wait all the same."""
    quota, other, lane = Quota(), Quota(), Lane(max_concurrency=1)
    schedule.add(Job(other, lane=lane), 0.0)
    busy = begin(schedule, 0.0)
    job = Job(quota, lane=lane, rank=rank)
    schedule.add(job, 0.0)
    passed = schedule.start(0.0)

    kept = schedule.forget(quota)
    schedule.finish(busy, DONE, 1.0)

    assert (passed, kept) == (None, False)
    assert begin(schedule, 1.0).job is job


def test_a_quota_for_which_a_call_backs_off_is_kept(schedule: Schedule) -> None:
    """It comes back to this quota; once it is cancelled nothing does."""
    quota, other = Quota(), Quota()
    jobs = [Job(each) for each in (quota, other, other)]
    for job in jobs:
        schedule.add(job, 0.0)
        schedule.finish(begin(schedule, 0.0), AGAIN, 0.0)

    kept = schedule.forget(quota)
    schedule.cancel(jobs[0])

    assert not kept
    assert schedule.forget(quota)


def test_a_quota_to_which_a_lent_slot_comes_back_is_kept(schedule: Schedule) -> None:
    """Its attempt waits to go on."""
    quota = Quota(Limits(max_concurrency=1))
    schedule.add(Job(quota), 0.0)
    attempt = begin(schedule, 0.0)
    schedule.lend(attempt)
    schedule.reclaim(attempt)

    assert not schedule.forget(quota)
    assert schedule.start(0.0) is attempt


def test_calls_that_were_cancelled_keep_no_quota(schedule: Schedule) -> None:
    """They waited in a lane that is paused."""
    quota, lane = Quota(), Lane()
    job = Job(quota, lane=lane)
    schedule.pause(lane)
    schedule.add(job, 0.0)
    schedule.start(0.0)

    schedule.cancel(job)

    assert schedule.forget(quota)


def test_the_timer_of_a_forgotten_line_wakes_nobody_else(schedule: Schedule) -> None:
    """It was waiting for its tokens when its last job was cancelled: it rings in vain."""
    quota = Quota(Limits(rpm=60, burst=1))
    jobs = [Job(quota) for _ in range(2)]
    for job in jobs:
        schedule.add(job, 0.0)
    schedule.finish(begin(schedule, 0.0), DONE, 0.0)
    schedule.start(0.0)
    schedule.cancel(jobs[1])
    forgotten = schedule.forget(quota)
    again = Job(quota)
    schedule.add(again, 0.5)

    assert forgotten
    assert schedule.start(0.5) is None
    assert begin(schedule, 1.0).job is again
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


OUTAGE = Outcome(Again.TRANSIENT, outage=True, heard=False, error=RuntimeError("down"))
REFUSED = Outcome(Again.PUSHBACK, gate=True, shrink=True, error=RuntimeError("busy"))


def fail_all(schedule: Schedule, quota: Quota, calls: int, now: float) -> list[Job]:
    """So many calls of `quota`, all under way, that all meet an outage at `now`."""
    jobs = [Job(quota, retry=RetryPolicy(max_retries=1)) for _ in range(calls)]
    for job in jobs:
        schedule.add(job, now)
    for attempt in [begin(schedule, now) for _ in jobs]:
        schedule.finish(attempt, OUTAGE, now)
    return jobs


def answered_once(schedule: Schedule) -> Quota:
    """A quota whose endpoint has answered: it is trusted."""
    quota = Quota()
    schedule.add(Job(quota), 0.0)
    schedule.finish(begin(schedule, 0.0), DONE, 0.0)
    return quota


def test_an_outage_pauses_and_probes(schedule: Schedule) -> None:
    """After some failures in a row nothing starts but one probe, a second later; the next after two, then every 3.5."""
    quota = answered_once(schedule)
    fail_all(schedule, quota, 6, 0.0)
    schedule.add(Job(quota), 0.0)

    probes, now = [], 0.0
    while len(probes) < 5:
        attempt = schedule.start(now)
        if attempt is None:
            timer = schedule.next_timer()
            assert timer is not None
            now = timer
            continue
        assert schedule.start(now) is None, "two probes at once"
        probes.append(now)
        schedule.finish(attempt, OUTAGE, now)

    gaps = [later - earlier for earlier, later in pairwise([0.0, *probes])]
    assert gaps == pytest.approx([1.0, 2.0, 3.5, 3.5, 3.5])


def test_an_outage_uses_up_nobodys_retries(schedule: Schedule) -> None:
    """However many probes fail, the calls are all answered when the provider is back."""
    quota = answered_once(schedule)
    jobs = fail_all(schedule, quota, 8, 0.0)

    over, now = 0, 0.0
    while over < 8:
        attempt = schedule.start(now)
        if attempt is None:
            timer = schedule.next_timer()
            assert timer is not None
            now = timer
        else:
            over += schedule.finish(attempt, OUTAGE if now < 100 else DONE, now).over

    assert all(job.state is State.OVER for job in jobs)
    assert max(job.attempts for job in jobs) > 2
    assert now <= 105


def test_probes_take_turns(schedule: Schedule) -> None:
    """A call that was the probe and failed goes to the end of the line: should it be at fault itself, it holds nobody up."""
    quota = answered_once(schedule)
    fail_all(schedule, quota, 6, 0.0)
    waiting = Job(quota)
    schedule.add(waiting, 0.5)

    first = begin(schedule, 1.0)
    schedule.finish(first, OUTAGE, 1.0)
    second = begin(schedule, 3.0)

    assert first.job is not second.job


def test_a_cancelled_probe_lets_another_go(schedule: Schedule) -> None:
    """A probe that ends without having learnt anything is not the last one."""
    quota = answered_once(schedule)
    fail_all(schedule, quota, 6, 0.0)

    probe = begin(schedule, 1.0)
    schedule.cancel(probe.job)
    schedule.finish(probe, Outcome(heard=False, error=RuntimeError("cancelled")), 1.0)

    assert schedule.start(1.0) is not None


def test_a_probe_that_hangs_holds_nobody_up(schedule: Schedule) -> None:
    """It was accepted and is never answered: the next goes some seconds later, and its answer lets everybody go."""
    quota = answered_once(schedule)
    fail_all(schedule, quota, 6, 0.0)
    hanging = begin(schedule, 1.0)

    early = schedule.start(1.0)
    when = schedule.next_timer()
    assert when is not None
    second = begin(schedule, when)
    schedule.finish(second, DONE, when)

    assert early is None
    assert when == 1.0 + LAST_PROBE
    assert second.job is not hanging.job
    assert begin(schedule, when).job is not hanging.job


def test_an_endpoint_that_never_answered_is_no_outage(schedule: Schedule) -> None:
    """It may be a wrong address: calls fail when their retries are used up, and all at once when the budget is empty."""
    quota = Quota(Limits(max_concurrency=1_000, adapt=False))
    jobs = [Job(quota, retry=RetryPolicy(max_retries=5)) for _ in range(50)]
    for job in jobs:
        schedule.add(job, 0.0)
    attempts = [begin(schedule, 0.0) for _ in jobs]

    over = [schedule.finish(attempt, OUTAGE, 0.0).over for attempt in attempts]

    assert over == [False] * 35 + [True] * 15  # 500 tokens pay for 35 retries of 14


def debt(quota: Quota, now: float) -> float:
    """Seconds for which the next transient retry would have to wait for the budget."""
    return max(0.0, quota.budget.ready_at(Again.TRANSIENT, now) - now)


def test_calls_that_are_not_tried_again_leave_no_debt(schedule: Schedule) -> None:
    """Ten thousand calls to an endpoint that is not up yet: the first one after it came up is tried again at once."""
    quota = Quota(Limits(max_concurrency=10_000, adapt=False))
    fail_all(schedule, quota, 10_000, 0.0)

    assert debt(quota, 0.0) <= 14 / 70


@pytest.mark.parametrize("figures", [{"retry": RetryPolicy(retry_for=0.1)}, {"deadline": 0.1}])
def test_a_retry_that_would_be_too_late_is_not_paid_for(schedule: Schedule, figures: dict[str, Any]) -> None:
    """The call is over: what its retry would have cost is there for others."""
    quota = answered_once(schedule)
    for _ in range(1_000):
        schedule.add(Job(quota, **figures), 0.0)
        assert schedule.finish(begin(schedule, 0.0), OUTAGE, 0.0).over
        quota.breaker.answered(0.0)

    assert debt(quota, 0.0) == 0.0
    assert not quota.budget.spent


def test_a_cancelled_call_pays_for_no_retry(schedule: Schedule) -> None:
    """It failed by itself before the cancellation reached it; it is over all the same."""
    quota = answered_once(schedule)
    job = Job(quota)
    schedule.add(job, 0.0)
    attempt = begin(schedule, 0.0)
    schedule.cancel(job)

    verdict = schedule.finish(attempt, OUTAGE, 0.0)

    assert verdict.over
    assert job.state is State.OVER
    assert not quota.budget.spent


def test_the_retry_budget_delays_and_loses_nothing(schedule: Schedule) -> None:
    """Of a provider that is there: retries beyond the budget wait for it, a fifth of a second each."""
    quota = answered_once(schedule)
    jobs = [Job(quota) for _ in range(50)]
    verdicts = []
    for job in jobs:  # between the failures something is answered, so that it is no outage
        schedule.add(job, 0.0)
        verdicts.append(schedule.finish(begin(schedule, 0.0), OUTAGE, 0.0))
        quota.breaker.answered(0.0)

    times = [verdict.retry_at for verdict in verdicts]
    assert times[:35] == [0.25] * 35
    assert times[-1] == pytest.approx((50 * 14 - 500) / 70, abs=0.01)


def test_refusals_cost_less_of_the_budget_and_told_ones_nothing(schedule: Schedule) -> None:
    """A hundred untold refusals empty it; one that names its wait is obeyed whatever the budget says."""
    quota = answered_once(schedule)
    verdicts = []
    for outcome in [REFUSED] * 105 + [Outcome(Again.PUSHBACK, told=1.0, error=RuntimeError("told"))]:
        schedule.add(Job(quota), 0.0)
        quota.gate = 0.0
        verdicts.append(schedule.finish(begin(schedule, 0.0), outcome, 0.0))

    assert verdicts[99].retry_at == 0.5
    assert verdicts[104].retry_at == 0.5  # 25 tokens too few: they are back before the backoff is over
    assert verdicts[-1].retry_at == 1.025


def test_a_retry_later_than_the_deadline_is_not_waited_for(schedule: Schedule) -> None:
    """The call is over at once, and it is said how long it would have had to wait."""
    job = Job(Quota(), deadline=10.0)
    schedule.add(job, 0.0)

    in_time = schedule.finish(begin(schedule, 0.0), Outcome(Again.PUSHBACK, told=4.0), 0.0)
    too_late = schedule.finish(begin(schedule, 5.0), Outcome(Again.PUSHBACK, told=8.0), 5.0)

    assert not in_time.over
    assert too_late.over
    assert too_late.too_long == pytest.approx(8.125)


def test_a_lent_slot_is_used_by_others_and_comes_back_first(schedule: Schedule) -> None:
    """While an attempt waits for calls of its own, they have its slot; then it has one again before anything new."""
    quota = Quota(Limits(max_concurrency=1))
    outer, inner, later = Job(quota), Job(quota), Job(quota)
    for job in (outer, inner, later):
        schedule.add(job, 0.0)
    attempt = begin(schedule, 0.0)
    assert schedule.start(0.0) is None

    schedule.lend(attempt)
    nested = begin(schedule, 0.0)
    schedule.reclaim(attempt)
    waiting = schedule.start(0.0)
    schedule.finish(nested, DONE, 1.0)
    back = schedule.start(1.0)
    full = schedule.start(1.0)
    schedule.finish(attempt, DONE, 2.0)

    assert nested.job is inner
    assert (waiting, full) == (None, None)
    assert back is attempt
    assert begin(schedule, 2.0).job is later


def test_lent_slots_come_back_one_after_the_other(schedule: Schedule) -> None:
    """In the order in which they were asked for, as slots become free."""
    quota = Quota(Limits(max_concurrency=2))
    for _ in range(4):
        schedule.add(Job(quota), 0.0)
    lenders = [begin(schedule, 0.0) for _ in range(2)]
    for lender in lenders:
        schedule.lend(lender)
    nested = [begin(schedule, 0.0) for _ in range(2)]
    for lender in lenders:
        schedule.reclaim(lender)

    back = []
    for attempt in nested:
        schedule.finish(attempt, DONE, 1.0)
        back.append((schedule.start(1.0), schedule.start(1.0)))

    assert back == [(lenders[0], None), (lenders[1], None)]


def test_an_attempt_that_ends_while_its_slot_is_lent_gives_none_back(schedule: Schedule) -> None:
    """Slots stay as many as there are, whether it wanted one back or not."""
    quota = Quota(Limits(max_concurrency=1))
    for _ in range(4):
        schedule.add(Job(quota), 0.0)
    first = begin(schedule, 0.0)
    schedule.lend(first)
    second = begin(schedule, 0.0)
    schedule.reclaim(first)
    schedule.cancel(first.job)
    schedule.finish(first, Outcome(heard=False), 0.0)

    full = schedule.start(0.0)
    schedule.finish(second, DONE, 1.0)
    third = schedule.start(1.0)

    assert full is None
    assert third is not None
    assert third is not first
    assert schedule.start(1.0) is None


def test_what_binds_is_known_at_any_time(schedule: Schedule) -> None:
    """Waiting for a slot counts as such from the moment in which all are taken, until nobody waits."""
    quota = Quota(Limits(max_concurrency=1))
    for _ in range(2):
        schedule.add(Job(quota), 0.0)
    first = begin(schedule, 0.0)
    early = quota.waits.held(3.0)
    schedule.finish(first, DONE, 5.0)
    second = begin(schedule, 5.0)
    schedule.finish(second, DONE, 6.0)
    schedule.start(6.0)

    assert early == {"concurrency": 3.0}
    assert quota.waits.held(100.0) == {"concurrency": 5.0}


def test_a_told_wait_holds_for_the_others_where_the_call_is_over(schedule: Schedule) -> None:
    """A refusal that is final for its call, and names a time, stops everyone of its quota until then."""
    quota = Quota()
    for job in (Job(quota), Job(quota)):
        schedule.add(job, 0.0)
    first = begin(schedule, 0.0)
    begin(schedule, 0.0)
    schedule.add(Job(quota), 0.0)
    quota.slots.size = 2.0

    schedule.finish(first, Outcome(told=4.0, gate=True, error=RuntimeError("busy")), 1.0)

    assert schedule.start(1.0) is None
    assert schedule.next_timer() == 5.1  # 4 s, and half of the jitter of 5 %
    assert schedule.start(5.1) is not None


def failing(schedule: Schedule, quota: Quota, count: int, **outcome: Any) -> None:
    """So many calls of `quota` under way at once, which fail one after another as calls of a server that is down do."""
    for _ in range(count):
        schedule.add(Job(quota), 0.0)
    attempts = [begin(schedule, 0.0) for _ in range(count)]
    for attempt in attempts:
        schedule.finish(attempt, Outcome(Again.TRANSIENT, outage=True, error=RuntimeError("500"), **outcome), 1.0)


def test_calls_that_hang_in_a_row_have_fewer_calls_at_once(schedule: Schedule) -> None:
    """One in a round may, two are too many; and nothing is learnt of how many a minute."""
    one, two, apart = (Quota(Limits(max_concurrency=20)) for _ in range(3))

    failing(schedule, one, 1, shrink=True)
    failing(schedule, two, 2, shrink=True)
    failing(schedule, apart, 1, shrink=True)
    for _ in range(20):
        schedule.add(Job(apart), 1.0)
        schedule.finish(begin(schedule, 1.0), DONE, 1.0)
    failing(schedule, apart, 1, shrink=True)

    assert (one.width, apart.width) == (20, 20)
    assert two.width < 20
    assert two.limits().rpm is None


def test_what_hangs_while_all_is_down_says_nothing(schedule: Schedule) -> None:
    """A probe that is not answered is the outage's: the width is as it was."""
    quota = Quota(Limits(max_concurrency=20))
    quota.breaker.trusted = True
    failing(schedule, quota, 6)

    for at in (10.0, 20.0, 30.0):
        probe = begin(schedule, at)
        schedule.finish(probe, Outcome(Again.TRANSIENT, outage=True, shrink=True, error=RuntimeError("504")), at + 1)

    assert quota.width == 20


def test_what_is_handed_over_starts_in_another_lane(schedule: Schedule) -> None:
    """A job that waits in a lane that is paused starts as soon as it is another's; one that runs is counted where it began,
    and its next try where it is then."""
    quota, paused, narrow, wide = Quota(), Lane(), Lane(max_concurrency=1), Lane(max_concurrency=2)
    waiting, running, next_one = Job(quota, lane=paused), Job(quota, lane=narrow), Job(quota, lane=narrow)
    schedule.pause(paused)
    for job in (waiting, running, next_one):
        schedule.add(job, 0.0)
    first = begin(schedule, 0.0)
    before = schedule.start(0.0)
    for job in (waiting, running):
        schedule.hand_over(job, wide)
    second = begin(schedule, 0.0)
    schedule.finish(first, AGAIN, 1.0)

    assert (first.job, before, second.job) == (running, None, waiting)
    assert begin(schedule, 1.0).job is next_one
    assert begin(schedule, 100.0).job is running
    assert (narrow.running, wide.running) == (1, 2)


def test_a_copy_waits_for_everybody_and_nobody_for_it(schedule: Schedule) -> None:
    """It starts when there is nothing else to do; while it waits, nothing is said to be waited for."""
    quota = Quota(Limits(rpm=60, burst=1, adapt=False))
    schedule.add(Job(quota, rank=COPY), 0.0)
    copied = schedule.start(0.0)
    schedule.add(Job(quota, rank=COPY), 0.0)
    none = schedule.start(0.0)
    schedule.add(Job(quota, rank=BACKGROUND), 0.5)

    first = schedule.start(1.0)

    assert copied is not None
    assert none is None
    assert first is not None
    assert first.job.rank == BACKGROUND
