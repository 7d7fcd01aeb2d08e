"""What is asked of the provider."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_fanout.core.tokens import estimate_tokens
from llm_fanout.sim.apis import APIS
from llm_fanout.sim.asked import (
    ANY,
    IMAGE_TOKENS,
    OFFERED,
    SOME_OBJECT,
    Asked,
    Unreadable,
    form_of,
    parsed,
    read_message,
    schema_in,
)

CHAT = APIS[0]


def read(**fields: object) -> Asked:
    """What a chat request asks."""
    return CHAT.read({"model": "m", "messages": [{"role": "user", "content": "hello world"}], **fields})


def test_text_is_counted_in_strings_and_parts() -> None:
    """A message's content is text or parts; anything else has no tokens."""
    messages = [
        {"content": "hello world"},
        {"content": [{"type": "text", "text": "hello"}, {"type": "file"}, "odd"]},
        {"content": None},
    ]

    asked = read(messages=messages)

    assert asked.text == "hello world\nhello\n"
    assert asked.tokens == estimate_tokens("hello world") + estimate_tokens("hello")


IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/"}}
CALL = {"id": "1", "type": "function", "function": {"name": "pay", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("message", "text", "tokens"),
    [
        ({"content": [{"type": "text", "text": "hello"}, IMAGE, {"type": "input_image"}]}, "hello", 1 + 2 * IMAGE_TOKENS),
        ({"content": [{"type": "tool_result", "content": [{"type": "image"}]}]}, "", IMAGE_TOKENS),
        ({"content": [{"type": "tool_result", "content": "hello"}]}, "hello", 1),
        ({"content": "hello", "tool_calls": [CALL]}, "hello", 1 + estimate_tokens(json.dumps([CALL]))),
        ({"content": [{"type": "tool_use", "input": {"number": 1}}]}, "", estimate_tokens('{"number": 1}')),
        ({"type": "function_call", "arguments": '{"number": 1}'}, "", estimate_tokens('{"number": 1}')),
        ({"type": "function_call_output", "output": "hello"}, "hello", 1),
    ],
)
def test_all_that_is_sent_counts(message: Any, text: str, tokens: int) -> None:
    """Images at a flat rate, calls by their JSON, results by what is in them; but only texts are text."""
    assert read_message(message) == (text, tokens)


def test_tools_and_schemas_count_by_their_json() -> None:
    """Before the messages."""
    tools = [{"type": "function", "function": {"name": "pay", "parameters": {}}}]
    schema = {"type": "object"}

    asked = read(tools=tools, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})

    assert [part for part, _ in asked.parts[:2]] == [tools, schema]
    assert asked.tokens == sum(estimate_tokens(json.dumps(each)) for each in (tools, schema)) + estimate_tokens(
        "hello world"
    )


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7}, 7),
        ({"max_tokens": 5, "max_completion_tokens": 7}, 7),
    ],
)
def test_the_newer_name_of_max_tokens_wins(fields: dict[str, int], most: int | None) -> None:
    """`max_completion_tokens` is read before `max_tokens`."""
    assert read(**fields).most == most


@pytest.mark.parametrize(
    "fields", [{"messages": ["y"]}, {"messages": []}, {"model": None}, {"max_tokens": 0}, {"max_tokens": "many"}]
)
def test_what_is_no_request_is_told_why(fields: dict[str, Any]) -> None:
    """Something to read, instead of a request."""
    with pytest.raises(Unreadable):
        read(**fields)


@pytest.mark.parametrize("raw", [b"{", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_no_request(raw: bytes) -> None:
    """Broken JSON, another thing, no text, or nested without end."""
    with pytest.raises(Unreadable, match="parse"):
        parsed(raw)


@pytest.mark.parametrize(
    ("choice", "after_result", "kind"),
    [(None, False, "schema"), ("pay", False, "tool"), (ANY, False, "tool"), ("pay", True, "schema")],
)
def test_a_forced_tool_goes_before_a_schema(choice: str | None, after_result: bool, kind: str) -> None:
    """Unless one has just been called."""
    form = form_of({"pay": {"type": "object"}}, choice, {"type": "string"}, after_result=after_result)

    assert form.kind == kind
    assert form.schema == ({"type": "object"} if kind == "tool" else {"type": "string"})


@pytest.mark.parametrize(
    ("tools", "name"),
    [
        ({}, ""),
        ({"pay": {"type": "object"}, "ask": {}}, "pay"),
        ({"pay": {"pattern": "^x"}, "ask": {"type": "object"}}, "ask"),
        ({"pay": {"pattern": "^x"}}, ""),
    ],
)
def test_an_offered_tool_is_called_if_it_can_be(tools: Any, name: str) -> None:
    """The first whose arguments can be made; the call is free, and without one the answer is what else was asked for."""
    form = form_of(tools, OFFERED, {"type": "string"}, after_result=False)

    assert (form.kind, form.tool, form.is_free) == (("tool", name, True) if name else ("schema", "", False))


@pytest.mark.parametrize("wanted", [None, {}, {"type": "text"}])
def test_no_schema_is_asked_for_by_other_formats(wanted: Any) -> None:
    """Then the answer is a text."""
    assert schema_in(wanted) is None


def test_a_schema_is_found_in_every_apis_words() -> None:
    """Chat wraps it; some object is an object."""
    schema = {"type": "integer"}

    assert schema_in({"type": "json_schema", "json_schema": {"schema": schema}}) == schema
    assert schema_in({"type": "json_schema", "schema": schema}) == schema
    assert schema_in({"type": "json_object"}) == SOME_OBJECT
