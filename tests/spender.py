"""A client in a process of its own, to be killed: it asks a box for more than its budget pays for, with a journal."""

from __future__ import annotations

import asyncio
import sys

from llm_fanout import Endpoint, FanOut, Limits

PROMPTS = 2_000
MAX_TOKENS = 60
PRICE = (100.0, 300.0)  # USD per million tokens


async def spend(url: str, journal: str, budget: float) -> str | None:
    """Why the run ended, if it did before its prompts did."""
    endpoint = Endpoint("sim/x", base_url=url, price=PRICE)
    async with FanOut(endpoint, limits=Limits(max_concurrency=16), max_tokens=MAX_TOKENS) as fan:
        prompts = (f"number {number}" for number in range(PROMPTS))
        report = await fan.map(prompts, journal=journal, budget=budget, progress=False)
    return None if report.summary.stopped is None else report.summary.stopped.kind


if __name__ == "__main__":
    asyncio.run(spend(sys.argv[1], sys.argv[2], float(sys.argv[3])))
