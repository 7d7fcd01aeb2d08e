"""A process that may open few files: `python few_files.py URL CALLS FILES`. It prints how its calls ended."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import sys

from llm_fanout import FanOut, Limits


async def main(url: str, calls: int) -> None:
    """Ask so many prompts, all at once as far as the limits say."""
    limits = Limits(max_concurrency=calls, adapt=False)
    async with FanOut("openai/x", base_url=url, api_key="key", limits=limits, timeout=20.0) as fan:
        report = await fan.map([f"[[answer:{number}]] [[latency:0.05]]" for number in range(calls)])
    found = {
        "answered": report.summary.succeeded,
        "attempts": sum(result.attempts for result in report),
        "in_order": report.values == [str(number) for number in range(calls)],
        "waited": max(result.queue_time for result in report),
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[3]), int(sys.argv[3])))
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
