"""What the tests of frameworks share: a provider, a client of it, and nothing that reaches out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import agents
import pytest

from llm_fanout import FanOut
from llm_fanout.sim import Box, SimConfig


@pytest.fixture(autouse=True)
def _untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """No framework tells anybody what it does."""
    agents.set_tracing_disabled(True)
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    monkeypatch.setenv("LANGCHAIN_TRACING_V2", "false")


@pytest.fixture
def box() -> Iterator[Box]:
    """A quick provider without limits or faults."""
    with Box(SimConfig(latency=0.02, ttft=0.01, jitter=0.0, answer_tokens=10)) as box:
        yield box


@pytest.fixture
async def fan(box: Box) -> AsyncIterator[FanOut]:
    """A client of that provider, which does not try again."""
    async with FanOut("sim/gpt-sim", base_url=box.url, max_retries=0) as fan:
        yield fan
