"""Jobs that have a choice: members of a pool, fallbacks, and what happens when one of them closes."""

from __future__ import annotations

from math import inf

import pytest

from llm_fanout.core.access import Reach
from llm_fanout.core.breaker import FAILURES, FIRST_PROBE, NO_PROBE
from llm_fanout.core.job import Attempt, Choice, Cost, Job, Outcome, State
from llm_fanout.core.lanes import BACKGROUND, Lane
from llm_fanout.core.pool import Pool
from llm_fanout.core.quota import Quota
from llm_fanout.core.retry import Again, RetryPolicy
from llm_fanout.core.schedule import Schedule
from llm_fanout.core.stated import Limits

DONE = Outcome()
ERROR = RuntimeError("no")
OUTAGE = Outcome(Again.TRANSIENT, outage=True, heard=False, elsewhere=True, error=ERROR)
BUSY = Outcome(Again.PUSHBACK, shrink=True, elsewhere=True, error=ERROR)
FINAL = Outcome(elsewhere=True, error=ERROR)
NO_CREDIT = Outcome(closes="credential", closes_at_once=True, error=ERROR)
WRONG_KEY = Outcome(closes="credential", error=ERROR)
NO_MODEL = Outcome(closes="quota", error=ERROR)


@pytest.fixture
def schedule() -> Schedule:
    """A schedule whose jitter is always half."""
    return Schedule(lambda: 0.5)


def told(seconds: float, *, gate: bool = True) -> Outcome:
    """A refusal that names a time."""
    return Outcome(Again.PUSHBACK, told=seconds, gate=gate, elsewhere=True, error=ERROR)


def begin(schedule: Schedule, now: float) -> Attempt:
    """The attempt that starts now; there must be one."""
    attempt = schedule.start(now)
    assert attempt is not None
    return attempt


def add(schedule: Schedule, job: Job, now: float = 0.0) -> Job:
    """The job, handed in."""
    schedule.add(job, now)
    return job


def narrow(number: int = 2) -> list[Quota]:
    """Quotas of one slot each."""
    return [Quota(Limits(max_concurrency=1)) for _ in range(number)]


def down(quota: Quota, now: float = 0.0) -> None:
    """The provider answered once, and then no more."""
    quota.breaker.answered(now)
    for _ in range(FAILURES):
        quota.breaker.failed(probe=NO_PROBE, first=True, now=now)


# ---- a pool ----


def test_jobs_of_a_pool_wait_in_one_line(schedule: Schedule) -> None:
    """First in, first out, whichever member has room."""
    quotas = narrow()
    jobs = [add(schedule, Job(Pool(quotas))) for _ in range(1)]
    pool = jobs[0].source
    jobs += [add(schedule, Job(pool)) for _ in range(3)]

    first, second = begin(schedule, 0.0), begin(schedule, 0.0)
    full = schedule.start(0.0)
    schedule.finish(second, DONE, 1.0)
    third = begin(schedule, 1.0)

    assert [attempt.job for attempt in (first, second, third)] == jobs[:3]
    assert {first.lease.quota, second.lease.quota} == set(quotas)
    assert full is None
    assert third.lease.quota is second.lease.quota


def test_a_refused_call_starts_at_another_member_at_once(schedule: Schedule) -> None:
    """What it was told binds the member where it was told, and nobody else."""
    quotas = narrow()
    job = add(schedule, Job(Pool(quotas)))
    refused = begin(schedule, 0.0)

    verdict = schedule.finish(refused, told(60.0), 1.0)
    again = begin(schedule, 1.0)

    assert verdict.retry_at == 1.0
    assert again.job is job
    assert again.lease.quota is not refused.lease.quota
    assert refused.lease.quota.gate == 61.125
    assert again.lease.quota.gate == -inf


@pytest.mark.parametrize("outcome", [BUSY, told(60.0, gate=False)])
def test_it_does_not_come_back_to_that_member_too_early(schedule: Schedule, outcome: Outcome) -> None:
    """Not even if it is the only one that is free, while others may use it."""
    quotas = narrow()
    pool = Pool(quotas)
    job, other = add(schedule, Job(pool)), add(schedule, Job(pool))
    refused, busy = begin(schedule, 0.0), begin(schedule, 0.0)
    schedule.finish(refused, outcome, 0.0)
    third = add(schedule, Job(pool))

    taken = begin(schedule, 0.0)
    early = schedule.start(0.1)
    schedule.finish(busy, DONE, 0.2)
    again = begin(schedule, 0.2)

    assert busy.job is other
    assert (taken.job, taken.lease.quota) == (third, refused.lease.quota)
    assert early is None
    assert (again.job, again.lease.quota) == (job, busy.lease.quota)


def test_it_comes_back_when_that_member_may_be_asked_again(schedule: Schedule) -> None:
    """It waited for the other, which is busy for longer than it was told to wait."""
    quotas = narrow()
    pool = Pool(quotas)
    job = add(schedule, Job(pool))
    add(schedule, Job(pool))
    refused, busy = begin(schedule, 0.0), begin(schedule, 0.0)
    schedule.finish(refused, told(10.0, gate=False), 0.0)

    early = schedule.start(10.1)
    again = begin(schedule, 10.125)

    assert early is None
    assert (again.job, again.lease.quota) == (job, refused.lease.quota)
    assert schedule.finish(busy, DONE, 11.0).over
    assert schedule.start(20.0) is None


def test_refused_by_all_it_waits_for_the_first(schedule: Schedule) -> None:
    """Holding nothing, until the earliest of the times that it was told."""
    pool = Pool(narrow())
    add(schedule, Job(pool))

    schedule.finish(begin(schedule, 0.0), told(30.0, gate=False), 0.0)
    verdict = schedule.finish(begin(schedule, 0.0), told(10.0, gate=False), 0.0)

    assert verdict.retry_at == 10.125
    assert schedule.start(10.1) is None
    assert begin(schedule, 10.125) is not None


def test_a_retry_elsewhere_is_paid_for_where_it_was_refused(schedule: Schedule) -> None:
    """Both may be keys of one provider, whose trouble must not be answered with a multiple of the traffic."""
    first, full = Quota(Limits(adapt=False)), Quota(Limits(max_concurrency=1))
    full.take(Cost(), 0.0)
    pool, verdicts = Pool([first, full]), []
    for _ in range(101):
        job = add(schedule, Job(pool))
        verdicts.append(schedule.finish(begin(schedule, 0.0), BUSY, 0.0))
        schedule.cancel(job)

    assert {verdict.retry_at for verdict in verdicts[:100]} == {0.0}
    assert verdicts[100].retry_at == pytest.approx(5 / 70)  # 500 tokens have paid for 100; 70 more come in a second


def test_after_a_failure_others_come_first(schedule: Schedule) -> None:
    """It may be the call's own fault, so its backoff counts everywhere; that member is left alone for as long again."""
    failing, other = narrow()
    job = add(schedule, Job(Pool([failing, other])))
    attempt = begin(schedule, 0.0)
    add(schedule, Job(other))
    busy = begin(schedule, 0.0)

    verdict = schedule.finish(attempt, OUTAGE, 0.0)
    early = schedule.start(0.25)
    again = begin(schedule, 0.5)

    assert (attempt.lease.quota, busy.lease.quota) == (failing, other)
    assert verdict.retry_at == 0.25
    assert early is None
    assert (again.job, again.lease.quota) == (job, failing)


def test_a_member_that_is_down_costs_no_retry(schedule: Schedule) -> None:
    """The probe that fails there goes on at once, be it the last try that the call has."""
    dead, alive = narrow()
    dead.breaker.failed(probe=NO_PROBE, first=True, now=0.0)
    for _ in range(FAILURES):
        dead.breaker.failed(probe=NO_PROBE, first=True, now=0.0)
    alive.breaker.answered(0.0)
    job = add(schedule, Job(Pool([dead, alive]), retry=RetryPolicy(max_retries=0)), FIRST_PROBE)

    probe = begin(schedule, FIRST_PROBE)
    verdict = schedule.finish(probe, OUTAGE, 2.0)
    again = begin(schedule, 2.0)

    assert probe.lease.quota is dead
    assert verdict.retry_at == 2.0
    assert (again.job, again.lease.quota) == (job, alive)


def test_a_pool_that_is_down_probes_in_turn(schedule: Schedule) -> None:
    """Then a call that was the probe goes to the end, as with a single quota."""
    quotas = narrow()
    for quota in quotas:
        down(quota)
    pool = Pool(quotas)
    jobs = [add(schedule, Job(pool)) for _ in range(3)]

    probes = [begin(schedule, FIRST_PROBE) for _ in range(2)]
    early = schedule.start(FIRST_PROBE)
    for probe in probes:
        schedule.finish(probe, OUTAGE, FIRST_PROBE)
    third = begin(schedule, 3.0)

    assert [probe.job for probe in probes] == jobs[:2]
    assert early is None
    assert third.job is jobs[2]


def test_a_failure_of_the_call_itself_is_not_the_members(schedule: Schedule) -> None:
    """A bad reply is asked for again after its backoff, wherever that will be."""
    first, second = narrow()
    add(schedule, Job(Pool([first, second])))

    verdict = schedule.finish(begin(schedule, 0.0), Outcome(Again.BAD_REPLY, error=ERROR), 0.0)
    again = begin(schedule, 0.25)

    assert verdict.retry_at == 0.25
    assert again.lease.quota is first


def test_a_final_refusal_may_be_that_members_alone(schedule: Schedule) -> None:
    """Where somebody else may do better, each member is asked once, and then it is over."""
    quotas = narrow(3)
    job = add(schedule, Job(Pool(quotas)))
    asked, verdicts = [], []
    for _ in range(3):
        attempt = begin(schedule, 0.0)
        asked.append(attempt.lease.quota)
        verdicts.append(schedule.finish(attempt, FINAL, 0.0).over)

    assert set(asked) == set(quotas)
    assert verdicts == [False, False, True]
    assert job.attempts == 3


def test_what_refused_it_for_good_is_asked_again_when_nobody_else_is_left(schedule: Schedule) -> None:
    """The other member has closed while it waited for that one: better ask twice than wait for ever."""
    refusing, other = narrow()
    refusing.breaker.answered(0.0)
    pool = Pool([refusing, other])
    job = add(schedule, Job(pool))
    attempt = begin(schedule, 0.0)
    add(schedule, Job(other))
    busy = begin(schedule, 0.0)
    schedule.finish(attempt, FINAL, 0.0)
    assert schedule.start(0.0) is None

    evicted = schedule.finish(busy, NO_CREDIT, 1.0).evicted
    again = begin(schedule, 1.0)

    assert evicted == []
    assert (again.job, again.lease.quota) == (job, refusing)


def test_one_who_waits_for_a_member_leaves_when_that_closes(schedule: Schedule) -> None:
    """It is not handed back, but waits for the one that has told it to come later."""
    told_to_wait, closing = narrow()
    job = add(schedule, Job(Pool([told_to_wait, closing])))
    refused = begin(schedule, 0.0)
    add(schedule, Job(closing))
    busy = begin(schedule, 0.0)
    schedule.finish(refused, told(10.0, gate=False), 0.0)
    assert schedule.start(0.0) is None

    evicted = schedule.finish(busy, NO_CREDIT, 1.0).evicted

    assert evicted == []
    assert schedule.start(10.1) is None
    assert begin(schedule, 10.125).job is job


def test_retry_for_bounds_a_retry_elsewhere_as_well(schedule: Schedule) -> None:
    """Too late is too late."""
    pool = Pool(narrow())
    for outcome in (told(60.0), FINAL):
        add(schedule, Job(pool, retry=RetryPolicy(retry_for=5.0)), 0.0)
        attempt = begin(schedule, 100.0)
        assert schedule.finish(attempt, outcome, 106.0).over


def test_lines_that_share_a_quota_take_turns(schedule: Schedule) -> None:
    """A pool's jobs and those of one member alone: for a slot, and for a rate."""
    for limits in (Limits(max_concurrency=1), Limits(rpm=60, burst=1)):
        shared, closed = Quota(limits), Quota()
        closed.access.close(ERROR, 0.0)
        pool = Pool([shared, closed])
        for source in (pool, pool, pool, shared, shared, shared):
            schedule.add(Job(source), 0.0)

        served, now = [], 0.0
        while len(served) < 6:
            started = []
            while (attempt := schedule.start(now)) is not None:
                started.append(attempt)
            served += [attempt.job.source for attempt in started]
            for attempt in started:
                schedule.finish(attempt, DONE, now)
            timer = schedule.next_timer()
            now = now if started or timer is None else timer

        assert served == [pool, shared] * 3


@pytest.mark.parametrize("large_first", [True, False])
def test_a_large_call_is_not_starved_by_small_ones_of_another_line(schedule: Schedule, large_first: bool) -> None:
    """While it waits for its tokens, no job of another line takes them."""
    shared, full = Quota(Limits(tpm=600, max_concurrency=100)), Quota(Limits(max_concurrency=1))
    full.take(Cost(), 0.0)
    pool = Pool([shared, full])
    large, small = (pool, shared) if large_first else (shared, pool)
    shared.take(Cost(10), 0.0)
    job = add(schedule, Job(large, Cost(100)))
    for _ in range(1_000):
        schedule.add(Job(small, Cost(1)), 0.0)

    now, before = 0.0, 0
    while True:
        attempt = schedule.start(now)
        if attempt is None:
            timer = schedule.next_timer()
            assert timer is not None
            now = timer
        elif attempt.job is job:
            break
        else:
            before += 1
            schedule.finish(attempt, DONE, now)

    assert before <= 1
    assert begin(schedule, now + 1.0).job.source is small


def test_tokens_that_were_promised_are_free_when_the_call_starts_elsewhere(schedule: Schedule) -> None:
    """Another member has a slot before they are there."""
    shared, other = Quota(Limits(tpm=600)), Quota(Limits(max_concurrency=1))
    shared.take(Cost(10), 0.0)
    lease = other.take(Cost(), 0.0)
    large, small = add(schedule, Job(Pool([shared, other]), Cost(10))), add(schedule, Job(shared, Cost(1)))
    assert schedule.start(0.2) is None

    other.give(lease, None, 0.2)
    schedule.wake(other)
    first, second = begin(schedule, 0.2), begin(schedule, 0.2)

    assert (first.job, first.lease.quota) == (large, other)
    assert (second.job, second.lease.quota) == (small, shared)


def test_tokens_that_were_promised_are_free_when_the_call_is_cancelled(schedule: Schedule) -> None:
    """It wants them no more."""
    shared, full = Quota(Limits(tpm=600)), Quota(Limits(max_concurrency=1))
    shared.take(Cost(10), 0.0)
    full.take(Cost(), 0.0)
    large, small = add(schedule, Job(Pool([shared, full]), Cost(300))), add(schedule, Job(shared, Cost(1)))
    held = schedule.start(0.5)

    schedule.cancel(large)

    assert held is None
    assert begin(schedule, 0.5).job is small


def test_background_work_is_promised_nothing(schedule: Schedule) -> None:
    """Whoever is in a hurry goes first, of whatever line."""
    shared, full = Quota(Limits(tpm=600)), Quota(Limits(max_concurrency=1))
    full.take(Cost(), 0.0)
    shared.take(Cost(10), 0.0)
    schedule.add(Job(Pool([shared, full]), Cost(300), rank=BACKGROUND), 0.0)
    assert schedule.start(0.0) is None
    small = add(schedule, Job(shared, Cost(1)))

    assert begin(schedule, 0.2).job is small


def test_a_pool_is_forgotten_with_its_members(schedule: Schedule) -> None:
    """As long as a job waits for it, none of them is; afterwards nothing is left."""
    one, other = narrow()
    pool = Pool([one, other])
    add(schedule, Job(pool))
    attempt = begin(schedule, 0.0)
    lane = Lane()
    schedule.pause(lane)
    waiting = add(schedule, Job(pool, lane=lane))
    busy = schedule.forget(other)
    schedule.cancel(waiting)
    schedule.finish(attempt, Outcome(Again.BAD_REPLY, error=ERROR), 0.0)
    parked = schedule.forget(other)
    schedule.cancel(attempt.job)
    schedule.finish((add(schedule, Job(one)), begin(schedule, 0.0))[1], DONE, 0.0)

    forgotten = schedule.forget(other), schedule.forget(one)

    assert (busy, parked, forgotten) == (False, False, (True, True))
    assert not schedule._lines
    assert not schedule._lines_on


def test_a_lent_slot_comes_back_before_any_line(schedule: Schedule) -> None:
    """Whichever line is looked at first."""
    shared, other = narrow()
    other.take(Cost(), 0.0)
    pool = Pool([shared, other])
    add(schedule, Job(shared))
    lender = begin(schedule, 0.0)
    schedule.lend(lender)
    add(schedule, Job(pool))
    nested = begin(schedule, 0.0)
    add(schedule, Job(pool))
    schedule.reclaim(lender)

    full = schedule.start(0.0)
    schedule.finish(nested, DONE, 1.0)

    assert full is None
    assert begin(schedule, 1.0) is lender


# ---- fallbacks ----


def with_fallback(source: Quota, *others: Quota, retry: RetryPolicy | None = None, cost: Cost | None = None) -> Job:
    """A job that has others, too."""
    fallbacks = tuple(Choice(other, cost or Cost(7.0)) for other in others)
    return Job(source, retry=retry or RetryPolicy(), fallbacks=fallbacks)


def test_a_final_failure_that_others_may_do_better_moves_on(schedule: Schedule) -> None:
    """With the cost of that choice, at once; attempts are counted over all."""
    one, other = narrow()
    job = add(schedule, with_fallback(one, other))

    verdict = schedule.finish(begin(schedule, 0.0), FINAL, 1.0)
    again = begin(schedule, 1.0)
    end = schedule.finish(again, FINAL, 2.0)

    assert verdict.retry_at == 1.0
    assert (again.lease.quota, again.lease.cost) == (other, Cost(7.0))
    assert end.over
    assert (job.attempts, job.state) == (2, State.OVER)


def test_one_that_nobody_would_do_better_ends(schedule: Schedule) -> None:
    """A wrong request is wrong everywhere."""
    one, other = narrow()
    add(schedule, with_fallback(one, other))

    assert schedule.finish(begin(schedule, 0.0), Outcome(error=ERROR), 0.0).over


def test_tries_begin_afresh(schedule: Schedule) -> None:
    """As many retries as before, and all of the time for them."""
    one, other = narrow()
    job = add(schedule, with_fallback(one, other, retry=RetryPolicy(max_retries=1, retry_for=10.0)))
    failing = Outcome(Again.TRANSIENT, elsewhere=True, error=ERROR)

    for now in (0.0, 8.0):
        schedule.finish(begin(schedule, now), failing, now)
    third = begin(schedule, 9.0)
    verdict = schedule.finish(third, failing, 18.0)
    last = schedule.finish(begin(schedule, 18.9), failing, 18.9)

    assert third.lease.quota is other
    assert job.first_start == 9.0
    assert verdict.retry_at == 18.25
    assert last.over


@pytest.mark.parametrize("policy", [RetryPolicy(retry_for=5.0), RetryPolicy()])
def test_a_wait_that_is_too_long_moves_on(schedule: Schedule, policy: RetryPolicy) -> None:
    """Told to come back in an hour, or never."""
    one, other = narrow()
    add(schedule, with_fallback(one, other, retry=policy))

    verdict = schedule.finish(begin(schedule, 0.0), told(3_600.0 if policy.retry_for < inf else inf), 0.0)

    assert verdict.retry_at == 0.0
    assert begin(schedule, 0.0).lease.quota is other


def test_the_deadline_stays(schedule: Schedule) -> None:
    """What comes too late is not tried on any choice."""
    one, other = narrow()
    job = with_fallback(one, other)
    job.deadline = 5.0
    schedule.add(job, 0.0)

    assert schedule.finish(begin(schedule, 0.0), FINAL, 5.5).over


def test_a_cancelled_job_does_not_move_on(schedule: Schedule) -> None:
    """Nobody wants it any more."""
    one, other = narrow()
    job = add(schedule, with_fallback(one, other))
    attempt = begin(schedule, 0.0)
    schedule.cancel(job)

    assert schedule.finish(attempt, FINAL, 0.0).over


def test_a_choice_that_can_never_fit_is_skipped(schedule: Schedule) -> None:
    """Its account has not as many tokens in a whole minute."""
    one, small, large = Quota(), Quota(Limits(tpm=60)), Quota()
    add(schedule, with_fallback(one, small, large, cost=Cost(1_000.0)))

    schedule.finish(begin(schedule, 0.0), FINAL, 0.0)

    assert begin(schedule, 0.0).lease.quota is large


def test_all_that_wait_move_when_the_provider_goes_down(schedule: Schedule) -> None:
    """Those in line, those that back off, and the one whose failure it was; those without another choice wait."""
    one, other = Quota(Limits(max_concurrency=FAILURES)), Quota()
    one.breaker.answered(0.0)
    backing_off = add(schedule, with_fallback(one, other))
    schedule.finish(begin(schedule, 0.0), told(50.0, gate=False), 0.0)
    failing = [add(schedule, with_fallback(one, other)) for _ in range(FAILURES)]
    attempts = [begin(schedule, 0.0) for _ in failing]
    waiting, alone = add(schedule, with_fallback(one, other)), add(schedule, Job(one))

    for attempt in attempts:
        schedule.finish(attempt, OUTAGE, 1.0)
    moved = []
    while (attempt_ := schedule.start(1.5)) is not None:
        moved.append(attempt_)

    assert {attempt.job for attempt in moved} == {backing_off, waiting, *failing}
    assert {attempt.lease.quota for attempt in moved} == {other}
    assert begin(schedule, 2.0).job is alone


def test_a_provider_that_never_answered_is_left_as_well(schedule: Schedule) -> None:
    """Trusted or not, nobody has to wait who has another choice."""
    one, other = Quota(), Quota()
    jobs = [add(schedule, with_fallback(one, other)) for _ in range(FAILURES)]
    for attempt in [begin(schedule, 0.0) for _ in jobs]:
        schedule.finish(attempt, OUTAGE, 0.0)

    assert {begin(schedule, 1.0).lease.quota for _ in jobs} == {other}


def test_newcomers_do_not_wait_for_a_provider_that_is_down(schedule: Schedule) -> None:
    """They start at the fallback, but for one at a time that looks; when it is back, all go there again."""
    one, other = Quota(), Quota()
    down(one)
    jobs = [add(schedule, with_fallback(one, other), now) for now in (0.5, 1.0, 1.0, 1.1)]
    sent = {attempt.job: attempt for attempt in (begin(schedule, 1.1) for _ in jobs)}

    schedule.finish(sent[jobs[1]], DONE, 1.2)
    add(schedule, with_fallback(one, other), 1.2)
    after = begin(schedule, 1.2)

    assert [sent[job].lease.quota for job in jobs] == [other, one, other, other]
    assert after.lease.quota is one


def test_one_that_looked_in_vain_moves_on_at_once(schedule: Schedule) -> None:
    """With all its tries."""
    one, other = Quota(), Quota()
    down(one)
    job = add(schedule, with_fallback(one, other, retry=RetryPolicy(max_retries=0)), 1.0)

    verdict = schedule.finish(begin(schedule, 1.0), OUTAGE, 1.5)
    again = begin(schedule, 1.5)

    assert verdict.retry_at == 1.5
    assert (again.job, again.lease.quota) == (job, other)
    assert job.tries is None or job.tries.transient == 0


def test_where_all_are_down_it_waits_where_it_is(schedule: Schedule) -> None:
    """Until one of them is back; a choice that was left for that comes again."""
    one, other = Quota(), Quota()
    down(other)
    job = add(schedule, with_fallback(one, other))
    attempt = begin(schedule, 0.0)
    down(one)

    stays = schedule.finish(attempt, OUTAGE, 0.0)
    other.breaker.answered(1.0)
    probe = begin(schedule, 1.0)
    moves = schedule.finish(probe, OUTAGE, 1.0)
    elsewhere = begin(schedule, 1.0)
    one.breaker.answered(1.0)
    back = schedule.finish(elsewhere, FINAL, 2.0)

    assert stays.retry_at == 0.25
    assert probe.lease.quota is one
    assert (moves.retry_at, elsewhere.lease.quota) == (1.0, other)
    assert back.retry_at == 2.0
    assert begin(schedule, 2.0).lease.quota is one
    assert job.attempts == 4


def test_who_must_leave_goes_where_it_is_down_too(schedule: Schedule) -> None:
    """After a final failure, waiting for the other is better than none."""
    one, other = Quota(), Quota()
    down(other)
    add(schedule, with_fallback(one, other))

    verdict = schedule.finish(begin(schedule, 0.0), FINAL, 0.0)

    assert not verdict.over
    assert schedule.start(0.5) is None
    assert begin(schedule, FIRST_PROBE).lease.quota is other


def test_a_pool_moves_on_when_all_its_members_are_down(schedule: Schedule) -> None:
    """Not before."""
    quotas, other = [Quota(), Quota()], Quota()
    pool = Pool(quotas)
    waiting = Job(pool, fallbacks=(Choice(other),))
    schedule.pause(lane := Lane())
    waiting.lane = lane
    schedule.add(waiting, 0.0)
    places = []
    for quota in quotas:
        down(quota)
        schedule.add(Job(quota), 0.0)
        schedule.finish(begin(schedule, 1.0), OUTAGE, 1.0)
        places.append(waiting.source)

    assert places == [pool, other]


# ---- closing ----


def test_those_that_wait_for_a_closed_quota_are_handed_back(schedule: Schedule) -> None:
    """In line, in a paused or full lane, in the background, backing off: over, untried, and nothing is left of them."""
    quota, paused, full = Quota(Limits(max_concurrency=2)), Lane(), Lane(max_concurrency=1)
    schedule.add(Job(Quota(), lane=full), 0.0)
    begin(schedule, 0.0)
    parked = add(schedule, Job(quota))
    schedule.finish(begin(schedule, 0.0), told(9.0, gate=False), 0.0)
    closing, going_on = add(schedule, Job(quota)), add(schedule, Job(quota))
    attempts = [begin(schedule, 0.0) for _ in range(2)]
    schedule.pause(paused)
    waiting = [Job(quota), Job(quota, lane=paused), Job(quota, lane=full), Job(quota, rank=BACKGROUND)]
    for job in waiting:
        schedule.add(job, 0.0)
    assert schedule.start(0.0) is None

    verdict = schedule.finish(attempts[0], NO_CREDIT, 1.0)
    late = schedule.finish(attempts[1], DONE, 2.0)

    assert verdict.over
    assert set(verdict.evicted) == {parked, *waiting}
    assert late.over
    assert all(job.state is State.OVER for job in (*waiting, parked, closing, going_on))
    assert schedule.start(100.0) is None
    assert schedule.next_timer() is None
    assert schedule.forget(quota)


def test_one_under_way_is_not_tried_again_where_it_closed(schedule: Schedule) -> None:
    """It ends with what it met itself; with another choice it goes on there."""
    quota, other = Quota(), Quota()
    for job in (Job(quota), Job(quota), with_fallback(quota, other)):
        schedule.add(job, 0.0)
    closing, failing, moving = (begin(schedule, 0.0) for _ in range(3))
    schedule.finish(closing, NO_CREDIT, 1.0)

    ends = schedule.finish(failing, OUTAGE, 2.0)
    goes_on = schedule.finish(moving, OUTAGE, 2.0)

    assert (ends.over, ends.evicted) == (True, ())
    assert goes_on.retry_at == 2.0
    assert begin(schedule, 2.0).lease.quota is other


def test_those_with_another_choice_move_when_it_closes(schedule: Schedule) -> None:
    """The one that closed it, too: its fallback is another account."""
    quota, other, spare = narrow(3)
    other.access.close(ERROR, 0.0)
    jobs = [add(schedule, with_fallback(quota, other, spare)) for _ in range(2)]

    verdict = schedule.finish(begin(schedule, 0.0), NO_CREDIT, 1.0)
    first = begin(schedule, 1.0)
    schedule.finish(first, DONE, 2.0)
    second = begin(schedule, 2.0)

    assert (verdict.retry_at, verdict.evicted) == (1.0, [])
    assert [first.job, second.job] == jobs
    assert {first.lease.quota, second.lease.quota} == {spare}


def test_who_has_only_a_choice_that_is_down_waits_for_that(schedule: Schedule) -> None:
    """It may come back; what is closed will not."""
    quota, other = narrow()
    down(other)
    add(schedule, Job(quota))
    closing = begin(schedule, 0.0)
    job = add(schedule, with_fallback(quota, other))

    verdict = schedule.finish(closing, NO_CREDIT, 0.5)

    assert verdict.evicted == []
    assert begin(schedule, FIRST_PROBE).job is job


def test_a_later_job_looks_before_the_rest(schedule: Schedule) -> None:
    """One goes out, the others wait; it is let in, and so are they."""
    quota = Quota(Limits(max_concurrency=10))
    quota.access.close(ERROR, 0.0)
    jobs = [add(schedule, Job(quota), 5.0) for _ in range(4)]

    probe = begin(schedule, 5.0)
    held = schedule.start(5.0)
    binding = quota.waits.limit
    schedule.finish(probe, Outcome(error=ERROR), 6.0)
    rest = [begin(schedule, 6.0).job for _ in range(3)]

    assert held is None
    assert binding == "closed"
    assert [probe.job, *rest] == jobs


@pytest.mark.parametrize("outcome", [WRONG_KEY, NO_CREDIT, NO_MODEL])
def test_it_may_look_in_vain(schedule: Schedule, outcome: Outcome) -> None:
    """One answer is enough to hand back the others as well."""
    quota = Quota(Limits(max_concurrency=10))
    quota.access.answered(quota.take(Cost(), 0.0))
    quota.access.close(ERROR, 0.0)
    jobs = [add(schedule, Job(quota), 5.0) for _ in range(4)]

    verdict = schedule.finish(begin(schedule, 5.0), outcome, 6.0)

    assert set(verdict.evicted) == set(jobs[1:])
    assert schedule.start(7.0) is None


def test_one_that_looks_and_is_not_answered_is_tried_again(schedule: Schedule) -> None:
    """A timeout says nothing of the account: the next looks, and this one comes back."""
    quota = Quota(Limits(max_concurrency=10))
    quota.access.close(ERROR, 0.0)
    first, second = (add(schedule, Job(quota), 5.0) for _ in range(2))

    verdict = schedule.finish(begin(schedule, 5.0), OUTAGE, 6.0)
    probe = begin(schedule, 6.0)
    held = schedule.start(7.0)
    schedule.finish(probe, DONE, 8.0)

    assert not verdict.over
    assert probe.job is second
    assert held is None
    assert begin(schedule, 8.0).job is first


def test_a_later_job_with_a_fallback_looks_and_the_others_do_not_wait(schedule: Schedule) -> None:
    """They begin at the fallback."""
    quota, other = Quota(), Quota()
    quota.access.close(ERROR, 0.0)
    for _ in range(3):
        schedule.add(with_fallback(quota, other), 5.0)

    sent = [begin(schedule, 5.0).lease.quota for _ in range(3)]

    assert sorted(sent, key=[quota, other].index) == [quota, other, other]


def kin_of(quotas: dict[Quota, Reach]) -> Quota:
    """A quota with these kin, by how far a closing must reach."""
    return Quota(kin=lambda reach: [each for each, far in quotas.items() if reach in (far, "endpoint")])


def test_a_credential_that_is_refused_closes_what_it_never_opened(schedule: Schedule) -> None:
    """Not the quota of a model for which it was let in, nor that of another key."""
    sibling, met, stranger = Quota(), Quota(), Quota()
    met.access.answered(met.take(Cost(), 0.0))
    quota = kin_of({sibling: "credential", met: "credential", stranger: "endpoint"})
    add(schedule, Job(quota))
    attempt = begin(schedule, 0.0)
    waiting = add(schedule, Job(sibling))

    verdict = schedule.finish(attempt, WRONG_KEY, 1.0)

    assert verdict.evicted == [waiting]
    assert [each.closure is None for each in (quota, sibling, met, stranger)] == [False, False, True, True]


@pytest.mark.parametrize(("closes", "open_"), [("credential", 1), ("endpoint", 0), ("quota", 3)])
def test_an_empty_purse_closes_all_that_it_pays_for(schedule: Schedule, closes: Reach, open_: int) -> None:
    """At once, and the ones that are closed already stay as they are."""
    sibling, met, stranger, closed = Quota(), Quota(), Quota(), Quota()
    met.access.answered(met.take(Cost(), 0.0))
    closed.access.close(None, -5.0)
    quota = kin_of({sibling: "credential", met: "credential", closed: "credential", stranger: "endpoint"})
    add(schedule, Job(quota))

    schedule.finish(begin(schedule, 0.0), Outcome(closes=closes, closes_at_once=True, error=ERROR), 1.0)

    assert sum(each.closure is None for each in (sibling, met, stranger)) == open_
    assert closed.closure == (-5.0, None)


def test_a_call_that_is_at_fault_itself_closes_nothing(schedule: Schedule) -> None:
    """One of many is refused: it fails alone."""
    quota = Quota()
    for outcome in (DONE, WRONG_KEY, DONE, WRONG_KEY):
        add(schedule, Job(quota))
        schedule.finish(begin(schedule, 0.0), outcome, 0.0)

    assert quota.closure is None


def test_a_closed_quota_is_not_as_good_as_new(schedule: Schedule) -> None:
    """Whoever comes next has to find it closed."""
    quota = Quota()
    before = quota.is_unused(0.0)

    quota.access.close(ERROR, 0.0)

    assert (before, quota.is_unused(0.0)) == (True, False)


# ---- repairs ----


def test_a_repair_is_tried_at_once_with_what_it_costs(schedule: Schedule) -> None:
    """It reserves more, for the prompt has become longer."""
    quota = Quota(Limits(tpm=6_000))
    job = add(schedule, Job(quota, Cost(10.0), retry=RetryPolicy(max_retries=0)))
    repair = Outcome(Again.REPAIR, error=ERROR, next_cost=Cost(30.0))

    verdict = schedule.finish(begin(schedule, 0.0), repair, 1.0)
    again = begin(schedule, 1.0)

    assert verdict.retry_at == 1.0
    assert again.lease.cost == job.cost == Cost(30.0)
    assert not quota.budget.spent


def test_repairs_have_a_budget_of_their_own(schedule: Schedule) -> None:
    """Two, however many transient failures there were or may be."""
    add(schedule, Job(Quota(), retry=RetryPolicy(max_retries=1)))
    repair, failing = Outcome(Again.REPAIR, error=ERROR), Outcome(Again.TRANSIENT, error=ERROR)

    over = [
        schedule.finish(begin(schedule, 10.0 * now), each, 10.0 * now).over
        for now, each in enumerate([repair, failing, repair, repair])
    ]

    assert over == [False, False, False, True]
