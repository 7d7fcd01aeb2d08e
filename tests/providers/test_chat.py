"""Chat Completions, written and read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from damage import damaged
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from llm_fanout.providers import ChatFormat, Event, ProviderError, Request, Schema
from llm_fanout.providers.chat import wants_max_completion_tokens
from llm_fanout.providers.growing import Growing
from llm_fanout.providers.reading import rows, text_of
from llm_fanout.providers.writing import body_of
from llm_fanout.results import ToolCall
from llm_fanout.spending import Usage

CHAT = ChatFormat()
ASK = [{"role": "user", "content": "hello"}]


class City(BaseModel):
    name: str


def completion(**changes: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "hello", "refusal": None} | changes.pop("message", {})
    choice = {"index": 0, "finish_reason": "stop", "logprobs": None, "message": message} | changes.pop("choice", {})
    usage = {
        "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18,
        "prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 2},
    }  # fmt: skip
    base = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-5-mini", "choices": [choice]}
    return base | {"usage": usage} | changes


def read(answer: Any) -> Any:
    return CHAT.read(json.dumps(answer).encode())


def fed(*chunks: Any) -> Any:
    assembler = CHAT.assembler()
    for chunk in chunks:
        assembler.feed(Event(chunk if isinstance(chunk, str) else json.dumps(chunk)))
    return assembler


def chunk(delta: Any, finish_reason: str | None = None, **changes: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5-mini"}
    return base | {"choices": [choice], "usage": None} | changes


# How a request is written


def test_what_is_asked_is_sent_as_it_is() -> None:
    """Chat Completions has the SDK's words: tools, parts and parameters pass untouched."""
    content = [
        {"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}},
    ]
    messages = [{"role": "user", "content": content}]
    params = {
        "temperature": 0, "seed": None, "tool_choice": "auto", "tools": [{"type": "function", "function": {"name": "f"}}],
        "extra_headers": {"x-a": "b"}, "extra_body": {"top_k": 5, "temperature": 1},
    }  # fmt: skip

    body = body_of(CHAT, Request("gpt-4o", messages, params))

    assert body == {
        "model": "gpt-4o",
        "messages": messages,
        "temperature": 1,
        "tool_choice": "auto",
        "tools": params["tools"],
        "top_k": 5,
    }


@pytest.mark.parametrize(
    ("model", "newer"),
    [
        ("gpt-5-mini", True),
        ("gpt-5.4", True),
        ("gpt-10", True),
        ("o3", True),
        ("o4-mini-2025-04-16", True),
        ("ft:gpt-5-mini:acme", True),
        ("gpt-4o", False),
        ("gpt-4.1-nano", False),
        ("gpt-oss-120b", False),
        ("openai/gpt-5-mini", False),
        ("llama-3.3-70b", False),
    ],
)
def test_the_newer_name_of_the_bound(model: str, newer: bool) -> None:
    """OpenAI's reasoning models take max_completion_tokens only; other servers may not know it."""
    body = body_of(CHAT, Request(model, ASK, {"max_tokens": 5}))

    assert wants_max_completion_tokens(model) is newer
    assert body.get("max_completion_tokens") == (5 if newer else None)
    assert body.get("max_tokens") == (None if newer else 5)


def test_the_newer_name_wins() -> None:
    """Who says both means the one that the model knows."""
    both = {"max_tokens": 5, "max_completion_tokens": 6}

    assert body_of(CHAT, Request("gpt-5", ASK, both)) == {"model": "gpt-5", "messages": ASK, "max_completion_tokens": 6}


def test_a_schema_is_the_servers_to_enforce() -> None:
    """Under OpenAI's name for it; nothing is said in words."""
    request = Request("m", ASK, schema=Schema.of(City))

    enforced = body_of(CHAT, request)

    assert enforced["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "City", "schema": request.schema.json, "strict": True},  # type: ignore[union-attr]  # it has one
    }
    assert enforced["messages"] == ASK


def test_a_stream_says_its_usage() -> None:
    """Without include_usage it would say none; other stream options stay."""
    body = body_of(CHAT, Request("m", ASK, {"stream_options": {"include_obfuscation": False}}, stream=True))

    assert (body["stream"], body["stream_options"]) == (True, {"include_obfuscation": False, "include_usage": True})


# How an answer is read


def test_a_whole_answer() -> None:
    """Text, reason and usage, and the bytes as they came."""
    raw = json.dumps(completion()).encode()

    reply = CHAT.read(raw)

    assert (reply.text, reply.finish_reason, reply.usage) == ("hello", "stop", Usage(11, 7, 3, 2))
    assert (reply.refusal, reply.tool_calls, reply.raw) == (None, [], raw)


CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}},
    {"id": "call_2", "type": "function", "function": {"name": "broken", "arguments": '{"city": '}},
    {"id": "call_3", "type": "custom", "custom": {"name": "shell", "input": "ls -l"}},
]


def test_tool_calls_are_read() -> None:
    """Arguments as an object, and as the model wrote them; a custom tool's input is free text."""
    reply = read(completion(message={"content": None, "tool_calls": CALLS}, choice={}))

    assert reply.tool_calls == [
        ToolCall("call_1", "weather", {"city": "Rome"}, '{"city": "Rome"}'),
        ToolCall("call_2", "broken", {}, '{"city": '),
        ToolCall("call_3", "shell", {}, "ls -l"),
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"choice": {"finish_reason": "length"}}, ("hello", "length", None)),
        ({"choice": {"finish_reason": "content_filter"}}, ("hello", "content_filter", None)),
        ({"choice": {"finish_reason": None}}, ("hello", None, None)),
        ({"message": {"content": None, "refusal": "I cannot"}}, ("", "stop", "I cannot")),
        ({"message": {"content": [{"type": "thinking"}, {"type": "text", "text": "hi"}]}}, ("hi", "stop", None)),
        ({"choices": []}, ("", None, None)),
        ({"choices": None}, ("", None, None)),
        ({"choices": {"a": 1}}, ("", None, None)),
        ({"choice": {"message": 5}}, ("", "stop", None)),
        ({"error": None}, ("hello", "stop", None)),
    ],
)
def test_how_answers_end(changes: Any, expected: tuple[Any, ...]) -> None:
    """Text, finish reason and refusal, of answers that are whole and of those that are not."""
    reply = read(completion(**changes))

    assert (reply.text, reply.finish_reason, reply.refusal) == expected


@pytest.mark.parametrize(
    "answer",
    [
        {"error": {"message": "overloaded"}},
        {"error": "overloaded"},
        {"object": "error", "message": "overloaded", "code": 503},
        completion(choice={"finish_reason": "error", "error": {"code": 502, "message": "overloaded"}}),
    ],
)
def test_errors_in_answers(answer: Any) -> None:
    """Every shape that servers give to an error inside a success."""
    with pytest.raises(ProviderError, match="overloaded") as caught:
        read(answer)

    assert b"overloaded" in caught.value.body


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, None),
        ("many", None),
        ({}, Usage()),
        ({"prompt_tokens": -5, "completion_tokens": 10**30}, Usage()),
        ({"prompt_tokens": 1.5, "prompt_tokens_details": [1]}, Usage()),
    ],
)
def test_absurd_usage_does_no_harm(usage: Any, expected: Usage | None) -> None:
    """Counts that cannot be are not believed."""
    assert read(completion(usage=usage)).usage == expected


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"choices": 1', b'{"object": "list"}'])
def test_what_is_no_completion(raw: bytes) -> None:
    """It is a ValueError, and no error of the provider's."""
    with pytest.raises(ValueError, match=r"choices|JSON object|too deep|Expecting|codec") as caught:
        CHAT.read(raw)

    assert not isinstance(caught.value, ProviderError)


def test_the_sdks_own_object() -> None:
    """A real ChatCompletion, also from an answer that its types refuse."""
    fine: Any = CHAT.response(json.dumps(completion()).encode())
    odd: Any = CHAT.response(json.dumps(completion(created="yesterday")).encode())

    assert isinstance(fine, ChatCompletion)
    assert isinstance(odd, ChatCompletion)
    assert (fine.choices[0].message.content, odd.created) == ("hello", "yesterday")


# How a stream is put together


def test_a_stream_is_the_answer_that_was_not_streamed() -> None:
    """Deltas of text, and the usage in a chunk of its own, make the very same completion."""
    assembler = CHAT.assembler()
    chunks = [
        chunk({"role": "assistant", "content": "", "refusal": None}),
        chunk({"content": "hel"}, obfuscation="x8f"),
        chunk({"content": "lo"}),
        chunk({}, "stop"),
        chunk(None, choices=[], usage=completion()["usage"]),
    ]

    added = [assembler.feed(Event(json.dumps(each))) for each in chunks]
    over = assembler.is_over
    assembler.feed(Event("[DONE]"))

    assert added == ["", "hel", "lo", "", ""]
    assert (over, assembler.is_over) == (False, True)
    assert json.loads(assembler.whole()) == completion()
    assert CHAT.read(assembler.whole()).usage == Usage(11, 7, 3, 2)
    assert ChatCompletion.model_validate_json(assembler.whole())


def test_tool_calls_are_put_together() -> None:
    """By their index, also where they alternate; and a server without indices sends each at once."""
    pieces = [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}},
        {"index": 1, "id": "call_2", "type": "function", "function": {"name": "broken", "arguments": '{"city"'}},
        {"index": 0, "function": {"arguments": '{"city": '}},
        {"index": 1, "id": "", "function": {"name": None, "arguments": ": "}},
        {"index": 0, "function": {"arguments": '"Rome"}'}},
        {"id": "call_3", "type": "function", "function": {"name": "third", "arguments": "{}"}},
    ]
    assembler = fed(*[chunk({"tool_calls": [piece]}) for piece in pieces], chunk({}, "tool_calls"))

    reply = CHAT.read(assembler.whole())

    assert (reply.text, reply.finish_reason) == ("", "tool_calls")
    assert reply.tool_calls == [
        ToolCall("call_1", "weather", {"city": "Rome"}, '{"city": "Rome"}'),
        ToolCall("call_2", "broken", {}, '{"city": '),
        ToolCall("call_3", "third", {}, "{}"),
    ]
    assert ChatCompletion.model_validate_json(assembler.whole())


def test_refusals_reasoning_and_logprobs_are_put_together() -> None:
    """Whatever is said in pieces is there in the end."""
    token = {"token": "no", "logprob": -0.1, "bytes": [110, 111], "top_logprobs": []}
    first, second = chunk({"refusal": "I can"}), chunk({"refusal": "not", "reasoning_content": "hm"}, "stop")
    for each in (first, second):
        each["choices"][0]["logprobs"] = {"content": None, "refusal": [token]}
    assembler = fed(first, chunk({"reasoning_content": "oh, "}), second)

    choice = json.loads(assembler.whole())["choices"][0]

    assert CHAT.read(assembler.whole()).refusal == "I cannot"
    assert choice["message"]["reasoning_content"] == "oh, hm"
    assert choice["logprobs"] == {"content": None, "refusal": [token, token]}


def test_other_choices_are_kept_apart() -> None:
    """The text is the first choice's, whatever comes first."""
    other = chunk({"content": "other"}, "stop")
    other["choices"][0]["index"] = 1
    odd = chunk({"content": "!"}, "stop")
    odd["choices"][0]["index"] = "zero"
    assembler = CHAT.assembler()

    added = [assembler.feed(Event(json.dumps(each))) for each in (other, chunk({"content": "first"}), odd)]

    assert added == ["", "first", "!"]
    assert [each["message"]["content"] for each in json.loads(assembler.whole())["choices"]] == ["first!", "other"]


SAID = st.sampled_from([None, "", "a", "b", 0, {"content": ["x"]}, ["x"]])
DELTAS = st.dictionaries(st.sampled_from(["content", "content", "role", "refusal"]), SAID) | st.just({"content": "a"})
CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "index": st.sampled_from([0, 0, 1, None]),
        "delta": DELTAS,
        "finish_reason": SAID,
        "logprobs": SAID,
        "x": SAID,
    },
)


@given(st.lists(st.lists(CHOICES, max_size=2) | CHOICES.map(lambda choice: [choice])))
def test_pieces_that_are_only_appended_make_no_difference(chunks: list[list[dict[str, Any]]]) -> None:
    """The answer is what merging every chunk gives, whatever comes between pieces of plain text."""
    merged: dict[int, Growing] = {}
    texts = []
    for choice in [choice for choices in chunks for choice in choices]:
        fields = {name: value for name, value in choice.items() if name not in ("index", "delta")}
        merged.setdefault(choice.get("index") or 0, Growing()).merge({**fields, "message": choice.get("delta", {})})
        if not choice.get("index"):
            texts.append(text_of(choice.get("delta", {}).get("content")))
    assembler = CHAT.assembler()

    added = [assembler.feed(Event(json.dumps({"choices": choices}))) for choices in chunks]

    nothing = {"finish_reason": None, "logprobs": None}
    message = {"role": "assistant", "content": None, "refusal": None}
    assert "".join(added) == "".join(texts)
    assert json.loads(assembler.whole())["choices"] == [
        {**nothing, **each, "index": index, "message": {**message, **each["message"]}}
        for index, each in sorted((index, growing.value()) for index, growing in merged.items())
    ]


def test_a_stream_that_broke_off_has_no_finish_reason() -> None:
    """What came is there, and does not look whole."""
    reply = CHAT.read(fed(chunk({"content": "hel"})).whole())

    assert (reply.text, reply.finish_reason) == ("hel", None)
    assert CHAT.read(fed().whole()).finish_reason is None


@pytest.mark.parametrize(
    "data", ['{"error": {"message": "overloaded"}}', '{"choices": [{"error": {"message": "overloaded"}}]}']
)
def test_errors_in_streams(data: str) -> None:
    """An error in the middle is the provider's error."""
    with pytest.raises(ProviderError, match="overloaded"):
        fed(data)


@pytest.mark.parametrize("data", ["{", "5", "[" * 100_000])
def test_malformed_chunks(data: str) -> None:
    """They are errors, too; blank ones are not."""
    fed(" ")

    with pytest.raises(ValueError, match=r"too deep|JSON object|Expecting"):
        fed(data)


STREAM = [
    chunk({"role": "assistant", "content": "a", "tool_calls": [{"index": 0, "id": "1", "function": {"arguments": "{"}}]}),
    chunk(
        {"content": "b", "refusal": "c", "tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "}"}}]}, "stop"
    ),
    chunk(None, choices=[], usage=completion()["usage"]),
]


@given(damaged(completion(message={"tool_calls": CALLS})), damaged(STREAM), st.binary())
def test_no_answer_can_break_it(answer: Any, chunks: Any, raw: bytes) -> None:
    """Whatever comes is a reply or a ValueError, whole and in chunks."""
    attempts = [lambda: read(answer), lambda: CHAT.read(raw), lambda: CHAT.read(fed(*rows(chunks)).whole())]
    for attempt in attempts:
        try:
            attempt()
        except ValueError:
            pass
