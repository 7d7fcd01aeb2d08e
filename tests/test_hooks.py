"""The doors upward."""

from __future__ import annotations

from typing import get_args

import pytest

from llm_fanout.hooks import Hook, hook


@pytest.mark.parametrize("name", get_args(Hook))
def test_every_door_leads_somewhere(name: Hook) -> None:
    """Each name is a function that can be imported, the same at each call."""
    assert callable(hook(name))
    assert hook(name) is hook(name)
