"""Anthropic's Messages, judged by the official SDK."""

from __future__ import annotations

from typing import Any

import anthropic as sdk
import pytest
from anthropic import AsyncAnthropic
from pydantic import BaseModel

from llm_fanout.sim import Box, SimConfig


class Invoice(BaseModel):
    """What is asked for."""

    number: int
    lines: list[str]


TOOL: dict[str, Any] = {"name": "pay", "input_schema": Invoice.model_json_schema()}


async def ask(client: AsyncAnthropic, content: Any, max_tokens: int = 200, **options: Any) -> Any:
    messages = content if isinstance(content, list) else [{"role": "user", "content": content}]
    return await client.messages.create(model="claude-sim", max_tokens=max_tokens, messages=messages, **options)


async def events_of(client: AsyncAnthropic, text: str, **options: Any) -> list[Any]:
    return [event async for event in await ask(client, text, stream=True, **options)]


async def test_the_sdk_gets_a_message(anthropic: AsyncAnthropic, box: Box) -> None:
    """Text, usage and stop reason; the system prompt is part of the prompt."""
    answer = await ask(anthropic, "hello", system="[[answer:yes]]")

    assert (answer.content[0].text, answer.stop_reason) == ("yes", "end_turn")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (7, 1)
    assert box.stats["by_path"] == {"/v1/messages": 1}


async def test_the_boxs_own_url_works_as_well(box: Box) -> None:
    """The SDK puts a /v1 behind that of the URL; models are listed there, too."""
    async with AsyncAnthropic(base_url=box.url, auth_token="sim-key", api_key=None, max_retries=0) as client:
        answer = await ask(client, "[[answer:yes]]")
        models = [model.id async for model in client.models.list()]

    assert answer.content[0].text == "yes"
    assert models == ["gpt-sim"]


async def test_a_message_that_is_cut_says_so(anthropic: AsyncAnthropic) -> None:
    """Its stop reason is max_tokens."""
    answer = await ask(anthropic, "hello", max_tokens=10)

    assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 10)


async def test_a_stream_is_made_of_named_events(anthropic: AsyncAnthropic) -> None:
    """In Anthropic's order; the ping is the SDK's to drop."""
    events = await events_of(anthropic, "[[answer:one two three four]]")

    assert [event.type for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert "".join(event.delta.text for event in events[2:4]) == "one two three four"
    assert (events[5].delta.stop_reason, events[5].usage.output_tokens) == ("end_turn", 5)


async def test_the_sdk_puts_a_stream_together(anthropic: AsyncAnthropic) -> None:
    """Its accumulation is the message that would have come at once."""
    messages: Any = [{"role": "user", "content": "[[answer:one two three four]]"}]
    async with anthropic.messages.stream(model="claude-sim", max_tokens=100, messages=messages) as events:
        answer: Any = await events.get_final_message()

    assert (answer.content[0].text, answer.stop_reason) == ("one two three four", "end_turn")


async def test_a_schema_is_answered_with_an_instance(anthropic: AsyncAnthropic, box: Box) -> None:
    """As the SDK asks for it, and as it did before 2.0."""
    messages: Any = [{"role": "user", "content": "the invoice"}]
    parse = anthropic.messages.parse
    answer = await parse(model="claude-sim", max_tokens=500, messages=messages, output_format=Invoice)
    wanted = {"type": "json_schema", "schema": Invoice.model_json_schema()}
    older = await ask(anthropic, "the invoice", extra_body={"output_format": wanted})

    assert isinstance(answer.parsed_output, Invoice)
    assert Invoice.model_validate_json(older.content[0].text)
    assert box.stats["schema_answers"] == 2


@pytest.mark.parametrize("choice", [{"type": "tool", "name": "pay"}, {"type": "any"}])
async def test_a_forced_tool_is_called(anthropic: AsyncAnthropic, choice: Any) -> None:
    """The only block is the call."""
    answer = await ask(anthropic, "pay", tools=[TOOL], tool_choice=choice)

    assert (answer.content[0].type, answer.content[0].name, answer.stop_reason) == ("tool_use", "pay", "tool_use")
    assert Invoice.model_validate(answer.content[0].input)


@pytest.mark.parametrize(
    ("choice", "kind"),
    [({}, "tool_use"), ({"tool_choice": {"type": "auto"}}, "tool_use"), ({"tool_choice": {"type": "none"}}, "text")],
)
async def test_a_tool_that_is_offered_is_used(anthropic: AsyncAnthropic, choice: Any, kind: str) -> None:
    """Unless it must not."""
    answer = await ask(anthropic, "pay", tools=[TOOL], **choice)

    assert answer.content[0].type == kind


async def test_a_forced_tool_is_called_in_a_stream(anthropic: AsyncAnthropic) -> None:
    """Its input comes as pieces of JSON, which the SDK adds up."""
    messages: Any = [{"role": "user", "content": "pay"}]
    tools: Any = [TOOL]
    stream = anthropic.messages.stream
    async with stream(
        model="claude-sim", max_tokens=200, messages=messages, tools=tools, tool_choice={"type": "any"}
    ) as events:
        answer: Any = await events.get_final_message()

    assert Invoice.model_validate(answer.content[0].input)


async def test_a_call_that_is_cut_has_no_input(anthropic: AsyncAnthropic) -> None:
    """What is left of its arguments is no object."""
    answer = await ask(anthropic, "pay", max_tokens=3, tools=[TOOL], tool_choice={"type": "any"})

    assert (answer.content[0].input, answer.stop_reason) == ({}, "max_tokens")


async def test_after_a_tools_result_comes_a_text(anthropic: AsyncAnthropic) -> None:
    """However the tool is forced; calls and results are part of the prompt, an image in a result, too."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    result = {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "[[answer:done]]"}, image]}
    messages = [
        {"role": "user", "content": "pay"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "pay", "input": {"number": 1}}]},
        {"role": "user", "content": [result]},
    ]
    answer = await ask(anthropic, messages, tools=[TOOL], tool_choice={"type": "any"})

    assert answer.content[0].text == "done"
    assert answer.usage.input_tokens > 1_000


async def test_cached_tokens_are_told_apart(anthropic: AsyncAnthropic) -> None:
    """They are not among the input tokens."""
    usages = [(await ask(anthropic, text, system="long " * 1_000)).usage for text in ("a", "b")]

    assert [(usage.input_tokens, usage.cache_read_input_tokens) for usage in usages] == [(1_301, 0), (21, 1_280)]


async def test_max_tokens_must_be_said(box: Box, anthropic: AsyncAnthropic) -> None:
    """Without it the request is wrong, which is said in Anthropic's shape."""
    with pytest.raises(sdk.BadRequestError) as caught:
        await anthropic.post("/v1/messages", body={"model": "x", "messages": [{"role": "user"}]}, cast_to=object)

    assert caught.value.body == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "max_tokens: Field required"},
        "request_id": caught.value.request_id,
    }


@pytest.mark.parametrize(
    ("fault", "error", "kind"),
    [
        ("401", sdk.AuthenticationError, "authentication_error"),
        ("409", sdk.ConflictError, "invalid_request_error"),
        ("429", sdk.RateLimitError, "rate_limit_error"),
        ("500", sdk.InternalServerError, "api_error"),
        ("503", sdk.ServiceUnavailableError, "api_error"),
        ("529", sdk.OverloadedError, "overloaded_error"),
    ],
)
async def test_errors_have_anthropics_shape(
    anthropic: AsyncAnthropic, fault: str, error: type[sdk.APIStatusError], kind: str
) -> None:
    """Each is what the SDK's own classes say, with its type, and named by the request's id."""
    with pytest.raises(error) as caught:
        await ask(anthropic, f"[[fault:{fault}]]")

    assert caught.value.type == kind
    assert caught.value.request_id


async def test_a_proxys_page_stays_a_page(anthropic: AsyncAnthropic) -> None:
    """It is nobody's error object."""
    with pytest.raises(sdk.InternalServerError, match="nginx"):
        await ask(anthropic, "[[fault:502]]")


async def test_a_wrong_key_is_refused(box: Box) -> None:
    """As Anthropic does."""
    async with AsyncAnthropic(base_url=box.url, api_key="other", max_retries=0) as client:
        with pytest.raises(sdk.AuthenticationError, match="authentication_error"):
            await ask(client, "hello")


@pytest.mark.parametrize("headers", ["openai", "none"])
async def test_refusals_have_anthropics_headers(headers: Any) -> None:
    """Whatever the config says, unless that is none."""
    with Box(SimConfig(rpm=60, burst=1, latency=0, headers=headers)) as box:
        async with AsyncAnthropic(base_url=box.url, api_key="x", max_retries=0) as client:
            await ask(client, "a")
            with pytest.raises(sdk.RateLimitError) as caught:
                await ask(client, "b")

    announced = {name for name in caught.value.response.headers if "ratelimit" in name}
    assert caught.value.type == "rate_limit_error"
    assert ("anthropic-ratelimit-requests-limit" in announced) == (headers == "openai")
    assert not any(name.startswith("x-") for name in announced)


async def test_an_error_in_a_stream_is_an_error_to_the_sdk(anthropic: AsyncAnthropic) -> None:
    """The SDK raises what the event says."""
    with pytest.raises(sdk.APIStatusError, match="failed"):
        await events_of(anthropic, "[[fault:error_event]]")


async def test_a_truncated_stream_has_no_stop_reason(anthropic: AsyncAnthropic) -> None:
    """No event says why it ends."""
    events = await events_of(anthropic, "[[fault:truncated]]")

    assert "message_delta" not in [event.type for event in events]
    assert (await ask(anthropic, "[[fault:truncated]]")).stop_reason is None


async def test_an_empty_answer_has_no_blocks(anthropic: AsyncAnthropic) -> None:
    """Streamed or not."""
    events = await events_of(anthropic, "[[fault:empty]]")
    answer = await ask(anthropic, "[[fault:empty]]")

    assert [event.type for event in events] == ["message_start", "message_delta", "message_stop"]
    assert answer.content == []
