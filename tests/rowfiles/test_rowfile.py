"""A file with one row per result, in order."""

from __future__ import annotations

import csv
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet  # type: ignore[import-untyped]  # it has no types
from pydantic import BaseModel

from llm_fanout import ConfigError, Result, Unavailable
from llm_fanout.rowfiles import rowfile
from llm_fanout.rowfiles.rowfile import RowFile

KINDS = ["jsonl", "csv", "parquet"]


class Label(BaseModel):
    topic: str
    score: float


def done(index: int, value: object = "yes") -> Result[Any]:
    return Result(index=index, id=f"../../{index}", returned=value)


def failed(index: int) -> Result[Any]:
    return Result(index=index, id=f"../../{index}", error=Unavailable("no answer"))


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of any kind."""
    if path.suffix == ".parquet":
        read: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
        return read
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file)) if path.suffix == ".csv" else [json.loads(line) for line in file]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_rows_are_in_order_however_they_come(tmp_path: Path, kind: str, order: tuple[int, ...]) -> None:
    """Each once, in the order of their positions; an id that looks like a path is an id."""
    path = tmp_path / f"out.{kind}"

    with RowFile(path) as rows:
        for index in order:
            rows.write([(index, done(index))])
        rows.put_in_place()

    assert [row["id"] for row in rows_of(path)] == ["../../0", "../../1", "../../2"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", KINDS)
def test_what_never_came_is_left_out(tmp_path: Path, kind: str) -> None:
    """The rows after a gap are written at the end; putting it in place twice is putting it in place once."""
    path = tmp_path / f"out.{kind}"

    with RowFile(path) as rows:
        rows.write([(3, done(3)), (1, done(1))])
        rows.put_in_place()
        rows.put_in_place()

    assert [int(row["index"]) for row in rows_of(path)] == [1, 3]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("answers", [0, 1])
def test_columns_do_not_depend_on_what_fails(tmp_path: Path, kind: str, answers: int) -> None:
    """The fields of a structured answer have columns although the rows before it failed, and these have nothing there."""
    path = tmp_path / f"out.{kind}"

    with RowFile(path) as rows:
        for index in range(3):
            rows.write([(index, failed(index))])
        rows.write([(3 + index, done(3 + index, Label(topic="a", score=1))) for index in range(answers)])
        rows.put_in_place()
    read = rows_of(path)

    assert [row.get("topic") or None for row in read] == [None] * 3 + ["a"] * answers
    assert [float(row["score"]) for row in read[3:]] == [1.0] * answers
    assert [row["error.kind"] or None for row in read] == ["server"] * 3 + [None] * answers


def test_leaving_early_leaves_nothing(tmp_path: Path) -> None:
    """A file that was not put in place was never there."""
    (tmp_path / "out.jsonl").write_text("old")

    with RowFile(tmp_path / "out.jsonl") as rows:
        rows.write([(0, done(0)), (2, done(2))])

    assert (tmp_path / "out.jsonl").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_rows_that_waited_are_written_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When many have waited for one, those that come meanwhile do not wait until all are written."""
    monkeypatch.setattr(rowfile, "STEP", 10)
    path = tmp_path / "out.jsonl"
    steps = 0

    with RowFile(path) as rows:
        rows.write((index, done(index)) for index in range(1, 50))
        assert not rows.is_behind
        rows.write([(0, done(0))])
        while rows.is_behind:
            steps += 1
            rows.write([])
        rows.put_in_place()

    assert steps == 4
    assert [row["index"] for row in rows_of(path)] == list(range(50))


def test_a_pipe_gets_rows_as_they_come(tmp_path: Path) -> None:
    """It is opened for the first row, each is there at once, and it stays a pipe."""
    path = tmp_path / "pipe"
    os.mkfifo(path)

    with ThreadPoolExecutor(1) as pool, RowFile(path) as rows:
        reading = pool.submit(path.open)
        rows.write([(1, done(1))])
        rows.write([(0, done(0))])
        with reading.result() as pipe:
            first = [json.loads(pipe.readline())["index"] for _ in range(2)]
            rows.write([(2, done(2))])
            rows.put_in_place()
            rest = pipe.read()

    assert (first, json.loads(rest)["index"]) == ([0, 1], 2)
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_pipe_may_be_of_any_kind(tmp_path: Path, kind: str) -> None:
    """Its name says so as a file's does."""
    path = tmp_path / f"pipe.{kind}"
    os.mkfifo(path)

    with ThreadPoolExecutor(1) as pool, RowFile(path) as rows:
        reading = pool.submit(path.read_bytes)
        rows.write([(0, done(0))])
        rows.put_in_place()
        (tmp_path / f"copy.{kind}").write_bytes(reading.result())

    assert [row["text"] for row in rows_of(tmp_path / f"copy.{kind}")] == ["yes"]


def test_a_pipe_that_gets_nothing_is_not_looked_at(tmp_path: Path) -> None:
    """Entering waits for no reader, and leaves its reader alone."""
    os.mkfifo(tmp_path / "pipe")

    with RowFile(tmp_path / "pipe"):
        pass


def test_a_name_of_no_kind_takes_no_place(tmp_path: Path) -> None:
    """It is refused, and nothing is there."""
    with pytest.raises(ConfigError, match=r"\.jsonl"), RowFile(tmp_path / "out.xml"):
        pass

    assert list(tmp_path.iterdir()) == []
