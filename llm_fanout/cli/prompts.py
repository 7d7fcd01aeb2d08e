"""Where a command's prompts come from: a file, or standard input as it comes."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .order import STREAM

if TYPE_CHECKING:
    from ..llm.endpoint import Endpoint
    from ..llm.prompt import Prompt

LONGEST_LINE = 64 * 2**20  # bytes of one row on standard input


class Prompts:
    """The prompts of a file, which is checked as a whole before any is asked, or those of standard input (`-`).

    Args:
        path: The file.
        endpoint: Where all of them go.
        skip: Whether a bad row is left out; else it is a ConfigError, or ends the run where it comes.

    Attributes:
        total: How many there are; None if that cannot be known.
        faults: What is wrong with rows that were left out, so far.
    """

    def __init__(self, path: str, endpoint: Endpoint, *, skip: bool) -> None:
        from ..rows import RowReader

        self._path = path
        self._reader = RowReader(skip=skip, endpoint=endpoint)
        self.total: int | None = None
        self.faults = self._reader.faults
        if path != STREAM:
            _check_is_file(path)
            self.total = sum(1 for _ in self.at_hand())
            self._reader = RowReader(skip=True, endpoint=endpoint)  # the same once more, as they are wanted

    def coming(self) -> Iterable[Prompt] | AsyncIterable[Prompt]:
        """All of them, as they are there; waiting for one blocks nothing else."""
        return _from_stdin(self._reader.read) if self._path == STREAM else self.at_hand()

    def at_hand(self) -> Iterator[Prompt]:
        """All of them; whoever asks for one waits for it."""
        return self._reader.read_all(sys.stdin.buffer if self._path == STREAM else _lines_of(self._path))


def _check_is_file(path: str) -> None:
    if Path(path).is_fifo():
        raise ConfigError(f"cannot read {path} twice, to check it first: it is a pipe; pipe it into `llm-fanout run -`")


def _lines_of(path: str) -> Iterator[bytes]:
    try:
        with open(path, "rb") as lines:
            yield from lines
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror}") from exc


async def _from_stdin(read: Callable[[bytes], Prompt | None]) -> AsyncIterator[Prompt]:
    async for line in _stdin_lines():
        if (prompt := read(line)) is not None:
            yield prompt


async def _stdin_lines() -> AsyncIterator[bytes]:
    mode = os.fstat(sys.stdin.fileno()).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or sys.stdin.isatty()):  # a file, /dev/null: never waits, no polling
        for line in sys.stdin.buffer:
            yield line
        return
    stream = asyncio.StreamReader(limit=LONGEST_LINE)
    loop = asyncio.get_running_loop()
    pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), sys.stdin)
    with closing(pipe):  # at its end, too: uvloop leaves it open, and cannot be closed itself then
        while line := await stream.readline():
            yield line
