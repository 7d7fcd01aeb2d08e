"""What the fan-out itself adds to a call that costs nothing.

One question: how many microseconds of CPU do limits, retries, timeout, result and context add to an async function that
yields once, 100 at once? `FanOut` asks the function as an Endpoint's provider, `Executor` maps it; what the bare loop of
workers takes for the same calls is taken off, round by round. They take turns, after a round that does not count.

    uv run python -m benchmarks.added [--rounds 7] [--calls 20000] [--json FILE]
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from llm_fanout import Endpoint, Executor, FanOut, Limits

from .callers import NEVER_WAITS, PROMPT, Caller
from .contest import cores
from .measured import Spread, parser_of, setting, table, write

WIDTH = 100
TIMEOUT = 60.0  # seconds; never reached
MUST, AIM = 20.0, 8.0  # microseconds, of `map` with everything on
ANSWER = "word " * 50
BARE = "bare loop of workers"


async def answer(request: object) -> str:
    """Yield once."""
    await asyncio.sleep(0)
    return ANSWER


async def bare(prompts: list[str]) -> int:
    return await Caller("", WIDTH).ask_each(prompts, answer)


async def executor(prompts: list[str]) -> int:
    report = await Executor(max_concurrency=WIDTH, timeout=TIMEOUT).map(answer, prompts)
    return sum(bool(result.text) for result in report)


async def awaited(prompts: list[str]) -> int:
    async with _fan() as fan:
        return sum(bool(result.text) for result in await fan.map(prompts))


async def iterated(prompts: list[str]) -> int:
    async with _fan() as fan:
        return sum([bool(result.text) async for result in fan.map(prompts)])


def _fan() -> FanOut:
    limits = Limits(max_concurrency=WIDTH, **NEVER_WAITS)
    return FanOut(Endpoint("own/x", provider=answer), limits=limits, timeout=TIMEOUT)


CONTENDERS: dict[str, Callable[[list[str]], Awaitable[int]]] = {
    BARE: bare,
    "Executor.map, awaited": executor,
    "FanOut.map, awaited": awaited,
    "FanOut.map, iterated": iterated,
}
HELD = "FanOut.map, awaited"  # to the bound


def measure(calls: int, rounds: int) -> dict[str, list[float]]:
    """CPU seconds a call, of each round, by contender."""
    prompts = [PROMPT.format(number) for number in range(calls)]
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for number in range(rounds + 1):
        for name, contender in CONTENDERS.items():
            taken = asyncio.run(_timed(contender, prompts))
            if number:
                seconds[name].append(taken / calls)
    return seconds


async def _timed(contender: Callable[[list[str]], Awaitable[int]], prompts: list[str]) -> float:
    gc.collect()
    begun = time.process_time()
    answered = await contender(prompts)
    seconds = time.process_time() - begun
    if answered != len(prompts):
        raise RuntimeError(f"{len(prompts) - answered} calls were not answered")
    return seconds


def report(seconds: dict[str, list[float]]) -> str:
    """A row per contender, and what it adds to the bare loop."""
    rows = []
    for name, taken in seconds.items():
        whole = Spread.of(taken).times(1e6)
        added = Spread.of([each - other for each, other in zip(taken, seconds[BARE], strict=True)]).times(1e6)
        missed = "MISSED" if name == HELD and added.median > MUST else ""
        bound = f"<= {MUST:g}" if name == HELD else ""
        aim = f"{AIM:g}" if name == HELD else ""
        adds = "" if name == BARE else f"{added:.1f}"
        rows.append([name, f"{whole:.1f}", adds, bound, aim, missed])
    return table((f"{WIDTH} in flight", "us a call", "adds, us", "must reach", "aim", ""), rows)


def main() -> None:
    parser = parser_of(__doc__, rounds=7)
    parser.add_argument("--calls", type=int, default=20_000)
    arguments = parser.parse_args()

    run: dict[str, Any] = setting()
    core = cores()[0]
    if core is not None:
        os.sched_setaffinity(0, {core})
    seconds = measure(arguments.calls, arguments.rounds)
    print(report(seconds))
    write(arguments.json, run, seconds=seconds)


if __name__ == "__main__":
    main()
