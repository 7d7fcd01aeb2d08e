"""A hundred calls of about one second: one by one, with gather and a semaphore, and fanned out.

One question: how long do 100 calls take, from the first prompt handed in, imports done, no connection open? The server is
the provider in a box, every answer takes exactly one second. One by one is measured on ten calls and scaled.

    uv run python -m benchmarks.latency_100 [--rounds 5] [--json FILE]
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from openai import AsyncOpenAI

from llm_fanout import FanOut, Limits
from llm_fanout.sim import Box, SimConfig

from .measured import parser_of, setting, write

CALLS = 100
SAMPLE = 10
PROMPTS = [f"Say something about the number {number}." for number in range(CALLS)]


async def one_by_one(url: str) -> float:
    """Seconds of all calls in a row, going by a sample."""
    async with AsyncOpenAI(base_url=url, api_key="sim", max_retries=0) as client:
        begun = time.perf_counter()
        for prompt in PROMPTS[:SAMPLE]:
            await _ask(client, prompt)
        return (time.perf_counter() - begun) / SAMPLE * CALLS


async def gather(url: str) -> float:
    """Seconds with `asyncio.gather` and a semaphore around the SDK."""
    slots = asyncio.Semaphore(CALLS)

    async def ask(prompt: str) -> None:
        async with slots:
            await _ask(client, prompt)

    async with AsyncOpenAI(base_url=url, api_key="sim", max_retries=0) as client:
        begun = time.perf_counter()
        await asyncio.gather(*map(ask, PROMPTS))
        return time.perf_counter() - begun


async def ours(url: str) -> float:
    """Seconds with `FanOut.map`."""
    async with FanOut("sim/x", base_url=url, limits=Limits(max_concurrency=CALLS)) as fan:
        begun = time.perf_counter()
        report = await fan.map(PROMPTS)
        seconds = time.perf_counter() - begun
    if report.summary.succeeded != CALLS:
        raise RuntimeError(f"{report.summary.failed} calls failed")
    return seconds


def _ask(client: AsyncOpenAI, prompt: str) -> Awaitable[Any]:
    return client.chat.completions.create(model="x", messages=[{"role": "user", "content": prompt}])


CONTENDERS: dict[str, Callable[[str], Awaitable[float]]] = {
    "one by one (scaled)": one_by_one,
    "gather + semaphore, openai SDK": gather,
    "llm_fanout": ours,
}


async def measure(rounds: int) -> dict[str, list[float]]:
    """Seconds of every round by contender; the contenders take turns, after a round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for number in range(rounds + 1):
        for name, contender in CONTENDERS.items():
            if name.startswith("one by one") and number > 1:
                continue  # ten seconds a round, and hardly any spread
            with Box(SimConfig(latency=1.0, jitter=0.0)) as box:
                taken = await contender(box.url)
            if number:
                seconds[name].append(taken)
    return seconds


def main() -> None:
    parser = parser_of(__doc__)
    arguments = parser.parse_args()

    run = setting("openai", "aiohttp")
    seconds = asyncio.run(measure(arguments.rounds))
    best = statistics.median(seconds["llm_fanout"])
    print(f"{'':32}{'median s':>10}{'min':>8}{'max':>8}{'ratio':>8}")
    for name, taken in seconds.items():
        median = statistics.median(taken)
        print(f"{name:32}{median:>10.2f}{min(taken):>8.2f}{max(taken):>8.2f}{median / best:>8.2f}")
    write(arguments.json, run, seconds=seconds)


if __name__ == "__main__":
    main()
