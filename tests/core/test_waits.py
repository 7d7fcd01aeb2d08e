"""What the first in line waits for, and for how long."""

from __future__ import annotations

from llm_fanout.core.waits import Waits


def test_seconds_are_booked_on_what_was_waited_for() -> None:
    """From one turn to the next; what is waited for now counts up to now."""
    waits = Waits()

    waits.turn_to("gate", 1.0)
    waits.turn_to("tokens", 3.0)

    assert waits.held(3.5) == {"gate": 2.0, "tokens": 0.5}
    assert waits.limit == "tokens"


def test_waiting_again_adds_up() -> None:
    """Two times for the same limit, with a pause between them."""
    waits = Waits()

    waits.turn_to("gate", 0.0)
    waits.turn_to(None, 1.0)
    waits.turn_to("gate", 5.0)
    waits.turn_to("tokens", 7.0)

    assert waits.held(8.0) == {"gate": 3.0, "tokens": 1.0}


def test_saying_it_again_changes_nothing() -> None:
    """It is one wait, however often somebody looks."""
    waits = Waits()

    for now in (0.0, 1.0, 2.0):
        waits.turn_to("gate", now)
    waits.turn_to(None, 2.5)

    assert waits.held(100.0) == {"gate": 2.5}
