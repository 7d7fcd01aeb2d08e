"""How often, and when, to try again."""

from __future__ import annotations

from itertools import pairwise
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout.core.retry import (
    BAD_REPLY_RETRIES,
    PUSHBACK,
    PUSHBACK_TOKENS,
    RETRY_TOKENS,
    RETRY_TOKENS_A_SECOND,
    TRANSIENT,
    TRANSIENT_TOKENS,
    Again,
    RetryBudget,
    RetryPolicy,
    Tries,
    told_wait,
)
from llm_fanout.errors import ConfigError

STARTS = st.sampled_from([0.0, 1e5, 1.75e9])


def pay(budget: RetryBudget, again: Again, tries: Tries, now: float) -> float:
    """Pay for one more retry: the instant from which it may go."""
    ready = budget.ready_at(again, now)
    budget.take(again, tries, now)
    return ready


def spent(budget: RetryBudget, now: float, *, again: Again = Again.TRANSIENT) -> int:
    """How many retries go at once before one has to wait; that one is paid for as well."""
    count = 0
    while pay(budget, again, Tries(), now) <= now:
        count += 1
    return count


def test_options_make_a_policy() -> None:
    """None is no bound on the time."""
    assert RetryPolicy.of(3, None) == RetryPolicy(max_retries=3, retry_for=inf)
    assert RetryPolicy.of(0, 2.5) == RetryPolicy(max_retries=0, retry_for=2.5)


@pytest.mark.parametrize(
    ("retries", "seconds", "match"),
    [
        (-1, None, "max_retries must be a whole number >= 0, got -1"),
        (1.5, None, "max_retries"),
        (True, None, "max_retries"),
        ("3", None, "max_retries"),
        (1, 0, "retry_for must be seconds > 0, got 0"),
        (1, -2.0, "retry_for"),
        (1, nan, "retry_for"),
        (1, inf, "retry_for"),
    ],
)
def test_options_that_cannot_be_are_refused(retries: Any, seconds: Any, match: str) -> None:
    """The one that is out of its range is named."""
    with pytest.raises(ConfigError, match=match):
        RetryPolicy.of(retries, seconds)


@pytest.mark.parametrize(("again", "most"), [(Again.TRANSIENT, 3), (Again.BAD_REPLY, BAD_REPLY_RETRIES), (Again.NO, 0)])
def test_each_sort_of_failure_has_its_own_count(again: Again, most: int) -> None:
    """Transient failures may cost `max_retries` tries, bad replies two, a final failure none."""
    tries = Tries()

    granted = [tries.spend(again, RetryPolicy(max_retries=3)) for _ in range(5)]

    assert granted == [True] * most + [False] * (5 - most)


def test_the_counts_do_not_touch_each_other() -> None:
    """Bad replies and refusals leave a call all its transient retries."""
    tries, policy = Tries(), RetryPolicy(max_retries=2)
    for again in (Again.BAD_REPLY, Again.BAD_REPLY, Again.PUSHBACK, Again.NO):
        tries.spend(again, policy)

    transient = [tries.spend(Again.TRANSIENT, policy) for _ in range(3)]

    assert transient == [True, True, False]
    assert (tries.transient, tries.bad_reply, tries.pushback) == (3, 2, 1)


def test_pushback_never_uses_up_the_tries() -> None:
    """A 429 says nothing about the call: it is always tried again."""
    tries, policy = Tries(), RetryPolicy(max_retries=0)

    assert all(tries.spend(Again.PUSHBACK, policy) for _ in range(100))


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


def test_backoff_grows_with_its_own_sort_of_failure() -> None:
    """A call that was refused often waits out its first transient failure as briefly as any other."""
    tries = Tries(pushback=9)
    tries.spend(Again.TRANSIENT, RetryPolicy())

    assert tries.wait(Again.TRANSIENT, None, 1.0) == TRANSIENT[0]


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


def test_those_who_were_told_the_same_do_not_come_back_in_one_instant() -> None:
    """The draw spreads them over all that may be added."""
    waits = [told_wait(10.0, random) for random in (0.0, 0.5, 1.0)]

    assert waits == [10.0, 10.125, 10.25]


@pytest.mark.parametrize(
    ("again", "price", "count"),
    [
        (Again.TRANSIENT, TRANSIENT_TOKENS, 35),
        (Again.PUSHBACK, PUSHBACK_TOKENS, 100),
        (Again.BAD_REPLY, TRANSIENT_TOKENS, 35),
    ],
)
def test_the_budget_lets_some_retries_go_at_once(again: Again, price: float, count: int) -> None:
    """35 after transient failures or 100 after refusals, and then they wait."""
    assert spent(RetryBudget(), 50.0, again=again) == count == RETRY_TOKENS // price


def test_a_retry_waits_for_the_budget_and_is_not_lost() -> None:
    """Once it is empty, each retry is given an instant, one after another: five transient ones a second."""
    budget = RetryBudget()
    spent(budget, 50.0)

    instants = [pay(budget, Again.TRANSIENT, Tries(), 50.0) for _ in range(10)]

    gaps = [later - earlier for earlier, later in pairwise(instants)]
    assert gaps == pytest.approx([TRANSIENT_TOKENS / RETRY_TOKENS_A_SECOND] * 9)
    assert instants[0] > 50.0


def test_asking_costs_nothing() -> None:
    """However often it is asked when a retry could go, the answer is the same, and nothing is missing."""
    budget = RetryBudget()

    instants = {budget.ready_at(Again.TRANSIENT, 50.0) for _ in range(100)}

    assert len(instants) == 1
    assert not budget.spent
    assert spent(budget, 50.0) == 35


@given(start=STARTS)
def test_the_budget_fills_up_by_itself(start: float) -> None:
    """Without a single answer it is full again some seconds after the last retry, and never fuller."""
    budget = RetryBudget()
    first = spent(budget, start)

    again = spent(budget, start + 60.0)

    assert again == first


@pytest.mark.parametrize(
    ("tries", "again"),
    [(Tries(transient=2, paid=14.0), Again.TRANSIENT), (Tries(pushback=1, paid=5.0), Again.PUSHBACK)],
)
def test_an_answer_brings_back_the_price_of_its_retry(tries: Tries, again: Again) -> None:
    """A retry that helped was free: the next one may go as soon as it could."""
    budget = RetryBudget()
    spent(budget, 50.0)
    before = pay(budget, again, Tries(), 50.0)

    budget.answered(tries, 50.0)

    assert pay(budget, again, Tries(), 50.0) == pytest.approx(before)


@pytest.mark.parametrize("tries", [None, Tries(bad_reply=1), Tries(pushback=3)])
def test_an_answer_that_needed_no_retry_brings_a_little(tries: Tries | None) -> None:
    """Fourteen of them pay for one transient retry."""
    budget = RetryBudget()
    spent(budget, 50.0)
    before = pay(budget, Again.TRANSIENT, Tries(), 50.0)

    for _ in range(14):
        budget.answered(tries, 50.0)

    assert pay(budget, Again.TRANSIENT, Tries(), 50.0) == pytest.approx(before)


def test_transient_failures_set_the_price_of_a_mixed_history() -> None:
    """A call that met both gets back the price of the dearer retry."""
    budget = RetryBudget()
    spent(budget, 50.0)
    before = pay(budget, Again.TRANSIENT, Tries(), 50.0)

    budget.answered(Tries(transient=1, pushback=3, paid=14.0), 50.0)

    assert pay(budget, Again.TRANSIENT, Tries(), 50.0) == pytest.approx(before)


def test_answers_never_bring_more_than_was_there() -> None:
    """A thousand good answers do not save up for a thousand retries."""
    budget = RetryBudget()
    for _ in range(1_000):
        budget.answered(Tries(transient=1, paid=14.0), 50.0)

    assert spent(budget, 50.0) == 35


def test_whether_anything_is_missing_is_known() -> None:
    """Only then do answers have to be noted: not before the first retry, nor once all of it has come back."""
    budget = RetryBudget()
    fresh = budget.spent
    pay(budget, Again.TRANSIENT, Tries(), 50.0)
    budget.answered(None, 50.0)
    owing = budget.spent
    budget.answered(Tries(transient=1, paid=14.0), 50.0)

    assert (fresh, owing, budget.spent) == (False, True, False)
