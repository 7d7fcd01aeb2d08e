"""Kinds of files of rows: what the bytes of a file are, without the file.

A row comes as the line of JSON that it is in a `.jsonl` file, so that every kind holds the same values.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, ClassVar, Protocol

from ..errors import ConfigError
from .columns import Cell, Sort, cells
from .lines import escaped

GROUP_ROWS = 8_192  # a row group of Parquet: enough to be packed well
GROUP_BYTES = 8 * 2**20  # of JSON, which is about five times that as objects: rows may hold vectors

_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SURROGATES = re.compile("[\ud800-\udfff]")
# What begins a formula: OWASP, "CSV Injection", of 2026; the wide forms are those of East Asian spreadsheets.
_FORMULA = re.compile("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


class Table(Protocol):
    """How rows become the bytes of a file; made with the file's columns.

    Attributes:
        has_columns: Whether they have to be known before the first row.
    """

    has_columns: ClassVar[bool]

    def __init__(self, columns: Mapping[str, Sort]) -> None: ...

    def encode(self, line: str) -> bytes:
        """What is to be written once this row is there, too; nothing if it waits for more."""

    def end(self) -> bytes:
        """What is still to be written at the end."""


class JsonLines(Table):
    """One JSON object a line."""

    has_columns = False

    def __init__(self, columns: Mapping[str, Sort]) -> None:
        pass

    def encode(self, line: str) -> bytes:
        """The line as it is."""
        return line.encode()

    def end(self) -> bytes:
        """Nothing."""
        return b""


class Csv(Table):
    """Comma-separated values (RFC 4180, UTF-8) that a spreadsheet may open: text that would be a formula there has an
    apostrophe before it, and characters that drive a terminal are written as JSON escapes them."""

    has_columns = True

    def __init__(self, columns: Mapping[str, Sort]) -> None:
        self._columns = columns
        self._text = io.StringIO()
        self._writer = csv.writer(self._text)
        self._writer.writerow(columns)

    def encode(self, line: str) -> bytes:
        """The row; before the first one the names of the columns."""
        row = zip(cells(json.loads(line), self._columns), self._columns.values(), strict=True)
        self._writer.writerow(_written(cell, sort) for cell, sort in row)
        return self.end()

    def end(self) -> bytes:
        """The names of the columns, if there was no row."""
        text = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return text.encode()


class Parquet(Table):
    """Apache Parquet, in row groups of some thousand rows."""

    has_columns = True

    def __init__(self, columns: Mapping[str, Sort]) -> None:
        arrow = _arrow()
        types = {
            "text": arrow.string(),
            "whole": arrow.int64(),
            "real": arrow.float64(),
            "flag": arrow.bool_(),
            "json": arrow.string(),
        }
        self._columns = columns
        self._schema = arrow.schema([(name, types[sort]) for name, sort in columns.items()])
        self._lines: list[str] = []
        self._size = 0
        self._bytes = io.BytesIO()
        self._writer = arrow.parquet.ParquetWriter(self._bytes, self._schema)

    def encode(self, line: str) -> bytes:
        """A row group, when there are rows for one."""
        self._lines.append(line)
        self._size += len(line)
        return self._group() if len(self._lines) >= GROUP_ROWS or self._size >= GROUP_BYTES else b""

    def end(self) -> bytes:
        """The last group, and the index of all."""
        last = self._group() if self._lines else b""
        self._writer.close()
        return last + self._written()

    def _group(self) -> bytes:
        arrow = _arrow()
        rows = (map(_unicode, cells(json.loads(line), self._columns)) for line in self._lines)
        arrays = [
            arrow.array(column, field.type) for column, field in zip(zip(*rows, strict=True), self._schema, strict=True)
        ]
        self._writer.write_table(arrow.Table.from_arrays(arrays, schema=self._schema))
        self._lines.clear()
        self._size = 0
        return self._written()

    def _written(self) -> bytes:
        written = self._bytes.getvalue()
        self._bytes.seek(0)
        self._bytes.truncate()
        return written


_KINDS: dict[str, type[Table]] = {".jsonl": JsonLines, ".ndjson": JsonLines, ".csv": Csv, ".parquet": Parquet}


def kind_of(path: PurePath, *, is_stream: bool) -> type[Table]:
    """The kind of table that a name asks for; a stream that asks for none gets lines of JSON.

    Raises:
        ConfigError: There is no such kind, or it needs a package that is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in _KINDS and not is_stream:
        known = ", ".join(_KINDS)
        raise ConfigError(f"cannot write {path.name!r}: the end of its name says what it is to be; use one of {known}")
    kind = _KINDS.get(suffix, JsonLines)
    if kind is Parquet:
        _arrow()
    return kind


def _arrow() -> Any:
    try:
        import pyarrow.parquet  # type: ignore[import-untyped]  # it has no types
    except ImportError as exc:
        raise ConfigError(
            "a .parquet file needs pyarrow: pip install 'llm-fanout[parquet]', or write .jsonl or .csv"
        ) from exc
    return pyarrow


def _written(cell: Cell, sort: Sort) -> Cell:
    """A cell of CSV: numbers stay numbers, text stays text."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if not isinstance(cell, str):
        return cell
    text = escaped(cell, _CONTROLS)
    return f"'{text}" if sort == "text" and _FORMULA.match(text) else text


def _unicode(cell: Cell) -> Cell:
    return escaped(cell, _SURROGATES) if isinstance(cell, str) else cell
