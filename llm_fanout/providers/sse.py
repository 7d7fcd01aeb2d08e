"""Server-sent events, parsed as the WHATWG says (HTML, 9.2.6 "Interpreting an event stream"), from any chunks.

Stricter in two points, for a stream here is an answer and not a news ticker: bytes that are no UTF-8 are an error, and
so is an event that is too large to keep. `id` and `retry` are for reconnecting, which nothing here does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import NamedTuple

EVENT_LIMIT = 16 * 2**20  # bytes; a Responses stream ends with the whole answer in one event

_BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):  # cheaper to make than a frozen dataclass, and there may be a million
    """One event: its data, lines joined by line feeds, and its type."""

    data: str
    name: str = "message"


class SseParser:
    """Turns bytes into events; each byte is looked at once, however it is chunked.

    Args:
        limit: Bytes that one event may have, until it is complete.
    """

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self._limit = limit
        self._size = 0  # bytes of the event under way, the unfinished line included
        self._unfinished: list[bytes] = []  # pieces of a line whose end has not come
        self._after_cr = False
        self._at_start = True
        self._data: list[str] = []
        self._name = ""

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that end in `chunk`.

        Raises:
            ValueError: It is no UTF-8, or an event is larger than the limit. The parser cannot be used any more.
        """
        lines, rest = self._split(chunk)
        events = [event for line in lines if (event := self._take(line)) is not None]
        if rest:
            self._unfinished.append(rest)
            self._grow(len(rest))
        return events

    def _split(self, chunk: bytes) -> tuple[list[bytes], bytes]:
        """The lines that end in `chunk`, and what comes after the last of them."""
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")  # CR LF is one line's end, also where it is cut in two
        if not chunk:
            return [], b""
        self._after_cr = chunk.endswith(b"\r")
        lines = chunk.splitlines()  # of bytes: at CR, LF and CR LF, and nowhere else
        rest = b"" if chunk.endswith((b"\r", b"\n")) else lines.pop()
        if lines and self._unfinished:
            lines[0] = b"".join([*self._unfinished, lines[0]])
            self._size -= sum(map(len, self._unfinished))
            self._unfinished = []
        return lines, rest

    def _take(self, line: bytes) -> Event | None:
        """Take one line; the event that it ends, if it ends one."""
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        name, _, value = line.decode().partition(":")
        if name == "data":
            self._grow(len(line))
            self._data.append(value.removeprefix(" "))
        elif name == "event":
            self._name = value.removeprefix(" ")
        return None

    def _dispatch(self) -> Event | None:
        data, name = self._data, self._name
        self._data, self._name, self._size = [], "", 0
        return Event("\n".join(data), name or "message") if data else None

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._limit:
            raise ValueError(f"an event of the stream has more than {self._limit} bytes")


async def events(chunks: AsyncIterator[bytes], limit: int = EVENT_LIMIT) -> AsyncGenerator[Event, None]:
    """The events in `chunks`, each as soon as its last byte is there; one that the stream's end cuts off is dropped.

    Raises:
        ValueError: The stream is no UTF-8, or an event has more than `limit` bytes.
    """
    parser = SseParser(limit)
    async for chunk in chunks:
        for event in parser.feed(chunk):
            yield event
