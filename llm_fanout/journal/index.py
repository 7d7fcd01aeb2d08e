"""Where the answers in a journal are, by the keys of their calls: a dict would take seven times the memory."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable

KEY = 20  # bytes of a key: a digest, and its occurrence


class Index:
    """Rows by key, 28 bytes for each, looked up by bisection.

    Args:
        pairs: Keys of `KEY` bytes with their rows, in the order of the keys; of several rows of a key the last one counts.
    """

    __slots__ = ("_keys", "_rows")

    def __init__(self, pairs: Iterable[tuple[bytes, int]] = ()) -> None:
        self._keys = bytearray()
        self._rows = array("q")
        for key, row in pairs:
            self._keys += key
            self._rows.append(row)

    def row(self, key: bytes) -> int | None:
        """That of `key`; None if there is none."""
        at = bisect_right(self, key) - 1
        return self._rows[at] if at >= 0 and self[at] == key else None

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: int) -> bytes:
        return bytes(self._keys[at * KEY : (at + 1) * KEY])
