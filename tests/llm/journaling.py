"""A run with a journal in a process of its own: `python journaling.py URL JOURNAL HOW CALLS`.

HOW is "awaited", "iterated" or "ordered": the process kills itself as soon as it has seen a result, after it has printed its
number and text. With "small", files may have 150,000 bytes: it prints how many rows are done, how many there are, and what
the run raised.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys

from llm_fanout import Endpoint, FanOut, Limits, Result
from llm_fanout.errors import JournalError


def end_with(*results: Result[str]) -> None:
    """Print what was seen, and be gone."""
    for result in results:
        sys.stdout.write(f"{result.index} {result.text}\n")
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)


async def main(url: str, journal: str, how: str, calls: int) -> None:
    """Ask so many prompts."""
    endpoint = Endpoint("openai/x", base_url=url, api_key="none", quota="q")
    async with FanOut(endpoint, limits=Limits(max_concurrency=8, adapt=False)) as fan:
        run = fan.map([f"[[answer:number {number}]]" for number in range(calls)], journal=journal)
        if how == "iterated":
            async for result in run:
                end_with(result)
        if how == "ordered":
            async for result in run.ordered():
                end_with(result)
        if how == "awaited":
            end_with(*await run)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))
        try:
            await run
        except JournalError as exc:
            sys.stdout.write(f"{len(exc.report.successes)} {len(exc.report)} {exc}")  # type: ignore[attr-defined]


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
