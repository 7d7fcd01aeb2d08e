"""Rows that came before their turn."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from llm_fanout.rowfiles import spool
from llm_fanout.rowfiles.spool import Spool


def line(position: int) -> bytes:
    return b"%d %b\n" % (position, b"x" * (position % 50))


@pytest.fixture(params=["as it is", "small"])
def _sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes as they are, and so small that every step of the spool happens often."""
    if request.param == "small":
        monkeypatch.setattr(spool, "TAIL", 64)
        monkeypatch.setattr(spool, "TRIM", 16)
        monkeypatch.setattr(spool, "WORTHWHILE", 256)


@pytest.mark.usefixtures("_sizes")
@pytest.mark.parametrize("spread", [1, 20, 2_000])
def test_rows_come_out_in_order(tmp_path: Path, spread: int) -> None:
    """However they come in, each comes out once and in its turn, and then there are none; the file has no name."""
    random = Random(spread)
    order = sorted(range(2_000), key=lambda position: position + random.uniform(0, spread))
    rows = Spool(tmp_path)
    out = []

    for position in order:
        rows.put(position, line(position))
        while (taken := rows.take()) is not None:
            out.append(taken)
    rows.close()

    assert out == [line(position) for position in range(2_000)]
    assert (rows.due, len(rows), rows.has_next) == (2_000, 0, False)
    assert list(tmp_path.iterdir()) == []


def test_a_row_that_never_comes_is_passed(tmp_path: Path) -> None:
    """Its turn can be given to the next, and positions know where they end."""
    rows = Spool(tmp_path)
    rows.put(2, b"two\n")

    found: list[object] = [len(rows), rows.take()]
    rows.go_on()
    rows.go_on()

    assert [*found, rows.take(), len(rows), rows.take()] == [3, None, b"two\n", 0, None]


def test_room_is_taken_for_what_waits_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file does not grow with all that ever waited."""
    monkeypatch.setattr(spool, "TAIL", 1_000)
    monkeypatch.setattr(spool, "WORTHWHILE", 10_000)
    rows = Spool(tmp_path)
    most = 0

    for position in range(0, 20_000, 2):  # always the later of two first
        rows.put(position + 1, b"x" * 99 + b"\n")
        rows.put(position, b"x" * 99 + b"\n")
        rows.take()
        rows.take()
        if rows._file is not None:
            most = max(most, os.fstat(rows._file.fileno()).st_size)
    rows.close()

    assert 0 < most < 30_000
