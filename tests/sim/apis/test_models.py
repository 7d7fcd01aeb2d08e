"""The models that are listed."""

from __future__ import annotations

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI


async def test_openais_sdk_lists_models(openai: AsyncOpenAI) -> None:
    """There is one; any other can be looked at, as any other is served."""
    assert [model.id async for model in openai.models.list()] == ["gpt-sim"]
    assert (await openai.models.retrieve("some/other")).id == "some/other"


async def test_anthropics_sdk_lists_models(anthropic: AsyncAnthropic) -> None:
    """The same list has what Anthropic says of a model."""
    model = await anthropic.models.retrieve("claude-sim")

    assert [each.id async for each in anthropic.models.list()] == ["gpt-sim"]
    assert (model.type, model.display_name, model.created_at.year) == ("model", "claude-sim", 2026)
