"""Calls that take too long: told from the others while most are still under way."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout.core.stragglers import Stragglers
from llm_fanout.spread import ACCURACY


def overdue(stragglers: Stragglers, now: float) -> list[object]:
    """The calls that are copied at that instant."""
    found = []
    for call in stragglers.overdue(now):
        found.append(call)
        stragglers.copy(call)
    return found


def all_at_once(number: int, share: float) -> Stragglers:
    """So many calls, under way since the instant 0."""
    stragglers = Stragglers(share)
    for call in range(number):
        stragglers.began(call, 0.0)
    return stragglers


def test_nobody_is_late_before_the_others_have_answered() -> None:
    """Of twenty at once the last is copied when nineteen were answered, and not before."""
    stragglers = all_at_once(20, 0.05)
    copied = []
    for call in range(19):
        stragglers.answered(call, 1.0 + call)
        copied.append(overdue(stragglers, 1.0 + call))

    assert copied == [[]] * 18 + [[19]]
    assert overdue(stragglers, 1e6) == []


def test_no_more_than_the_share_is_copied() -> None:
    """When everything becomes slow, one in twenty is copied, those that wait for longest first."""
    stragglers = Stragglers(0.05)
    for call in range(100):
        stragglers.began(call, 0.0)
        stragglers.answered(call, 1.0)
    assert overdue(stragglers, 1.0) == []
    for call in range(100, 200):
        stragglers.began(call, call / 1e3)

    assert overdue(stragglers, 60.0) == list(range(100, 110))
    assert stragglers.next_at() == inf


def test_what_was_not_copied_long_ago_cannot_be_made_up_for() -> None:
    """After a hundred thousand calls without a straggler, of two hundred that hang some fifty are copied at once."""
    stragglers = Stragglers(0.05)
    for call in range(100_000):
        stragglers.began(call, 0.0)
        stragglers.answered(call, 1.0)
    assert overdue(stragglers, 1.0) == []
    for call in range(100_000, 100_200):
        stragglers.began(call, 1.0)

    assert 50 <= len(overdue(stragglers, 60.0)) <= 0.05 * 1_400


def test_times_that_are_long_past_fade() -> None:
    """A model that has become ten times slower is as good as new after a few thousand answers."""
    stragglers = Stragglers(0.05)
    for call in range(50_000):
        stragglers.began(call, 0.0)
        stragglers.answered(call, 1.0)
    for call in range(50_000, 60_000):
        stragglers.began(call, 0.0)
        stragglers.answered(call, 10.0)
    stragglers.began("new", 100.0)

    assert overdue(stragglers, 114.0) == []
    assert overdue(stragglers, 116.0) == ["new"]


def test_a_copy_that_was_never_sent_does_not_count() -> None:
    """Its place is another's."""
    stragglers = all_at_once(40, 0.05)
    for call in range(38):
        stragglers.answered(call, 1.0)
    assert overdue(stragglers, 2.0) == [38, 39]
    stragglers.began(40, 2.0)
    before = overdue(stragglers, 50.0)

    stragglers.spare()

    assert (before, overdue(stragglers, 50.0)) == ([], [40])


def test_what_cannot_be_copied_is_passed_over() -> None:
    """It counts as slow all the same, and the next one has its turn."""
    stragglers = all_at_once(40, 0.05)
    for call in range(38):
        stragglers.answered(call, 1.0)
    passed = []
    for call in stragglers.overdue(2.0):
        passed.append(call)
        stragglers.pass_over(call)

    assert passed == [38, 39]
    assert overdue(stragglers, 1e6) == []


def test_the_next_instant_is_that_of_the_oldest() -> None:
    """When the usual times are known, the first call under way is overdue after the percentile of them, told to 2 %."""
    stragglers = all_at_once(100, 0.05)
    for call in range(100):
        stragglers.answered(call, 1.0 if call < 90 else 4.0 if call < 96 else 9.0)
    stragglers.began("first", 10.0)
    stragglers.began("second", 10.5)
    assert overdue(stragglers, 13.8) == []

    assert stragglers.next_at() == pytest.approx(14.0, abs=4 * 2 * ACCURACY)
    assert overdue(stragglers, 14.1) == ["first"]


def test_where_all_take_as_long_a_copy_gains_nothing() -> None:
    """It goes when a call has taken half as long again as the usual: not at each little delay."""
    stragglers = all_at_once(100, 0.05)
    for call in range(98):
        stragglers.answered(call, 1.0 + call / 1e4)
    early = overdue(stragglers, 1.4)

    assert (early, overdue(stragglers, 1.51)) == ([], [98, 99])


def test_those_that_were_cut_off_took_longer() -> None:
    """A call that ended without an answer says only that it would have taken longer: it does not make others look late."""
    stragglers = all_at_once(100, 0.5)
    for call in range(40):
        stragglers.answered(call, 1.0)
    for call in range(40, 90):
        stragglers.cut(call, 0.5)
    quick = overdue(stragglers, 2.0)
    stragglers.answered(90, 3.0)
    stragglers.answered(91, 3.0)

    assert quick == list(range(90, 100))  # of the fifty that were not cut off, forty took a second
    assert overdue(stragglers, 4.0) == []


def test_what_is_not_under_way_is_passed_over() -> None:
    """An end that is told twice, or of nobody, changes nothing."""
    stragglers = all_at_once(2, 0.5)
    stragglers.answered(0, 1.0)
    stragglers.answered(0, 500.0)
    stragglers.cut("nobody", 1.0)

    assert overdue(stragglers, 2.0) == [1]


@given(
    share=st.sampled_from([0.05, 0.1, 0.25, 0.5]),
    times=st.lists(st.floats(0.01, 100.0), min_size=10, max_size=80),
)
def test_all_at_once_it_is_the_percentile(share: float, times: list[float]) -> None:
    """Where all began together, copies go when all but the share of them were answered, to those that were not."""
    stragglers = all_at_once(len(times), share)
    order = sorted(range(len(times)), key=times.__getitem__)
    copied: set[object] = set()
    at = inf
    for call in order:
        stragglers.answered(call, times[call])
        late = overdue(stragglers, times[call])
        if late and not copied:
            at = times[call]
        copied.update(late)

    allowed = int(share * len(times) + 1e-9)
    answered_by_then = sum(time <= at for time in times)
    assert len(copied) <= allowed
    if copied:
        assert len(times) - answered_by_then <= allowed
