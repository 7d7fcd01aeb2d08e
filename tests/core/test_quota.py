"""Limits that are asked, taken and given back as one."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from llm_fanout import ConfigError, Limits
from llm_fanout.core.job import Cost
from llm_fanout.core.limits import Permits
from llm_fanout.core.quota import Quota


@pytest.mark.parametrize(
    ("figures", "match"),
    [
        ({"rpm": 0}, "rpm must be a number > 0, got 0"),
        ({"rpm": -1}, "rpm"),
        ({"tpm": float("nan")}, "tpm"),
        ({"tpm": float("inf")}, "tpm"),
        ({"rpm": "60"}, "rpm"),
        ({"rpm": True}, "rpm"),
        ({"max_concurrency": 1.5}, "whole number"),
        ({"rpm": 60, "burst": 0.5}, "burst must be >= 1"),
        ({"burst": 5}, "needs rpm"),
    ],
)
def test_limits_refuse_nonsense(figures: dict[str, Any], match: str) -> None:
    """A figure that cannot be is a ConfigError that names it."""
    with pytest.raises(ConfigError, match=match):
        Limits(**figures)


def test_all_limits_or_none() -> None:
    """The latest of all limits decides, and what is taken is taken from each."""
    quota = Quota(Limits(max_concurrency=5, rpm=60, tpm=600, burst=2))

    quota.give(quota.take(Cost(tokens=15), 0.0), None, 0.0)

    assert quota.ready_at(Cost(tokens=1), 0.0) == 0.0
    assert quota.ready_at(Cost(tokens=10), 0.0) == pytest.approx(0.5, rel=0.1)  # five of twenty tokens are left
    assert quota.held == {}


def test_unused_tokens_come_back_and_requests_do_not() -> None:
    """Settled with fewer tokens than reserved: the tokens are there again, the request stays made."""
    quota = Quota(Limits(rpm=60, tpm=600, burst=1))
    lease = quota.take(Cost(tokens=10), 0.0)

    quota.give(lease, Cost(tokens=0), 0.0)

    assert quota.ready_at(Cost(tokens=10, requests=0), 0.0) == 0.0
    assert quota.ready_at(Cost(tokens=0), 0.0) == pytest.approx(1.0)


def test_unknown_usage_keeps_the_reservation() -> None:
    """None for what was used: what was reserved stays spent."""
    quota = Quota(Limits(tpm=600))
    lease = quota.take(Cost(tokens=10), 0.0)

    quota.give(lease, None, 0.0)

    assert quota.ready_at(Cost(tokens=10), 0.0) > 0.9


def test_a_closed_gate_admits_nobody_until_it_opens() -> None:
    """The gate holds everybody, and a shorter closing does not open it earlier."""
    quota = Quota()

    quota.close_until(50.0)
    quota.close_until(20.0)

    assert quota.ready_at(Cost(), 10.0) == 50.0
    assert not quota.is_unused(10.0)
    assert quota.is_unused(50.0)


@pytest.mark.parametrize(("tokens", "fits"), [(600, True), (601, False)])
def test_more_than_a_minute_never_fits(tokens: float, fits: bool) -> None:
    """A call above a whole minute's tokens can never be granted."""
    assert Quota(Limits(tpm=600)).fits_ever(Cost(tokens=tokens)) is fits


def test_without_a_token_limit_everything_fits() -> None:
    """Where tokens are not limited their number does not matter."""
    quota = Quota(Limits(rpm=5))

    assert quota.fits_ever(Cost(tokens=1e9))
    assert not quota.counts_tokens
    assert Quota(Limits(tpm=5)).counts_tokens


def test_what_binds_is_measured() -> None:
    """The seconds that the first in line waited are booked on the limit it waited for."""
    quota = Quota(Limits(max_concurrency=1, rpm=60, burst=1))
    lease = quota.take(Cost(), 0.0)

    blocked_by_slot = quota.ready_at(Cost(), 0.0)
    quota.give(lease, None, 0.25)
    blocked_by_rate = quota.ready_at(Cost(), 0.25)
    free = quota.ready_at(Cost(), blocked_by_rate)

    assert (blocked_by_slot, blocked_by_rate, free) == (inf, 1.0, 1.0)
    assert quota.held == {"concurrency": 0.25, "requests": 0.75}


def test_permits_are_asked_for_last() -> None:
    """A permit is wanted only when everything else is there."""
    permits = Permits()
    quota = Quota(Limits(max_concurrency=1), permits=permits)
    permits.grant()
    lease = quota.take(Cost(), 0.0)

    busy = quota.ready_at(Cost(), 0.0), permits.wanted
    quota.give(lease, None, 0.0)
    free = quota.ready_at(Cost(), 0.0), permits.wanted

    assert busy == (inf, False)
    assert free == (inf, True)


def test_retuning_counts_what_is_in_flight_and_owed() -> None:
    """New figures hold at once: slots in use stay in use, a lease of before is given back to what it was taken from."""
    quota = Quota(Limits(max_concurrency=2, rpm=60, tpm=600, burst=1), permits=None)
    lease = quota.take(Cost(tokens=10), 0.0)

    quota.retune(Limits(max_concurrency=1, rpm=120, burst=1), 0.0)
    full = quota.ready_at(Cost(tokens=1e6), 0.0)
    quota.give(lease, None, 0.1)

    assert full == inf
    assert quota.width == 1
    assert quota.ready_at(Cost(tokens=1e6), 0.1) == pytest.approx(0.5)  # one request was missing from full


def test_retuning_keeps_permits() -> None:
    """Permits are not a figure of the limits: they stay."""
    permits = Permits()
    quota = Quota(Limits(), permits=permits)

    quota.retune(Limits(rpm=5), 0.0)

    assert quota.ready_at(Cost(), 0.0) == inf
    assert permits.wanted
