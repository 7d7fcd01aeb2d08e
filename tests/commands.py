"""Commands as a user gives them: in this process, or in one of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from llm_fanout import cli

FAST = "latency=0.01,jitter=0"
PATIENCE = 30  # seconds for what takes a moment, on a machine that others use, too
NUMBERS = count()
KEYS = ("id", "index", "ok", "text", "error", "model", "source", "attempts", "usage", "cost")
KEYS += ("latency", "queue_time", "service_time", "finish_reason")
# A shell that starts a job with & has it ignore Ctrl-C, and so would all that it starts.
PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from llm_fanout.cli import main
main()
"""
FULL_DISK = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing beyond it is an error
resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))
"""


def invoke(*arguments: object, stdin: str | None = None) -> Result:
    """The command in this process, with what it said and its exit code."""
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], input=stdin)


def main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The console script with these arguments: its exit code."""
    monkeypatch.setattr(sys, "argv", ["llm-fanout", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def until(holds: Callable[[], bool]) -> None:
    """Wait until it does."""
    give_up = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.01)


class Process:
    """A command in a process of its own; `said` is its standard error, as soon as it is there."""

    def __init__(self, process: subprocess.Popen[bytes], stderr: Path) -> None:
        self._process = process
        self._stderr = stderr

    @property
    def said(self) -> str:
        return self._stderr.read_text()

    def press(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop_reading(self) -> None:
        """Whoever read its standard output has seen enough."""
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.stdout = None

    def pipe(self, *lines: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("".join(f"{json.dumps(line)}\n" for line in lines).encode())
        self._process.stdin.flush()

    def line(self) -> str:
        """The next line of its standard output, as soon as it is there."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode()

    def ended(self) -> tuple[int, str]:
        """Its exit code, and what is on its standard output, once it has ended."""
        out, _ = self._process.communicate(timeout=PATIENCE)
        assert "Traceback" not in self.said
        return self._process.returncode, (out or b"").decode()


@contextmanager
def command(folder: Path, *arguments: object, file_size: int | None = None) -> Iterator[Process]:
    """`llm-fanout` with these arguments, started in `folder`; killed at the end if it still runs. As on a full disk, no file
    that it writes may have more than `file_size` bytes.
    """
    stderr = folder / f"stderr {next(NUMBERS)}"
    program = PROGRAM if file_size is None else FULL_DISK.format(file_size) + PROGRAM
    words = [sys.executable, "-c", program, *map(str, arguments)]
    with stderr.open("wb") as errors:
        process = subprocess.Popen(words, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
    try:
        yield Process(process, stderr)
    finally:
        process.kill()
        process.communicate()
