"""How often, and when, to try again."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout import ConfigError
from llm_fanout.core.retry import BAD_REPLY_RETRIES, PUSHBACK, TRANSIENT, Again, RetryPolicy, Tries, told_wait


def test_options_make_a_policy() -> None:
    """None is no bound on the time."""
    assert RetryPolicy.of(3, None) == RetryPolicy(max_retries=3, retry_for=inf)
    assert RetryPolicy.of(0, 2.5) == RetryPolicy(max_retries=0, retry_for=2.5)


@pytest.mark.parametrize(("retries", "seconds"), [(-1, None), (1.5, None), (True, None), ("3", None), (1, 0), (1, -2.0)])
def test_options_that_cannot_be_are_refused(retries: Any, seconds: Any) -> None:
    """The one that is out of its range is named."""
    with pytest.raises(ConfigError, match=r"max_retries|retry_for"):
        RetryPolicy.of(retries, seconds)


@pytest.mark.parametrize(("again", "most"), [(Again.TRANSIENT, 3), (Again.BAD_REPLY, BAD_REPLY_RETRIES), (Again.NO, 0)])
def test_each_sort_of_failure_has_its_own_budget(again: Again, most: int) -> None:
    """Transient failures may cost `max_retries` tries, bad replies two, a final failure none."""
    tries = Tries()

    granted = [tries.spend(again, RetryPolicy(max_retries=3)) for _ in range(5)]

    assert granted == [True] * most + [False] * (5 - most)


def test_pushback_is_not_counted() -> None:
    """A 429 says nothing about the call: it is always tried again, and leaves the other budgets alone."""
    tries, policy = Tries(), RetryPolicy(max_retries=1)

    pushed = [tries.spend(Again.PUSHBACK, policy) for _ in range(100)]

    assert all(pushed)
    assert tries.spend(Again.TRANSIENT, policy)
    assert not tries.spend(Again.TRANSIENT, policy)


def test_no_retries_means_none_of_bad_replies_either() -> None:
    """`max_retries=0` is one try, whatever comes back."""
    assert not Tries().spend(Again.BAD_REPLY, RetryPolicy(max_retries=0))


@pytest.mark.parametrize(
    ("again", "figures"), [(Again.TRANSIENT, TRANSIENT), (Again.PUSHBACK, PUSHBACK), (Again.BAD_REPLY, TRANSIENT)]
)
def test_backoff_doubles_up_to_its_cap(again: Again, figures: tuple[float, float]) -> None:
    """Full jitter: a draw from zero to the base doubled with each failure, never above the cap."""
    base, cap = figures
    tries = Tries()

    most = []
    for _ in range(12):
        tries.spend(again, RetryPolicy(max_retries=100))
        most.append(tries.wait(again, None, 1.0))
        assert tries.wait(again, None, 0.0) == 0.0

    assert most == [min(base * 2**n, cap) for n in range(12)]


def test_backoff_survives_a_very_long_series() -> None:
    """Thousands of refusals in a row do not overflow."""
    tries = Tries(pushback=100_000)

    assert tries.wait(Again.PUSHBACK, None, 1.0) == PUSHBACK[1]


@given(told=st.floats(0, 1e6), random=st.floats(0, 1, exclude_max=True))
def test_a_told_wait_is_never_shortened(told: float, random: float) -> None:
    """It grows by at most 5 % and never by more than a quarter of a second."""
    wait = told_wait(told, random)

    assert told <= wait <= told + min(told * 0.05, 0.25)
    assert Tries().wait(Again.PUSHBACK, told, random) == wait
