"""Runs that are killed: see crashes.py, which kills more of them by hand."""

from __future__ import annotations

from crashes import all_of, half_way, plans


def test_two_dozen_kills() -> None:
    """KILL, TERM, INT at random instants: nothing delivered is lost, nothing recorded asked again, little paid twice."""
    figures = all_of(list(plans(24, seed=1)))

    assert figures.kills.total() >= 20  # a process may have ended before its kill
    assert set(figures.kills) == {"SIGKILL", "SIGTERM", "SIGINT", "SIGINT twice"}
    assert figures.paid_twice <= figures.bound


def test_resume_asks_for_what_is_missing() -> None:
    """A run of 2,000 rows that was killed half-way, started again, sends exactly the calls that were not recorded."""
    figures = all_of([half_way(2_000)])

    assert figures.kills.total() == 1
    assert figures.paid == 2_000 + figures.paid_twice
