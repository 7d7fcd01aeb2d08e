"""Limits that are asked, taken and given back as one, and what is learnt of them."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout.core.announced import Window
from llm_fanout.core.breaker import FAILURES, LAST_PROBE, NO_PROBE
from llm_fanout.core.job import Cost
from llm_fanout.core.limits import DAY, MINUTE, Permits
from llm_fanout.core.quota import NEUTRAL, OK, PUSHBACK, Lease, Quota, Signal
from llm_fanout.core.stated import FIRST_WIDTH, Limits

ONE = Cost()


def tokens(number: float) -> Cost:
    """So many tokens, and no request: what a request limit says does not matter."""
    return Cost(tokens=number, requests=0.0)


def taken(quota: Quota, times: int, now: float = 0.0, cost: Cost = ONE) -> list[Lease]:
    """So many calls start."""
    return [quota.take(cost, now) for _ in range(times)]


def ask(quota: Quota, now: float, cost: Cost = ONE) -> float:
    """When the first in line may start; if that is later, it waits for whatever is the reason."""
    ready = quota.ready_at(cost, now)
    if ready > now:
        quota.waits.turn_to(quota.why, now)
    return ready


def open_breaker(quota: Quota, now: float) -> None:
    """The provider answered once, and then no more."""
    quota.breaker.answered(now)
    for _ in range(FAILURES):
        quota.breaker.failed(probe=NO_PROBE, first=True, now=now)


def test_all_limits_or_none() -> None:
    """The latest of all limits decides, and what is taken is taken from each."""
    quota = Quota(Limits(rpm=60, tpm=600, burst=2))  # twenty tokens at once

    quota.take(Cost(tokens=15), 0.0)

    assert quota.ready_at(Cost(tokens=1), 0.0) <= 0.0
    assert quota.ready_at(Cost(tokens=10), 0.0) == pytest.approx(5 / (580 / 60))
    assert quota.slots.in_use == 1


@pytest.mark.parametrize(
    ("limits", "most"),
    [(Limits(rpm=60), inf), (Limits(tpm=600), 600), (Limits(tpm=900, itpm=800, otpm=300, rpd=5), 300)],
)
def test_tokens_that_pass_in_a_minute(limits: Limits, most: float) -> None:
    """Those of the narrowest limit, whatever it counts; requests are none."""
    assert Quota(limits).tokens_a_minute == pytest.approx(most, rel=0.02)


def test_a_free_slot_is_needed() -> None:
    """With every slot in use only a `give` can tell when one more call may go."""
    quota = Quota(Limits(max_concurrency=2))
    first, _ = taken(quota, 2)

    full = quota.is_full, quota.ready_at(ONE, 5.0)
    quota.give(first, None, 6.0)

    assert full == (True, inf)
    assert not quota.is_full
    assert quota.ready_at(ONE, 6.0) <= 6.0


@pytest.mark.parametrize(
    ("limits", "cost"),
    [
        (Limits(rpm=60, burst=1), ONE),
        (Limits(tpm=60), Cost(tokens=1.0)),
        (Limits(itpm=60), Cost(input=1.0)),
        (Limits(otpm=60), Cost(output=1.0)),
    ],
)
def test_each_rate_counts_its_own_part_of_a_cost(limits: Limits, cost: Cost) -> None:
    """Requests, tokens, input and output: what is used up of one says nothing of the others."""
    quota = Quota(limits)

    quota.take(cost, 0.0)

    assert 0.9 <= quota.ready_at(cost, 0.0) <= 1.1
    assert quota.ready_at(Cost(*(1.0 - unit for unit in cost)), 0.0) <= 0.0


def test_a_days_requests_are_a_limit() -> None:
    """All at once if need be, and then none for a day."""
    quota = Quota(Limits(rpd=2))

    taken(quota, 2)

    assert DAY <= quota.ready_at(ONE, 0.0) <= DAY + 60.0


def test_headroom_leaves_a_share_of_every_rate() -> None:
    """Of 100 requests a minute, 6,000 tokens and 100 requests a day a tenth is ours, in whole requests."""
    quota = Quota(Limits(rpm=100, tpm=6_000, rpd=100, headroom=0.9))
    by_name = {name: bucket for _, bucket, name in quota._buckets}

    taken(quota, 10, cost=Cost(tokens=10.0))

    assert by_name["requests"].ready_at(1.0, 0.0) == pytest.approx(60.0)
    assert by_name["tokens"].ready_at(10.0, 0.0) == pytest.approx(100 / (590 / 60))
    assert by_name["day"].ready_at(1.0, 0.0) >= DAY


def test_a_day_holds_at_least_one_request() -> None:
    """However much is left to others."""
    quota = Quota(Limits(rpd=2, headroom=0.9))

    quota.take(ONE, 0.0)

    assert quota.ready_at(ONE, 0.0) >= DAY


def test_the_bursts_of_token_limits_are_in_proportion() -> None:
    """A quarter of a minute's requests may go at once: so may a quarter of its tokens."""
    quota = Quota(Limits(rpm=60, tpm=6_000, otpm=1_200, burst=15))

    assert quota.ready_at(Cost(tokens=1_500, output=300), 0.0) == -inf
    quota.take(Cost(tokens=1_500, output=0.0), 0.0)
    assert quota.ready_at(Cost(tokens=1), 0.0) == pytest.approx(1 / (4_500 / 60))


def test_unused_tokens_come_back_and_requests_do_not() -> None:
    """Settled with fewer tokens than reserved: the tokens are there again, the request stays made."""
    quota = Quota(Limits(rpm=60, tpm=600, burst=1))
    lease = quota.take(Cost(tokens=10), 0.0)

    quota.give(lease, Cost(tokens=0), 0.0)

    assert quota.ready_at(tokens(10), 0.0) <= 0.0
    assert quota.ready_at(Cost(tokens=0), 0.0) == pytest.approx(1.0)


def test_more_used_than_reserved_is_a_debt() -> None:
    """Those who come next wait for it."""
    quota = Quota(Limits(tpm=600))
    lease = quota.take(Cost(tokens=5), 0.0)

    quota.give(lease, Cost(tokens=25), 0.0)

    assert quota.ready_at(Cost(tokens=10), 0.0) == pytest.approx(25 / (590 / 60))


def test_unknown_usage_keeps_the_reservation() -> None:
    """None for what was used: what was reserved stays spent."""
    quota = Quota(Limits(tpm=600))
    lease = quota.take(Cost(tokens=10), 0.0)

    quota.give(lease, None, 0.0)

    assert quota.ready_at(Cost(tokens=10), 0.0) > 0.9


@pytest.mark.parametrize(
    ("settle", "signal", "used", "fits"),
    [
        (None, OK, 2.0, 8.0),
        ("used", OK, 2.0, 8.0),
        ("reserved", OK, 2.0, 0.0),
        ("reserved", OK, 30.0, 0.0),
        ("reserved", NEUTRAL, 2.0, 8.0),
        ("reserved", PUSHBACK, 1.0, 9.0),
    ],
)
@pytest.mark.parametrize("adapt", [True, False])
def test_a_success_may_be_charged_what_it_reserved(
    settle: str | None, signal: Signal, used: float, fits: float, adapt: bool
) -> None:
    """Where an account settles so, a success keeps its whole reservation, no less and no more; failures give back."""
    quota = Quota(Limits(tpm=600, settle=settle, adapt=adapt))  # type: ignore[arg-type]  # one of its words
    lease = quota.take(Cost(tokens=10), 0.0)

    quota.give(lease, Cost(tokens=used), 0.0, signal)

    assert quota.ready_at(tokens(fits), 0.0) <= 1e-9
    assert quota.ready_at(tokens(fits + 1.0), 0.0) > 1e-9


def test_how_it_settles_can_be_stated_anew() -> None:
    """The newest statement holds, for calls that are out as well."""
    quota = Quota(Limits(tpm=600))
    lease = quota.take(Cost(tokens=10), 0.0)

    quota.retune(Limits(tpm=600, settle="reserved"), 0.0)
    quota.give(lease, Cost(tokens=0), 0.0, OK)

    assert quota.ready_at(tokens(1), 0.0) > 0.0


def test_a_closed_gate_admits_nobody_until_it_opens() -> None:
    """The gate holds everybody, and a shorter closing does not open it earlier."""
    quota = Quota()

    quota.close_until(50.0)
    quota.close_until(20.0)

    assert quota.ready_at(ONE, 10.0) == 50.0


def test_it_is_unused_when_nothing_is_in_flight_or_owed() -> None:
    """Slots, buckets and the gate: then a new quota would admit no more."""
    quota = Quota(Limits(rpm=60, burst=1))
    new = quota.is_unused(0.0)
    lease = quota.take(ONE, 0.0)
    in_flight = quota.is_unused(30.0)
    quota.give(lease, None, 30.0)
    quota.close_until(40.0)

    assert (new, in_flight, quota.is_unused(39.0), quota.is_unused(40.0)) == (True, False, False, True)


def test_it_is_used_while_a_bucket_is_not_full() -> None:
    """A call that has ended still counts in its minute."""
    quota = Quota(Limits(rpm=60, burst=1))

    quota.give(quota.take(ONE, 0.0), None, 0.0)

    assert not quota.is_unused(0.9)
    assert quota.is_unused(1.1)


@given(tpm=st.floats(1, 1e8) | st.integers(1, 10**8), headroom=st.sampled_from([0.0, 0.3]))
def test_a_whole_minute_of_tokens_fits_and_more_never_does(tpm: float, headroom: float) -> None:
    """A call above a whole minute's tokens can never be granted; one of exactly that many can."""
    quota = Quota(Limits(tpm=tpm, headroom=headroom))
    whole = tpm * (1 - headroom)

    assert quota.fits_ever(Cost(tokens=whole))
    assert not quota.fits_ever(Cost(tokens=whole * 1.001))


def test_without_a_token_limit_everything_fits() -> None:
    """Where tokens are not limited their number does not matter; a request fits however few there are of them."""
    quota = Quota(Limits(rpm=0.5, rpd=0.5))

    assert quota.fits_ever(Cost(tokens=1e9))
    assert not quota.counts_tokens


def test_whether_tokens_matter() -> None:
    """They do as soon as any sort of them is limited, be it learnt."""
    quota = Quota()
    before = quota.counts_tokens
    quota.hear(quota.take(ONE, 0.0), {"output": Window(600.0, 60.0, 54.0)}, 1.0)

    assert not before
    assert quota.counts_tokens
    assert Quota(Limits(itpm=5)).counts_tokens


@pytest.mark.parametrize(
    ("limits", "cost", "share"),
    [
        (Limits(), Cost(tokens=500), 1.0),
        (Limits(rpm=60), Cost(tokens=500), 1.0),
        (Limits(rpd=60), Cost(tokens=500), 1.0),
        (Limits(rpm=60, tpm=6_000), Cost(tokens=50), 1.0),
        (Limits(rpm=60, tpm=6_000), Cost(tokens=500), 5.0),
        (Limits(rpm=60, tpm=6_000, otpm=600), Cost(tokens=500, output=100), 10.0),
        (Limits(tpm=6_000), Cost(tokens=500), 0.5),
        (Limits(itpm=6_000, otpm=600), Cost(input=1_000, output=10), 1.0),
        (Limits(itpm=6_000, otpm=600), Cost(input=1_000, output=500), 5.0),
    ],
)
def test_a_call_is_charged_by_its_scarcest_resource(limits: Limits, cost: Cost, share: float) -> None:
    """In calls: as one, or as what its tokens are worth; of a thousand tokens each where only those are limited."""
    assert Quota(limits).share_of(cost) == pytest.approx(share, rel=0.02)


def test_what_binds_is_measured() -> None:
    """The seconds that the first in line waited are booked on the limit it waited for."""
    quota = Quota(Limits(max_concurrency=1, rpm=60, burst=1))
    lease = quota.take(ONE, 0.0)

    ask(quota, 0.0)
    quota.give(lease, None, 0.25)
    ask(quota, 0.25)

    assert quota.waits.held(0.75) == {"concurrency": 0.25, "requests": 0.5}
    assert quota.waits.held(1.0) == {"concurrency": 0.25, "requests": 0.75}


def test_calls_that_follow_each_other_count_as_waiting() -> None:
    """While calls start as fast as a limit lets them, it is that limit's time, until nobody is in line."""
    quota = Quota(Limits(rpm=60, burst=1))
    quota.take(ONE, 0.0)

    for now in (0.0, 1.0, 2.0):
        ask(quota, now)
    quota.waits.turn_to(None, 2.5)

    assert quota.waits.held(100.0) == {"requests": 2.5}


@pytest.mark.parametrize(
    ("limits", "cost", "name"),
    [
        (Limits(tpm=60), Cost(tokens=1), "tokens"),
        (Limits(itpm=60), Cost(input=1), "input"),
        (Limits(otpm=60), Cost(output=1), "output"),
        (Limits(rpd=1), ONE, "day"),
        (Limits(max_concurrency=1), ONE, "concurrency"),
        (Limits(rpm=60, tpm=60, burst=1), Cost(tokens=20), "tokens"),
    ],
)
def test_the_limit_that_binds_has_a_name(limits: Limits, cost: Cost, name: str) -> None:
    """The latest to admit a call is the one it waits for."""
    quota = Quota(limits)
    quota.take(cost, 0.0)

    ask(quota, 0.0, cost)

    assert quota.waits.held(0.5) == {name: 0.5}


def test_a_gate_and_an_outage_bind_as_well() -> None:
    """Whichever of them lasts longer."""
    quota = Quota()
    open_breaker(quota, 0.0)
    ask(quota, 0.0)
    quota.close_until(50.0)
    ask(quota, 0.5)

    assert quota.waits.held(10.0) == {"outage": 0.5, "gate": 9.5}


def test_nobody_starts_in_an_outage_but_the_probe() -> None:
    """While the breaker is open one call goes, the next some seconds later, and it knows that it is the probe."""
    quota = Quota()
    usual = quota.take(ONE, 0.0)
    open_breaker(quota, 10.0)

    before = quota.ready_at(ONE, 10.0)
    probe = quota.take(ONE, before)
    during = quota.ready_at(ONE, before)
    quota.breaker.answered(before)

    assert (usual.probe, probe.probe) == (NO_PROBE, 1)
    assert (before, during) == (11.0, 11.0 + LAST_PROBE)
    assert quota.ready_at(ONE, before) <= before
    assert not quota.take(ONE, before).probe


def test_permits_are_asked_for_last() -> None:
    """A permit is wanted only when everything else is there."""
    permits = Permits()
    quota = Quota(Limits(rpm=60, burst=1), permits=permits)
    permits.grant()
    quota.take(ONE, 0.0)

    waiting = ask(quota, 0.0), permits.wanted
    due = ask(quota, 1.0), permits.wanted

    assert waiting == (1.0, False)
    assert due == (inf, True)
    assert quota.waits.held(2.0) == {"requests": 1.0, "permits": 1.0}


def test_a_permit_is_used_up() -> None:
    """One for each call, also when the call gives everything else back."""
    permits = Permits()
    quota = Quota(permits=permits)
    permits.grant()

    ready = quota.ready_at(ONE, 5.0)
    quota.give(quota.take(ONE, 5.0), Cost(requests=0), 5.0)

    assert ready <= 5.0
    assert quota.ready_at(ONE, 5.0) == inf


def test_a_lent_slot_is_for_others_until_it_is_reclaimed() -> None:
    """It can be taken again only when one is free, and is given back once."""
    quota = Quota(Limits(max_concurrency=1))
    lender = quota.take(ONE, 0.0)

    quota.lend(lender)
    other = quota.take(ONE, 0.0)
    while_taken = quota.reclaim(lender)
    quota.give(other, None, 1.0)
    after = quota.reclaim(lender), quota.is_full
    quota.give(lender, None, 2.0)

    assert (while_taken, after) == (False, (True, True))
    assert quota.slots.in_use == 0


def test_a_slot_that_is_lent_is_not_given_back_twice() -> None:
    """An attempt may end while others have its slot."""
    quota = Quota(Limits(max_concurrency=1))
    lender = quota.take(ONE, 0.0)

    quota.lend(lender)
    quota.give(lender, None, 1.0)

    assert quota.slots.in_use == 0


def test_refusals_make_it_narrower_and_successes_wider() -> None:
    """As many calls at once as the other side takes; neutral ends say nothing."""
    quota = Quota(Limits(max_concurrency=10))
    leases = taken(quota, 10)

    quota.give(leases[0], None, 0.0, PUSHBACK)
    quota.give(leases[1], None, 0.0, NEUTRAL)
    narrower = quota.width
    for _ in range(9):
        quota.give(quota.take(ONE, 1.0), None, 1.0, OK)

    assert narrower == 9
    assert quota.width == 10


def test_successes_of_a_few_calls_do_not_widen_it() -> None:
    """Growth only while the width is in use."""
    quota = Quota()

    for _ in range(500):
        quota.give(quota.take(ONE, 0.0), None, 0.0, OK)

    assert quota.width == FIRST_WIDTH


@pytest.mark.parametrize("signal", Signal)
def test_without_adapting_the_figures_are_as_stated(signal: Signal) -> None:
    """Neither refusals, nor successes, nor headers, nor told waits change anything."""
    quota = Quota(Limits(max_concurrency=10, adapt=False))

    for lease in taken(quota, 10):
        quota.hear(lease, {"requests": Window(60.0, 0.0, 60.0)}, 0.0)
        quota.told_to_wait(lease, 0.0)
        quota.give(lease, None, 0.0, signal)

    assert quota.width == 10
    assert quota.pace.bucket is None
    assert quota.ready_at(ONE, 0.0) <= 0.0


def test_a_server_that_only_gets_slower_is_found_out() -> None:
    """Nothing refused, nothing announced: the pace of answers governs the width."""
    quota, widths = Quota(), []
    taken(quota, FIRST_WIDTH - 1)

    for _ in range(2 * FIRST_WIDTH + 1):
        quota.give(quota.take(ONE, 0.0), None, 0.0, OK, 0.01)
        widths.append(quota.width)

    assert widths == [FIRST_WIDTH] * 2 * FIRST_WIDTH + [FIRST_WIDTH + 1]  # it is measured first


def test_where_rates_are_announced_the_pace_of_answers_does_not_matter() -> None:
    """The provider says itself how much it takes: then every success counts."""
    quota = Quota()
    leases = taken(quota, FIRST_WIDTH)
    quota.hear(leases[0], {"tokens": Window(6e6, 5e6, 10.0)}, 0.0)

    quota.give(leases[0], None, 0.0, OK, 0.01)

    assert quota.width == FIRST_WIDTH + 1


def test_where_it_was_refused_the_pace_of_answers_does_not_matter() -> None:
    """It is no server that never refuses."""
    quota = Quota(Limits(max_concurrency=3))
    quota.give(taken(quota, 3)[0], None, 0.0, PUSHBACK)
    narrower = quota.width
    quota.slots.in_use = 1

    for _ in range(2):
        quota.give(quota.take(ONE, 0.0), None, 0.0, OK, 0.01)

    assert (narrower, quota.width) == (2, 3)


def test_what_is_announced_is_obeyed_where_nothing_is_stated() -> None:
    """Two remain, the third waits; and it shows in the figures."""
    quota = Quota(Limits(max_concurrency=50, tpm=6_000))
    quota.hear(quota.take(ONE, 0.0), {"requests": Window(600.0, 2.0, 59.8)}, 0.0)

    taken(quota, 2)

    assert ask(quota, 0.0) == pytest.approx(0.1)
    assert quota.waits.held(0.05) == {"requests": 0.05}
    assert quota.limits().rpm == pytest.approx(600.0)
    assert quota.limits().tpm == 6_000


def test_what_was_granted_since_is_not_granted_again() -> None:
    """An announcement may be older than calls that were granted after it: requests, tokens, and both parts of them."""
    quota = Quota()
    lease = quota.take(Cost.of(30.0, 10.0), 0.0)
    taken(quota, 3, cost=Cost.of(30.0, 10.0))
    announced = {
        "requests": Window(60.0, 30.0, 30.0),
        "tokens": Window(6_000.0, 1_000.0, 50.0),
        "input": Window(6_000.0, 1_000.0, 50.0),
        "output": Window(6_000.0, 1_000.0, 50.0),
    }

    quota.hear(lease, announced, 0.0)  # type: ignore[arg-type]  # its keys are dimensions

    left = {name: bucket.available(0.0) for _, bucket, name in quota._buckets}  # type: ignore[attr-defined]  # buckets all
    assert left == pytest.approx({"requests": 27.0, "tokens": 880.0, "input": 910.0, "output": 970.0})


def test_a_call_without_tokens_tells_nothing_of_their_parts() -> None:
    """How input and output share what was granted since is not known then."""
    quota = Quota()
    lease = quota.take(ONE, 0.0)
    quota.take(Cost.of(30.0, 10.0), 0.0)

    quota.hear(lease, {"tokens": Window(600.0, 100.0, 50.0), "input": Window(600.0, 100.0, 50.0)}, 0.0)

    left = {name: bucket.available(0.0) for _, bucket, name in quota._buckets}  # type: ignore[attr-defined]  # buckets all
    assert left == pytest.approx({"tokens": 60.0, "input": 100.0})


def test_the_figures_in_force_are_the_accounts() -> None:
    """The width of now, what is stated as stated, and what is learnt as announced: the headroom is taken off neither."""
    quota = Quota(Limits(tpm=6_000, headroom=0.3))
    lease = quota.take(ONE, 0.0)
    quota.hear(lease, {"requests": Window(600.0, 590.0, 1.0)}, 0.0)
    quota.give(lease, None, 0.0, PUSHBACK)

    limits = quota.limits()

    assert (limits.max_concurrency, limits.tpm, limits.headroom) == (1, 6_000, 0.3)
    assert limits.rpm == pytest.approx(600.0)


def test_an_unlimited_width_is_no_figure() -> None:
    """There is nothing to state."""
    assert Quota(Limits(adapt=False)).limits() == Limits(adapt=False)


def answered(quota: Quota, times: int, rate: float) -> float:
    """So many calls, one at a time, are answered at a rate; the instant of the last."""
    for number in range(times):
        quota.give(quota.take(ONE, number / rate), None, (number + 1) / rate, OK)
    return times / rate


def test_refused_one_at_a_time_calls_are_spaced() -> None:
    """Then it is not their number that is too high but their rate: it is taken from what got through."""
    quota = Quota()
    now = answered(quota, 10, 2.0)

    quota.give(quota.take(ONE, now), None, now, PUSHBACK)
    quota.give(quota.take(ONE, now), None, now)

    assert ask(quota, now) - now == pytest.approx(1 / 2.0, rel=0.12)
    assert quota.limits().rpm == pytest.approx(60 * 2.0, rel=0.12)
    assert quota.waits.held(now + 0.1) == {"requests": pytest.approx(0.1)}


def test_refused_many_at_a_time_calls_are_not_spaced() -> None:
    """Above what had been taken so far, fewer at once may do."""
    quota = Quota()
    now = answered(quota, 10, 2.0)

    quota.give(taken(quota, 2, now)[0], None, now, PUSHBACK)

    assert quota.pace.bucket is None


def test_refused_at_a_width_that_was_taken_calls_are_spaced() -> None:
    """Three of four were taken, and then three are refused, too: it is not the width."""
    quota = Quota(Limits(max_concurrency=4))
    now = answered(quota, 10, 2.0)
    leases = taken(quota, 4, now)
    quota.give(leases[0], None, now, PUSHBACK)
    for lease in leases[1:]:
        quota.give(lease, None, now, OK)
    assert quota.pace.bucket is None

    quota.give(taken(quota, 3, now)[0], None, now, PUSHBACK)

    assert quota.pace.bucket is not None


def test_every_episode_cuts_the_rate_once() -> None:
    """However many are in flight by then: the first refusal of an episode does, the others of it do not."""
    quota = Quota(Limits(max_concurrency=1))
    now = answered(quota, 10, 2.0)
    quota.give(quota.take(ONE, now), None, now, PUSHBACK)
    assert quota.pace.bucket is not None
    before = quota.pace.bucket.rate

    leases = taken(quota, 3, now)
    quota.give(leases[0], None, now + 2.0, PUSHBACK)
    after = quota.pace.bucket.rate
    quota.give(leases[1], None, now + 4.0, PUSHBACK)

    assert after < before
    assert quota.pace.bucket.rate == after


def test_told_to_wait_again_and_again_calls_are_spaced() -> None:
    """A refusal that names a time, and then another to a call that had begun after it: the rate is too high."""
    quota = Quota()
    now = answered(quota, 10, 2.0)
    early, late = taken(quota, 2, now)

    quota.told_to_wait(early, now)
    quota.told_to_wait(late, now)
    same_time = quota.pace.bucket
    quota.told_to_wait(quota.take(ONE, now), now)

    assert same_time is None
    assert quota.pace.bucket is not None
    quota.take(ONE, now)
    assert quota.ready_at(ONE, now) > now


def test_told_to_wait_before_anything_got_through_spaces_nothing() -> None:
    """There is no rate to take."""
    quota = Quota()

    for _ in range(3):
        quota.told_to_wait(quota.take(ONE, 0.0), 0.0)

    assert quota.pace.bucket is None
    assert quota.ready_at(ONE, 0.0) <= 0.0


def test_where_rates_are_announced_told_waits_space_nothing() -> None:
    """The provider says itself how fast it may be."""
    quota = Quota()
    now = answered(quota, 10, 2.0)
    quota.hear(quota.take(ONE, now), {"requests": Window(600.0, 500.0, 10.0)}, now)

    for _ in range(3):
        quota.told_to_wait(quota.take(ONE, now), now)

    assert quota.pace.bucket is None


def test_retuning_counts_what_is_in_flight_and_owed() -> None:
    """New figures hold at once: slots in use stay in use, what is owed on a rate is owed on the new one."""
    quota = Quota(Limits(max_concurrency=2, rpm=60, tpm=600, rpd=1, burst=1))
    lease = quota.take(Cost(tokens=10), 0.0)

    quota.retune(Limits(max_concurrency=1, rpm=120, rpd=2, burst=1), 0.0)
    full = quota.ready_at(Cost(tokens=1e6), 0.0)
    quota.give(lease, None, 0.1)
    soon = quota.ready_at(Cost(tokens=1e6), 0.1)
    quota.take(ONE, soon)
    quota.slots.in_use = 0

    assert (full, quota.width) == (inf, 1)
    assert soon == pytest.approx(0.5)  # one request was missing from full
    assert quota.ready_at(ONE, soon) >= DAY  # it was the second of two


def test_a_lease_is_settled_with_what_it_was_taken_from() -> None:
    """Tokens come back although the figures were stated anew meanwhile; new limits owe it nothing."""
    quota = Quota(Limits(tpm=600))
    lease = quota.take(Cost(tokens=10, output=10), 0.0)

    quota.retune(Limits(tpm=1_200, otpm=60), 0.0)
    quota.take(Cost(tokens=0, output=1), 0.0)
    quota.give(lease, Cost(tokens=0), 0.0)

    assert quota.ready_at(Cost(tokens=20), 0.0) <= 0.0
    assert quota.ready_at(Cost(output=1), 0.0) == pytest.approx(1.0, rel=0.05)


def test_a_limit_that_is_not_stated_any_more_is_gone() -> None:
    """And one that is new begins full."""
    quota = Quota(Limits(rpm=60, burst=1))
    quota.take(ONE, 0.0)

    quota.retune(Limits(rpd=5), 0.0)

    assert quota.ready_at(ONE, 0.0) <= 0.0


def test_retuning_keeps_permits() -> None:
    """Permits are not a figure of the limits: they stay."""
    permits = Permits()
    quota = Quota(Limits(), permits=permits)

    quota.retune(Limits(rpm=5), 0.0)

    assert quota.ready_at(ONE, 0.0) == inf
    assert permits.wanted


@pytest.mark.parametrize(
    ("limits", "width"),
    [
        (Limits(max_concurrency=10, rpm=600), 9),
        (Limits(max_concurrency=20), 20),
        (Limits(max_concurrency=10, adapt=False), 10),
    ],
)
def test_a_width_that_was_learnt_stays_until_another_is_stated(limits: Limits, width: int) -> None:
    """Other figures leave it alone; another width, or that nothing is to be learnt, begins anew."""
    quota = Quota(Limits(max_concurrency=10))
    quota.give(taken(quota, 10)[0], None, 0.0, PUSHBACK)

    quota.retune(limits, 0.0)

    assert quota.width == width


def test_retuning_forgets_learnt_rates() -> None:
    """Announced or found out: the next answers tell them anew."""
    quota = Quota()
    now = answered(quota, 10, 2.0)
    quota.give(quota.take(ONE, now), None, now, PUSHBACK)
    quota.hear(quota.take(ONE, now), {"tokens": Window(60.0, 0.0, 60.0)}, now)

    quota.retune(Limits(max_concurrency=5), now)
    taken(quota, 2, now)

    assert quota.ready_at(Cost(tokens=50.0), now) <= now
    assert quota.limits() == Limits(max_concurrency=5)


def test_retuning_forgets_that_it_was_told_to_wait() -> None:
    """The first told wait under new figures is the first."""
    quota = Quota()
    quota.told_to_wait(quota.take(ONE, 0.0), 0.0)
    quota.retune(Limits(rpm=6_000), 0.0)
    now = answered(quota, 10, 2.0)

    quota.told_to_wait(quota.take(ONE, now), now)

    assert quota.pace.bucket is None


@given(
    start=st.sampled_from([0.0, 1e5, 1.75e9]),
    steps=st.lists(st.tuples(st.floats(0, 3), st.integers(0, 200), st.floats(0, 1)), max_size=60),
)
def test_what_is_stated_is_never_exceeded(start: float, steps: list[tuple[float, int, float]]) -> None:
    """However calls come, end and settle: slots, requests and tokens stay within what is stated."""
    quota, now = Quota(Limits(max_concurrency=3, rpm=60, tpm=6_000, burst=5)), start
    out: list[Lease] = []
    begun: list[tuple[float, float]] = []

    for pause, size, share in steps:
        now += pause
        cost = Cost(tokens=float(size))
        if (ready := quota.ready_at(cost, now)) == inf:
            quota.give(out.pop(0), Cost(tokens=size * share), now, OK)
            ready = quota.ready_at(cost, now)
        now = max(now, ready)
        out.append(quota.take(cost, now))
        begun.append((now, cost.tokens))

        assert quota.slots.in_use == len(out) <= 3
        assert sum(instant > now - MINUTE + 1e-6 for instant, _ in begun) <= 60


def test_what_nothing_starts_for() -> None:
    """While somebody waits for a told time, and nothing else goes on, that is what it stands still for; a slot is not."""
    quota = Quota(Limits(max_concurrency=1))
    free = quota.stands_still_for
    lease = quota.take(ONE, 0.0)
    ask(quota, 0.0)
    full = quota.stands_still_for
    quota.give(lease, None, 1.0)
    quota.close_until(60.0)
    ask(quota, 1.0)

    assert (free, full, quota.stands_still_for) == (None, None, "gate")


def test_a_twin_has_the_figures_and_nothing_else() -> None:
    """What is stated and what was learnt; it is full, nobody is on it, and what it grants is not the other's."""
    quota = Quota(Limits(rpm=60, headroom=0.5, settle="reserved"))
    first = quota.take(ONE, 0.0)
    quota.hear(first, {"tokens": Window(6_000, 3_000, 30.0)}, 0.0)
    before = quota.limits()

    twin = quota.twin()
    taken(twin, 5)

    assert (twin.limits(), quota.limits()) == (before, before)
    assert before.tpm == pytest.approx(6_000)
    assert (twin.slots.in_use, quota.slots.in_use) == (5, 1)
    assert twin.ready_at(ONE, 0.0) > quota.ready_at(ONE, 0.0) > 0


def test_a_twin_may_grow_unless_that_was_refused() -> None:
    """It has the width of now, and the ceiling; a refused width is taken as it is, and `adapt=False` for what it says."""
    free, refused, stated = Quota(), Quota(), Quota(Limits(adapt=False))
    for lease in taken(refused, 10)[:3]:
        refused.give(lease, None, 1.0, PUSHBACK)
    width = refused.width

    twins = [quota.twin() for quota in (free, refused, stated)]
    for twin in twins[:2]:
        for lease in taken(twin, int(twin.width)):
            twin.give(lease, None, 2.0, OK)

    assert twins[0].width > FIRST_WIDTH
    assert (twins[1].width, twins[2].width) == (width, inf)
