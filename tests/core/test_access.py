"""Whether an account is let in: what closes it, and what opens it again."""

from __future__ import annotations

from llm_fanout.core.access import ROW, Access
from llm_fanout.core.job import Cost
from llm_fanout.core.quota import Lease, Quota

REASON = PermissionError("a wrong key")


def a_lease() -> Lease:
    """What a call holds."""
    return Quota().take(Cost(), 0.0)


def met() -> Access:
    """An account of which a call was answered."""
    access = Access()
    access.answered(a_lease())
    return access


def refused(access: Access, lease: Lease | None = None, *, now: float = 5.0, at_once: bool = False) -> bool:
    """A call is refused for good: whether that closes it."""
    return access.refused(lease or a_lease(), REASON, now, at_once=at_once)


def test_the_first_answer_of_all_closes() -> None:
    """Nothing was ever let in: it is not that call's own fault."""
    access = Access()

    closed = refused(access, now=5.0)

    assert closed
    assert access.closure == (5.0, REASON)


def test_what_is_certain_closes_at_once() -> None:
    """No credit is no credit, however many were answered before."""
    access = met()

    assert refused(access, at_once=True)
    assert access.closure is not None


def test_several_in_a_row_close() -> None:
    """A call may be at fault itself; three different ones are not."""
    access = met()

    closed = [refused(access) for _ in range(ROW)]

    assert closed == [False, False, True]


def test_an_answer_between_them_starts_the_row_anew() -> None:
    """They have to be in a row."""
    access = met()

    for _ in range(ROW - 1):
        refused(access)
    access.answered(a_lease())
    again = [refused(access) for _ in range(ROW - 1)]

    assert again == [False, False]
    assert access.closure is None


def test_those_under_way_neither_open_nor_close_it() -> None:
    """They began before it was closed: what they are answered is old news."""
    access = met()
    refused(access, at_once=True)

    closes = refused(access, now=6.0, at_once=True)
    access.answered(a_lease())

    assert not closes
    assert access.closure == (5.0, REASON)


def test_an_answer_to_the_one_that_looks_opens_it() -> None:
    """And a single refusal does not close it again."""
    access = Access()
    refused(access)
    access.probe = probe = a_lease()

    access.answered(probe)

    assert (access.closure, access.probe, access.calm) == (None, None, True)
    assert not refused(access)


def test_the_one_that_looks_may_find_it_closed() -> None:
    """One refusal is enough then, and the next may look."""
    access = met()
    refused(access, at_once=True)
    access.probe = probe = a_lease()

    closed = refused(access, probe, now=9.0)

    assert closed
    assert access.closure == (9.0, REASON)
    assert access.probe is None


def test_one_that_looks_and_learns_nothing_is_followed_by_another() -> None:
    """It was cancelled, say; that of others changes nothing."""
    access = Access()
    refused(access)
    access.probe = probe = a_lease()

    access.released(a_lease())
    kept = access.probe
    access.released(probe)

    assert kept is probe
    assert access.probe is None
    assert access.closure is not None


def test_it_is_calm_only_when_an_answer_is_no_news() -> None:
    """New, refused or closed it is not."""
    access = Access()
    new = access.calm
    access.answered(a_lease())
    answered = access.calm
    refused(access)
    doubted = access.calm
    access.answered(a_lease())
    access.close(REASON, 1.0)

    assert (new, answered, doubted, access.calm) == (False, True, False, False)
