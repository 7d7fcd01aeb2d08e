"""What a journal adds to a call, and how soon one of 100,000 results is open again.

One question, in two parts. How many microseconds of CPU does the journal add to a call, on the event loop's thread and in
all? A function that yields once is asked 100 at once, with a journal and without, in turns after a round that does not
count; its answer has the size of a chat completion. The bound is 5 % of a call on the loop's thread: of `--call`, what one
costs over the wire, on this machine (`benchmarks.overhead`). And how long does a run take whose answers are all in its
journal: until it is ready, and until all are delivered again?

    uv run python -m benchmarks.journal [--rounds 7] [--calls 10000] [--rows 100000] [--call 475] [--json FILE]
"""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from llm_fanout import Endpoint, FanOut, Limits
from llm_fanout.journal import Journal, OpenJournal

from .callers import NEVER_WAITS, PROMPT
from .contest import cores
from .measured import Spread, parser_of, setting, table, write

WIDTH = 100
ANSWER = "word " * 120  # with what surrounds it, the bytes of a usual reply
MUST_LOOP, MUST, AIM = 0.05, 25.0, 15.0  # share of a call; microseconds in all
REFERENCE = 106.0  # microseconds that aiohttp takes for a call on the machine of the bounds, see benchmarks/README.md
HERE = 410.0  # and on the one that the README was measured on


class Cost(NamedTuple):
    """CPU seconds a call."""

    loop: float
    whole: float


async def answer(request: object) -> str:
    """Yield once."""
    await asyncio.sleep(0)
    return ANSWER


async def asked(prompts: Iterable[str], journal: Path | None) -> int:
    """How many were answered."""
    limits = Limits(max_concurrency=WIDTH, **NEVER_WAITS)
    options: Mapping[str, Any] = {} if journal is None else {"journal": journal}
    async with FanOut(Endpoint("own/x", provider=answer), limits=limits) as fan:
        return sum([bool(result.text) async for result in fan.map(prompts, **options)])


async def cost(calls: int, journal: Path | None) -> Cost:
    """Of so many calls."""
    prompts = [PROMPT.format(number) for number in range(calls)]
    gc.collect()
    loop, whole = time.thread_time(), time.process_time()
    answered = await asked(prompts, journal)
    found = Cost((time.thread_time() - loop) / calls, (time.process_time() - whole) / calls)
    if answered != calls:
        raise RuntimeError(f"{calls - answered} calls were not answered")
    return found


def measure(calls: int, rounds: int, folder: Path) -> dict[str, list[Cost]]:
    """Of each round, without a journal and with a new one."""
    costs: dict[str, list[Cost]] = {"without": [], "with": []}
    for number in range(rounds + 1):
        for name, taken in costs.items():
            found = asyncio.run(cost(calls, folder / f"{number}.db" if name == "with" else None))
            if number:
                taken.append(found)
    return costs


def reopened(rows: int, rounds: int, folder: Path) -> dict[str, list[float]]:
    """Seconds until a journal of so many rows is ready, and until a run has delivered all of them."""
    place = folder / "rows.db"
    prompts = [PROMPT.format(number) for number in range(rows)]
    asyncio.run(asked(prompts, place))
    seconds: dict[str, list[float]] = {"ready": [], "delivered": []}
    for number in range(rounds + 1):
        ready = asyncio.run(_seconds_to_open(place))
        began = time.perf_counter()
        asyncio.run(asked(prompts, place))
        if number:
            seconds["ready"].append(ready)
            seconds["delivered"].append(time.perf_counter() - began)
    return seconds


async def _seconds_to_open(place: Path) -> float:
    loop = asyncio.get_running_loop()
    journal, ready, over = OpenJournal(Journal(place)), loop.create_future(), loop.create_future()
    began = time.perf_counter()
    journal.open(ready.set_result)
    failure = await ready
    seconds = time.perf_counter() - began
    journal.close(over.set_result)
    await over
    if failure is not None:
        raise failure
    return seconds


def report(costs: Mapping[str, list[Cost]], call: float) -> str:
    """A row for the loop's thread, and one for all; `call` is what a call costs, in microseconds."""
    pairs = list(zip(costs["with"], costs["without"], strict=True))
    loop = Spread.of([(one.loop - other.loop) * 1e6 for one, other in pairs])
    whole = Spread.of([(one.whole - other.whole) * 1e6 for one, other in pairs])
    bare = [Spread.of([getattr(each, what) for each in costs["without"]]).times(1e6) for what in Cost._fields]
    scale = REFERENCE / HERE
    most = MUST_LOOP * call
    added = [
        [f"{bare[0]:.1f}", f"{loop:.1f}", f"{loop.times(scale):.1f}"],
        [f"{bare[1]:.1f}", f"{whole:.1f}", f"{whole.times(scale):.1f}"],
    ]
    rows = [
        ["on the loop's thread", *added[0], f"<= {most:.1f}", "", "MISSED" if loop.median > most else ""],
        ["in all", *added[1], f"<= {MUST:g} scaled", f"{AIM:g}", "MISSED" if whole.median * scale > MUST else ""],
    ]
    head = (f"{WIDTH} in flight", "a call without, us", "adds, us", "scaled, us", "must reach", "aim", "")
    return table(head, rows)


def report_reopening(seconds: Mapping[str, list[float]], rows: int) -> str:
    """A row each."""
    lines = [
        [name, f"{(spread := Spread.of(taken)):.2f}", f"{spread.median / rows * 1e6:.1f}"] for name, taken in seconds.items()
    ]
    return table((f"{rows:,} results", "seconds", "us a result"), lines)


def main() -> None:
    parser = parser_of(__doc__, rounds=7)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--call", type=float, default=475.0, help="microseconds of CPU that a call costs here")
    arguments = parser.parse_args()

    run: dict[str, Any] = setting()
    core = cores()[0]
    if core is not None:
        os.sched_setaffinity(0, {core})
    with tempfile.TemporaryDirectory() as folder:
        costs = measure(arguments.calls, arguments.rounds, Path(folder))
        print(report(costs, arguments.call) + "\n", flush=True)
        seconds = reopened(arguments.rows, 3, Path(folder))
    print(report_reopening(seconds, arguments.rows))
    write(arguments.json, run, costs=costs, seconds=seconds)


if __name__ == "__main__":
    main()
