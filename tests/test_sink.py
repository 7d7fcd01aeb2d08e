"""Runs that are written to files, beside the event loop."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet  # type: ignore[import-untyped]  # it has no types
from pydantic import BaseModel
from support import Simulate, consume

from llm_fanout import ConfigError, Executor, FanOut, FanOutError, Limits, RunFailed, Summary, run
from llm_fanout.rowfiles.rowfile import RowFile


class Label(BaseModel):
    topic: str
    score: float


async def echo(number: int) -> int:
    await asyncio.sleep(1 + number * 7 % 5)
    return number


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def values_of(path: Path) -> list[Any]:
    return [row.get("value") for row in rows_of(path)]


class Gate:
    """A step of a file of rows that goes on when it is allowed to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        original = getattr(RowFile, step)

        def late(rows: RowFile, *args: Any) -> Any:
            self.reached.set()
            assert self.opened.wait(60)
            return original(rows, *args)

        monkeypatch.setattr(RowFile, step, late)

    async def wait(self) -> None:
        await asyncio.to_thread(self.reached.wait, 60)


def test_rows_are_in_input_order(simulate: Simulate[Any], tmp_path: Path) -> None:
    """Whatever the order in which calls end; the Summary is the final one."""
    path = tmp_path / "out.jsonl"

    async def main() -> Summary:
        return await Executor(max_concurrency=7).map(echo, iter(range(500))).sink(path)

    summary = simulate(main)

    assert values_of(path) == list(range(500))
    assert (summary.total, summary.succeeded, summary.stopped) == (500, 500, None)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
async def test_one_slow_row_delays_nobody(tmp_path: Path, suffix: str) -> None:
    """The first call ends when all others have ended: they can, although none of their rows can be in its place yet."""
    others = asyncio.Event()
    ended = 0

    async def slow_first(number: int) -> int:
        nonlocal ended
        if number == 0:
            await others.wait()
        ended += 1
        if ended == 999:
            others.set()
        return number

    summary = await Executor(max_concurrency=2).map(slow_first, iter(range(1_000))).sink(tmp_path / f"out.{suffix}")

    assert summary.succeeded == 1_000


def test_a_slow_row_costs_no_time(simulate: Simulate[Any], tmp_path: Path) -> None:
    """A call that takes an hour beside others makes the run take that hour, and not more."""

    async def slow_first(number: int) -> int:
        await asyncio.sleep(3600 if number == 0 else 1)
        return number

    async def main() -> float:
        return (await Executor(max_concurrency=10).map(slow_first, iter(range(1_000))).sink(tmp_path / "o.jsonl")).elapsed

    assert simulate(main) == pytest.approx(3600, abs=1)


async def test_many_rows_cost_no_memory(tmp_path: Path) -> None:
    """10,000 rows that all wait for the first: what is held grows by their offsets, and no more."""
    held: list[int] = []
    others = asyncio.Event()

    def numbers() -> Iterator[int]:
        for number in range(10_000):
            if number in (2_000, 9_000):
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
            yield number
        others.set()

    async def slow_first(number: int) -> str:
        if number == 0:
            await others.wait()
        return "x" * 200

    tracemalloc.start(1)
    summary = await Executor(timeout=600).map(slow_first, numbers()).sink(tmp_path / "out.jsonl")
    tracemalloc.stop()

    assert summary.succeeded == 10_000
    assert held[1] - held[0] < 7_000 * 8 + 1_000_000  # bytes: offsets, and what a batch and the tail take


async def test_a_slow_disk_slows_the_run_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While rows are written, no more is pulled than the window holds; the event loop goes on."""
    pulled = 0
    gate = Gate(monkeypatch, "write")

    def numbers() -> Iterator[int]:
        nonlocal pulled
        while pulled < 2_000:
            pulled += 1
            yield pulled

    async def at_once(number: int) -> int:
        return number

    running = asyncio.ensure_future(Executor(max_concurrency=5).map(at_once, numbers()).sink(tmp_path / "out.jsonl"))
    await gate.wait()
    for _ in range(1_000):
        await asyncio.sleep(0)
    before = pulled
    gate.opened.set()
    await running

    assert before < 50
    assert pulled == 2_000


async def test_structured_answers_in_parquet(tmp_path: Path) -> None:
    """Typed columns, also when the first calls fail."""
    path = tmp_path / "out.parquet"

    async def label(number: int) -> Label:
        if number < 3:
            raise ValueError("no answer")
        return Label(topic="a", score=number)

    await Executor().map(label, range(6)).sink(path)
    read = parquet.read_table(path)

    assert read["score"].to_pylist() == [None, None, None, 3.0, 4.0, 5.0]
    assert read["topic"].to_pylist() == [None, None, None, "a", "a", "a"]
    assert read["error.kind"].to_pylist() == ["exception"] * 3 + [None] * 3


async def forever(number: int) -> int:
    if number % 2:
        await asyncio.Event().wait()
    return number


def test_a_run_that_is_cancelled_is_written(simulate: Simulate[Any], tmp_path: Path) -> None:
    """`cancel` ends it with all its rows, those that say why there is no answer too."""
    path = tmp_path / "out.jsonl"

    async def main() -> Summary:
        fan = Executor().map(forever, range(10))
        asyncio.get_running_loop().call_later(5, fan.cancel)
        return await fan.sink(path)

    summary = simulate(main)

    assert summary.stopped is not None
    assert [row["ok"] for row in rows_of(path)] == [True, False] * 5
    assert {row["error"]["kind"] for row in rows_of(path) if not row["ok"]} == {"cancelled"}


def test_a_run_whose_deadline_passes_is_written(
    simulate: Simulate[Any], fan_of: Callable[..., FanOut], tmp_path: Path
) -> None:
    """So does a deadline: what was answered, what was under way, and what had not been started."""
    path = tmp_path / "out.jsonl"

    async def main() -> Summary:
        async with fan_of(Limits(max_concurrency=2)) as fan:
            return await fan.map([f"Question {number}" for number in range(8)], deadline=2.5).sink(path)

    summary = simulate(main)

    assert summary.stopped is not None
    assert [row["text"] for row in rows_of(path)[:4]] == [f"Question {number}" for number in range(4)]
    assert [row["error"]["kind"] for row in rows_of(path)[4:]] == ["deadline"] * 4


def test_a_source_that_raises_keeps_what_is_done(simulate: Simulate[Any], tmp_path: Path) -> None:
    """The rows before are in place, then RunFailed says what happened."""
    path = tmp_path / "out.jsonl"

    def source() -> Iterator[int]:
        yield from range(5)
        raise ValueError("no more")

    async def main() -> None:
        with pytest.raises(RunFailed, match="the source raised ValueError: no more"):
            await Executor().map(echo, source()).sink(path)

    simulate(main)

    assert values_of(path) == list(range(5))


async def test_a_source_that_raises_at_once_leaves_what_was_there(tmp_path: Path) -> None:
    """A run that did nothing does not replace the rows of one that did."""
    path = tmp_path / "out.jsonl"
    path.write_text("old")

    def source() -> Iterator[int]:
        raise ValueError("no such table")
        yield 0

    with pytest.raises(RunFailed, match="no such table"):
        await Executor().map(echo, source()).sink(path)

    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == [path.name]


def test_a_task_that_is_cancelled_keeps_what_is_done(simulate: Simulate[Any], tmp_path: Path) -> None:
    """The calls are cancelled, the rows are put in place, and the cancellation goes on."""
    path = tmp_path / "out.jsonl"

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await Executor().map(forever, range(10)).sink(path)

    simulate(main)

    assert [row["ok"] for row in rows_of(path)] == [True, False] * 5
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["write", "put_in_place"])
@pytest.mark.parametrize("times", [1, 3])
async def test_a_task_that_is_cancelled_while_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, times: int
) -> None:
    """The step is waited for, nothing is written twice or lost, and the file is in place."""
    gate = Gate(monkeypatch, step)

    writing = asyncio.ensure_future(Executor().map(forever, range(0, 20, 2)).sink(tmp_path / "out.jsonl"))
    await gate.wait()
    for _ in range(times):
        writing.cancel()
        await asyncio.sleep(0)
    gate.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await writing

    assert values_of(tmp_path / "out.jsonl") == list(range(0, 20, 2))


def test_a_task_that_is_cancelled_again_and_again_gives_the_file_up(simulate: Simulate[Any], tmp_path: Path) -> None:
    """Who cancels what is ending wants to leave: nothing is left behind, and what was there stays."""
    path = tmp_path / "out.jsonl"
    path.write_text("old")

    async def tidy(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(10)

    async def main() -> None:
        writing = asyncio.ensure_future(Executor().map(tidy, range(3)).sink(path))
        for _ in range(6):
            await asyncio.sleep(1)
            writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing

    simulate(main)

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


async def test_a_task_that_is_cancelled_while_the_place_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing starts, and the place is free."""
    gate = Gate(monkeypatch, "__enter__")
    started: list[int] = []

    async def note(number: int) -> None:
        started.append(number)

    opening = asyncio.ensure_future(Executor().map(note, range(3)).sink(tmp_path / "out.jsonl"))
    await gate.wait()
    opening.cancel()
    await asyncio.sleep(0)
    gate.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await opening

    assert (started, os.listdir(tmp_path)) == ([], [])


@pytest.mark.parametrize("name", ["nowhere/out.jsonl", "", "out.xml"])
async def test_a_place_that_cannot_be_is_found_before_anything_starts(tmp_path: Path, name: str) -> None:
    """A ConfigError; nothing was called, and nobody is warned that the run was not awaited."""
    started: list[int] = []

    async def note(number: int) -> None:
        started.append(number)

    with pytest.raises(ConfigError, match="cannot write"):
        await Executor().map(note, range(3)).sink(tmp_path / name)
    gc.collect()

    assert started == []


async def test_two_runs_cannot_write_one_file(tmp_path: Path) -> None:
    """The second is refused before it starts, and the first is not disturbed."""
    going, go = asyncio.Event(), asyncio.Event()

    async def wait(number: int) -> int:
        going.set()
        await go.wait()
        return number

    first = asyncio.ensure_future(consume(Executor().map(wait, range(3)).sink(tmp_path / "out.jsonl")))
    await going.wait()
    with pytest.raises(ConfigError, match="another run is writing it"):
        await Executor().map(wait, range(3)).sink(tmp_path / "out.jsonl")
    go.set()
    await first

    assert values_of(tmp_path / "out.jsonl") == [0, 1, 2]


async def test_a_run_is_sunk_once(tmp_path: Path) -> None:
    """It consumes the run, as iterating does."""
    fan = Executor().map(forever, [0])
    await fan.sink(tmp_path / "out.jsonl")

    with pytest.raises(ConfigError, match="consumed already"):
        await fan.sink(tmp_path / "other.jsonl")


def test_a_call_may_sink_a_run_of_its_own(simulate: Simulate[Any], tmp_path: Path) -> None:
    """It lends its slot to it while it waits, as for a run that it awaits."""
    executor = Executor(max_concurrency=1)

    async def outer(number: int) -> int:
        return (await executor.map(echo, range(3)).sink(tmp_path / f"{number}.jsonl")).succeeded

    async def main() -> Summary:
        return await executor.map(outer, range(2)).sink(tmp_path / "out.jsonl")

    assert simulate(main).succeeded == 2
    assert (values_of(tmp_path / "out.jsonl"), values_of(tmp_path / "1.jsonl")) == ([3, 3], [0, 1, 2])


async def test_a_value_that_json_does_not_have_ends_the_run(tmp_path: Path) -> None:
    """The calls are cancelled, what was there stays, and the error names the result; the report has what was at hand."""
    path = tmp_path / "out.jsonl"
    path.write_text("old")

    async def odd(number: int) -> object:
        return object() if number == 3 else await forever(number * 2)

    fan = Executor().map(odd, range(10_000))
    with pytest.raises(RunFailed, match=r"result 3 cannot be written as JSON.*was there is as it was") as failed:
        await fan.sink(path)

    assert isinstance(failed.value.__cause__, FanOutError)
    assert {result.index for result in failed.value.report} >= {3}
    assert fan.summary.stopped is not None
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == [path.name]


async def test_an_error_goes_before_a_cancellation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who cancels is told that there is no file."""
    gate = Gate(monkeypatch, "write")

    async def odd(number: int) -> object:
        return object()

    writing = asyncio.ensure_future(Executor().map(odd, range(3)).sink(tmp_path / "out.jsonl"))
    await gate.wait()
    writing.cancel()
    await asyncio.sleep(0)
    gate.opened.set()
    with pytest.raises(RunFailed, match="cannot be written"):
        await writing

    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_full_disk_ends_the_run(tmp_path: Path, suffix: str) -> None:
    """RunFailed from the OSError, long before all calls were made; the partial file is gone, what was there stays."""
    path = tmp_path / f"out.{suffix}"
    path.write_text("old")

    program = str(Path(__file__).with_name("full_disk.py"))
    done = subprocess.run(
        [sys.executable, program, path, "100000"], capture_output=True, text=True, check=True, env={**os.environ}
    )
    found = json.loads(done.stdout)

    assert found["cause"] == "OSError"
    assert "File too large" in found["said"]
    assert found["done"] < 100_000
    assert found["kept"] > 0
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


async def test_a_device_that_is_full_ends_the_run() -> None:
    """So does a stream that takes nothing."""
    with pytest.raises(RunFailed, match="No space left on device"):
        await Executor().map(forever, range(0, 20, 2)).sink("/dev/full")


async def test_rows_that_waited_do_not_hold_up_those_that_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are written some at a time, and without anything coming, too."""
    monkeypatch.setattr("llm_fanout.rowfiles.rowfile.STEP", 3)
    monkeypatch.setattr(run, "BATCH", 4)
    many, end = asyncio.Event(), asyncio.Event()

    async def first_and_last(number: int) -> int:
        if number in (0, 99):
            await (many if number == 0 else end).wait()
        if number == 98:
            many.set()
        return number

    os.mkfifo(tmp_path / "pipe")
    lines: list[str] = []

    def read() -> None:
        with (tmp_path / "pipe").open() as pipe:
            for line in pipe:
                lines.append(line)
                if len(lines) == 99:
                    loop.call_soon_threadsafe(end.set)

    loop = asyncio.get_running_loop()
    reading = asyncio.create_task(asyncio.to_thread(read))
    await Executor(max_concurrency=200).map(first_and_last, range(100)).sink(tmp_path / "pipe")
    await reading

    assert [json.loads(line)["value"] for line in lines] == list(range(100))


async def test_a_file_that_is_open_stays_open(tmp_path: Path) -> None:
    """Rows go to the end of what is in it, and have left our buffers when the run has ended."""
    path = tmp_path / "rows"
    with path.open("wb") as file:
        file.write(b'{"value": "before"}\n')

        summary = await Executor().map(asyncio.sleep, [0, 0]).sink(file)

        assert len(rows_of(path)) == 3
        file.write(b'{"value": "after"}\n')

    assert summary.succeeded == 2
    assert [values_of(path)[0], values_of(path)[-1]] == ["before", "after"]


async def test_a_value_that_json_does_not_have_leaves_an_open_file_open(tmp_path: Path) -> None:
    """It is whoever opened it who closes it, also after a run that failed."""
    path = tmp_path / "rows"

    with path.open("wb") as file:
        with pytest.raises(RunFailed, match="cannot be written as JSON"):
            await Executor().map(a_set, [0]).sink(file)

        assert not file.closed


async def a_set(number: int) -> set[int]:
    return {number}
