"""A run in a process of its own, which others kill: it says each result once it has it, and at its end how many."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection

from llm_fanout import FanOut, Limits, Prompt


def answer_to(row: int) -> str:
    """What the provider says to the prompt of that row."""
    return f"label-{row}"


def text_of(row: int) -> str:
    """The prompt of that row."""
    return f"[[answer:{answer_to(row)}]] Label the text number {row}."


def prompts(rows: int) -> Iterator[Prompt]:
    """One for each row."""
    return (Prompt(text_of(row), id=row) for row in range(rows))


def say(*words: object) -> None:
    """Write a line, so that it is out even if the next step is the last."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def main(url: str, journal: str, rows: int, width: int) -> None:
    """Ask all rows, so many at once."""
    limits = Limits(max_concurrency=width, adapt=False)
    async with FanOut("sim/any", base_url=url, limits=limits) as fan:
        say("begun")
        run = fan.map(prompts(rows), journal=journal)
        async for result in run:
            say("row", result.id, result.source, result.text or repr(result.error))
        say("ended", run.summary.done, run.summary.succeeded)


def begin(out: Connection, url: str, journal: str, rows: int, width: int) -> None:
    """What a new process does: everything it says goes to `out`."""
    for stream in (sys.stdout, sys.stderr):
        os.dup2(out.fileno(), stream.fileno())
    asyncio.run(main(url, journal, rows, width))
