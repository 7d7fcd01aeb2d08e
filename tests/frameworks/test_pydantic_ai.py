"""Pydantic AI over a client of ours: its runs, structured output, its streams, and what it does with what we raise."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agents import Agent as OtherAgent
from agents import OpenAIChatCompletionsModel, Runner
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from llm_fanout import FanOut, Limits, Stopped
from llm_fanout.sim import Box, SimConfig


class Plan(BaseModel):
    topics: list[str]


def model(fan: FanOut, kind: Any = OpenAIChatModel) -> Any:
    return kind("gpt-sim", provider=OpenAIProvider(openai_client=fan.openai()))


@pytest.mark.parametrize("kind", [OpenAIChatModel, OpenAIResponsesModel])
async def test_output_is_structured(fan: FanOut, kind: Any) -> None:
    """By way of a tool, as the framework asks for it."""
    async with fan.scope("planner") as scope:
        result = await Agent(model(fan, kind), output_type=Plan).run("What next?")

    assert isinstance(result.output, Plan)
    assert scope.summary.succeeded == 1


async def test_a_tool_fans_out_in_the_agents_scope(fan: FanOut) -> None:
    """The agent's own call, and those of a `map` in the tool that makes its output, are counted in its scope."""

    async def read_sources(topic: str) -> int:
        """Read what there is on a topic."""
        return len((await fan.map([f"Source {number}" for number in range(5)])).successes)

    async with fan.scope("planner") as scope:
        result = await Agent(model(fan), output_type=read_sources).run("What next?")

    assert (result.output, scope.summary.succeeded) == (5, 5 + 1)


async def test_a_run_is_streamed(fan: FanOut) -> None:
    """The text comes in pieces."""
    async with Agent(model(fan)).run_stream("[[answer:one two three]]") as stream:
        pieces = [piece async for piece in stream.stream_text(delta=True)]

    assert "".join(pieces) == "one two three"
    assert fan.summary.succeeded == 1


async def test_stopped_comes_out_of_a_run(fan: FanOut, box: Box) -> None:
    """Unwrapped, when the scope's budget has no room for the next call of the model."""
    with pytest.raises(Stopped):  # noqa: PT012  # of the scope, too: it was raised inside
        async with fan.scope("planner", token_budget=10):
            with pytest.raises(Stopped, match="budget of scope 'planner'") as raised:
                await Agent(model(fan)).run("Go")

    assert (type(raised.value), box.stats["requests"]) == (Stopped, 0)


async def test_there_is_one_retry_layer(fan: FanOut, box: Box) -> None:
    """A final failure costs one request, and is the framework's own error."""
    with pytest.raises(ModelHTTPError, match="500"):
        await Agent(model(fan)).run("[[fault:500]]")

    assert box.stats["requests"] == 1


async def test_two_frameworks_and_a_map_share_a_quota() -> None:
    """All of them at once, for more than a burst's worth: the provider refuses nothing."""
    with Box(SimConfig(latency=0.02, jitter=0.0, rpm=1_200, burst=20)) as box:
        async with FanOut("sim/gpt-sim", base_url=box.url, limits=Limits(rpm=1_200, burst=10)) as fan:
            pydantic = Agent(model(fan))
            other = OtherAgent(name="a", model=OpenAIChatCompletionsModel("gpt-sim", fan.openai()))
            async with fan.scope("all") as scope:
                report, *_ = await asyncio.gather(
                    whole(fan),
                    *(pydantic.run("[[answer:yes]]") for _ in range(8)),
                    *(Runner.run(other, "[[answer:yes]]") for _ in range(8)),
                )

        assert (box.stats["refused"], scope.summary.succeeded, len(report.successes)) == (0, 36, 20)


async def whole(fan: FanOut) -> Any:
    return await fan.map(["x"] * 20)
