"""A quick provider, and the official SDKs as they come, without retries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from llm_fanout.sim import Box, SimConfig


@pytest.fixture
def box() -> Iterator[Box]:
    """A provider that lets in one key."""
    with Box(SimConfig(latency=0.01, api_key="sim-key")) as box:
        yield box


@pytest.fixture
async def openai(box: Box) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's SDK."""
    async with AsyncOpenAI(base_url=box.url, api_key="sim-key", max_retries=0) as client:
        yield client


@pytest.fixture
async def anthropic(box: Box) -> AsyncIterator[AsyncAnthropic]:
    """Anthropic's SDK."""
    async with AsyncAnthropic(base_url=box.url.removesuffix("/v1"), api_key="sim-key", max_retries=0) as client:
        yield client
