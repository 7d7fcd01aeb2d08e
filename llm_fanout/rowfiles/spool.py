"""Rows that came before their turn."""

from __future__ import annotations

from array import array
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

TAIL = 2**18  # bytes of the rows that came last, kept in memory: most wait for a few others only
TRIM = 65_536  # offsets of rows that have gone before they are dropped
WORTHWHILE = 16 * 2**20  # bytes of rows that have gone before those that have not are moved together


class Spool:
    """Rows that came before their turn: in a file without a name, and for each eight bytes of memory, its offset.

    Args:
        folder: Where the file is made, so that it takes its room where the output does; None: where temporary files are.

    Attributes:
        due: The position whose turn it is.
    """

    def __init__(self, folder: Path | None) -> None:
        self.due = 0
        self._folder = folder
        self._file: BinaryIO | None = None  # until there is more than a tail
        self._written = 0  # bytes in the file
        self._tail = bytearray()  # what comes after them
        self._gone = 0  # bytes that are not needed any more
        self._offsets: array[int] = array("q")  # from position `_first` on; -1: it is not here
        self._first = 0

    def __len__(self) -> int:
        """Positions, from the one whose turn it is to the last that is here."""
        return max(0, self._first + len(self._offsets) - self.due)

    def put(self, position: int, line: bytes) -> None:
        """Keep a row, its line break included, until its turn."""
        at = position - self._first
        self._offsets.extend(repeat(-1, at + 1 - len(self._offsets)))
        self._offsets[at] = self._written + len(self._tail)
        self._tail += line
        if len(self._tail) >= TAIL:
            self._write_tail()

    @property
    def has_next(self) -> bool:
        """Whether the row whose turn it is is here."""
        at = self.due - self._first
        return at < len(self._offsets) and self._offsets[at] >= 0

    def take(self) -> bytes | None:
        """The row whose turn it is, and go on; None if it is not here."""
        if not self.has_next:
            return None
        line = self._line_at(self._offsets[self.due - self._first])
        self._gone += len(line)
        self.go_on()
        if self._gone >= WORTHWHILE and self._gone * 2 > self._written:
            self._move_together()
        return line

    def go_on(self) -> None:
        """The row whose turn it was is written, or will never come: it is the next one's."""
        self.due += 1
        if self.due - self._first >= TRIM:
            del self._offsets[: self.due - self._first]
            self._first = self.due

    def close(self) -> None:
        """Give the room back."""
        if self._file is not None:
            self._file.close()

    def _write_tail(self) -> BinaryIO:
        if self._file is None:
            self._file = TemporaryFile(dir=self._folder)  # noqa: SIM115  # until `close`
        self._file.seek(self._written)
        self._written += self._file.write(self._tail)
        self._tail.clear()
        return self._file

    def _line_at(self, offset: int) -> bytes:
        if self._file is not None and offset < self._written:
            return _line_of(self._file, offset)
        start = offset - self._written
        return bytes(self._tail[start : self._tail.index(b"\n", start) + 1])

    def _move_together(self) -> None:
        """Move what is still needed to another file: room is taken for what waits, not for all that ever waited."""
        with self._write_tail() as old:
            self._file = None
            self._written = self._gone = 0
            for at in range(self.due - self._first, len(self._offsets)):
                if self._offsets[at] >= 0:
                    self.put(self._first + at, _line_of(old, self._offsets[at]))


def _line_of(file: BinaryIO, offset: int) -> bytes:
    file.seek(offset)
    return file.readline()
