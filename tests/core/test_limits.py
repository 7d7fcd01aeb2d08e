"""Slots, buckets, windows and permits, each by itself."""

from __future__ import annotations

import asyncio
from math import inf

import pytest
from aiolimiter import AsyncLimiter
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout.core.limits import DAY, Permits, RollingWindow, Slots, TokenBucket

STARTS = st.sampled_from([0.0, 1e5, 1.75e9])


def test_new_slots_are_all_free() -> None:
    """Slots only count; whoever owns them sees to it that no more are in use than there are."""
    slots = Slots(2)

    assert (slots.size, slots.in_use) == (2, 0)


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


def test_a_debt_of_a_full_bucket_starts_now() -> None:
    """What was not used before the bucket was full is lost: it pays for nothing later."""
    bucket = TokenBucket(rate=1.0, burst=10.0)

    bucket.take(10, 1_000.0)

    assert bucket.ready_at(10, 1_000.0) == 1_010.0


def test_a_bucket_is_full_until_it_is_used() -> None:
    """A new one is as full as can be, whatever the clock shows."""
    bucket = TokenBucket(rate=1.0, burst=10.0)

    assert bucket.is_unused(-1e9)
    assert bucket.available(-1e9) == 10.0
    assert bucket.ready_at(10, -1e9) == -inf


def test_the_instant_when_it_is_full_is_known() -> None:
    """What is missing comes back at the rate."""
    bucket = TokenBucket(rate=2.0, burst=10.0)

    bucket.take(5, 100.0)

    assert bucket.full_at == 102.5
    assert not bucket.is_unused(102.4)
    assert bucket.is_unused(102.5)


def test_retuning_a_full_bucket_leaves_it_full() -> None:
    """Nothing was missing, nothing is: also when it was full long ago."""
    bucket = TokenBucket(rate=1.0, burst=10.0)
    bucket.take(8, 0.0)

    bucket.retune(TokenBucket(rate=4.0, burst=12.0), 1_000.0)

    assert (bucket.rate, bucket.burst) == (4.0, 12.0)
    assert bucket.available(1_000.0) == 12.0


@given(start=STARTS, amount=st.floats(-1_000, 1_000), pause=st.floats(0, 100))
def test_just_what_was_set_is_available(start: float, amount: float, pause: float) -> None:
    """It may be overdrawn, and never holds more than its burst; from there on it fills at its rate."""
    bucket = TokenBucket(rate=3.0, burst=20.0)
    bucket.take(7, start)

    bucket.set_available(amount, start)

    assert bucket.available(start) == pytest.approx(min(amount, 20.0), abs=1e-5)
    assert bucket.available(start + pause) == pytest.approx(min(amount + 3.0 * pause, 20.0), abs=1e-5)


@given(
    start=STARTS,
    rate=st.floats(0.01, 1_000),
    burst=st.floats(1, 1_000),
    there=st.floats(-100, 1_500),
    steps=st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 500)), min_size=1, max_size=30),
)
def test_what_is_taken_after_it_was_set_is_bounded(
    start: float, rate: float, burst: float, there: float, steps: list[tuple[float, float]]
) -> None:
    """From then on no more goes than was there, what came since at the rate, and the overdraft of one large amount."""
    bucket, now, taken = TokenBucket(rate, burst), start, 0.0
    bucket.set_available(there, start)

    for pause, amount in steps:
        now = max(now + pause, bucket.ready_at(amount, now))
        bucket.take(amount, now)
        taken += amount
        overdraft = max(0.0, max(each for _, each in steps) - burst)

        assert taken <= (min(there, burst) + overdraft + rate * (now - start)) + 1e-6 * taken + rate * 1e-5


@pytest.mark.parametrize(
    ("quantity", "burst", "unit", "rate", "holds"),
    [
        (600.0, None, 1.0, 591.0 / 60, 10.0),  # a second's worth
        (6.0, None, 1.0, 0.1, 1.0),  # less than one a second: one
        (1.9, None, 1.0, 1 / 60, 1.0),  # whole requests only
        (0.5, None, 1.0, 0.5 / 60, 1.0),
        (0.5, 3.0, 1.0, 0.5 / 60, 1.0),
        (60.0, 100.0, 1.0, 1 / 60, 60.0),  # never more at once than in a minute
        (6_000.0, None, 0.0, 5_900.0 / 60, 100.0),
        (6_000.0, 1_000.0, 0.0, 5_000.0 / 60, 1_000.0),
        (6_000.0, 6_000.0, 0.0, 100.0 / 60, 5_900.0),
    ],
)
def test_a_minute_is_split_into_burst_and_rate(
    quantity: float, burst: float | None, unit: float, rate: float, holds: float
) -> None:
    """What may go at once is taken off what comes back in the rest of the minute, and something always does."""
    bucket = TokenBucket.per_minute(quantity, burst, unit=unit)

    assert (bucket.rate, bucket.burst) == pytest.approx((rate, holds))


@given(quantity=st.floats(1, 1e6), burst=st.none() | st.floats(0.1, 2e6), share=st.floats(0.01, 1))
def test_no_minute_holds_more_tokens_than_stated(quantity: float, burst: float | None, share: float) -> None:
    """As long as no amount is larger than the burst, whatever the burst."""
    bucket = TokenBucket.per_minute(quantity, burst)
    amount, now, taken = bucket.burst * share, 0.0, 0.0

    for _ in range(300):
        now = max(now, bucket.ready_at(amount, now))
        if now >= 60.0 - 1e-6:
            break
        bucket.take(amount, now)
        taken += amount

    assert taken <= quantity * (1 + 1e-6)


def test_a_day_is_there_all_at_once() -> None:
    """All of it may go in one instant; the next waits until that has left the window, a minute late at most."""
    window = RollingWindow(3)

    for _ in range(3):
        assert window.ready_at(1, 500.0) <= 500.0
        window.take(1, 500.0)

    assert 500.0 + DAY <= window.ready_at(1, 500.0) <= 500.0 + DAY + 60.0


def test_what_left_the_window_makes_room_for_as_much() -> None:
    """Two that went early are back before one that went late; an amount waits for as many as it needs."""
    window = RollingWindow(3, span=1_440.0)
    window.take(2, 0.0)
    window.take(1, 100.0)

    assert window.ready_at(1, 100.0) == window.ready_at(2, 100.0) == 1_441.0
    assert window.ready_at(3, 100.0) == 1_541.0


def test_more_than_the_window_waits_for_all_of_it() -> None:
    """An amount above the quantity goes once nothing is left in the window, and holds all of it."""
    window = RollingWindow(3, span=1_440.0)
    window.take(1, 0.0)

    large = window.ready_at(5, 0.0)
    window.take(5, large)

    assert large == 1_441.0
    assert window.ready_at(1, large) == large + 1_441.0


def test_a_request_of_the_day_never_comes_back() -> None:
    """It was sent, whatever came of it."""
    window = RollingWindow(1)
    window.take(1, 0.0)

    window.give(1, 0, 1.0)

    assert window.ready_at(1, 1.0) >= DAY


def test_retuning_a_day_counts_what_was_used() -> None:
    """A larger day has room for what is new in it; a smaller one may be overfull."""
    window = RollingWindow(2)
    window.take(2, 0.0)

    window.retune(RollingWindow(3), 10.0)
    larger = window.ready_at(1, 10.0)
    window.retune(RollingWindow(1), 10.0)

    assert larger <= 10.0
    assert window.ready_at(1, 10.0) >= DAY


def test_a_window_is_unused_once_all_has_left_it() -> None:
    """As a new one is."""
    window = RollingWindow(2, span=1_440.0)
    fresh = window.is_unused(0.0)

    window.take(1, 0.0)

    assert fresh
    assert not window.is_unused(1_440.0)
    assert window.is_unused(1_441.0)


def test_a_window_remembers_slices_instead_of_units() -> None:
    """However many requests a day has, what is kept of them is bounded."""
    window = RollingWindow(1e9, span=10.0)

    for step in range(20_000):
        window.take(1, step * 0.001)

    assert len(window._slices) <= RollingWindow.SLICES + 1


@given(
    start=STARTS,
    quantity=st.integers(1, 12),
    span=st.floats(10, 100_000),
    steps=st.lists(st.tuples(st.floats(0, 0.7), st.integers(1, 4)), max_size=60),
)
def test_no_window_holds_more_than_the_quantity(
    start: float, quantity: int, span: float, steps: list[tuple[float, int]]
) -> None:
    """In any window of the span at most the quantity passes; and nobody waits more than 1/1440 of it too long.

    What is waited for is the earliest instant at which a window that counts every unit would have room.
    """
    window, now = RollingWindow(quantity, span), start
    taken: list[tuple[float, int]] = []
    rounding = max(1.0, start) * 1e-9

    for share, most in steps:
        amount = min(most, quantity)
        now += share * span
        instants = [now, *(when + span for when, _ in taken if when + span > now)]
        exact = next(at for at in instants if _held(taken, at - span + rounding) + amount <= quantity)
        ready = max(now, window.ready_at(amount, now))

        assert exact - rounding <= ready <= exact + span / RollingWindow.SLICES + rounding
        now = ready
        window.take(amount, now)
        taken.append((now, amount))


def test_permits_arrive_one_by_one() -> None:
    """A permit that was granted is used once, and does not come back."""
    permits = Permits()

    permits.grant()
    granted = permits.ready_at(1, 6.0)
    permits.take(1, 6.0)

    assert granted == 6.0
    assert permits.ready_at(1, 8.0) == inf


def test_permits_are_wanted_when_somebody_asked_in_vain() -> None:
    """Not before, not when there was one, and not any more once one has arrived."""
    permits = Permits()
    before = permits.wanted
    permits.ready_at(1, 5.0)
    in_vain = permits.wanted
    permits.grant()
    granted = permits.wanted
    permits.ready_at(1, 6.0)

    assert (before, in_vain, granted, permits.wanted) == (False, True, False, False)


def test_permits_can_be_saved_up() -> None:
    """Two that arrived let two go, together or one by one."""
    permits = Permits()

    permits.grant()
    permits.grant()

    assert permits.ready_at(2, 5.0) == 5.0
    assert permits.ready_at(3, 5.0) == inf


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


def _held(taken: list[tuple[float, int]], since: float) -> int:
    """What was taken after that instant."""
    return sum(units for when, units in taken if when > since)
