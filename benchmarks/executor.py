"""What the generic executor costs per call, against gather and a semaphore, when the calls themselves cost nothing.

One question: how much CPU time do 100,000 calls take that yield to the loop once, 100 at a time, with everything on (a
timeout, a result that is kept, the caller's context)? The other side is what people write instead: `asyncio.gather`, a
`Semaphore` and `asyncio.timeout` around each call. They take turns, after a round that does not count. Then: what is
allocated at the peak when results are iterated over and dropped, from a thousand calls to a hundred thousand.

    uv run python -m benchmarks.executor [--rounds 5] [--json FILE]
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from llm_fanout import Executor

from .measured import parser_of, setting, write

CALLS = 100_000
WIDTH = 100
TIMEOUT = 60.0  # seconds; never reached
SIZES = (1_000, 10_000, 100_000)
FLOOR, AIM = 0.9, 0.6
CALLER = ContextVar("CALLER", default=0)


async def work(number: int) -> int:
    """Yield once."""
    await asyncio.sleep(0)
    return number + CALLER.get()


async def gather() -> None:
    """`gather`, a semaphore and a timeout."""
    slots = asyncio.Semaphore(WIDTH)

    async def one(number: int) -> int:
        async with slots, asyncio.timeout(TIMEOUT):
            return await work(number)

    _check(sum(await asyncio.gather(*map(one, range(CALLS)))))


async def ours() -> None:
    """`Executor.map`, awaited: a Report with every Result."""
    report = await Executor(max_concurrency=WIDTH, timeout=TIMEOUT).map(work, range(CALLS))
    _check(sum(report.values))


async def iterated(calls: int = CALLS) -> None:
    """`Executor.map`, iterated over."""
    total = 0
    async for result in Executor(max_concurrency=WIDTH, timeout=TIMEOUT).map(work, range(calls)):
        total += result.value
    _check(total, calls)


CONTENDERS: dict[str, Callable[[], Awaitable[None]]] = {
    "gather + Semaphore + timeout": gather,
    "Executor.map, awaited": ours,
    "Executor.map, iterated": iterated,
}


def measure(rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each round by contender."""
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for number in range(rounds + 1):
        for name, contender in CONTENDERS.items():
            taken = asyncio.run(_timed(contender))
            if number:
                seconds[name].append(taken)
    return seconds


async def _timed(contender: Callable[[], Awaitable[None]]) -> float:
    gc.collect()
    CALLER.set(1)
    begun = time.process_time()
    await contender()
    return time.process_time() - begun


def peak(calls: int) -> int:
    """Bytes allocated at the peak while so many results are iterated over."""

    async def traced() -> None:
        CALLER.set(1)
        await iterated(calls)

    gc.collect()
    tracemalloc.start()
    asyncio.run(traced())
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def _check(total: int, calls: int = CALLS) -> None:
    if total != calls * (calls - 1) // 2 + calls:
        raise RuntimeError("a call was lost, or did not see its caller's context")


def main() -> None:
    parser = parser_of(__doc__)
    arguments = parser.parse_args()

    run = setting()
    seconds = measure(arguments.rounds)
    base = statistics.median(seconds["gather + Semaphore + timeout"])
    print(f"{'':32}{'us a call':>10}{'min':>8}{'max':>8}{'ratio':>8}   at most {FLOOR:g}, aim {AIM:g}")
    for name, taken in seconds.items():
        median, least, most = (each / CALLS * 1e6 for each in (statistics.median(taken), min(taken), max(taken)))
        ratio = statistics.median(taken) / base
        missed = "MISSED" if name != "gather + Semaphore + timeout" and ratio > FLOOR else ""
        print(f"{name:32}{median:>10.2f}{least:>8.2f}{most:>8.2f}{ratio:>8.2f}   {missed}")

    peaks = {calls: peak(calls) for calls in SIZES}
    print(f"\n{'calls, iterated over':32}{'peak kB':>10}")
    for calls, most in peaks.items():
        print(f"{calls:<32,}{most / 1e3:>10.0f}")
    write(arguments.json, run, seconds=seconds, peak_bytes=peaks)


if __name__ == "__main__":
    main()
