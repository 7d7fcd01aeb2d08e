"""What is asked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from llm_fanout.core.tokens import estimate_tokens, most_tokens
from llm_fanout.providers import Request, Schema

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]


class City(BaseModel):
    name: str
    population: int


def test_input_tokens_count_all_messages() -> None:
    """Every message counts, whatever its role."""
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "some words"}]},
    ]

    assert Request("m", messages).input_tokens() == estimate_tokens("be brief") + estimate_tokens("some words")
    assert Request("m", [{"role": "assistant", "content": None}]).input_tokens() == 0


@pytest.mark.parametrize(
    ("params", "schema"),
    [
        ({"tools": TOOLS}, None),
        ({"functions": TOOLS}, None),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, None),
        ({"extra_body": {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}}, None),
        ({}, Schema.of(City)),
    ],
)
def test_what_is_declared_counts(params: Any, schema: Any) -> None:
    """Tools and schemas are input, too."""
    messages = [{"role": "user", "content": "hello"}]

    assert Request("m", messages, params, schema).input_tokens() > Request("m", messages).input_tokens() + 10


def test_texts_are_counted_as_asked() -> None:
    """Messages, their parts and calls, tools and schemas: by bytes, say."""
    parts = [
        {"type": "text", "text": "some words"},
        {"type": "tool_result", "content": "18 C"},
        {"type": "document", "source": {"type": "text", "data": "pages"}},
    ]
    messages = [{"role": "user", "content": "hello"}, {"role": "user", "content": parts}]

    assert Request("m", messages).input_tokens(most_tokens) == len("hellosome words18 Cpages")
    assert Request("m", messages, {"tools": TOOLS}).input_tokens(most_tokens) == 24 + len(json.dumps(TOOLS))


@pytest.mark.parametrize(
    ("params", "most"), [({}, None), ({"max_tokens": 5}, 5), ({"max_tokens": 5, "max_completion_tokens": 6}, 6)]
)
def test_the_most_that_an_answer_may_have(params: Any, most: int | None) -> None:
    """Under either name; the newer one is right."""
    assert Request("m", [], params).max_tokens == most


def test_a_request_does_not_show_its_parameters() -> None:
    """They may hold a key, in extra_headers."""
    assert "secret" not in repr(Request("m", [], {"extra_headers": {"x-key": "secret"}}))
