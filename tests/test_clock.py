"""Times, as they are told to people."""

from __future__ import annotations

import pytest

from llm_fanout.clock import in_words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.0004994, "0 ms"),
        (0.0005, "0.5 ms"),
        (0.0123, "12.3 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (1.5, "1.5 s"),
        (99.94, "99.9 s"),
        (99.96, "100 s"),
        (110, "110 s"),
        (119.4, "119 s"),
        (119.6, "2 min 00 s"),
        (150, "2 min 30 s"),
        (3_599.4, "59 min 59 s"),
        (3_599.6, "1 h 00 min"),
        (7_199, "2 h 00 min"),
        (7_500, "2 h 05 min"),
        (172_000, "47 h 47 min"),
        (172_799, "2 days"),
        (2.18e8, "2,523 days"),
    ],
)
def test_times_in_units_that_suit_them(seconds: float, text: str) -> None:
    """About three digits, and the unit of what is left after rounding."""
    assert in_words(seconds) == text
