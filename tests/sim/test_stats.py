"""What the server says that it saw."""

from __future__ import annotations

from llm_fanout.sim.stats import Stats


def test_the_busiest_minute_is_counted_exactly() -> None:
    """`peak_minute` is the most requests in any 60 seconds, wherever they begin."""
    stats = Stats()

    for second in [0.0, 1.0, 59.9, 60.0, 60.5, 119.0]:
        stats.arrived(second, None)

    assert stats.snapshot()["peak_minute"] == 4  # from 1.0 to 60.5


def test_what_is_answered_twice_is_noticed() -> None:
    """A text that got two complete answers is counted once."""
    stats = Stats()

    for text in ["a", "b", "a", "a"]:
        stats.answered(text)

    assert stats.snapshot()["answered"] == 4
    assert stats.snapshot()["answered_twice"] == 1


def test_retries_of_a_layer_below_are_noticed() -> None:
    """A request whose SDK had sent it before is counted."""
    stats = Stats()

    for count in [None, "0", "1"]:
        stats.arrived(0.0, count)
        stats.left()

    assert stats.snapshot()["retried_below"] == 1
    assert stats.snapshot()["peak_in_flight"] == 1
