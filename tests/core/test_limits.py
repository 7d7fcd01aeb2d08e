"""Slots, buckets and permits, each by itself."""

from __future__ import annotations

import asyncio
from math import inf

import pytest
from aiolimiter import AsyncLimiter
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout.core.limits import Permits, Slots, TokenBucket

STARTS = st.sampled_from([0.0, 1e5, 1.75e9])


def test_slots_are_free_until_all_are_taken() -> None:
    """A slot is there at once or only after a `give`."""
    slots = Slots(2)

    slots.take(1, 0.0)
    one_free = slots.ready_at(1, 5.0)
    slots.take(1, 0.0)
    none_free = slots.ready_at(1, 5.0)
    slots.give(1, 0, 6.0)

    assert (one_free, none_free, slots.ready_at(1, 6.0)) == (5.0, inf, 6.0)


def test_fewer_slots_fill_as_calls_end() -> None:
    """Made smaller while in use, slots admit nobody until enough have come back."""
    slots = Slots(3)
    for _ in range(3):
        slots.take(1, 0.0)

    slots.retune(Slots(1), 0.0)
    slots.give(1, 1, 0.0)
    slots.give(1, 1, 0.0)
    still_full = slots.ready_at(1, 0.0)
    slots.give(1, 1, 0.0)

    assert still_full == inf
    assert slots.ready_at(1, 0.0) == 0.0
    assert slots.is_unused(0.0)


def test_a_bucket_lets_its_burst_go_at_once() -> None:
    """The burst goes in one instant, then one unit after each 1/rate seconds."""
    bucket = TokenBucket(rate=2.0, burst=3.0)

    instants = []
    now = 100.0
    for _ in range(6):
        now = max(now, bucket.ready_at(1, now))
        bucket.take(1, now)
        instants.append(now - 100.0)

    assert instants == [0.0, 0.0, 0.0, 0.5, 1.0, 1.5]


def test_a_large_amount_waits_for_the_full_bucket_and_overdraws() -> None:
    """More than the burst goes once the bucket is full; those behind it pay it off."""
    bucket = TokenBucket(rate=1.0, burst=2.0)
    bucket.take(1, 0.0)

    large = bucket.ready_at(10, 0.0)
    bucket.take(10, large)

    assert large == 1.0
    assert bucket.ready_at(1, large) == large + 9.0
    assert bucket.available(large) == -8.0


def test_a_refund_is_there_at_once() -> None:
    """What was not used can be taken by the next."""
    bucket = TokenBucket(rate=1.0, burst=10.0)
    bucket.take(10, 0.0)

    bucket.give(10, 4, 0.0)

    assert bucket.available(0.0) == 6.0


def test_a_debt_is_paid_off() -> None:
    """More used than reserved delays those who come after, also when the bucket was full in the meantime."""
    bucket = TokenBucket(rate=1.0, burst=10.0)
    bucket.take(1, 0.0)

    bucket.give(1, 8, 50.0)

    assert bucket.available(50.0) == 3.0


def test_refunds_never_fill_above_the_burst() -> None:
    """A late refund into a full bucket is lost: the burst stays what it is."""
    bucket = TokenBucket(rate=1.0, burst=10.0)
    bucket.take(10, 0.0)

    bucket.give(10, 0, 100.0)

    assert bucket.available(100.0) == 10.0
    bucket.take(10, 100.0)
    assert bucket.ready_at(1, 100.0) == 101.0


def test_retuning_keeps_what_is_owed() -> None:
    """The same number of units is missing from full under the new rate."""
    bucket = TokenBucket(rate=1.0, burst=10.0)
    bucket.take(8, 0.0)

    bucket.retune(TokenBucket(rate=4.0, burst=12.0), 2.0)  # six are missing still

    assert bucket.available(2.0) == 6.0
    assert bucket.is_unused(3.5)
    assert not bucket.is_unused(3.4)


def test_permits_arrive_one_by_one() -> None:
    """Asking in vain makes them wanted; a permit that was granted is used once and does not come back."""
    permits = Permits()

    asked = permits.ready_at(1, 5.0)
    wanted = permits.wanted
    permits.grant()
    granted = permits.ready_at(1, 6.0)
    permits.take(1, 6.0)
    permits.give(1, 0, 7.0)
    permits.retune(Permits(), 7.0)

    assert (asked, wanted, granted, permits.wanted) == (inf, True, 6.0, False)
    assert permits.ready_at(1, 8.0) == inf
    assert permits.is_unused(8.0)


@given(
    start=STARTS,
    rpm=st.floats(1, 100_000),
    burst=st.one_of(st.none(), st.floats(1, 1_000)),
    pauses=st.lists(st.floats(0, 90)),
)
def test_no_minute_holds_more_than_rpm(start: float, rpm: float, burst: float | None, pauses: list[float]) -> None:
    """Whatever the burst and however calls come, any half-open minute holds at most `rpm` starts."""
    bucket = TokenBucket.per_minute(rpm, burst, unit=1.0)
    instants: list[float] = []
    now = start
    for pause in [0.0, *pauses[:5]]:
        now += pause
        for _ in range(min(int(rpm) + 2, 150)):
            now = max(now, bucket.ready_at(1, now))
            bucket.take(1, now)
            instants.append(now)

    for index, first in enumerate(instants):
        # At large clock values a float cannot tell less than a microsecond.
        within = sum(instant < first + 60.0 - 1e-6 for instant in instants[index:])
        assert within <= rpm


@given(
    start=STARTS,
    rate=st.floats(0.01, 10_000),
    burst=st.floats(1, 1_000),
    steps=st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 500), st.floats(0, 1)), max_size=60),
)
def test_what_is_taken_in_a_window_is_bounded(
    start: float, rate: float, burst: float, steps: list[tuple[float, float, float]]
) -> None:
    """Reserved less given back in any window is at most max(burst, largest) + rate x window."""
    bucket = TokenBucket(rate, burst)
    taken: list[tuple[float, float]] = []
    now = start
    for pause, amount, share in steps:
        now = max(now + pause, bucket.ready_at(amount, now))
        bucket.take(amount, now)
        bucket.give(amount, amount * share, now)
        taken.append((now, amount * share))

    largest = max((amount for _, amount, _ in steps), default=0.0)
    for index in range(len(taken)):
        for last in range(index, len(taken)):
            window = taken[last][0] - taken[index][0]
            spent = sum(amount for _, amount in taken[index : last + 1])
            assert spent <= (max(burst, largest) + rate * window) * (1 + 1e-6) + rate * 1e-5


@given(start=STARTS, rate=st.floats(0.001, 10_000), amounts=st.lists(st.floats(0.1, 50), min_size=1, max_size=50))
def test_the_instant_that_was_named_is_enough(start: float, rate: float, amounts: list[float]) -> None:
    """At the instant that `ready_at` names the amount does fit: a timer set to it fires once, also a little early."""
    bucket = TokenBucket(rate, 5.0)
    now = start
    for amount in amounts:
        ready = bucket.ready_at(amount, now)
        early = bucket.ready_at(amount, max(now, ready - 0.0004))
        now = max(now, ready)

        assert early == ready
        assert bucket.ready_at(amount, now) <= now
        bucket.take(amount, now)


@pytest.mark.parametrize(("rate", "period"), [(8, 1), (4, 2), (16, 4)])
def test_admission_times_are_those_of_aiolimiter(rate: int, period: int) -> None:
    """For equal rate, burst and amounts the bucket admits at the very instants at which aiolimiter does."""
    ours = TokenBucket(rate / period, rate)
    theirs = AsyncLimiter(rate, period)
    loop = asyncio.new_event_loop()
    now = [0.0]
    loop.time = lambda: now[0]  # type: ignore[method-assign]  # its formula, on our clock
    theirs._event_loop = loop

    differences = []
    for step in range(40):
        now[0] = step / 16
        fits_ours, fits_theirs = ours.ready_at(1, now[0]) <= now[0], theirs.has_capacity(1)
        differences += [step] if fits_ours is not fits_theirs else []
        if fits_ours:
            ours.take(1, now[0])
            theirs._level += 1
    loop.close()

    assert differences == []
