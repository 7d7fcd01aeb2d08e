"""OpenAI Agents over a client of ours: its runs, its tools, its streams, and what it does with what we raise."""

from __future__ import annotations

from typing import Any

import pytest
from agents import Agent, Model, ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool
from agents.items import ItemHelpers, ToolCallOutputItem
from openai import InternalServerError

from llm_fanout import FanOut, Stopped
from llm_fanout.sim import Box


def agent(model: Model, tools: Any = ()) -> Agent[Any]:
    """One that calls each of its tools first, if it has any."""
    settings = ModelSettings(tool_choice="required") if tools else ModelSettings()
    return Agent(name="a", model=model, tools=list(tools), model_settings=settings)


@pytest.mark.parametrize("kind", [OpenAIChatCompletionsModel, OpenAIResponsesModel])
async def test_a_tool_fans_out_in_the_agents_scope(fan: FanOut, kind: Any) -> None:
    """The agent's own calls, and those of a `map` in its tool, are counted in the scope in which it runs."""
    fanned: list[int] = []

    @function_tool
    async def read_sources(topic: str) -> str:
        report = await fan.map([f"Source {number}" for number in range(5)])
        fanned.append(len(report.successes))
        return "[[answer:all read]]"

    async with fan.scope("researcher") as scope:
        result = await Runner.run(agent(kind("gpt-sim", fan.openai()), [read_sources]), "Go")

    assert result.final_output == "all read"
    assert fanned == [5]
    assert (scope.summary.succeeded, scope.summary.failed) == (5 + 2, 0)


async def test_a_run_is_streamed(fan: FanOut) -> None:
    """Its events come, and the text."""
    run = Runner.run_streamed(agent(OpenAIResponsesModel("gpt-sim", fan.openai())), "[[answer:one two three]]")
    texts = [
        ItemHelpers.text_message_output(event.item)
        async for event in run.stream_events()
        if event.type == "run_item_stream_event" and event.item.type == "message_output_item"
    ]

    assert texts == ["one two three"]
    assert fan.summary.succeeded == 1


async def test_stopped_comes_out_of_a_run(fan: FanOut, box: Box) -> None:
    """Unwrapped, when the scope's budget has no room for the next call of the model."""
    model = OpenAIChatCompletionsModel("gpt-sim", fan.openai())
    with pytest.raises(Stopped):  # noqa: PT012  # of the scope, too: it was raised inside
        async with fan.scope("researcher", token_budget=10):
            with pytest.raises(Stopped, match="budget of scope 'researcher'") as raised:
                await Runner.run(agent(model), "Go")

    assert (type(raised.value), box.stats["requests"]) == (Stopped, 0)


async def test_stopped_comes_out_of_a_stream(fan: FanOut) -> None:
    """Of one that reads its events, too."""
    model = OpenAIChatCompletionsModel("gpt-sim", fan.openai())
    with pytest.raises(Stopped):  # noqa: PT012  # of the scope, too: it was raised inside
        async with fan.scope("researcher", token_budget=10):
            run = Runner.run_streamed(agent(model), "Go")
            with pytest.raises(Stopped, match="budget of scope 'researcher'"):
                _ = [event async for event in run.stream_events()]


async def test_what_a_tool_raises_is_swallowed(fan: FanOut, monkeypatch: pytest.MonkeyPatch) -> None:
    """The framework tells the model that the tool failed, and goes on; the scope has been told of the Stopped."""
    noted: list[Stopped] = []
    monkeypatch.setattr("llm_fanout.scope.Scope.note", lambda scope, error: noted.append(error))

    @function_tool
    async def ask_someone(question: str) -> str:
        prompt: Any = [{"role": "user", "content": question}]
        await fan.openai().chat.completions.create(model="gpt-sim", messages=prompt, max_tokens=1_000_000)
        return "never"

    async with fan.scope("researcher", token_budget=100_000):
        result = await Runner.run(agent(OpenAIChatCompletionsModel("gpt-sim", fan.openai()), [ask_someone]), "Go")

    outputs = [item.output for item in result.new_items if isinstance(item, ToolCallOutputItem)]
    assert len(outputs) == 1
    assert "error" in outputs[0]
    assert [error.kind for error in noted] == ["budget"]


async def test_there_is_one_retry_layer(fan: FanOut, box: Box) -> None:
    """A final failure costs one request, and is the SDK's own error."""
    with pytest.raises(InternalServerError):
        await Runner.run(agent(OpenAIChatCompletionsModel("gpt-sim", fan.openai())), "[[fault:500]]")

    assert box.stats["requests"] == 1
