"""Quantiles of any number of times, in bounded memory."""

from __future__ import annotations

from math import floor, isnan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout.spread import ACCURACY, Spread

TIMES = st.lists(st.one_of(st.just(0.0), st.floats(1e-5, 1e6)), min_size=1, max_size=300)


def spread_of(times: list[float]) -> Spread:
    spread = Spread()
    for seconds in times:
        spread.add(seconds)
    return spread


@given(TIMES, st.floats(0.0, 1.0))
def test_quantiles_are_true_to_a_per_cent(times: list[float], q: float) -> None:
    """Of the time that has so many before it: whatever the times are."""
    exact = sorted(times)[floor(q * (len(times) - 1))]

    assert spread_of(times).quantile(q) == pytest.approx(exact, rel=1.001 * ACCURACY)


@given(TIMES)
def test_the_largest_is_exact(times: list[float]) -> None:
    """And so is the least, for there is no bucket beyond them."""
    spread = spread_of(times)

    assert spread.quantile(1.0) <= max(times)
    assert spread.quantile(0.0) >= min(times)


@given(TIMES, TIMES)
def test_spreads_add_up(some: list[float], others: list[float]) -> None:
    """Those of two runs are those of all their calls; a copy goes its own way."""
    whole, both = spread_of(some), spread_of(some + others)
    before = whole.copy()
    whole.merge(spread_of(others))
    whole.merge(Spread())

    assert [whole.quantile(q / 10) for q in range(11)] == [both.quantile(q / 10) for q in range(11)]
    assert [before.quantile(q / 10) for q in range(11)] == [spread_of(some).quantile(q / 10) for q in range(11)]


def test_an_empty_one_takes_over_all() -> None:
    """Its bounds are those of the other."""
    empty = Spread()
    empty.merge(spread_of([5.0, 6.0]))

    assert empty.quantile(0.0) == pytest.approx(5.0, rel=ACCURACY)
    assert empty.quantile(1.0) == pytest.approx(6.0, rel=ACCURACY)


def test_no_times_have_no_quantiles() -> None:
    """They are not zero."""
    assert isnan(Spread().quantile(0.5))


def test_memory_is_bounded() -> None:
    """From a microsecond to a year there are some 1,600 buckets, and no number of times needs more than these."""
    spread = spread_of([1e-6 * 1.0001**step for step in range(310_000)])  # to 2.9e7 s

    assert len(spread._counts) <= 1_555
