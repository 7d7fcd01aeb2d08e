"""One JSON object that arrives in pieces.

All the APIs stream in the same manner: objects are joined, lists are extended or joined at the `index` of their entries,
texts are appended. So each assembler turns its events into deltas of one shape, and this puts them together.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any

# Texts that come whole: identities, kinds and reasons. Some servers repeat them with every piece.
WHOLE = frozenset(
    {"id", "type", "role", "name", "call_id", "status", "format", "finish_reason", "native_finish_reason", "stop_reason"}
)
DEPTH = 8  # levels that are joined; deltas of today have 4, and what lies deeper is taken as it is


def is_idempotent(delta: Mapping[str, Any]) -> bool:
    """Whether merging `delta` once more would change nothing."""
    return all(value is None or (name in WHOLE and isinstance(value, str)) for name, value in delta.items())


class Growing:
    """A JSON object put together from deltas. Appending to a text does not copy it."""

    __slots__ = ("_fields",)

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}

    def merge(self, delta: Mapping[str, Any], depth: int = DEPTH) -> None:
        """Add what `delta` says; a null adds nothing, but its name."""
        fields = self._fields
        for name, value in delta.items():
            if value is None:
                fields.setdefault(name, None)
            elif isinstance(value, str):
                self._append(name, value)
            elif depth and isinstance(value, dict):
                self._child(name, Growing).merge(value, depth - 1)
            elif depth and isinstance(value, list):
                self._child(name, _Entries).extend(value, depth - 1)
            else:
                fields[name] = value

    def text_at(self, name: str, *inside: str) -> StringIO:
        """Where the text under these names grows: what is written there is appended, until a delta says something else."""
        text: StringIO = self._child(name, Growing).text_at(*inside) if inside else self._child(name, StringIO)
        return text

    def value(self) -> dict[str, Any]:
        """The object so far."""
        return {name: _plain(value) for name, value in self._fields.items()}

    def _append(self, name: str, piece: str) -> None:
        if name in WHOLE:
            self._fields[name] = piece or self._fields.get(name, piece)
        else:
            self._child(name, StringIO).write(piece)

    def _child(self, name: str, kind: type[Any]) -> Any:
        child = self._fields.get(name)
        if not isinstance(child, kind):
            child = self._fields[name] = kind()
        return child


class _Entries:
    """A list: entries with the same `index` are one, which is told by its place afterwards."""

    __slots__ = ("_at", "_entries")

    def __init__(self) -> None:
        self._entries: list[Any] = []
        self._at: dict[int, Growing] = {}

    def extend(self, entries: list[Any], depth: int) -> None:
        for entry in entries:
            index = entry.get("index") if isinstance(entry, dict) else None
            if isinstance(index, int):
                self._entry(index).merge({name: value for name, value in entry.items() if name != "index"}, depth)
            else:
                self._entries.append(entry)

    def value(self) -> list[Any]:
        return [_plain(entry) for entry in self._entries]

    def _entry(self, index: int) -> Growing:
        if index not in self._at:
            self._at[index] = Growing()
            self._entries.append(self._at[index])
        return self._at[index]


def _plain(value: Any) -> Any:
    if isinstance(value, StringIO):
        return value.getvalue()
    return value.value() if isinstance(value, Growing | _Entries) else value
