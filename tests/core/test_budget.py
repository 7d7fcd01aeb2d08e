"""An amount that is never exceeded."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout.core.budget import ROUNDING, Budget

AMOUNTS = st.floats(0.0, 50.0)


@given(limit=st.floats(0.0, 100.0), wishes=st.lists(st.tuples(AMOUNTS, st.floats(0.0, 1.0), st.booleans())))
def test_what_is_used_never_exceeds_the_limit(limit: float, wishes: list[tuple[float, float, bool]]) -> None:
    """Whatever is reserved where it fits, and settled in whatever order with no more than that, stays within the limit."""
    budget = Budget(limit)
    under_way: list[tuple[float, float]] = []
    for amount, share, settles in wishes:
        if budget.fits(amount):
            budget.reserve(amount)
            under_way.append((amount, amount * share))
        if settles and under_way:
            budget.settle(*under_way.pop(len(under_way) // 2))

        assert budget.used + budget.reserved <= limit * (1 + 1e-9)
        assert budget.used >= 0
        assert budget.reserved >= 0

    for reserved, used in under_way:
        budget.settle(reserved, used)

    assert budget.used <= limit * (1 + 1e-9)


@given(limit=st.floats(0.01, 100.0), amounts=st.lists(st.floats(0.0, 30.0), min_size=1), wish=AMOUNTS)
def test_nothing_waits_where_nothing_is_under_way(limit: float, amounts: list[float], wish: float) -> None:
    """When all is settled, rounding leaves nobody to wait: what does not fit then never will."""
    budget = Budget(limit)
    taken = []
    for amount in amounts:
        if budget.fits(amount):
            budget.reserve(amount)
            taken.append(amount)
    for amount in taken:
        budget.settle(amount, amount / 2)

    assert budget.fits(wish) or not budget.may_fit_later(wish)


@given(limit=st.floats(0.01, 100.0), reserved=AMOUNTS, wish=AMOUNTS)
def test_what_may_fit_later_fits_if_nothing_of_what_is_reserved_is_used(limit: float, reserved: float, wish: float) -> None:
    """Waiting is never in vain by itself: it takes what is under way to use something up."""
    budget = Budget(limit)
    if not budget.fits(reserved):
        return
    budget.reserve(reserved)
    if budget.fits(wish) or not budget.may_fit_later(wish):
        return

    budget.settle(reserved, 0.0)

    assert budget.fits(wish)


@given(limit=st.floats(0.0, 100.0), reserved=AMOUNTS, wish=st.floats(0.0, 200.0))
def test_what_fits_ever_fits_a_fresh_budget(limit: float, reserved: float, wish: float) -> None:
    """And what is used or reserved makes no difference to that."""
    budget = Budget(limit)
    budget.reserve(reserved)

    assert budget.fits_ever(wish) == Budget(limit).fits(wish)


def test_a_million_uses_drift_by_less_than_the_rounding() -> None:
    """With 64 uses always under way, the sums are off by less than what is forgiven."""
    draw, budget = random.Random(1), Budget(100_000.0)
    under_way = [0.1 + draw.random() / 7 for _ in range(64)]
    for amount in under_way:
        budget.reserve(amount)
    for at in range(100_000):
        amount = 0.1 + draw.random() / 7
        budget.settle(under_way[at % 64], 0.0)
        budget.reserve(amount)
        under_way[at % 64] = amount

    assert abs(budget.reserved - sum(under_way)) < ROUNDING * budget.limit


def test_settling_gives_back_what_was_not_used() -> None:
    """Of 3 reserved and 1 used, 2 are there again."""
    budget = Budget(10.0)
    budget.reserve(3.0)
    before = budget.room

    budget.settle(3.0, 1.0)

    assert (before, budget.room) == (7.0, 9.0)


@pytest.mark.parametrize(("amount", "fits", "later"), [(4.0, True, True), (5.0, False, True), (9.5, False, False)])
def test_what_does_not_fit_now_may_fit_later(amount: float, fits: bool, later: bool) -> None:
    """Of 10, 1 is used and 5 are reserved: 4 fit, up to 9 may once those have ended, more never will."""
    budget = Budget(10.0)
    budget.settle(0.0, 1.0)
    budget.reserve(5.0)

    assert (budget.fits(amount), budget.may_fit_later(amount)) == (fits, later)


def test_nothing_of_nothing() -> None:
    """A budget of 0 lets pass what takes nothing."""
    budget = Budget(0.0)

    assert budget.fits(0.0)
    assert not budget.fits(1e-9)
    assert not budget.may_fit_later(1e-9)
