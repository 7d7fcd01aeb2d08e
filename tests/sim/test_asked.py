"""What is asked of the provider."""

from __future__ import annotations

import json

import pytest

from llm_fanout.core.tokens import estimate_tokens
from llm_fanout.sim.asked import Asked, read


def body(**fields: object) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello world"}], **fields}).encode()


def test_text_is_counted_in_strings_and_parts() -> None:
    """A message's content is text or parts; anything else has no tokens."""
    messages = [
        {"content": "hello world"},
        {"content": [{"type": "text", "text": "hello"}, {"type": "image_url"}, "odd"]},
        {"content": None},
    ]

    asked = read(body(messages=messages))

    tokens = estimate_tokens("hello world") + estimate_tokens("hello")
    assert asked == Asked("m", "hello world\nhello\n", tokens, None)


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
    asked = read(body(**fields))

    assert isinstance(asked, Asked)
    assert asked.most == most


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"model": "x"}', body(messages=["y"]), body(model=None), body(stream=True)])
def test_what_is_no_request_is_told_why(text: bytes) -> None:
    """Something to read, instead of a request."""
    assert isinstance(read(text), str)
