"""Anthropic's Messages, written and read."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from anthropic._constants import ANTHROPIC_API_VERSION
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import ContentBlockParam, Message, ToolChoiceParam, ToolParam
from anthropic.types.message_create_params import MessageCreateParamsBase
from damage import damaged
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from llm_fanout import Rejected
from llm_fanout.providers import Event, MessagesFormat, ProviderError, Request, Schema
from llm_fanout.providers.messages import MAX_TOKENS, VERSION
from llm_fanout.providers.reading import rows
from llm_fanout.providers.writing import body_of
from llm_fanout.results import ToolCall
from llm_fanout.spending import Usage

MESSAGES = MessagesFormat()
ASK = [{"role": "user", "content": "hello"}]


class City(BaseModel):
    name: str


class Cities(BaseModel):
    by_name: dict[str, City]


def body(*messages: Any, **params: Any) -> dict[str, Any]:
    return body_of(MESSAGES, Request("claude-haiku-4-5", messages or ASK, params))


# How a request is written


def test_a_prompt_is_a_turn() -> None:
    """The API wants a bound of the answer; ours stands where none was said."""
    assert body() == {"model": "claude-haiku-4-5", "max_tokens": MAX_TOKENS, "messages": ASK}


def test_the_version_is_that_of_the_sdk() -> None:
    """What this format writes and reads is what the SDK does."""
    assert VERSION == ANTHROPIC_API_VERSION


@pytest.mark.parametrize(
    ("leading", "system"),
    [
        ([{"role": "system", "content": "be"}, {"role": "developer", "content": "brief"}], "be\n\nbrief"),
        (
            [{"role": "system", "content": [{"type": "text", "text": "be", "cache_control": {"type": "ephemeral"}}]},
             {"role": "system", "content": "brief"}, {"role": "system", "content": None}],
            [{"type": "text", "text": "be", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "brief"}],
        ),
    ],
)  # fmt: skip
def test_what_comes_first_is_the_system_prompt(leading: Any, system: Any) -> None:
    """As one text, or as blocks where what is to be cached is said; one in the middle stays a turn."""
    written = body(*leading, *ASK, {"role": "developer", "content": "now in French"})

    assert written["system"] == system
    assert written["messages"] == [*ASK, {"role": "system", "content": "now in French"}]


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        ),
        (
            {"type": "image_url", "image_url": "https://example.com/a.png"},
            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        ),
        (
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"},
                "title": "a.pdf",
            },
        ),
        ({"type": "file", "file": {"file_id": "f1"}}, {"type": "document", "source": {"type": "file", "file_id": "f1"}}),
        ({"type": "refusal", "refusal": "I cannot"}, {"type": "text", "text": "I cannot"}),
        ({"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, None),
        ({"type": "image", "source": {"type": "url", "url": "https://x"}}, None),
        ({"type": "thinking", "thinking": "hm", "signature": "x"}, None),
        ("odd", None),
    ],
)
def test_content_parts(part: Any, block: Any) -> None:
    """Chat's parts as blocks; Anthropic's own pass untouched."""
    assert body({"role": "user", "content": [part]})["messages"][0]["content"] == [block or part]


def test_audio_cannot_be_sent() -> None:
    """It is refused by name."""
    with pytest.raises(Rejected, match="content part of the type input_audio"):
        body({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]})


def test_a_conversation_with_tools() -> None:
    """Calls are blocks of the assistant's turn, the results of one turn are one of the user's."""
    calls = [
        {"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}},
        {"id": "toolu_2", "type": "function", "function": {"name": "now", "arguments": ""}},
    ]

    written = body(
        *ASK,
        {"role": "assistant", "content": "Let me look.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "toolu_1", "content": "18 C"},
        {"role": "tool", "tool_call_id": "toolu_2", "content": [{"type": "text", "text": "noon"}]},
        {"role": "assistant", "content": None, "tool_calls": calls[1:]},
        {"role": "tool", "tool_call_id": "toolu_2", "content": "one"},
        {"role": "assistant", "content": "18 C at one."},
        {"role": "assistant", "content": [{"type": "text", "text": "Done."}]},
        {"role": "assistant", "content": None, "refusal": "I cannot."},
    )

    assert written["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}},
                {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "18 C"},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": [{"type": "text", "text": "noon"}]},
            ],
        },
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_2", "content": "one"}]},
        {"role": "assistant", "content": "18 C at one."},
        {"role": "assistant", "content": [{"type": "text", "text": "Done."}]},
        {"role": "assistant", "content": "I cannot."},
    ]


def test_what_is_written_fits_the_sdks_types() -> None:
    """Blocks, tools and tool choice are such as its types describe."""
    call = {"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    files = [
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}},
        {"type": "file", "file": {"file_id": "f"}},
    ]
    tool = {
        "type": "function",
        "function": {"name": "weather", "description": "d", "parameters": PARAMETERS, "strict": True},
    }

    written = body(
        {"role": "user", "content": [*parts, *files]},
        {"role": "assistant", "content": "Let me look.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "toolu_1", "content": parts},
        tools=[tool],
        tool_choice="required",
        parallel_tool_calls=False,
    )

    for block in [block for turn in written["messages"] for block in turn["content"]]:
        TypeAdapter(ContentBlockParam).validate_python(block)
    TypeAdapter(ToolParam).validate_python(written["tools"][0])
    TypeAdapter(ToolChoiceParam).validate_python(written["tool_choice"])


def test_arguments_that_are_no_object() -> None:
    """The API takes objects only, and what the model wrote is not to be lost unseen."""
    call = {"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": '{"city": '}}

    with pytest.raises(Rejected, match="arguments of tool call 'toolu_1', which are no JSON object"):
        body(*ASK, {"role": "assistant", "tool_calls": [call]})


PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}


@pytest.mark.parametrize(
    ("tool", "written"),
    [
        (
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": PARAMETERS, "strict": True}},
            {"name": "f", "description": "d", "input_schema": PARAMETERS, "strict": True},
        ),
        (
            {"type": "function", "function": {"name": "f"}},
            {"name": "f", "input_schema": {"type": "object", "properties": {}}},
        ),
        ({"name": "f", "input_schema": PARAMETERS}, None),
        ({"type": "custom", "name": "f", "input_schema": PARAMETERS}, None),
        ({"type": "web_search_20260209", "name": "web_search"}, None),
        ("odd", None),
    ],
)
def test_tools(tool: Any, written: Any) -> None:
    """Functions by Anthropic's names; its own tools pass untouched."""
    assert body(tools=[tool])["tools"] == [written or tool]


@pytest.mark.parametrize(
    ("params", "fields"),
    [
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 5, "seed": None}, {"max_tokens": 5}),
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["a", "b"]}, {"stop_sequences": ["a", "b"]}),
        ({"metadata": {"user_id": "u1"}}, {"metadata": {"user_id": "u1"}}),
        ({"service_tier": "auto"}, {"service_tier": "auto"}),
        ({"service_tier": "default"}, {"service_tier": "standard_only"}),
        ({"reasoning_effort": "low"}, {"output_config": {"effort": "low"}}),
        ({"tool_choice": "auto"}, {"tool_choice": {"type": "auto"}}),
        ({"tool_choice": "required"}, {"tool_choice": {"type": "any"}}),
        ({"tool_choice": "none"}, {"tool_choice": {"type": "none"}}),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, {"tool_choice": {"type": "tool", "name": "f"}}),
        ({"tool_choice": {"type": "any"}}, {"tool_choice": {"type": "any"}}),
        ({"parallel_tool_calls": False}, {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}),
        ({"parallel_tool_calls": True}, {}),
        (
            {"tool_choice": "required", "parallel_tool_calls": False},
            {"tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
        ),
        ({"tools": "odd"}, {"tools": "odd"}),
        ({"response_format": {"type": "text"}}, {}),
        (
            {
                "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": PARAMETERS}},
                "reasoning_effort": "low",
            },
            {"output_config": {"format": {"type": "json_schema", "schema": PARAMETERS}, "effort": "low"}},
        ),
        (
            {"extra_body": {"thinking": {"type": "adaptive"}, "max_tokens": 9}},
            {"thinking": {"type": "adaptive"}, "max_tokens": 9},
        ),
    ],
)
def test_parameters(params: Any, fields: Any) -> None:
    """By Anthropic's names and places; extra_body has the last word."""
    written = body(**params)

    assert written == {"model": "claude-haiku-4-5", "max_tokens": MAX_TOKENS, "messages": ASK} | fields
    assert written.keys() <= MessageCreateParamsBase.__annotations__.keys()


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"temperature": 0}, "temperature"),
        ({"top_p": 0.5}, "top_p"),
        ({"seed": 1}, "seed"),
        ({"logprobs": True}, "logprobs"),
        ({"frequency_penalty": 1}, "frequency_penalty"),
        ({"metadata": {"user_id": "u", "team": "x"}}, r"metadata\['team'\]"),
        ({"service_tier": "flex"}, "service_tier='flex'"),
        ({"tool_choice": "sometimes"}, "tool_choice='sometimes'"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice="),
        ({"response_format": {"type": "json_object"}}, "response_format of the type 'json_object'"),
        ({"tools": [{"type": "custom", "custom": {"name": "c"}}]}, "tools of the type custom"),
    ],
)
def test_what_it_cannot_take(params: Any, name: str) -> None:
    """It is refused by name."""
    with pytest.raises(Rejected, match=f"messages API cannot take {name}") as caught:
        body(**params)

    assert caught.value.kind == "invalid"


def test_a_role_that_it_cannot_take() -> None:
    """The role of functions is not known there."""
    with pytest.raises(Rejected, match="role 'function'"):
        body({"role": "function", "name": "f", "content": "x"})


def test_a_schema_is_enforced_or_asked_for() -> None:
    """As the SDK sends it; in words where it leaves keys open."""
    enforced = body_of(MESSAGES, Request("m", ASK, {"reasoning_effort": "low"}, Schema.of(City), stream=True))
    asked = body_of(MESSAGES, Request("m", ASK, schema=Schema.of(Cities)))

    schema = {"type": "object", "properties": {"name": {"type": "string", "title": "Name"}}, "required": ["name"]}
    wanted = {"type": "json_schema", "schema": schema | {"title": "City", "additionalProperties": False}}
    assert (enforced["output_config"], enforced["stream"]) == ({"format": wanted, "effort": "low"}, True)
    assert "output_config" not in asked
    assert "by_name" in asked["system"]


# How an answer is read

USAGE = {
    "input_tokens": 10, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 4, "output_tokens": 7,
    "output_tokens_details": {"thinking_tokens": 2}, "service_tier": "standard",
}  # fmt: skip
THINKING = {"type": "thinking", "thinking": "hm, oh", "signature": "sig"}
TOOL_USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}}


def message(*blocks: Any, **changes: Any) -> dict[str, Any]:
    content = list(blocks) or [THINKING, {"type": "text", "text": "hello", "citations": None}]
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5", "content": content,
        "stop_reason": "end_turn", "stop_sequence": None, "usage": USAGE,
    } | changes  # fmt: skip


def read(answer: Any) -> Any:
    return MESSAGES.read(json.dumps(answer).encode())


def test_a_whole_answer() -> None:
    """Its text, without what was thought; all input tokens; and the bytes as they came."""
    raw = json.dumps(message()).encode()

    reply = MESSAGES.read(raw)

    assert (reply.text, reply.finish_reason, reply.raw) == ("hello", "stop", raw)
    assert reply.usage == Usage(input_tokens=17, output_tokens=7, cached_tokens=3, reasoning_tokens=2)
    assert (reply.refusal, reply.tool_calls) == (None, [])


def test_tool_calls_are_read() -> None:
    """Their input is the arguments."""
    reply = read(message({"type": "text", "text": "Let me look."}, TOOL_USE, {"type": "tool_use"}, stop_reason="tool_use"))

    assert (reply.text, reply.finish_reason) == ("Let me look.", "tool_calls")
    assert reply.tool_calls == [
        ToolCall("toolu_1", "weather", {"city": "Rome"}, '{"city":"Rome"}'),
        ToolCall("", "", {}, "{}"),
    ]


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("something_new", "something_new"),
        (None, None),
        (5, None),
    ],
)
def test_how_answers_end(reason: Any, finish_reason: str | None) -> None:
    """In OpenAI's words; what has none there keeps its own."""
    assert read(message(stop_reason=reason)).finish_reason == finish_reason


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"stop_details": {"type": "refusal", "category": "cyber", "explanation": "It is harmful."}}, "It is harmful."),
        ({}, "hello"),
        ({"content": [], "stop_details": {"type": "refusal", "category": "cyber"}}, "cyber"),
        ({"content": []}, "no reason given"),
    ],
)
def test_refusals(changes: Any, refusal: str) -> None:
    """In the most telling words that there are."""
    assert read(message(stop_reason="refusal", **changes)).refusal == refusal


@pytest.mark.parametrize(
    "answer", [{"type": "error", "error": {"message": "overloaded"}}, {"error": {"message": "overloaded"}}]
)
def test_errors_in_answers(answer: Any) -> None:
    """They are the provider's."""
    with pytest.raises(ProviderError, match="overloaded"):
        read(answer)


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"\xff", b"[" * 100_000, b'{"choices": []}'])
def test_what_is_no_message(raw: bytes) -> None:
    """It is a ValueError, and no error of the provider's."""
    with pytest.raises(ValueError, match=r"content|JSON object|too deep|Expecting|codec") as caught:
        MESSAGES.read(raw)

    assert not isinstance(caught.value, ProviderError)


def test_absent_usage() -> None:
    """Where nothing was counted, nothing is said."""
    assert read(message(usage=None)).usage is None


def test_the_sdks_own_object() -> None:
    """A real Message, also from an answer that its types refuse."""
    fine: Any = MESSAGES.response(json.dumps(message()).encode())
    odd: Any = MESSAGES.response(json.dumps(message(role="robot")).encode())

    assert isinstance(fine, Message)
    assert isinstance(odd, Message)
    assert (fine.content[1].text, odd.role) == ("hello", "robot")


def test_without_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has to be installed is said."""
    monkeypatch.setitem(sys.modules, "anthropic.types", None)

    with pytest.raises(ImportError, match=r"pip install 'llm-fanout\[anthropic\]'"):
        MESSAGES.response(b"{}")


# How a stream is put together


def event(kind: str, **fields: Any) -> Event:
    return Event(json.dumps({"type": kind, **fields}), kind)


def delta(index: int, kind: str, **fields: Any) -> Event:
    return event("content_block_delta", index=index, delta={"type": kind, **fields})


COUNTS = {"input_tokens": 10, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 4, "output_tokens": 1}
STARTED = message(content=[], stop_reason=None, usage={**COUNTS, "service_tier": "standard"})
CITATION = {
    "type": "char_location", "cited_text": "x", "document_index": 0, "document_title": None, "start_char_index": 0,
    "end_char_index": 1, "file_id": None,
}  # fmt: skip
EVENTS = [
    event("message_start", message=STARTED),
    event("content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""}),
    event("ping"),
    delta(0, "thinking_delta", thinking="hm, "),
    delta(0, "thinking_delta", thinking="oh"),
    delta(0, "signature_delta", signature="sig"),
    event("content_block_stop", index=0),
    event("content_block_start", index=1, content_block={"type": "text", "text": ""}),
    delta(1, "text_delta", text="hel"),
    delta(1, "citations_delta", citation=CITATION),
    delta(1, "text_delta", text="lo"),
    event("content_block_stop", index=1),
    event("content_block_start", index=2, content_block=TOOL_USE | {"input": {}}),
    delta(2, "input_json_delta", partial_json=""),
    delta(2, "input_json_delta", partial_json='{"city": '),
    delta(2, "input_json_delta", partial_json='"Rome"}'),
    event("content_block_stop", index=2),
    event("message_delta", delta={"stop_reason": "tool_use", "stop_sequence": None},
          usage={"output_tokens": 7, "input_tokens": None, "output_tokens_details": {"thinking_tokens": 2}}),
    event("message_stop"),
]  # fmt: skip


def fed(*events: Event) -> Any:
    assembler = MESSAGES.assembler()
    for each in events:
        assembler.feed(each)
    return assembler


def test_a_stream_is_the_answer_that_was_not_streamed() -> None:
    """Thoughts, text, citations, tool inputs and counts make the very same message."""
    assembler = MESSAGES.assembler()

    added = [text for each in EVENTS if (text := assembler.feed(each))]

    whole = message(THINKING, {"type": "text", "text": "hello", "citations": [CITATION]}, TOOL_USE, stop_reason="tool_use")
    assert (added, assembler.is_over) == (["hel", "lo"], True)
    assert json.loads(assembler.whole()) == whole
    assert MESSAGES.read(assembler.whole()).usage == Usage(17, 7, 3, 2)


def test_a_stream_is_what_the_sdk_makes_of_it() -> None:
    """Its own accumulation gives the same message."""
    snapshot: Any = None
    buffers: Any = {}
    for each in EVENTS:
        if each.name != "ping":
            snapshot = accumulate_event(event=json.loads(each.data), current_snapshot=snapshot, json_bufs=buffers)

    ours: Any = MESSAGES.response(fed(*EVENTS).whole())

    assert ours.to_dict(exclude_none=True) == snapshot.to_dict(exclude_none=True)


@pytest.mark.parametrize("end", range(1, 17))
def test_a_stream_that_broke_off(end: int) -> None:
    """What came is there, however far it got, and does not look whole."""
    assembler = MESSAGES.assembler()
    said = "".join([assembler.feed(each) for each in EVENTS[:end]])

    reply = MESSAGES.read(assembler.whole())

    assert (reply.text, reply.finish_reason) == (said, None)
    assert not assembler.is_over


def test_a_tool_input_that_broke_off() -> None:
    """What the model wrote of it is kept."""
    (call,) = MESSAGES.read(fed(*EVENTS[:15]).whole()).tool_calls

    assert call == ToolCall("toolu_1", "weather", {}, '{"city": ')


def test_an_error_in_a_stream() -> None:
    """It is the provider's, with its type."""
    with pytest.raises(ProviderError, match="Overloaded") as caught:
        fed(event("error", error={"type": "overloaded_error", "message": "Overloaded"}))

    assert json.loads(caught.value.body)["error"]["type"] == "overloaded_error"


@pytest.mark.parametrize("each", [Event("{"), delta("x", "text_delta", text="a")])  # type: ignore[arg-type]  # the mistake
def test_malformed_events(each: Event) -> None:
    """They are errors, too."""
    with pytest.raises(ValueError, match=r"Expecting|has its index"):
        fed(each)


@given(
    damaged(message(THINKING, TOOL_USE, stop_reason="refusal")),
    damaged([json.loads(each.data) for each in EVENTS]),
    st.integers(0, 19),
)
def test_no_answer_can_break_it(answer: Any, events: Any, end: int) -> None:
    """Whatever comes is a reply or a ValueError, whole and in events."""
    stream = [Event(json.dumps(each)) for each in rows(events)[:end]]
    for attempt in (lambda: read(answer), lambda: MESSAGES.read(fed(*stream).whole())):
        try:
            attempt()
        except ValueError:
            pass
