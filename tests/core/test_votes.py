"""Votes while they are counted, against going through all that could still come."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout.core.votes import Votes

KEYS = st.sampled_from(["a", "b", "c", None])


def counted(number: int, *keys: str | None, lead: int | None = None) -> Votes:
    """So many of `number` votes have come."""
    votes = Votes(number, lead)
    for key in keys:
        votes.count(key)
    return votes


def winners(number: int, heard: list[str | None]) -> set[str | None]:
    """Who could be alone in front in the end, None for nobody: by trying all that could still come."""
    found: set[str | None] = set()
    for rest in product(["a", "b", "c", "new", None], repeat=number - len(heard)):
        all_of_them = [*heard, *rest]
        counts = {key: all_of_them.count(key) for key in set(all_of_them) - {None}}
        front = [key for key, count in counts.items() if count == max(counts.values())]
        found.add(front[0] if len(front) == 1 else None)
    return found


@given(st.lists(KEYS, max_size=7), st.integers(0, 4))
def test_it_is_decided_exactly_when_nothing_can_change_the_winner(heard: list[str | None], left: int) -> None:
    """A decided leader wins whatever comes, and where one wins whatever comes it is decided: a tie is no win."""
    number = len(heard) + left
    votes = counted(number, *heard)

    assert votes.is_decided == (winners(number, heard) == {votes.leader} != {None})


@given(st.integers(1, 30), st.none() | st.integers(1, 9), st.data())
def test_what_is_wanted_is_never_too_much_nor_too_little(number: int, lead: int | None, data: st.DataObject) -> None:
    """Topped up to what is wanted after each vote: nothing is ever under way that turns out not to be needed, it goes on as
    long as anything can change, and it ends as soon as nothing can, or the lead is reached."""
    votes, under_way, begun = Votes(number, lead), 0, 0
    while votes.wanted:
        assert under_way <= votes.wanted
        begun += votes.wanted - under_way
        under_way = votes.wanted
        assert begun <= number
        votes.count(data.draw(KEYS))
        under_way -= 1

    assert under_way == 0
    assert votes.is_decided or votes.heard == number or (lead is not None and votes.margin >= lead)


@given(st.lists(KEYS, max_size=12), st.integers(1, 12), st.none() | st.integers(1, 5))
def test_if_all_that_are_wanted_agree_it_ends(heard: list[str | None], left: int, lead: int | None) -> None:
    """So many for the leader are enough, and one less is not."""
    votes = counted(len(heard) + left, *heard, lead=lead)
    wanted, leader = votes.wanted, votes.leader or "a"
    for number in range(wanted):
        assert votes.wanted == wanted - number
        votes.count(leader)

    assert votes.wanted == 0


@pytest.mark.parametrize(("number", "lead", "wanted"), [(1, None, 1), (15, None, 8), (16, None, 9), (15, 5, 5), (15, 40, 8)])
def test_a_majority_is_asked_at_first(number: int, lead: int | None, wanted: int) -> None:
    """Half and one more, or the lead, if that is less."""
    assert Votes(number, lead).wanted == wanted


def test_the_first_of_equals_leads() -> None:
    """Two with as many votes: no margin, no decision, and the one that was there first."""
    votes = counted(4, "b", "a", "a", "b")

    assert (votes.leader, votes.margin, votes.is_decided, votes.wanted) == ("b", 0, False, 0)


def test_spoiled_votes_are_for_nobody() -> None:
    """They are heard and not counted: with nothing else there is no leader, and nothing decided."""
    votes = counted(2, None, None)

    assert (votes.leader, votes.margin, votes.is_decided, votes.heard, dict(votes.counts)) == (None, 0, False, 2, {})


def test_a_lead_ends_it_before_it_is_decided() -> None:
    """Three ahead of nobody, with twelve to come: it ends, and could still be overturned."""
    votes = counted(15, "a", "a", "a", lead=3)

    assert (votes.wanted, votes.is_decided, votes.margin) == (0, False, 3)
