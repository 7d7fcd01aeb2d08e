"""Kinds of files of rows."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import pytest
from pyarrow import parquet  # type: ignore[import-untyped]  # it has no types

from llm_fanout import ConfigError, Result, Unavailable
from llm_fanout.rowfiles import tables
from llm_fanout.rowfiles.columns import columns_of
from llm_fanout.rowfiles.lines import json_line
from llm_fanout.rowfiles.tables import Csv, JsonLines, Parquet, Table, kind_of


def encoded(kind: type[Table], results: Sequence[Result[Any]]) -> bytes:
    """The bytes of a file with these results."""
    table = kind(columns_of(None, {}))
    return b"".join([*(table.encode(json_line(result.to_dict())) for result in results), table.end()])


def rows_of(kind: type[Table], results: Sequence[Result[Any]]) -> list[dict[str, Any]]:
    """What a program reads from it."""
    written = encoded(kind, results)
    if kind is Parquet:
        read: list[dict[str, Any]] = parquet.read_table(io.BytesIO(written)).to_pylist()
        return read
    return list(csv.DictReader(io.StringIO(written.decode(), newline="")))


def said(*texts: str) -> list[Result[Any]]:
    return [Result(index=index, id=f"id {index}", returned=text) for index, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("name", "kind"), [("o.jsonl", JsonLines), ("o.ndjson", JsonLines), ("o.CSV", Csv), ("o.parquet", Parquet)]
)
def test_the_end_of_a_name_says_the_kind(name: str, kind: type[Table]) -> None:
    """However it is written; for a file and a stream alike."""
    assert kind_of(PurePath(name), is_stream=False) is kind
    assert kind_of(PurePath(name), is_stream=True) is kind


@pytest.mark.parametrize("name", ["out", "out.json", "out.xlsx", ".csv"])
def test_a_name_that_says_no_kind(name: str) -> None:
    """It is refused for a file, with what is known; a stream gets lines."""
    with pytest.raises(ConfigError, match=r"\.jsonl, \.ndjson, \.csv, \.parquet"):
        kind_of(PurePath(name), is_stream=False)

    assert kind_of(PurePath(name), is_stream=True) is JsonLines


def test_parquet_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to be installed is said when the name is looked at, before anything is sent; the others need nothing."""
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)  # importing it raises ImportError

    with pytest.raises(ConfigError, match=r"pip install 'llm-fanout\[parquet\]'"):
        kind_of(PurePath("out.parquet"), is_stream=False)

    assert kind_of(PurePath("out.csv"), is_stream=False) is Csv


@pytest.mark.parametrize("kind", [Csv, Parquet])
def test_a_table_without_rows(kind: type[Table]) -> None:
    """It has its columns all the same."""
    written = encoded(kind, [])
    names = parquet.read_table(io.BytesIO(written)).schema.names if kind is Parquet else written.decode().strip().split(",")

    assert names == list(columns_of(None, {}))


@pytest.mark.parametrize("kind", [Csv, Parquet])
def test_texts_come_back(kind: type[Table]) -> None:
    """Whatever lines, quotes, separators and languages they have."""
    texts = ["two\nlines", 'a "quote", and; more', "Grüße 日本 👋", "one\r\ntwo", "\ttab"]

    assert [row["text"].removeprefix("'") for row in rows_of(kind, said(*texts))] == texts


@pytest.mark.parametrize("kind", [Csv, Parquet])
def test_half_a_surrogate_pair_costs_no_row(kind: type[Table]) -> None:
    """What has no UTF-8 is written as JSON would escape it."""
    assert rows_of(kind, said("cut in half: \ud83d"))[0]["text"] == "cut in half: \\ud83d"


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])  # noqa: RUF001  # as they come
def test_no_text_is_a_formula(first: str) -> None:
    """A spreadsheet that opens the file shows what a model wrote, and computes nothing; an id or a message no more."""
    text = f'{first}HYPERLINK("http://127.0.0.1", "x")'
    results = [
        Result(index=0, id=text, returned=text, model=text),
        Result(index=1, id="q", error=Unavailable(text)),
    ]

    first_row, second = rows_of(Csv, results)

    assert [first_row["id"], first_row["text"], first_row["model"], second["error.message"]] == [f"'{text}"] * 4


def test_numbers_stay_numbers() -> None:
    """A number below zero has no apostrophe, flags are as in JSON, nothing is an empty cell."""
    row, other = rows_of(Csv, [Result(index=-1, id=0, returned=-5, latency=-0.5), *said("x")])

    assert [row[name] for name in ("index", "ok", "value", "latency", "cost")] == ["-1", "true", "-5", "-0.5", ""]
    assert other["text"] == "x"


def test_no_text_of_a_file_of_values_drives_a_terminal() -> None:
    """Escape sequences are written as JSON escapes them."""
    written = encoded(Csv, said("\x1b[2J\x07\x9b31m\x00\u2028"))

    assert b"\\u001b[2J\\u0007\\u009b31m\\u0000\\u2028" in written


def test_columns_of_parquet_have_types() -> None:
    """Also where the first rows have nothing there."""
    failed = Result(index=0, id="q", error=Unavailable("no answer", status=503))
    table = parquet.read_table(io.BytesIO(encoded(Parquet, [failed, *said("x")])))

    types = {name: str(table.schema.field(name).type) for name in ("id", "index", "ok", "text", "cost", "error.status")}
    assert types == {
        "id": "string",
        "index": "int64",
        "ok": "bool",
        "text": "string",
        "cost": "double",
        "error.status": "int64",
    }
    assert table["error.status"].to_pylist() == [503, None]


@pytest.mark.parametrize(("name", "limit"), [("GROUP_ROWS", 10), ("GROUP_BYTES", 3_000)])
def test_parquet_is_written_in_groups(monkeypatch: pytest.MonkeyPatch, name: str, limit: int) -> None:
    """A group is written when it has rows or bytes enough, and all rows are there in order."""
    monkeypatch.setattr(tables, name, limit)

    written = encoded(Parquet, said(*map(str, range(95))))
    file = parquet.ParquetFile(io.BytesIO(written))

    assert file.num_row_groups >= 5
    assert file.read()["text"].to_pylist() == list(map(str, range(95)))
