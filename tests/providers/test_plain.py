"""What most answers are is read fast, and as it would be read with patience."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from damage import damaged
from hypothesis import example, given

from llm_fanout.providers import ChatFormat, EmbeddingsFormat, Reply, plain
from llm_fanout.spending import Usage

DETAILS = {"prompt_tokens_details": {"cached_tokens": 2}, "completion_tokens_details": {"reasoning_tokens": 3}}
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "error": None,
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "yes", "refusal": None, "tool_calls": []},
        }
    ],
    "usage": {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30, **DETAILS},
}
EMBEDDINGS = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 1, -2e-3]}],
    "usage": {"prompt_tokens": 3, "total_tokens": 3},
}


def patiently(form: Any, raw: bytes) -> Reply | None:
    """As it is read whatever it is; None if that is no answer."""
    try:
        reply: Reply = form._read(raw)
    except ValueError:
        return None
    return reply


def test_a_text_is_read() -> None:
    """With why it ended and what it used; with no usage where none was told."""
    whole = plain.completion(json.dumps(COMPLETION).encode())
    silent = plain.completion(json.dumps({**COMPLETION, "usage": None}).encode())

    assert whole is not None
    assert silent is not None
    assert (whole.text, whole.finish_reason, whole.usage, silent.usage) == ("yes", "stop", Usage(10, 20, 2, 3), None)


def test_a_vector_is_read() -> None:
    """All its numbers, and what it used."""
    reply = plain.vector(json.dumps(EMBEDDINGS).encode())

    assert reply is not None
    assert (reply.vector, reply.usage) == ([0.5, 1.0, -0.002], Usage(3))


def agrees(fast: Callable[[bytes], Reply | None], form: Any, answer: Any) -> bool:
    """Whether what is read fast, if it is, is what is read with patience."""
    raw = json.dumps(answer).encode()
    reply = fast(raw)
    return reply is None or reply == patiently(form, raw)


@given(damaged(COMPLETION))
def test_a_text_is_the_same_with_patience(answer: Any) -> None:
    """However the answer is damaged: it is read alike, or not read fast."""
    assert agrees(plain.completion, ChatFormat(), answer)


@given(damaged(EMBEDDINGS))
@example({"data": [{"embedding": [10**30, 1]}]})
def test_a_vector_is_the_same_with_patience(answer: Any) -> None:
    """However the answer is damaged: it is read alike, or not read fast."""
    assert agrees(plain.vector, EmbeddingsFormat(), answer)


def test_all_else_is_left_to_patience() -> None:
    """An error, calls, several choices, other types, nothing at all, and what is too deep."""
    message = {"message": {"content": "x"}}
    odd: list[Any] = [
        {**COMPLETION, "error": {"message": "no"}},
        {**COMPLETION, "object": "error"},
        {**COMPLETION, "choices": [message, message]},
        {**COMPLETION, "choices": [{**message, "error": {"code": 502}}]},
        {**COMPLETION, "choices": [{"message": {"content": "x", "tool_calls": [{"id": "1"}]}}]},
        {**COMPLETION, "choices": [{"message": {"content": "x", "tool_calls": [None]}}]},
        {**COMPLETION, "choices": [{"message": {"content": None}}]},
        {**COMPLETION, "choices": []},
        {**EMBEDDINGS, "data": [{"embedding": []}]},
        {**EMBEDDINGS, "data": [{"embedding": ["x"]}]},
        {},
    ]
    deep = b'{"x":' * 100_000

    assert [plain.completion(json.dumps(each).encode()) for each in odd] == [None] * len(odd)
    assert [plain.vector(json.dumps(each).encode()) for each in odd] == [None] * len(odd)
    assert (plain.completion(deep), plain.vector(deep)) == (None, None)


@pytest.mark.parametrize("where", [b"chatcmpl-1", b"chat.completion", b"assistant", b"total_tokens", b"yes", b"index"])
def test_what_is_no_text_is_left_to_patience(where: bytes) -> None:
    """A byte that is no UTF-8 anywhere, be it in what nobody reads: the SDK's object could not be made of it."""
    spoilt = [json.dumps(each).encode().replace(where, where + b"\xff") for each in (COMPLETION, EMBEDDINGS)]
    read = [plain.completion(spoilt[0]), plain.vector(spoilt[1])]

    assert [reply for reply, raw in zip(read, spoilt, strict=True) if b"\xff" in raw and reply] == []
