"""What an API is: how it is asked, and how it writes down what is answered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..answers import Spoken
from ..asked import Asked, JsonObject
from .vendors import Vendor


@dataclass(frozen=True, slots=True)
class Reply:
    """All that an answer consists of, before an API writes it down.

    Attributes:
        id: Twelve hexadecimal digits.
        created: Seconds since the epoch.
        asked: What it answers.
        said: What it says.
        cached: Tokens of the prompt that were cached.
        blank: Whether it has no content at all, not even an empty text.
    """

    id: str
    created: int
    asked: Asked
    said: Spoken
    cached: int = 0
    blank: bool = False

    @property
    def tool(self) -> str:
        """The tool that it calls, with `said` as arguments; "" for a text."""
        return self.asked.form.tool


class Streaming(Protocol):
    """How an API writes an answer piece by piece: server-sent events, one in each of the bytes.

    A stream is the opening, a delta for each piece, and the closing.
    """

    def opening(self, reply: Reply) -> list[bytes]:
        """What it begins with."""

    def delta(self, reply: Reply, piece: str, index: int) -> bytes:
        """The piece with that number, from 0."""

    def closing(self, reply: Reply, deltas: int) -> list[bytes]:
        """What it ends with, after so many deltas; says no finish reason if `reply` has none."""

    def failure(self, reply: Reply, deltas: int) -> bytes:
        """What says that it has failed, after so many deltas."""


class Api(Protocol):
    """One API; it has no state.

    Attributes:
        paths: Where it is served; it is counted under the first.
        vendor: Whose it is.
        streaming: How it streams; None if it never does.
    """

    paths: Sequence[str]
    vendor: Vendor
    streaming: Streaming | None

    def read(self, body: JsonObject) -> Asked:
        """What is asked. Raises Unreadable, or LookupError, TypeError, AttributeError where a part is amiss."""

    def whole(self, reply: Reply) -> dict[str, Any]:
        """The answer, all at once."""


def sse(payload: Mapping[str, Any], event: str | None = None) -> bytes:
    """A server-sent event."""
    line = f"data: {json.dumps(payload)}\n\n"
    return (f"event: {event}\n{line}" if event else line).encode()
