"""A process that may open few files makes fewer calls at once, and loses none."""

from __future__ import annotations

import json
import logging
import os
import resource
import subprocess
import sys
from math import inf
from pathlib import Path
from typing import Any

import pytest

from llm_fanout import Endpoint, Limits
from llm_fanout.llm import files
from llm_fanout.sim import Box

FEW_FILES = Path(__file__).parent.parent / "few_files.py"


def bounded(patch: pytest.MonkeyPatch, most: int, used: int = 28) -> None:
    patch.setattr(resource, "getrlimit", lambda which: (most, most))
    patch.setattr(os, "listdir", lambda path: ["0"] * used)


def wide(calls: int | None, **fields: Any) -> Endpoint:
    return Endpoint("openai/x", limits=Limits(max_concurrency=calls), **fields)


def test_calls_are_as_many_as_there_are_files() -> None:
    """500 calls at 500 wide finish where 128 files may be open: each at the first try, which does not begin before there
    is a connection for it. Why there are fewer at once is logged."""
    with Box() as box:
        done = subprocess.run(
            [sys.executable, str(FEW_FILES), box.url, "500", "128"], capture_output=True, text=True, check=True
        )
    found = json.loads(done.stdout)

    assert (found["answered"], found["attempts"], found["in_order"]) == (500, 500, True), done.stderr
    assert found["waited"] > 4 * 0.05  # six rounds of 84 calls, of 0.05 s each
    assert "calls at once, for this process may open no more files; raise `ulimit -n`" in done.stderr


@pytest.mark.parametrize(
    ("most", "left"), [(128, 84), (256, 200), (1_024, 872), (40, 1), (20, 1), (resource.RLIM_INFINITY, inf)]
)
def test_some_files_are_left_to_others(monkeypatch: pytest.MonkeyPatch, most: int, left: float) -> None:
    """An eighth of what is left, and 16 at least."""
    bounded(monkeypatch, most)

    assert files.connections_left() == left


def test_where_nothing_says_what_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /dev/fd the limit alone counts; without limits of that kind there is none."""
    bounded(monkeypatch, 128)
    monkeypatch.setattr(os, "listdir", lambda path: os.stat("/nowhere"))
    without_list = files.connections_left()
    monkeypatch.setitem(sys.modules, "resource", None)

    assert (without_list, files.connections_left()) == (112, inf)


def test_a_bound_is_set_where_it_counts(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Not for limits that are narrower anyway, nor for functions; it is told to whoever had asked for more."""
    bounded(monkeypatch, 256)
    with caplog.at_level(logging.WARNING, "llm_fanout"):
        quiet = [
            files.calls_at_once([wide(200)]),
            files.calls_at_once([wide(None)]),
            files.calls_at_once([wide(5_000, provider=print)]),
        ]
        told = list(caplog.records)
        loud = files.calls_at_once([wide(5), wide(201)])

    assert quiet == [None, 200, None]
    assert told == []
    assert loud == 200
    assert [record.message for record in caplog.records] == [
        "at most 200 calls at once, for this process may open no more files; raise `ulimit -n`"
    ]
