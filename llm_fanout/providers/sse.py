"""Server-sent events, parsed as the WHATWG says (HTML, 9.2.6 "Interpreting an event stream"), from any chunks.

Stricter in two points, for a stream here is an answer and not a news ticker: bytes that are no UTF-8 are an error, and
so is an event that is too large to keep. `id` and `retry` are for reconnecting, which nothing here does.

Nearly all chunks are whole events of one line of data each: those are cut at their ends. All others go line by line.
"""

from __future__ import annotations

from typing import NamedTuple

EVENT_LIMIT = 16 * 2**20  # bytes; a Responses stream ends with the whole answer in one event

_BOM = b"\xef\xbb\xbf"
_CR = ord("\r")


class Event(NamedTuple):  # cheaper than a frozen dataclass, and there may be a million
    """One event: its data, lines joined by line feeds, and its type."""

    data: str
    name: str = "message"


class SseParser:
    """Turns bytes into events, in time that is linear in them, however they are chunked.

    Args:
        limit: Bytes that one event may have, until it is complete.
    """

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self._limit = limit
        self._size = 0  # bytes of the event under way, the unfinished line included
        self._unfinished: list[bytes] = []  # pieces of a line whose end has not come
        self._after_cr = False
        self._at_start = True
        self._is_between = True  # nothing of an event has come yet, nor half of a line's end
        self._data: list[str] = []
        self._name = ""

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that end in `chunk`.

        Raises:
            ValueError: It is no UTF-8, or an event is larger than the limit. The parser cannot be used any more.
        """
        if self._is_between and len(chunk) <= self._limit and (events := _at_once(chunk)):
            self._at_start = False
            return events
        events = self._read(chunk)
        self._is_between = not (self._data or self._unfinished or self._name or self._after_cr)
        return events

    def _read(self, chunk: bytes) -> list[Event]:
        """The events that end in `chunk`, line by line."""
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


_new = tuple.__new__  # Event's own is written in Python, and costs twice as much


def _at_once(chunk: bytes) -> list[Event]:
    """The events of a chunk that is nothing but whole ones of one line of data each; none if it is anything else."""
    if _CR in chunk:
        chunk = chunk.replace(b"\r\n", b"\n")
    if not chunk.endswith(b"\n\n") or _CR in chunk:
        return []
    if chunk.startswith(b"data: "):
        lines = chunk[6:-2].decode().split("\n\ndata: ")
        return [_new(Event, (data, "message")) for data in lines] if chunk.count(b"\n") == 2 * len(lines) else []
    if chunk.startswith(b"event: "):
        pairs = [each.partition("\ndata: ") for each in chunk[7:-2].decode().split("\n\nevent: ")]
        if chunk.count(b"\n") == 3 * len(pairs) and all(found for _, found, _ in pairs):
            return [_new(Event, (data, name or "message")) for name, _, data in pairs]
    return []
