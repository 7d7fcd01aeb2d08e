"""What a figure must be."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from llm_fanout import ConfigError
from llm_fanout.core.checks import check_seconds, is_count, is_number, is_whole


@pytest.mark.parametrize(
    ("value", "number"), [(1, True), (0.5, True), (nan, True), (True, False), ("1", False), (None, False)]
)
def test_numbers(value: object, number: bool) -> None:
    """Whole and broken numbers are; truth and text are not."""
    assert is_number(value) is number


@pytest.mark.parametrize("value", [0, -1, nan, inf, "5", True])
def test_seconds_are_finite_and_above_zero(value: Any) -> None:
    """Anything else is refused by its name and value."""
    with pytest.raises(ConfigError, match=r"patience must be seconds > 0, got "):
        check_seconds("patience", value)


@pytest.mark.parametrize("value", [None, 0.001, 5])
def test_seconds_or_nothing(value: float | None) -> None:
    """A time, or None for no bound, passes."""
    check_seconds("patience", value)


@pytest.mark.parametrize(
    ("value", "whole", "count"), [(1, True, True), (0, True, False), (1.0, False, False), (True, False, False)]
)
def test_whole_numbers(value: object, whole: bool, count: bool) -> None:
    """A count is a whole number from one on."""
    assert (is_whole(value), is_count(value)) == (whole, count)
