"""The pytest plugin behind `llm_fanout.testing`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .errors import ConfigError
from .sim import Box, SimConfig

QUICK = {"latency": 0.01, "jitter": 0.0}  # seconds; enough for calls to overlap


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "box(**fields): what the provider of the fixture `box` is like; see SimConfig")


@pytest.fixture
def box(request: pytest.FixtureRequest) -> Iterator[Box]:
    """A provider in a box that is started for this test, and is as its markers `box` say.

    Raises ConfigError or TypeError if they say what SimConfig does not know.
    """
    with Box(SimConfig(**{**QUICK, **_marked(request.node)})) as box:
        yield box


def _marked(node: pytest.Item) -> dict[str, Any]:
    """The fields of all markers; those nearer to the test last, so that they count."""
    fields: dict[str, Any] = {}
    for mark in reversed([*node.iter_markers("box")]):
        if mark.args:
            raise ConfigError(f"the marker box takes fields by name, got {mark.args!r}; write @pytest.mark.box(rpm=60)")
        fields |= mark.kwargs
    return fields
