"""What a provider says of a quota."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from llm_fanout.core.announced import Window


def test_what_was_not_said_is_none() -> None:
    """A window knows only what was announced of it."""
    window = Window(limit=500.0)

    assert (window.limit, window.remaining, window.reset, window.per) == (500.0, None, None, None)


def test_what_was_said_does_not_change() -> None:
    """Two windows that say the same are the same, and stay so."""
    window = Window(500.0, 499.0, 0.12, 60.0)

    with pytest.raises(FrozenInstanceError):
        window.remaining = 0.0  # type: ignore[misc]  # the mistake under test
    assert window == Window(limit=500.0, remaining=499.0, reset=0.12, per=60.0)
