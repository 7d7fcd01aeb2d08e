"""Responses, written and read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from damage import damaged
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response
from openai.types.responses.response_create_params import (
    ResponseCreateParamsBase,
    ResponseCreateParamsNonStreaming,
)
from pydantic import BaseModel, TypeAdapter

from llm_fanout import Rejected
from llm_fanout.providers import Event, ProviderError, Request, ResponsesFormat, Schema
from llm_fanout.providers.reading import rows
from llm_fanout.providers.writing import body_of
from llm_fanout.results import ToolCall
from llm_fanout.spending import Usage

RESPONSES = ResponsesFormat()
ASK = [{"role": "user", "content": "hello"}]


class City(BaseModel):
    name: str


def body(*messages: Any, **params: Any) -> dict[str, Any]:
    return body_of(RESPONSES, Request("gpt-5-mini", messages or ASK, params))


# How a request is written


def test_a_prompt_is_input() -> None:
    """The model, and the message as an item."""
    assert body() == {"model": "gpt-5-mini", "input": [{"role": "user", "content": "hello"}]}


def test_what_comes_first_is_instructions() -> None:
    """System and developer messages before the conversation; one in its middle stays there."""
    system, developer = (
        {"role": "system", "content": "be"},
        {"role": "developer", "content": [{"type": "text", "text": "brief"}]},
    )

    written = body(system, developer, *ASK, system)

    assert written["instructions"] == "be\n\nbrief"
    assert written["input"] == [*ASK, system]


@pytest.mark.parametrize(
    ("part", "written"),
    [
        ({"type": "text", "text": "a"}, {"type": "input_text", "text": "a"}),
        (
            {"type": "image_url", "image_url": {"url": "https://x", "detail": "low"}},
            {"type": "input_image", "image_url": "https://x", "detail": "low"},
        ),
        (
            {"type": "image_url", "image_url": "data:image/png;base64,"},
            {"type": "input_image", "image_url": "data:image/png;base64,", "detail": "auto"},
        ),
        ({"type": "file", "file": {"file_id": "file-1"}}, {"type": "input_file", "file_id": "file-1"}),
        ({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}, None),
        ({"type": "input_text", "text": "a"}, None),
        ({"type": "input_file", "file_url": "https://x"}, None),
        ("odd", None),
    ],
)
def test_content_parts(part: Any, written: Any) -> None:
    """Chat's parts by their new names; Responses' own, and what is the same, pass untouched."""
    assert body({"role": "user", "content": [part]})["input"][0]["content"] == [written or part]


def test_a_conversation_with_tools() -> None:
    """Calls and their results are items beside the messages."""
    calls = [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}},
        {"id": "call_2", "type": "custom", "custom": {"name": "shell", "input": "ls"}},
    ]

    written = body(
        *ASK,
        {"role": "assistant", "content": "Let me look.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": "18 C"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "a.txt"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "18 C."}]},
        {"role": "assistant", "content": None, "refusal": "I cannot."},
        {"type": "item_reference", "role": "", "id": "rs_1"},
    )

    assert written["input"][1:] == [
        {"role": "assistant", "content": "Let me look."},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Rome"}'},
        {"type": "custom_tool_call", "call_id": "call_2", "name": "shell", "input": "ls"},
        {"type": "function_call_output", "call_id": "call_1", "output": "18 C"},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "a.txt"}]},
        {"role": "assistant", "content": "18 C."},
        {"role": "assistant", "content": "I cannot."},
        {"type": "item_reference", "role": "", "id": "rs_1"},
    ]


def test_what_is_written_fits_the_sdks_types() -> None:
    """Items and tools are such as its types describe."""
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    custom = {"id": "call_2", "type": "custom", "custom": {"name": "shell", "input": "ls"}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}

    written = body(
        {"role": "user", "content": [{"type": "text", "text": "a"}, image, {"type": "file", "file": {"file_id": "f"}}]},
        {"role": "assistant", "content": "Let me look.", "tool_calls": [call, custom]},
        {"role": "tool", "tool_call_id": "call_1", "content": "18 C"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "a.txt"}]},
        tools=[{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "c"}}],
        tool_choice={"type": "function", "function": {"name": "f"}},
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
    )

    assert len(written["input"]) == 6
    TypeAdapter(ResponseCreateParamsNonStreaming).validate_python(written)


PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
GRAMMAR = {"definition": "start: X", "syntax": "lark"}


@pytest.mark.parametrize(
    ("tool", "written"),
    [
        (
            {"type": "function", "function": {"name": "f", "parameters": PARAMETERS, "strict": True}},
            {"type": "function", "name": "f", "parameters": PARAMETERS, "strict": True},
        ),
        (
            {"type": "function", "function": {"name": "f", "description": "d"}},
            {
                "type": "function",
                "name": "f",
                "description": "d",
                "parameters": {"type": "object", "properties": {}},
                "strict": False,
            },
        ),
        ({"type": "custom", "custom": {"name": "c"}}, {"type": "custom", "name": "c"}),
        (
            {"type": "custom", "custom": {"name": "c", "format": {"type": "grammar", "grammar": GRAMMAR}}},
            {"type": "custom", "name": "c", "format": {"type": "grammar", **GRAMMAR}},
        ),
        ({"type": "web_search"}, None),
        ({"type": "function", "name": "f", "parameters": None, "strict": True}, None),
        ("odd", None),
    ],
)
def test_tools_lose_a_level(tool: Any, written: Any) -> None:
    """A function is as strict as it was; Responses' own tools pass untouched."""
    assert body(tools=[tool])["tools"] == [written or tool]


@pytest.mark.parametrize(
    ("params", "fields"),
    [
        ({"temperature": 0.5, "top_p": 1, "metadata": {"a": "b"}, "service_tier": "flex"}, None),
        ({"parallel_tool_calls": False, "store": False, "prompt_cache_key": "k", "top_logprobs": 2}, None),
        ({"max_tokens": 5}, {"max_output_tokens": 5}),
        ({"max_completion_tokens": 5}, {"max_output_tokens": 5}),
        ({"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}),
        ({"tool_choice": "required"}, None),
        (
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
            {"tool_choice": {"type": "function", "name": "f"}},
        ),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {
                "mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]}}},
            {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}},
        ),
        ({"tools": "odd"}, None),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}, "verbosity": "low"},
            {"text": {"format": {"type": "json_schema", "name": "x", "schema": {}}, "verbosity": "low"}},
        ),
        ({"response_format": {"type": "json_object"}}, {"text": {"format": {"type": "json_object"}}}),
        ({"extra_body": {"model": "x", "include": []}, "extra_headers": {"a": "b"}}, {"model": "x", "include": []}),
    ],
)  # fmt: skip
def test_parameters(params: Any, fields: Any) -> None:
    """By their new names and places; extra_body has the last word."""
    assert body(**params) == {"model": "gpt-5-mini", "input": ASK} | (params if fields is None else fields)


def test_every_field_is_one_of_the_sdks() -> None:
    """What we write is what its types have."""
    everything = {
        "temperature": 1, "top_p": 1, "top_logprobs": 1, "parallel_tool_calls": True, "metadata": {}, "service_tier": "auto",
        "store": True, "user": "u", "safety_identifier": "s", "prompt_cache_key": "k", "prompt_cache_options": {},
        "prompt_cache_retention": "24h", "moderation": {}, "max_tokens": 1, "reasoning_effort": "low", "verbosity": "low",
        "response_format": {"type": "text"}, "tools": [], "tool_choice": "auto",
    }  # fmt: skip

    written = body({"role": "system", "content": "x"}, *ASK, **everything)

    assert written.keys() <= ResponseCreateParamsBase.__annotations__.keys()
    assert len(written) == 3 + len(everything) - 1  # response_format and verbosity share a field


@pytest.mark.parametrize(
    "name",
    [
        "seed",
        "stop",
        "frequency_penalty",
        "presence_penalty",
        "logprobs",
        "modalities",
        "audio",
        "prediction",
        "logit_bias",
        "functions",
    ],
)
def test_what_it_cannot_take(name: str) -> None:
    """It is refused by name."""
    with pytest.raises(Rejected, match=f"responses API cannot take {name};") as caught:
        body(**{name: 1})

    assert caught.value.kind == "invalid"


def test_a_role_that_it_cannot_take() -> None:
    """The role of functions went out with them."""
    with pytest.raises(Rejected, match="role 'function'"):
        body({"role": "function", "name": "f", "content": "x"})


def test_a_schema_and_a_stream() -> None:
    """The schema is the text's format."""
    schema = Schema.of(City)

    written = body_of(RESPONSES, Request("m", ASK, {"verbosity": "low"}, schema, stream=True))

    wanted = {"type": "json_schema", "name": "City", "schema": schema.json, "strict": True}
    assert (written["text"], written["stream"]) == ({"format": wanted, "verbosity": "low"}, True)


# How an answer is read


def message(*parts: Any) -> dict[str, Any]:
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": list(parts)}


def said(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


REASONING = {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm, oh"}]}
CALL = {
    "id": "fc_1", "type": "function_call", "status": "completed", "call_id": "call_1", "name": "weather",
    "arguments": '{"city": "Rome"}',
}  # fmt: skip
CUSTOM = {"id": "ct_1", "type": "custom_tool_call", "call_id": "call_2", "name": "shell", "input": "ls"}


def response(*output: Any, **changes: Any) -> dict[str, Any]:
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "error": None,
        "incomplete_details": None, "model": "gpt-5-mini", "parallel_tool_calls": True,
        "output": list(output) or [REASONING, message(said("hello"))],
        "tool_choice": "auto", "tools": [], "usage": {
            "input_tokens": 11, "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0}, "output_tokens": 7,
            "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 18},
    } | changes  # fmt: skip


def read(answer: Any) -> Any:
    return RESPONSES.read(json.dumps(answer).encode())


def test_a_whole_answer() -> None:
    """The text of its messages, without what was thought; usage; and the bytes as they came."""
    raw = json.dumps(response()).encode()

    reply = RESPONSES.read(raw)

    assert (reply.text, reply.finish_reason, reply.usage, reply.raw) == ("hello", "stop", Usage(11, 7, 3, 2), raw)
    assert (reply.refusal, reply.tool_calls) == (None, [])


def test_tool_calls_are_read() -> None:
    """They are why an answer ended."""
    reply = read(response(CALL, CUSTOM))

    assert reply.finish_reason == "tool_calls"
    assert reply.tool_calls == [
        ToolCall("call_1", "weather", {"city": "Rome"}, '{"city": "Rome"}'),
        ToolCall("call_2", "shell", {}, "ls"),
    ]


@pytest.mark.parametrize(
    ("changes", "finish_reason"),
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_messages"}}, "length"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ({"status": "incomplete", "incomplete_details": {"reason": "steered"}}, None),
        ({"status": "incomplete"}, None),
        ({"status": "in_progress"}, None),
        ({"status": "queued"}, None),
        ({"status": "cancelled"}, None),
        ({"status": None}, None),
    ],
)
def test_how_answers_end(changes: Any, finish_reason: str | None) -> None:
    """In Chat's words; what is not at its end has none."""
    assert read(response(**changes)).finish_reason == finish_reason


def test_a_refusal_is_read() -> None:
    """It is a part of a message."""
    reply = read(response(message({"type": "refusal", "refusal": "I cannot"})))

    assert (reply.text, reply.refusal, reply.finish_reason) == ("", "I cannot", "stop")


@pytest.mark.parametrize(
    "answer",
    [
        response(status="failed", error={"code": "server_error", "message": "overloaded"}),
        {"error": {"message": "overloaded"}},
    ],
)
def test_errors_in_answers(answer: Any) -> None:
    """A response that failed is an error, with its code."""
    with pytest.raises(ProviderError, match="overloaded") as caught:
        read(answer)

    assert json.loads(caught.value.body) == {"error": answer["error"]}


def test_a_failure_without_an_error() -> None:
    """It is one all the same."""
    with pytest.raises(ProviderError, match="no message"):
        read(response(status="failed"))


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"[]", b"\xff", b"[" * 100_000, b'{"object": "chat.completion", "choices": []}']
)
def test_what_is_no_response(raw: bytes) -> None:
    """It is a ValueError, and no error of the provider's."""
    with pytest.raises(ValueError, match=r"output|JSON object|too deep|Expecting|codec") as caught:
        RESPONSES.read(raw)

    assert not isinstance(caught.value, ProviderError)


def test_absent_usage() -> None:
    """Where nothing was counted, nothing is said."""
    assert read(response(usage=None)).usage is None


def test_the_sdks_own_object() -> None:
    """A real Response, also from an answer that its types refuse."""
    fine: Any = RESPONSES.response(json.dumps(response()).encode())
    odd: Any = RESPONSES.response(json.dumps(response(created_at="yesterday")).encode())

    assert isinstance(fine, Response)
    assert isinstance(odd, Response)
    assert (fine.output_text, odd.created_at) == ("hello", "yesterday")


# How a stream is put together


def event(kind: str, **fields: Any) -> Event:
    return Event(json.dumps({"type": kind, "sequence_number": 0, **fields}), kind)


FAILED = response(status="failed", error={"code": "rate_limit_exceeded", "message": "overloaded"})
STARTED = response(status="in_progress", output=[], usage=None)
EVENTS = [
    event("response.created", response=STARTED),
    event("response.in_progress", response=STARTED),
    event("response.output_item.added", output_index=0, item=REASONING | {"summary": []}),
    event(
        "response.reasoning_summary_part.added", output_index=0, summary_index=0, part={"type": "summary_text", "text": ""}
    ),
    event("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="hm, "),
    event("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="oh"),
    event("response.output_item.done", output_index=0, item=REASONING),
    event("response.output_item.added", output_index=1, item=message() | {"status": "in_progress"}),
    event("response.content_part.added", output_index=1, content_index=0, part=said("")),
    event("response.output_text.delta", output_index=1, content_index=0, delta="hel", logprobs=[]),
    event("response.output_text.delta", output_index=1, content_index=0, delta="lo", logprobs=[]),
    event("response.output_text.done", output_index=1, content_index=0, text="hello"),
    event("response.output_item.done", output_index=1, item=message(said("hello"))),
    event("response.completed", response=response()),
]


def fed(*events: Event) -> Any:
    assembler = RESPONSES.assembler()
    for each in events:
        assembler.feed(each)
    return assembler


def test_a_stream_is_the_answer_that_was_not_streamed() -> None:
    """The last event has it whole."""
    assembler = RESPONSES.assembler()

    added = [text for each in EVENTS if (text := assembler.feed(each))]

    assert (added, assembler.is_over) == (["hel", "lo"], True)
    assert json.loads(assembler.whole()) == response()
    assert Response.model_validate_json(assembler.whole())


@pytest.mark.parametrize("end", range(2, len(EVENTS)))
def test_a_stream_that_broke_off(end: int) -> None:
    """What came is there, however far it got, and does not look whole."""
    assembler = RESPONSES.assembler()
    said = "".join([assembler.feed(each) for each in EVENTS[:end]])

    reply = RESPONSES.read(assembler.whole())

    assert (reply.text, reply.finish_reason) == (said, None)
    assert not assembler.is_over
    assert Response.model_validate_json(assembler.whole())


def test_items_stand_in_where_the_end_has_none() -> None:
    """Some servers end with a response whose output is empty."""
    assembler = fed(*EVENTS[:-1], event("response.completed", response=response(output=[])))

    assert json.loads(assembler.whole()) == response()


def test_calls_refusals_and_citations_are_put_together() -> None:
    """Whatever is said in pieces is there, though the end never came."""
    citation = {"type": "url_citation", "url": "https://x", "title": "x", "start_index": 0, "end_index": 1}
    token = {"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}
    assembler = fed(
        event("response.created", response=STARTED),
        event("response.output_item.added", output_index=2, item=CUSTOM | {"input": ""}),
        event("response.custom_tool_call_input.delta", output_index=2, delta="l"),
        event("response.custom_tool_call_input.delta", output_index=2, delta="s"),
        event("response.output_item.added", output_index=0, item=CALL | {"arguments": ""}),
        event("response.function_call_arguments.delta", output_index=0, delta='{"city": '),
        event("response.function_call_arguments.delta", output_index=0, delta='"Rome"}'),
        event("response.output_item.added", output_index=1, item=message()),
        event("response.output_text.delta", output_index=1, content_index=0, delta="a", logprobs=[token]),
        event("response.output_text.annotation.added", output_index=1, content_index=0, annotation=citation),
        event("response.refusal.delta", output_index=1, content_index=1, delta="I can"),
        event("response.refusal.delta", output_index=1, content_index=1, delta="not"),
        event("response.file_search_call.searching", output_index=1),
    )

    reply = RESPONSES.read(assembler.whole())

    assert [call.raw for call in reply.tool_calls] == ['{"city": "Rome"}', "ls"]
    assert (reply.text, reply.refusal) == ("a", "I cannot")
    assert json.loads(assembler.whole())["output"][1]["content"][0] == {
        "text": "a", "logprobs": [token], "annotations": [citation],
    }  # fmt: skip


def test_done_is_an_end() -> None:
    """Servers that end every stream as Chat Completions does."""
    assert fed(Event("[DONE]")).is_over


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (event("error", code="server_error", message="overloaded", param=None), "server_error"),
        (event("error", error={"code": "slow_down", "message": "overloaded"}), "slow_down"),
        (event("response.failed", response=FAILED), "rate_limit_exceeded"),
    ],
)
def test_errors_in_streams(failure: Event, code: str) -> None:
    """An error in the middle is the provider's error, with its code."""
    with pytest.raises(ProviderError, match="overloaded") as caught:
        fed(failure)

    assert json.loads(caught.value.body)["error"]["code"] == code


def test_malformed_events() -> None:
    """They are errors, too."""
    with pytest.raises(ValueError, match="Expecting"):
        fed(Event("{"))


@given(
    damaged(response(REASONING, message(said("a")), CALL)),
    damaged([json.loads(each.data) for each in EVENTS]),
    st.integers(0, 14),
)
def test_no_answer_can_break_it(answer: Any, events: Any, end: int) -> None:
    """Whatever comes is a reply or a ValueError, whole and in events."""
    stream = [Event(json.dumps(each)) for each in rows(events)[:end]]
    for attempt in (lambda: read(answer), lambda: RESPONSES.read(fed(*stream).whole())):
        try:
            attempt()
        except ValueError:
            pass
