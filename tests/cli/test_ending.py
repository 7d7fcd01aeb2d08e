"""How commands end, by themselves and by signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM
from typing import Any

import pytest
from commands import FAST, command, invoke, rows_of, until

from llm_fanout import Run
from llm_fanout.sim import Box, SimConfig

Press = Callable[[Callable[[], bool], signal.Signals], None]


@pytest.fixture
def _hears() -> Iterator[None]:
    """This process hears Ctrl-C, wherever it was started."""
    before = signal.signal(SIGINT, signal.default_int_handler)
    yield
    signal.signal(SIGINT, before)


@pytest.fixture
def press(_hears: None) -> Iterator[Press]:
    """Sends this process a signal as soon as something holds."""
    waiting: list[threading.Thread] = []

    def press(holds: Callable[[], bool], number: signal.Signals) -> None:
        thread = threading.Thread(target=lambda: (until(holds), os.kill(os.getpid(), number)))
        thread.start()
        waiting.append(thread)

    yield press
    for thread in waiting:
        thread.join()


def test_a_command_runs_on_a_loop_of_ours(prompts: Path, monkeypatch: pytest.MonkeyPatch, our_loops: str) -> None:
    """uvloop's where that is installed, else asyncio's."""
    used: list[str] = []
    sink = Run.sink

    async def noted(run: Run[str], path: Any) -> Any:
        used.append(type(asyncio.get_running_loop()).__module__.partition(".")[0])
        return await sink(run, path)

    monkeypatch.setattr(Run, "sink", noted)

    result = invoke("run", prompts, "--model", "sim/x", "--sim", FAST)

    assert result.exit_code == 0
    assert used == [our_loops]


@pytest.mark.usefixtures("our_loops")
@pytest.mark.parametrize(("number", "code"), [(SIGINT, 130), (SIGTERM, 143)])
def test_the_first_signal_lets_calls_end(tmp_path: Path, press: Press, number: signal.Signals, code: int) -> None:
    """What is under way is answered and written, nothing else is started, and both are said."""
    path, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    path.write_text("".join(json.dumps(f"[[latency:1]] {number}") + "\n" for number in range(20)))

    with Box(SimConfig()) as box:
        press(lambda: box.stats["in_flight"] == 3, number)
        result = invoke(*("run", path, "--model", "sim/x", "--base-url", box.url, "--output", out, "--max-concurrency", 3))
        answered, asked = box.stats["answered"], box.stats["requests"]

    assert result.exit_code == code
    assert 3 <= answered == asked < 20
    assert [row["id"] for row in rows_of(out) if row["ok"]] == [*range(answered)]
    assert "stopping: no more calls are started, 3 under way may end; again to cancel them" in result.stderr
    assert f"{answered} succeeded, 0 failed" in result.stdout


@pytest.mark.usefixtures("our_loops")
def test_the_second_signal_cancels_calls(tmp_path: Path, press: Press) -> None:
    """It ends at once, with the rows that were there; a call that was cancelled has a row that says so."""
    path, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    path.write_text('"[[answer:done]] [[latency:0]]"\n"[[latency:60]]"\n')

    with Box(SimConfig()) as box:
        press(lambda: box.stats["answered"] == 1, SIGINT)
        press(lambda: box.stats["answered"] == 1, SIGTERM)
        result = invoke("run", path, "--model", "sim/x", "--base-url", box.url, "--output", out)

    rows = rows_of(out)
    assert result.exit_code in {130, 143}  # whichever came first
    assert [(row["ok"], row["text"]) for row in rows] == [(True, "done"), (False, "")]
    assert rows[1]["error"]["kind"] == "cancelled"
    assert result.exit_code == {"was interrupted": 130, "was told to end": 143}[rows[1]["error"]["message"][12:]]


@pytest.mark.usefixtures("_hears")
def test_a_signal_while_rows_are_written_costs_none(prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is pressed, they are all there; the exit code says that it was."""
    out = tmp_path / "o.jsonl"

    def pressed(row: Any) -> str:
        signal.raise_signal(SIGINT)
        return json.dumps(row) + "\n"

    monkeypatch.setattr("llm_fanout.rowfiles.rowfile.json_line", pressed)

    result = invoke("run", prompts, "--model", "sim/x", "--sim", FAST, "--output", out)

    assert result.exit_code == 130
    assert len(rows_of(out)) == 3


@pytest.mark.usefixtures("_hears")
def test_a_signal_after_the_run_costs_nothing(prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the report is printed there is nothing left to stop: it is printed."""
    monkeypatch.setattr("llm_fanout.summary.hook", lambda name: lambda what: signal.raise_signal(SIGINT) or "the report")

    result = invoke("run", prompts, "--model", "sim/x", "--sim", FAST, "--output", tmp_path / "o.jsonl")

    assert result.exit_code == 0
    assert result.stdout == "the report\n"


@pytest.mark.usefixtures("_hears")
def test_a_signal_before_anything_is_sent(prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ends at once, and leaves nothing behind."""

    def pressed(*_: object) -> None:
        signal.raise_signal(SIGTERM)

    monkeypatch.setattr("llm_fanout.rows.RowReader.read", pressed)

    result = invoke("run", prompts, "--model", "sim/x", "--sim", FAST, "--output", tmp_path / "o.jsonl")

    assert result.exit_code == 143
    assert list(tmp_path.iterdir()) == [prompts]


def test_what_the_caller_ignores_is_not_heard(prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job in the background, or under nohup, is not ended by the Ctrl-C that is not for it."""
    before = signal.signal(SIGINT, signal.SIG_IGN)
    monkeypatch.setattr("llm_fanout.summary.hook", lambda name: lambda what: signal.raise_signal(SIGINT) or "the report")

    result = invoke("run", prompts, "--model", "sim/x", "--sim", FAST, "--output", tmp_path / "o.jsonl")

    assert signal.signal(SIGINT, before) is signal.SIG_IGN
    assert result.exit_code == 0


@pytest.mark.parametrize(("limit", "code"), [("2", 3), ("60", 0)])
def test_a_deadline_that_ends_it_is_exit_code_3(tmp_path: Path, limit: str, code: int) -> None:
    """What was cut off says so; one that was not reached is no matter."""
    path, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    seconds = 60 if code else 0
    path.write_text(f'"[[answer:done]] [[latency:0]]"\n"[[latency:{seconds}]]"\n')

    result = invoke("run", path, "--model", "sim/x", "--sim", FAST, "--output", out, "--deadline", limit)

    assert result.exit_code == code
    assert [row["error"] and row["error"]["kind"] for row in rows_of(out)] == [None, "deadline" if code else None]


SLOW = [f"[[latency:0.4]] {number}" for number in range(12)]


@pytest.mark.parametrize(("numbers", "code"), [((SIGINT,), 130), ((SIGINT, SIGINT), 130), ((SIGTERM,), 143)])
def test_a_command_that_was_stopped_goes_on(tmp_path: Path, numbers: tuple[signal.Signals, ...], code: int) -> None:
    """It prints the very command that does the rest; that asks what is missing, and nothing twice but what was cut off."""
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(text) + "\n" for text in SLOW))
    out = tmp_path / "o.jsonl"

    with Box(SimConfig()) as box:
        to_box = ("--model", "sim/x", "--base-url", box.url, "--max-concurrency", 3, "--output", "o.jsonl")
        with command(tmp_path, "run", "p.jsonl", *to_box, "--journal", "my run.db") as first:
            until(lambda: box.stats["answered"] >= 3 and box.stats["in_flight"] > 0)
            for each in numbers:
                first.press(each)
                until(lambda: "stopping" in first.said)
            ended = first.ended()
        asked, done = box.stats["requests"], sum(row["ok"] for row in rows_of(out))
        with command(tmp_path, "resume", "my run.db") as second:
            ended_again = second.ended()
        asked_again = box.stats["requests"] - asked

    assert ended[0] == code
    assert first.said.endswith("to go on: llm-fanout resume 'my run.db'\n")
    assert asked == done or len(numbers) > 1
    assert ended_again[0] == 0
    assert asked_again == len(SLOW) - done
    assert [(row["id"], row["ok"]) for row in rows_of(out)] == [(number, True) for number in range(len(SLOW))]


def test_a_command_that_was_killed_goes_on(tmp_path: Path) -> None:
    """Nothing is lost that was there, and at the most what was under way is asked twice."""
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(text) + "\n" for text in SLOW))

    with Box(SimConfig()) as box:
        to_box = ("--model", "sim/x", "--base-url", box.url, "--max-concurrency", 3, "--output", "o.jsonl")
        with command(tmp_path, "run", "p.jsonl", *to_box, "--journal", "run.db") as first:
            until(lambda: box.stats["answered"] >= 6)
            first.press(SIGKILL)
            first.ended()
        with command(tmp_path, "resume", "run.db") as second:
            code, said = second.ended()
        asked = box.stats["requests"]

    assert code == 0
    assert f"{len(SLOW)} calls in" in said
    assert len(SLOW) <= asked <= len(SLOW) + 6  # those under way, and those that were answered and not committed yet
    assert [(row["id"], row["ok"]) for row in rows_of(tmp_path / "o.jsonl")] == [
        (number, True) for number in range(len(SLOW))
    ]


def test_prompts_from_a_pipe_are_piped_again(tmp_path: Path) -> None:
    """A command that reads standard input can be stopped while it waits; it prints itself, and asks the rest only."""
    with Box(SimConfig(latency=0.01, jitter=0)) as box:
        words = ("run", "-", "--model", "sim/x", "--base-url", box.url, "--journal", "run.db")
        with command(tmp_path, *words) as first:
            first.pipe("[[answer:one]]", "[[answer:two]]")
            until(lambda: box.stats["answered"] == 2)
            first.press(SIGINT)
            code, out = first.ended()
        again = first.said.strip().splitlines()[-1]
        with command(tmp_path, "resume", "run.db") as other:
            refused, _ = other.ended()
        with command(tmp_path, *words) as second:
            second.pipe("[[answer:one]]", "[[answer:two]]", "[[answer:three]]")
            code_again, rows = second.ended()
        asked, url = box.stats["requests"], box.url

    line = f"... | llm-fanout run - --model=sim/x --journal=run.db --base-url={url}"
    assert (code, refused, code_again) == (130, 2, 0)
    assert [json.loads(row)["text"] for row in out.splitlines()] == ["one", "two"]
    assert again == f"to go on, pipe the same prompts again: {line}"
    assert other.said.strip().endswith(line)
    assert [json.loads(row)["text"] for row in rows.splitlines()] == ["one", "two", "three"]
    assert asked == 3
