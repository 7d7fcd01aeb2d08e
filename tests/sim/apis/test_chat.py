"""Chat Completions, judged by the official SDK."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import APIError, AsyncOpenAI, BadRequestError
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from llm_fanout.sim import Box


class Invoice(BaseModel):
    """A schema with a list and a nested object."""

    number: int
    lines: list[str]
    paid: bool | None


TOOL: dict[str, Any] = {"type": "function", "function": {"name": "pay", "parameters": Invoice.model_json_schema()}}
OTHER: dict[str, Any] = {"type": "function", "function": {"name": "wait"}}
NAMED = {"type": "function", "function": {"name": "pay"}}


async def ask(client: AsyncOpenAI, text: str, **options: Any) -> ChatCompletion:
    messages = [{"role": "user", "content": text}]
    answer: ChatCompletion = await client.chat.completions.create(model="gpt-sim", messages=messages, **options)  # type: ignore[call-overload]
    return answer


async def stream(client: AsyncOpenAI, text: str, **options: Any) -> list[ChatCompletionChunk]:
    messages: Any = [{"role": "user", "content": text}]
    chunks = await client.chat.completions.create(model="gpt-sim", messages=messages, stream=True, **options)
    return [chunk async for chunk in chunks]


async def test_the_sdk_gets_a_completion(openai: AsyncOpenAI) -> None:
    """The unmodified SDK reads the answer, its usage and its finish reason."""
    answer = await ask(openai, "hello", max_tokens=20)

    assert answer.choices[0].message.content is not None
    assert answer.choices[0].message.content.startswith("[simulated answer]")
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 20


async def test_a_stream_says_what_an_answer_says(openai: AsyncOpenAI) -> None:
    """First who speaks, then the text piece by piece, then why it ends; without having asked, no usage."""
    chunks = await stream(openai, "[[answer:one two three four five six seven]]")

    choices = [chunk.choices[0] for chunk in chunks]
    assert choices[0].delta.role == "assistant"
    assert [choice.delta.content for choice in choices[1:-1]] == ["one two three", " four five six", " seven"]
    assert [choice.finish_reason for choice in choices] == [None] * 4 + ["stop"]
    assert not any(chunk.usage for chunk in chunks)


async def test_a_stream_ends_with_the_usage_if_that_is_asked_for(openai: AsyncOpenAI) -> None:
    """In a chunk of its own, without choices."""
    chunks = await stream(openai, "hello", stream_options={"include_usage": True}, max_tokens=9)

    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 9
    assert chunks[-2].choices[0].finish_reason == "length"


async def test_a_schema_is_answered_with_an_instance(openai: AsyncOpenAI, box: Box) -> None:
    """The SDK parses it into the model that it asked for."""
    messages: Any = [{"role": "user", "content": "the invoice"}]
    answer = await openai.chat.completions.parse(model="gpt-sim", messages=messages, response_format=Invoice)

    assert isinstance(answer.choices[0].message.parsed, Invoice)
    assert box.stats["schema_answers"] == 1


async def test_a_streamed_schema_is_answered_with_an_instance(openai: AsyncOpenAI) -> None:
    """The SDK's own accumulation of the pieces parses as well."""
    messages: Any = [{"role": "user", "content": "the invoice"}]
    async with openai.chat.completions.stream(model="gpt-sim", messages=messages, response_format=Invoice) as events:
        answer = await events.get_final_completion()

    assert isinstance(answer.choices[0].message.parsed, Invoice)


async def test_some_object_is_an_object(openai: AsyncOpenAI) -> None:
    """`json_object` gets one."""
    answer = await ask(openai, "an object", response_format={"type": "json_object"})

    assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)


async def test_a_cut_schema_is_no_json(openai: AsyncOpenAI) -> None:
    """`max_completion_tokens` cuts an instance as it cuts a text."""
    schema = {"name": "x", "schema": Invoice.model_json_schema()}
    wanted = {"type": "json_schema", "json_schema": schema}
    answer = await ask(openai, "an invoice", response_format=wanted, max_completion_tokens=3)

    assert answer.choices[0].finish_reason == "length"
    with pytest.raises(ValueError, match=r"delimiter|Expecting|Unterminated"):
        json.loads(answer.choices[0].message.content or "")


@pytest.mark.parametrize("choice", [NAMED, "required"])
async def test_a_forced_tool_is_called(openai: AsyncOpenAI, box: Box, choice: Any) -> None:
    """By name, or as the first of those that there are; its arguments are what its parameters ask for."""
    answer = await ask(openai, "pay", tools=[TOOL, OTHER], tool_choice=choice)

    call: Any = (answer.choices[0].message.tool_calls or [None])[0]
    assert (call.function.name, answer.choices[0].finish_reason) == ("pay", "tool_calls")
    assert Invoice.model_validate_json(call.function.arguments)
    assert answer.choices[0].message.content is None
    assert box.stats["tool_answers"] == 1


async def test_a_forced_tool_is_called_in_a_stream(openai: AsyncOpenAI) -> None:
    """The pieces of its arguments add up, as the SDK adds them."""
    messages: Any = [{"role": "user", "content": "pay"}]
    tools: Any = [TOOL]
    create = openai.chat.completions.stream
    async with create(model="gpt-sim", messages=messages, tools=tools, tool_choice="required") as events:
        answer = await events.get_final_completion()

    calls: Any = answer.choices[0].message.tool_calls
    assert Invoice.model_validate_json(calls[0].function.arguments)
    assert answer.choices[0].finish_reason == "tool_calls"


async def test_a_tool_that_must_not_be_called_is_not(openai: AsyncOpenAI) -> None:
    """The answer is a text."""
    answer = await ask(openai, "pay", tools=[TOOL], tool_choice="none")

    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("choice", [{}, {"tool_choice": "auto"}])
async def test_a_tool_that_is_offered_is_used_once(openai: AsyncOpenAI, choice: Any) -> None:
    """With arguments that fit, whatever the answer is to be, after whose result that comes; again in the next turn."""
    messages: list[Any] = [{"role": "user", "content": "[[answer:done]]"}]
    tools: Any = [TOOL, OTHER]

    async def turn() -> Any:
        answer = await openai.chat.completions.create(model="gpt-sim", messages=messages, tools=tools, **choice)
        messages.append(answer.choices[0].message.model_dump(exclude_none=True))
        return answer.choices[0]

    call = (await turn()).message.tool_calls[0]
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "paid"})
    answer = await turn()
    messages.append({"role": "user", "content": "again"})
    again = await turn()

    assert Invoice.model_validate_json(call.function.arguments)
    assert (answer.message.content, answer.finish_reason) == ("done", "stop")
    assert again.message.tool_calls[0].function.name == call.function.name == "pay"


async def test_after_a_tools_result_comes_a_text(openai: AsyncOpenAI) -> None:
    """However the tool is forced: an agent's loop ends."""
    call = {"id": "1", "type": "function", "function": {"name": "pay", "arguments": "{}"}}
    messages: Any = [
        {"role": "user", "content": "pay"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "paid"},
    ]
    tools: Any = [TOOL]
    create = openai.chat.completions.create
    answer = await create(model="gpt-sim", messages=messages, tools=tools, tool_choice="required")

    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("tools", [[], [OTHER]])
async def test_a_tool_that_is_not_there_cannot_be_forced(openai: AsyncOpenAI, tools: Any) -> None:
    """The request is wrong, and the answer says so."""
    with pytest.raises(BadRequestError, match="pay"):
        await ask(openai, "pay", tools=tools, tool_choice=NAMED)


async def test_some_tool_needs_a_tool(openai: AsyncOpenAI) -> None:
    """`required` without tools is wrong."""
    with pytest.raises(BadRequestError, match="a tool"):
        await ask(openai, "pay", tool_choice="required")


async def test_a_schema_without_instances_is_refused(openai: AsyncOpenAI, box: Box) -> None:
    """Before it costs anything; a prompt that brings its own answer needs none."""
    schema = {"name": "x", "schema": {"type": "string", "pattern": "^a$"}}
    wanted: Any = {"type": "json_schema", "json_schema": schema}
    with pytest.raises(BadRequestError, match="pattern"):
        await ask(openai, "x", response_format=wanted, max_tokens=10)
    answer = await ask(openai, "[[answer:a]]", response_format=wanted)

    assert answer.choices[0].message.content == "a"
    assert box.stats["admitted"] == 1


async def test_repeated_beginnings_are_cached(openai: AsyncOpenAI) -> None:
    """The second of two prompts with the same long beginning says how much of it was cached."""
    system = {"role": "system", "content": "long " * 1_000}
    usages: list[Any] = []
    for text in ("a", "b"):
        messages: Any = [system, {"role": "user", "content": text}]
        answer = await openai.chat.completions.create(model="gpt-sim", messages=messages)
        usages.append(answer.usage)

    assert [usage.prompt_tokens_details.cached_tokens for usage in usages] == [0, 1_280]
    assert [usage.prompt_tokens for usage in usages] == [1_301, 1_301]


async def test_images_and_tools_count(openai: AsyncOpenAI) -> None:
    """An image at its flat rate, tools by their JSON."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "what"}, image]}]
    tools: Any = [TOOL]
    plain = await openai.chat.completions.create(model="gpt-sim", messages=messages)
    tooled = await openai.chat.completions.create(model="gpt-sim", messages=messages, tools=tools)

    assert plain.usage is not None
    assert tooled.usage is not None
    assert plain.usage.prompt_tokens == 1_001
    assert tooled.usage.prompt_tokens > 1_050


@pytest.mark.parametrize("fault", ["error_event", "error200"])
async def test_an_error_in_a_stream_is_an_error_to_the_sdk(openai: AsyncOpenAI, fault: str) -> None:
    """In the middle of it; where the whole answer is an error object, nothing comes at all."""
    if fault == "error200":
        assert await stream(openai, "[[fault:error200]]") == []
        return
    with pytest.raises(APIError, match="failed"):
        await stream(openai, "[[fault:error_event]]")
