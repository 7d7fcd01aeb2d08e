"""Several quotas for the same calls: which one is taken, and when."""

from __future__ import annotations

from math import inf

import pytest

from llm_fanout import ConfigError
from llm_fanout.core.breaker import FAILURES, FIRST_PROBE, NO_PROBE
from llm_fanout.core.job import Cost
from llm_fanout.core.pool import Pool
from llm_fanout.core.quota import Quota
from llm_fanout.core.stated import Limits

ONE = Cost()


def take(pool: Pool, now: float = 0.0, cost: Cost = ONE) -> Quota:
    """A call starts: the member that it took from."""
    assert pool.ready_at(cost, now) <= now
    return pool.take(cost, now).quota


def down(quota: Quota, now: float, *, trusted: bool = True) -> None:
    """The provider is down, and had answered before if it is `trusted`."""
    if trusted:
        quota.breaker.answered(now)
    for _ in range(FAILURES):
        quota.breaker.failed(probe=NO_PROBE, first=True, now=now)


def test_it_needs_a_member() -> None:
    """An empty pool is a mistake; a member that is named twice counts once."""
    quota = Quota()

    with pytest.raises(ConfigError, match="at least one"):
        Pool([])
    assert Pool([quota, quota]).members == (quota,)


def test_the_member_with_most_left_is_taken() -> None:
    """Relative to its size: ten slots and thirty are filled to the same degree."""
    small, large = Quota(Limits(max_concurrency=10)), Quota(Limits(max_concurrency=30))
    pool = Pool([small, large])

    taken = [take(pool) for _ in range(20)]

    assert taken.count(small) == 5


@pytest.mark.parametrize(
    ("one", "other", "cost"),
    [
        (Limits(rpm=60, burst=4), Limits(rpm=60, burst=12), ONE),
        (Limits(tpm=600, rpm=60, burst=4), Limits(tpm=600, rpm=60, burst=12), Cost(tokens=10.0)),
        (Limits(rpd=4), Limits(rpd=12), ONE),
    ],
)
def test_every_limit_counts(one: Limits, other: Limits, cost: Cost) -> None:
    """Buckets of requests and of tokens, and a day's requests: of sixteen calls each gets what it has."""
    first, second = Quota(one), Quota(other)
    pool = Pool([first, second])

    half = [take(pool, cost=cost) for _ in range(8)]

    assert half.count(first) == 2


def test_what_a_call_does_not_use_does_not_count() -> None:
    """Without tokens to ask for, it is as good as free however few of them are left."""
    poor, other = Quota(Limits(tpm=600, max_concurrency=10)), Quota(Limits(tpm=600, max_concurrency=9))
    poor.take(Cost(tokens=100), 0.0)
    poor.slots.in_use = other.slots.in_use = 1

    assert take(Pool([other, poor]), cost=Cost(tokens=0.0)) is poor


def test_without_limits_calls_are_spread() -> None:
    """Nothing to go by but how many calls each has."""
    quotas = [Quota(Limits(adapt=False)) for _ in range(3)]
    pool = Pool(quotas)

    taken = [take(pool) for _ in range(30)]

    assert [taken.count(quota) for quota in quotas] == [10, 10, 10]
    assert pool.width == inf


def test_a_days_requests_come_back_slowly() -> None:
    """What has left the window counts as free again, also before the next call is booked."""
    quota = Quota(Limits(rpd=2))
    quota.take(ONE, 0.0)

    assert quota.left(ONE, 1.0) == 0.5
    assert quota.left(ONE, 90_000.0) == pytest.approx(1.0, abs=0.02)


def test_it_is_ready_as_soon_as_any_member_is() -> None:
    """And what the first in line waits for is what that one lacks."""
    gated, spent = Quota(), Quota(Limits(rpm=60, burst=1))
    gated.close_until(50.0)
    spent.take(ONE, 0.0)
    pool = Pool([gated, spent])

    ready = pool.ready_at(ONE, 0.0)

    assert ready == pytest.approx(1.0)
    assert pool.chosen.why == "requests"
    assert take(pool, ready) is spent


def test_a_full_pool_waits_for_a_slot() -> None:
    """Of any member."""
    members = [Quota(Limits(max_concurrency=1)) for _ in range(2)]
    pool = Pool(members)
    empty = pool.is_full
    leases = [pool.take(ONE, 0.0) for _ in members if pool.ready_at(ONE, 0.0) <= 0.0]

    full = pool.is_full, pool.ready_at(ONE, 0.0), pool.chosen.why
    leases[1].quota.give(leases[1], None, 1.0)

    assert (empty, full) == (False, (True, inf, "concurrency"))
    assert take(pool, 1.0) is leases[1].quota
    assert pool.width == 2


@pytest.mark.parametrize("trusted", [True, False])
def test_a_member_that_is_down_is_passed_and_probed(trusted: bool) -> None:
    """Whether it ever answered or not: one call goes there when the probe is due, and no other."""
    dead, alive = Quota(Limits(max_concurrency=100)), Quota(Limits(max_concurrency=2))
    down(dead, 0.0, trusted=trusted)
    pool = Pool([dead, alive])

    before = [take(pool, 0.5) for _ in range(2)]
    full = pool.ready_at(ONE, 0.5)
    due = take(pool, FIRST_PROBE)
    after = pool.ready_at(ONE, FIRST_PROBE)

    assert before == [alive, alive]
    assert full == FIRST_PROBE
    assert due is dead
    assert after > FIRST_PROBE


def test_a_probe_goes_first() -> None:
    """Else a pool that is never full would never find out that a member is back."""
    dead, alive = Quota(), Quota()
    down(dead, 0.0)

    assert take(Pool([alive, dead]), 2.0) is dead


def test_where_all_are_down_nobody_waits_for_one_that_never_answered() -> None:
    """It may be a wrong address, and is as it would be alone; one that did answer is waited for."""
    unknown, known = Quota(), Quota()
    down(unknown, 0.0, trusted=False)
    down(known, 0.0)

    assert Pool([unknown, unknown]).ready_at(ONE, 0.0) <= 0.0
    assert take(Pool([known, unknown])) is unknown
    assert Pool([known]).ready_at(ONE, 0.0) == FIRST_PROBE


def test_a_member_whose_last_call_failed_comes_last() -> None:
    """A server that refuses every connection at once is always free."""
    failing, busy = Quota(), Quota(Limits(max_concurrency=2))
    failing.breaker.failed(probe=NO_PROBE, first=True, now=0.0)
    pool = Pool([failing, busy])

    assert [take(pool) for _ in range(3)] == [busy, busy, failing]


def test_a_closed_member_is_left_alone_while_another_is_open() -> None:
    """Also while that one is full, or down; where all are closed, one call looks at each."""
    closed, other = Quota(), Quota(Limits(max_concurrency=1))
    closed.access.close(None, 1.0)
    pool = Pool([closed, other])
    first = take(pool, 2.0)
    while_full = pool.ready_at(ONE, 2.0)
    down(other, 2.0)
    while_down = pool.ready_at(ONE, 2.0)
    other.slots.in_use = 0
    other.access.close(None, 3.0)

    looks = {take(pool, 10.0), take(pool, 10.0)}

    assert first is other
    assert (while_full, while_down) == (inf, inf)
    assert looks == {closed, other}
    assert (pool.ready_at(ONE, 10.0), pool.chosen.why, pool.probe_at()) == (inf, "closed", inf)


def test_it_is_closed_when_all_are() -> None:
    """Since the last of them was, and by that error."""
    early, late, reason = Quota(), Quota(), RuntimeError("no credit")
    pool = Pool([late, early])
    early.access.close(None, 1.0)
    half = pool.closure, pool.is_shut
    late.access.close(reason, 2.0)

    assert half == (None, False)
    assert pool.closure == (2.0, reason)
    assert pool.is_shut


def test_it_is_shut_when_all_are_down_or_closed() -> None:
    """Then a call may look when the first probe is due."""
    one, other = Quota(), Quota()
    pool = Pool([one, other])
    down(one, 5.0)
    half = pool.is_shut
    down(other, 7.0)

    assert not half
    assert pool.is_shut
    assert pool.probe_at() == 5.0 + FIRST_PROBE
    assert pool.is_trusted


def test_trust_in_one_is_enough() -> None:
    """Whoever waits may be answered by that one."""
    one, other = Quota(), Quota()
    pool = Pool([one, other])
    before = pool.is_trusted
    other.breaker.answered(0.0)

    assert (before, pool.is_trusted) == (False, True)


def test_a_call_fits_if_it_fits_one() -> None:
    """The largest key counts."""
    pool = Pool([Quota(Limits(tpm=100)), Quota(Limits(tpm=10_000))])

    assert pool.fits_ever(Cost(tokens=5_000))
    assert not pool.fits_ever(Cost(tokens=50_000))


def test_a_lane_is_charged_the_mean() -> None:
    """It is not known yet which member it will be."""
    pool = Pool([Quota(Limits(rpm=60, tpm=600)), Quota(Limits(rpm=60))])

    assert pool.share_of(Cost(tokens=30)) == pytest.approx((3 + 1) / 2, rel=0.05)


def test_it_stands_still_only_as_a_whole() -> None:
    """While the first in line waits for a told time at all of them, and nothing goes on anywhere."""
    members = [Quota(), Quota()]
    pool = Pool(members)
    running = [take(pool) for _ in range(2)]
    for member in members:
        member.close_until(60.0)
    pool.ready_at(ONE, 1.0)
    pool.waits.turn_to(pool.chosen.why, 1.0)
    busy = pool.stands_still_for
    running[0].slots.in_use = 0

    assert (busy, pool.stands_still_for) == (None, "gate")
