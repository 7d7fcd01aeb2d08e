"""Whether memory stays flat over a million rows, and what a Result costs that is kept.

Two tables, one question: what does the process grow by? The first goes over `map` of more and more rows, 500 at once,
and drops every Result: what is resident after 10,000 rows against the most thereafter, once for rows without ids and, told
`--ids`, once for Prompts with an id each. The second awaits `map`, and divides what is resident more by the Results kept
(answers of some 600 bytes; the prompts' own text was there before). Each size in a process of its own; answers come at once.

    uv run python -m benchmarks.memory [--rows N]... [--ids] [--kept 50000] [--json FILE]
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .callers import KEY, PROMPT
from .contest import cores
from .load_server import LoadServer
from .measured import parser_of, setting, table, write

SIZES = (1_000, 10_000, 100_000, 1_000_000)
WIDTH = 500
SETTLED = 10_000  # rows after which nothing more should be needed
LOOK_EVERY = 1_000  # rows
GROWTH, GROWTH_AIM = 30.0, 10.0  # MB
KEPT, KEPT_AIM = 2.0, 1.2  # kB a Result


@dataclass(frozen=True, slots=True)
class Resident:
    """Bytes resident: before the first row, after as many as settle things, at most since; and seconds that it took."""

    before: int
    settled: int
    most: int
    seconds: float

    @property
    def growth(self) -> float:
        """MB since things were settled; of a shorter run, since its beginning."""
        return (self.most - self.settled) / 1e6


def iterate(url: str, rows: int, ids: bool) -> Resident:
    """Go over so many rows."""
    return asyncio.run(_iterate(url, rows, ids))


async def _iterate(url: str, rows: int, ids: bool) -> Resident:
    from llm_fanout import FanOut, Limits

    gc.collect()
    begun = time.perf_counter()
    before = settled = most = resident()
    done = 0
    async with FanOut("openai/x", base_url=url, api_key=KEY, limits=Limits(max_concurrency=WIDTH)) as fan:
        async for result in fan.map(_rows(rows, ids)):
            done += bool(result.text)
            if done % LOOK_EVERY == 0:
                most = max(most, resident())
                settled = most if done == SETTLED else settled
    _check(done, rows)
    return Resident(before, settled, most, time.perf_counter() - begun)


def _rows(rows: int, ids: bool) -> Iterator[Any]:
    from llm_fanout import Prompt

    for number in range(rows):
        text = PROMPT.format(number)
        yield Prompt(text, id=f"row-{number}") if ids else text


def keep(url: str, results: int) -> float:
    """kB that a Result takes which is kept, in a Report of so many."""
    return asyncio.run(_keep(url, results))


async def _keep(url: str, results: int) -> float:
    from llm_fanout import FanOut, Limits

    async with FanOut("openai/x", base_url=url, api_key=KEY, limits=Limits(max_concurrency=WIDTH)) as fan:
        prompts = [PROMPT.format(number) for number in range(results)]
        await fan.map(prompts[: 4 * WIDTH])  # what connections and first calls take is not the Results'
        gc.collect()
        before = resident()
        report = await fan.map(prompts)
        gc.collect()
        taken = resident() - before
        _check(sum(bool(result.text) for result in report), results)
    return taken / results / 1e3


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def _check(answered: int, rows: int) -> None:
    if answered != rows:
        raise RuntimeError(f"{rows - answered} rows were not answered")


def apart(function: Callable[..., Any], *arguments: object) -> Any:
    """What `function` gives in a process of its own, new and on the client's core."""
    with multiprocessing.get_context("spawn").Pool(1, _pin, (cores()[0],)) as pool:
        return pool.apply(function, arguments)


def _pin(core: int | None) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})


def growth_row(rows: int, ids: bool, found: Resident) -> list[str]:
    """A row of the first table."""
    name = f"{rows:,}{' with ids' if ids else ''}"
    places = [f"{each / 1e6:.1f}" for each in (found.before, found.settled, found.most)]
    judged = rows > SETTLED and not ids
    bound = [f"<= {GROWTH:g}", f"{GROWTH_AIM:g}", "MISSED" if found.growth > GROWTH else ""] if judged else ["", "", ""]
    return [name, *places, f"{found.growth:.1f}", f"{rows / found.seconds:,.0f}", *bound]


def main() -> None:
    parser = parser_of(__doc__, rounds=None)
    parser.add_argument("--rows", action="append", type=int, help="this many rows; may be given again (1,000 to 1,000,000)")
    parser.add_argument("--ids", action="store_true", help="again with an id for each row")
    parser.add_argument("--kept", type=int, default=50_000, help="Results that are kept (%(default)s)")
    arguments = parser.parse_args()

    run = setting("aiohttp")
    grown = []
    with LoadServer(cores()[1]) as server:
        url = server.url(0.0)
        for ids in (False, True) if arguments.ids else (False,):
            for rows in arguments.rows or SIZES:
                grown.append((rows, ids, apart(iterate, url, rows, ids)))
        kept = apart(keep, url, arguments.kept)
    head = ("rows", "MB before", f"after {SETTLED:,}", "most", "growth, MB", "rows/s", "must reach", "aim", "")
    print(table(head, [growth_row(*each) for each in grown]))
    verdict = "MISSED" if kept > KEPT else ""
    row = [f"{arguments.kept:,} Results kept", f"{kept:.2f}", f"<= {KEPT:g}", f"{KEPT_AIM:g}", verdict]
    print(f"\n{table(('', 'kB a Result', 'must reach', 'aim', ''), [row])}")
    write(arguments.json, run, grown=grown, kept_kb=kept)


if __name__ == "__main__":
    main()
