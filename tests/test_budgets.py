"""Purses: several at once, waiting and waking, threads, and the ceiling on disk."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from math import inf
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout.budgets import AHEAD, LOW, Budgets, Charge, Purse, purses_of
from llm_fanout.errors import JournalError, Stopped
from llm_fanout.journal.opened import OpenJournal


class Bought:
    """Work that costs `usd` and `tokens` an attempt, and has used what is put into `charged`."""

    def __init__(self, usd: float = 0.0, tokens: float = 0.0) -> None:
        self.least = self.attempt = Charge(usd, tokens)
        self.charged = Charge()
        self.offered: list[tuple[Charge, float]] = []

    def allow(self, room: Charge, at_once: float) -> Charge:
        self.offered.append((room, at_once))
        return self.attempt


class FakeJournal:
    """Notes ceilings, and tells when it is told to."""

    def __init__(self, usd: float = 0.0, tokens: float = 0.0) -> None:
        self.spent = (usd, tokens)
        self.used: dict[str, Callable[[], float]] = {}
        self.ceilings: list[float] = []
        self._told: list[Callable[[JournalError | None], None]] = []

    def raise_ceiling(self, unit: str, ceiling: float, then: Callable[[JournalError | None], None]) -> None:
        self.ceilings.append(ceiling)
        self._told.append(then)

    def written(self, failure: JournalError | None = None) -> None:
        told, self._told = self._told, []
        for then in told:
            then(failure)


def nobody() -> None:
    raise AssertionError("nobody waits")


def usd(limit: float) -> Purse:
    return Purse(limit, "usd", "the run")


def kept(limit: float, spent: float = 0.0) -> tuple[Purse, FakeJournal]:
    """A purse in USD that is kept in a journal."""
    purse, journal = usd(limit), FakeJournal(spent)
    purse.keep_in(cast(OpenJournal, journal))
    return purse, journal


def test_only_stated_budgets_are_purses() -> None:
    """Nothing, one, or both; 0 is stated, too."""
    found = [
        [(purse.unit, purse.budget.limit) for purse in purses_of(*said, "x")] for said in ((None, None), (0, None), (1, 2))
    ]

    assert found == [[], [("usd", 0)], [("usd", 1), ("tokens", 2)]]


def test_budgets_know_whether_prices_matter() -> None:
    """Tokens need no price."""
    assert not Budgets([Purse(9, "tokens", "x")]).is_priced
    assert Budgets([Purse(9, "tokens", "x"), usd(1)]).is_priced


def test_all_purses_or_none() -> None:
    """Where the second has no room, nothing is taken from the first."""
    rich, poor = usd(10.0), usd(1.0)
    budgets = Budgets([rich, poor])
    first = budgets.reserve(Bought(0.8), 1, nobody)

    second = budgets.reserve(Bought(0.5), 1, lambda: None)

    assert first == Charge(0.8)
    assert second is None
    assert (rich.budget.reserved, poor.budget.reserved) == (0.8, 0.8)


def test_units_are_kept_apart() -> None:
    """A call takes its USD from the one and its tokens from the other."""
    money, tokens = purses_of(1.0, 1_000, "the run")
    budgets = Budgets([money, tokens])

    budgets.reserve(Bought(0.25, 300), 1, nobody)

    assert (money.budget.reserved, tokens.budget.reserved) == (0.25, 300)


def test_a_call_is_offered_the_narrowest_room() -> None:
    """Of several budgets the one with least room counts; a unit without a budget has no bound."""
    work = Bought(0.1)

    Budgets([usd(5.0), usd(2.0)]).reserve(work, 8, nobody)

    assert work.offered == [(Charge(2.0, inf), 8)]


def test_whoever_waits_is_woken_when_something_is_settled() -> None:
    """Once for each settlement, however often it has asked; and what was not used is there."""
    budgets, woken = Budgets([usd(1.0)]), []

    def wake() -> None:
        woken.append(1)

    first = budgets.reserve(Bought(0.9), 1, nobody)
    assert first is not None
    waited = [budgets.reserve(Bought(0.5), 1, wake) for _ in range(3)]

    budgets.settle(first, Charge(0.4))

    assert (waited, woken) == ([None] * 3, [1])
    assert budgets.reserve(Bought(0.5), 1, nobody) == Charge(0.5)


def test_who_is_woken_in_one_purse_may_have_waited_in_another() -> None:
    """Two runs that share the client's budget wake each other."""
    client, woken = usd(1.0), []
    one, other = Budgets([usd(9.0), client]), Budgets([usd(9.0), client])
    reserved = one.reserve(Bought(0.9), 1, nobody)
    assert reserved is not None
    other.reserve(Bought(0.5), 1, lambda: woken.append("other"))

    one.settle(reserved, Charge())

    assert woken == ["other"]


def test_the_end_of_a_budget() -> None:
    """With nothing under way, what does not fit never will: the error says how much is left, and what to do."""
    budgets = Budgets([usd(1.0)])
    first = budgets.reserve(Bought(0.9), 1, nobody)
    assert first is not None
    budgets.settle(first, Charge(0.75))

    with pytest.raises(
        Stopped, match=r"the run is spent: of 1 USD 0.25 USD are left.* 0.5 USD; go on under a higher"
    ) as caught:
        budgets.reserve(Bought(0.5), 1, nobody)

    assert caught.value.kind == "budget"


def test_what_is_dearer_than_all_of_it() -> None:
    """It is told so before it waits; who has nothing at all is told that it is spent, which ends the run."""
    with pytest.raises(
        Stopped, match=r"the call may take 2,000 tokens, more than the budget of the client \(1,000 tokens\)"
    ):
        Budgets([Purse(1_000, "tokens", "the client")]).check(Bought(0.0, 2_000))

    nothing = Budgets([usd(0.0)])
    nothing.check(Bought(0.5))

    with pytest.raises(Stopped):
        nothing.reserve(Bought(0.5), 1, nobody)
    assert nothing.reserve(Bought(0.0), 1, nobody) == Charge()


def test_another_try_is_set_aside_on_top_of_what_was_used() -> None:
    """A refusal, which costs nothing, needs no more; what may have been paid for does, and is refused without room."""
    purse, work = usd(1.0), Bought(0.4)
    budgets = Budgets([purse])
    first = budgets.reserve(work, 1, nobody)
    assert first is not None

    same = budgets.extend(first, work)
    work.charged = Charge(0.4)
    more = budgets.extend(first, work)
    assert more is not None
    work.charged = Charge(0.8)
    none = budgets.extend(more, work)

    assert (same, more, none) == (first, Charge(0.8), None)
    assert purse.budget.reserved == 0.8


@given(
    limits=st.lists(st.floats(0.0, 5.0), min_size=1, max_size=4),
    seed=st.integers(0, 1_000),
    steps=st.lists(st.sampled_from(["reserve", "fail", "end"]), max_size=60),
)
def test_no_purse_is_ever_exceeded(limits: list[float], seed: int, steps: list[str]) -> None:
    """Calls begin, fail and are tried again, or end, in any order: what was used stays within every budget."""
    draw, purses = random.Random(seed), [usd(limit) for limit in limits]
    budgets, under_way = Budgets(purses), list[tuple[Charge, Bought]]()
    for step in steps:
        if step == "reserve":
            work = Bought(draw.random())
            try:
                charge = budgets.reserve(work, 4, lambda: None)
            except Stopped:
                continue
            if charge is not None:
                under_way.append((charge, work))
        elif under_way:
            charge, work = under_way.pop(draw.randrange(len(under_way)))
            work.charged += Charge(work.attempt.usd * draw.choice([0.0, draw.random(), 1.0]))
            again = budgets.extend(charge, work) if step == "fail" else None
            if again is None:
                budgets.settle(charge, work.charged)
            else:
                under_way.append((again, work))

        assert all(purse.budget.used + purse.budget.reserved <= purse.budget.limit + 1e-9 for purse in purses)
        assert all(abs(purse.budget.reserved - sum(charge.usd for charge, _ in under_way)) < 1e-9 for purse in purses)


def test_threads_share_a_purse() -> None:
    """Four threads take what they can get: together they never have more than there is."""
    purse = usd(100.0)
    over: list[float] = []

    def take(seed: int) -> None:
        draw, budgets = random.Random(seed), Budgets([purse])
        for _ in range(300):
            try:
                charge = budgets.reserve(Bought(draw.random()), 4, lambda: None)
            except Stopped:
                return
            if purse.budget.used + purse.budget.reserved > 100.0 + 1e-6:
                over.append(purse.budget.used)
            if charge is not None:
                budgets.settle(charge, Charge(charge.usd * draw.random()))

    threads = [threading.Thread(target=take, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not over
    assert 99.0 < purse.budget.used <= 100.0 + 1e-6


def test_a_journal_says_what_was_used_before() -> None:
    """Of a budget of 5 on a journal in which 4 were used, 1 is left."""
    purse, journal = kept(5.0, 4.0)

    with pytest.raises(Stopped, match="of 5 USD 1 USD are left"):
        Budgets([purse]).reserve(Bought(1.5), 1, nobody)

    assert journal.used["usd"]() == 4.0


def test_nothing_begins_above_the_ceiling() -> None:
    """The first call waits until the disk knows that it may have been paid for; the next ones do not have to."""
    purse, journal = kept(1_000.0)
    budgets, woken = Budgets([purse]), []

    before = budgets.reserve(Bought(1.0), 1, lambda: woken.append(1))
    journal.written()
    after = [budgets.reserve(Bought(1.0), 1, nobody) for _ in range((AHEAD - LOW) // 2)]

    assert (before, woken) == (None, [1])
    assert after == [Charge(1.0)] * len(after)
    assert journal.ceilings == [2.0 + AHEAD]


def test_a_ceiling_is_raised_before_anybody_has_to_wait() -> None:
    """Of a thousand calls that end at once, only the first finds the ceiling too low, if the disk is as quick."""
    purse, journal = kept(1e6)
    budgets, waited = Budgets([purse]), 0
    for _ in range(1_000):
        charge = budgets.reserve(Bought(1.0), 1, lambda: None)
        journal.written()
        if charge is None:
            waited += 1
        else:
            budgets.settle(charge, charge)

    assert waited == 1
    assert len(journal.ceilings) < 1_000 / (AHEAD - LOW) + 2


@given(seed=st.integers(0, 10_000), limit=st.floats(5.0, 300.0))
def test_what_may_have_been_used_is_never_above_the_ceiling(seed: int, limit: float) -> None:
    """However slow the disk is: calls begin only below what is written there, and every one may be tried once more."""
    draw, (purse, journal) = random.Random(seed), kept(limit)
    budgets, under_way, known = Budgets([purse]), list[tuple[Charge, Bought]](), 0.0
    for _ in range(200):
        work = Bought(draw.random())
        try:
            charge = budgets.reserve(work, 4, lambda: None)
        except Stopped:
            break
        if charge is not None:
            under_way.append((charge, work))
        elif journal.ceilings and draw.random() < 0.5:
            known = journal.ceilings[-1]
            journal.written()
        if len(under_way) > draw.randrange(8):
            ended, work = under_way.pop(0)
            budgets.settle(ended, ended)

        assert purse.budget.used + purse.budget.reserved <= known + 1e-9
        assert known <= limit


def test_a_ceiling_never_rises_above_the_budget() -> None:
    """Where all of it is written down, nothing more has to be: what fits begins."""
    purse, journal = kept(3.0)
    budgets = Budgets([purse])
    budgets.reserve(Bought(1.0), 1, lambda: None)
    journal.written()

    charges = [budgets.reserve(Bought(1.0), 1, nobody) for _ in range(3)]

    assert journal.ceilings == [3.0]
    assert charges == [Charge(1.0)] * 3


def test_a_journal_that_cannot_be_written_to_is_told_of() -> None:
    """Whoever asks next gets its error; another try is not made."""
    purse, journal = kept(9.0)
    budgets, woken = Budgets([purse]), []
    budgets.reserve(Bought(1.0), 1, lambda: woken.append(1))
    journal.written(JournalError("the disk is full"))

    with pytest.raises(JournalError, match="full"):
        budgets.reserve(Bought(1.0), 1, nobody)

    assert woken == [1]
    assert budgets.extend(Charge(), Bought(1.0)) is None


def test_charges_add_up() -> None:
    """By unit."""
    total: Any = Charge(1.0, 2.0) + Charge(0.5, 3.0)

    assert total == Charge(1.5, 5.0)
