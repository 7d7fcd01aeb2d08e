"""What most answers are, read at a third of the cost of looking at whatever there may be: a text alone, or a vector.

Only what is wanted is decoded, and has to be of the type that it should be; the rest has to be UTF-8. Whatever is otherwise
in any way (tool calls, an error, several choices, a number where there should be text) is None here, and is read with
patience where this is called.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from ..spending import Usage
from .reading import SANE_TOKENS
from .reply import Reply

_Count = Annotated[int, msgspec.Meta(ge=0, le=SANE_TOKENS)]


class _Details(msgspec.Struct, gc=False):
    cached_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None


class _Used(msgspec.Struct, gc=False):
    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None

    def tokens(self) -> Usage:
        sent, made = self.prompt_tokens_details, self.completion_tokens_details
        cached = 0 if sent is None else sent.cached_tokens or 0
        reasoning = 0 if made is None else made.reasoning_tokens or 0
        return Usage(self.prompt_tokens, self.completion_tokens, cached, reasoning)


class _Message(msgspec.Struct, gc=False):
    content: str
    refusal: str | None = None
    tool_calls: list[None] | None = None  # none at all


class _Choice(msgspec.Struct, gc=False):
    message: _Message
    finish_reason: str | None = None
    error: None = None


class _Completion(msgspec.Struct, gc=False):
    choices: tuple[_Choice]
    object: str | None = None
    error: None = None
    usage: _Used | None = None


_completion = msgspec.json.Decoder(_Completion).decode


def completion(raw: bytes) -> Reply | None:
    """The Reply of a chat completion that is one choice with a text."""
    try:
        answer = _completion(raw.decode())  # msgspec 0.22 lets pass what is no UTF-8 in a text that it skips
    except (ValueError, RecursionError):
        return None
    choice, used = answer.choices[0], answer.usage
    message = choice.message
    if message.tool_calls or answer.object == "error":
        return None
    usage = None if used is None else used.tokens()
    return Reply(message.content, choice.finish_reason or None, usage, [], message.refusal or None, None, raw)


class _Datum(msgspec.Struct, gc=False):
    embedding: list[float]


class _Embeddings(msgspec.Struct, gc=False):
    data: tuple[_Datum]
    error: None = None
    usage: _Used | None = None


_embeddings = msgspec.json.Decoder(_Embeddings).decode


def vector(raw: bytes) -> Reply | None:
    """The Reply of an embedding of one text."""
    try:
        answer = _embeddings(raw.decode())
    except (ValueError, RecursionError):
        return None
    found, used = answer.data[0].embedding, answer.usage
    return Reply(usage=None if used is None else used.tokens(), vector=found, raw=raw) if found else None
