"""Responses, judged by the official SDK."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError
from pydantic import BaseModel

from llm_fanout.sim import Box


class Invoice(BaseModel):
    """What is asked for."""

    number: int
    lines: list[str]


TOOL: dict[str, Any] = {"type": "function", "name": "pay", "parameters": Invoice.model_json_schema(), "strict": False}
NAMED = {"type": "function", "name": "pay"}

OPENED = ["response.created", "response.in_progress", "response.output_item.added"]


async def events_of(client: AsyncOpenAI, text: str, **options: Any) -> list[Any]:
    events = await client.responses.create(model="gpt-sim", input=text, stream=True, **options)
    return [event async for event in events]


async def test_the_sdk_gets_a_response(openai: AsyncOpenAI, box: Box) -> None:
    """Text, usage, status, and what the request said; instructions are part of the prompt."""
    answer = await openai.responses.create(model="gpt-sim", input="hello", instructions="[[answer:yes]]")

    assert (answer.output_text, answer.status, answer.instructions) == ("yes", "completed", "[[answer:yes]]")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + 1
    assert len(box.arrivals("[[answer:yes]]\nhello")) == 1
    assert box.stats["by_path"] == {"/v1/responses": 1}


async def test_items_are_a_prompt(openai: AsyncOpenAI, box: Box) -> None:
    """A list of messages with parts; images count at their flat rate."""
    parts = [{"type": "input_text", "text": "[[answer:no]]"}, {"type": "input_image", "image_url": "data:,"}]
    items: Any = [{"role": "user", "content": parts}]
    answer = await openai.responses.create(model="gpt-sim", input=items)

    assert answer.output_text == "no"
    assert answer.usage is not None
    assert answer.usage.input_tokens > 1_000


async def test_an_answer_that_is_cut_is_incomplete(openai: AsyncOpenAI) -> None:
    """It says why."""
    answer = await openai.responses.create(model="gpt-sim", input="hello", max_output_tokens=10)

    assert (answer.status, answer.max_output_tokens) == ("incomplete", 10)
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"


async def test_a_stream_is_made_of_named_events(openai: AsyncOpenAI) -> None:
    """In OpenAI's order, numbered from 0; the last has the whole response."""
    events = await events_of(openai, "[[answer:one two three four]]")

    assert [event.type for event in events] == [
        *OPENED,
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(10))
    assert "".join(event.delta for event in events if event.type.endswith(".delta")) == "one two three four"
    assert events[-1].response.output_text == "one two three four"


async def test_a_stream_that_is_cut_ends_as_incomplete(openai: AsyncOpenAI) -> None:
    """Its last event is named so."""
    events = await events_of(openai, "hello", max_output_tokens=10)

    assert events[-1].type == "response.incomplete"
    assert events[-1].response.usage.output_tokens == 10


async def test_a_schema_is_answered_with_an_instance(openai: AsyncOpenAI) -> None:
    """The SDK parses it, streamed or not."""
    whole = await openai.responses.parse(model="gpt-sim", input="the invoice", text_format=Invoice)
    async with openai.responses.stream(model="gpt-sim", input="the invoice", text_format=Invoice) as events:
        streamed = await events.get_final_response()

    assert isinstance(whole.output_parsed, Invoice)
    assert isinstance(streamed.output_parsed, Invoice)


@pytest.mark.parametrize("choice", [NAMED, "required"])
async def test_a_forced_tool_is_called(openai: AsyncOpenAI, choice: Any) -> None:
    """The only item of the output is the call."""
    tools: Any = [TOOL]
    answer = await openai.responses.create(model="gpt-sim", input="pay", tools=tools, tool_choice=choice)

    call: Any = answer.output[0]
    assert (call.type, call.name) == ("function_call", "pay")
    assert Invoice.model_validate_json(call.arguments)


@pytest.mark.parametrize(
    ("choice", "kind"),
    [({}, "function_call"), ({"tool_choice": "auto"}, "function_call"), ({"tool_choice": "none"}, "message")],
)
async def test_a_tool_that_is_offered_is_used(openai: AsyncOpenAI, choice: Any, kind: str) -> None:
    """Unless it must not."""
    tools: Any = [TOOL]
    answer = await openai.responses.create(model="gpt-sim", input="pay", tools=tools, **choice)

    assert answer.output[0].type == kind


async def test_a_forced_tool_is_called_in_a_stream(openai: AsyncOpenAI) -> None:
    """Its arguments come piece by piece."""
    events = await events_of(openai, "[[answer:{}]]", tools=[TOOL], tool_choice="required")

    assert [event.type for event in events] == [
        *OPENED,
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(7))
    assert events[-1].response.output[0].arguments == "{}"


async def test_after_a_tools_result_comes_a_text(openai: AsyncOpenAI) -> None:
    """However the tool is forced; the result is part of the prompt."""
    items: Any = [
        {"role": "user", "content": "pay"},
        {"type": "function_call", "call_id": "1", "name": "pay", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "[[answer:done]]"},
    ]
    tools: Any = [TOOL]
    answer = await openai.responses.create(model="gpt-sim", input=items, tools=tools, tool_choice="required")

    assert answer.output_text == "done"


async def test_an_error_in_a_stream_is_an_event(openai: AsyncOpenAI) -> None:
    """Named so, and numbered like the others; the stream ends with it."""
    events = await events_of(openai, "[[fault:error_event]] [[answer:one two three four]]")

    assert [event.type for event in events[-2:]] == ["response.output_text.delta", "error"]
    assert [event.sequence_number for event in events] == list(range(6))


async def test_an_empty_response_is_completed_without_output(openai: AsyncOpenAI) -> None:
    """Nothing was begun, and nothing has come."""
    events = await events_of(openai, "[[fault:empty]]")

    assert [event.type for event in events] == ["response.created", "response.in_progress", "response.completed"]
    assert events[-1].response.output == []


async def test_a_truncated_response_is_in_progress_for_ever(openai: AsyncOpenAI) -> None:
    """It does not say that it is over, streamed or not."""
    events = await events_of(openai, "[[fault:truncated]]")
    answer = await openai.responses.create(model="gpt-sim", input="[[fault:truncated]]")

    assert "response.completed" not in [event.type for event in events]
    assert (answer.status, answer.usage) == ("in_progress", None)


@pytest.mark.parametrize("said", [None, "", [], ["x"]])
async def test_a_response_needs_an_input(openai: AsyncOpenAI, said: Any) -> None:
    """Without one, the request is wrong."""
    with pytest.raises(BadRequestError, match="input"):
        await openai.responses.create(model="gpt-sim", input=said)


async def test_formats_are_repeated(openai: AsyncOpenAI) -> None:
    """What was asked for is in the response, and some object is an object."""
    answer = await openai.responses.create(model="gpt-sim", input="x", text={"format": {"type": "json_object"}})

    assert answer.text is not None
    assert answer.text.format is not None
    assert answer.text.format.type == "json_object"
    assert isinstance(json.loads(answer.output_text), dict)
