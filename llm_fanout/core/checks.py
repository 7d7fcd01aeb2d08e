"""What a figure must be, said once."""

from __future__ import annotations

from math import isfinite

from ..errors import ConfigError


def is_number(value: object) -> bool:
    """Whether `value` is a real number; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: object) -> bool:
    """Whether `value` is a whole number; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_count(value: object) -> bool:
    """Whether `value` is a whole number >= 1."""
    return is_whole(value) and value >= 1  # type: ignore[operator]  # it is a number


def check_seconds(name: str, value: float | None) -> None:
    """Refuse a time that is not a finite number of seconds above 0; None passes."""
    if value is not None and not (is_number(value) and isfinite(value) and value > 0):
        raise ConfigError(f"{name} must be seconds > 0, got {value!r}; leave it out for no bound")
