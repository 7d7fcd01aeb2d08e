"""Prompts from files and from standard input."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import FAST, main, rows_of

from llm_fanout import cli
from llm_fanout.cli import prompts as prompts_of_commands


def piped(send: Callable[[Any], None], tmp_path: Path) -> tuple[int, list[dict[str, Any]]]:
    """Run with a pipe as standard input, in this process: exit code and rows."""
    out = tmp_path / "o.jsonl"
    reader, writer = os.pipe()
    code: list[int] = []
    with os.fdopen(reader) as stdin, os.fdopen(writer, "w") as pipe, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", stdin)
        sender = threading.Thread(target=lambda: (send(pipe), pipe.close()))
        sender.start()
        try:
            cli.app(["run", "-", "--model", "sim/x", "--sim", FAST, "--output", str(out)])
        except SystemExit as ended:
            code.append(int(ended.code or 0))
        sender.join()
    return code[0], rows_of(out)


@pytest.mark.usefixtures("our_loops")
def test_standard_input_is_read_as_it_comes(tmp_path: Path) -> None:
    """Rows from a pipe are asked while the pipe is still open."""

    def send(pipe: Any) -> None:
        for number in range(3):
            pipe.write(json.dumps(f"[[answer:{number}]]") + "\n\n")
            pipe.flush()

    code, rows = piped(send, tmp_path)

    assert code == 0
    assert [row["text"] for row in rows] == ["0", "1", "2"]


@pytest.mark.usefixtures("our_loops")
def test_standard_input_fails_at_the_row_and_keeps_what_is_done(tmp_path: Path) -> None:
    """A bad row of a pipe ends the run with exit code 2; the answers before it are written."""

    def send(pipe: Any) -> None:
        pipe.write('"[[answer:kept]]"\n{bad\n"never"\n')

    code, rows = piped(send, tmp_path)

    assert code == 2
    assert [row["text"] for row in rows] == ["kept"]


def test_standard_input_from_a_file(tmp_path: Path, prompts: Path) -> None:
    """`< file` works as well as a pipe."""
    out = tmp_path / "o.jsonl"

    with prompts.open() as stdin, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", stdin)
        with pytest.raises(SystemExit) as ended:
            cli.app(["run", "-", "--model", "sim/x", "--sim", FAST, "--output", str(out)])

    assert ended.value.code == 0
    assert len(rows_of(out)) == 3


def test_no_standard_input_at_all() -> None:
    """`< /dev/null`, as a cron job has it, is an input without rows: nothing to do, and nothing that hangs."""
    with open(os.devnull) as stdin, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", stdin)
        with pytest.raises(SystemExit) as ended:
            cli.app(["run", "-", "--model", "sim/x", "--sim", FAST])

    assert ended.value.code == 0


@pytest.mark.usefixtures("our_loops")
def test_a_source_that_breaks_is_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line without end ends the run; what was done is written."""
    monkeypatch.setattr(prompts_of_commands, "LONGEST_LINE", 1_000)

    def send(pipe: Any) -> None:
        pipe.write('"[[answer:kept]]"\n' + "x" * 3_000)

    code, rows = piped(send, tmp_path)

    assert code == 1
    assert [row["text"] for row in rows] == ["kept"]


def test_a_pipe_by_its_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file is read twice, which a pipe cannot be: `<(...)` of a shell is to be piped in."""
    os.mkfifo(tmp_path / "pipe")

    code = main(monkeypatch, "run", tmp_path / "pipe", "--model", "sim/x", "--sim", FAST)

    assert code == 2
    assert "pipe it into `llm-fanout run -`" in capsys.readouterr().err


def test_standard_input_that_was_not_all_answered_is_to_be_piped_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints the command that does the rest, quoted for a shell; a journal has no copy of standard input."""
    path, db = tmp_path / "p.jsonl", tmp_path / "run.db"
    path.write_text('"[[fault:401]]"\n')

    with path.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        code = main(
            monkeypatch, "run", "-", "--model", "sim/x", "--sim", FAST, "--instructions", "Be brief.", "--journal", db
        )

    line = f"llm-fanout run - --model=sim/x --journal={db} '--instructions=Be brief.' --sim={FAST}"
    assert code == 1
    assert capsys.readouterr().err.strip().endswith(f"to go on, pipe the same prompts again: ... | {line}")
