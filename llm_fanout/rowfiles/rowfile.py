"""A file with one row per result, in order: it takes results as they come, and appears whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from .columns import columns_of
from .lines import json_line
from .place import Target, place_of
from .spool import Spool
from .tables import JsonLines, Table, kind_of

if TYPE_CHECKING:
    from ..results import Result

STEP = 4_096  # rows that have waited and are written in one step


class RowFile:
    """Rows on their way to a file or a stream: at a path, whose suffix says of what kind, or open already.

    Rows are in the order of their positions; one that comes before its turn waits on disk. If the file has columns, all wait
    until the first answer says which. Leaving the `with` block without `put_in_place` leaves nothing behind.
    """

    def __init__(self, target: Target) -> None:
        self._place = place_of(target)
        self._spool = Spool(self._place.folder)
        self._kind: type[Table] = JsonLines
        self._table: Table | None = None
        self._file: BinaryIO | None = None
        self._is_in_place = False

    def __enter__(self) -> Self:
        """Take the place. A stream is opened when there is something for it: to look at a pipe would end it.

        Raises:
            ConfigError: Nothing can be written there, somebody is writing it just now, or there is no such kind of file.
        """
        self._kind = kind_of(self._place.path, is_stream=self._place.is_stream)
        if not self._place.is_stream:
            self._file = self._place.open()
        return self

    def __exit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self._spool.close()
        if self._file is not None and not self._is_in_place:
            self._place.clear(self._file)

    def write(self, results: Iterable[tuple[int, Result[Any]]]) -> None:
        """Write results, each with its position, as far as it is their turn; the others later.

        Raises:
            FanOutError: A value cannot be written as JSON. OSError: There is no room.
        """
        for position, result in results:
            row = result.to_dict()
            line = json_line(row)
            if self._table is None and (result.ok or not self._kind.has_columns):
                self._table = self._kind(columns_of(result.returned, row))
                self._catch_up()
            if position == self._spool.due and self._table is not None:
                self._write(self._table.encode(line))
                self._spool.go_on()
            else:
                self._spool.put(position, line.encode())
        self._catch_up()
        if self._place.is_stream and self._file is not None:
            self._file.flush()

    @property
    def is_behind(self) -> bool:
        """Whether rows whose turn it is are still to be written: each `write` does some of them."""
        return self._table is not None and self._spool.has_next

    def put_in_place(self) -> None:
        """Write what is still to be written, leave out what never came, and have the file appear. Once more does nothing."""
        if self._is_in_place:
            return
        table = self._table = self._table or self._kind(columns_of(None, {}))
        while len(self._spool):
            self._catch_up()
            if not self._spool.has_next:
                self._spool.go_on()
        self._write(table.end())
        assert self._file is not None
        self._place.put(self._file)
        self._is_in_place = True

    def _catch_up(self) -> None:
        """Write rows that have waited and whose turn it is, so many of them that those that come do not wait long."""
        if self._table is not None:
            for line in islice(iter(self._spool.take, None), STEP):
                self._write(self._table.encode(line.decode()))

    def _write(self, written: bytes) -> None:
        if self._file is None:
            self._file = self._place.open()
        self._file.write(written)
