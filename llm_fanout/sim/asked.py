"""What is asked of the provider: the body of a Chat Completions request."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.tokens import estimate_tokens


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that can be answered.

    Attributes:
        model: Its model, whatever it is called.
        text: The text of all messages, by lines.
        tokens: Their tokens: the same count as a caller's estimate, so that what is charged is what was reserved.
        most: Tokens that the answer may have; None for no bound.
    """

    model: str
    text: str
    tokens: int
    most: int | None


def read(body: bytes) -> Asked | str:
    """The request in `body`, or what is wrong with it."""
    try:
        asked: Any = json.loads(body)
    except ValueError:
        return "We could not parse the JSON body of your request."
    messages = asked.get("messages") if isinstance(asked, dict) else None
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        return "'messages' must be a list of one message or more."
    if not isinstance(asked.get("model"), str):
        return "you must provide a model parameter"
    if asked.get("stream"):
        return "the simulated provider does not stream"
    texts = texts_of(messages)
    most = asked.get("max_completion_tokens", asked.get("max_tokens"))
    return Asked(asked["model"], "\n".join(texts), sum(map(estimate_tokens, texts)), most)


def texts_of(messages: Iterable[Mapping[str, Any]]) -> list[str]:
    """The text of each message, whose content is text or a list of parts; anything else has none."""
    return [_text_of(message.get("content")) for message in messages]


def _text_of(content: object) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
