"""What is asked."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from llm_fanout.core.tokens import estimate_tokens
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


def test_a_request_does_not_show_its_parameters() -> None:
    """They may hold a key, in extra_headers."""
    assert "secret" not in repr(Request("m", [], {"extra_headers": {"x-key": "secret"}}))
