"""A client in a process of its own: it asks a hostile server, and prints what came of its calls and what they cost."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

from llm_fanout import FanOut, Limits, Prompt

OTHERS = 20  # prompts beside the hostile one


def peak() -> int:
    """Bytes of memory that this process has had at most; getrusage would count its parent's, too."""
    kilobytes = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert kilobytes is not None
    return int(kilobytes[1]) * 1024


async def ask(url: str, *, stream: bool, hasty: bool) -> dict[str, Any]:
    """The results of a run with one hostile prompt, and how many bytes the peak of memory rose by it."""
    limits = Limits(max_concurrency=8, tpm=10_000_000)
    async with FanOut("openai/x", base_url=url, api_key="none", limits=limits, timeout=3, max_retries=1) as fan:
        await fan.map([f"Warm up {number}." for number in range(OTHERS)])  # imports, connections
        before = peak()
        prompts = [f"Number {number}." for number in range(OTHERS)]
        hostile = Prompt("A hostile one.", timeout=1 if hasty else 3)
        report = await fan.map([*prompts[:5], hostile, *prompts[5:]], stream=stream)
        after = await fan.call("And afterwards?")
        grown = peak() - before
    victim = report[5]
    return {
        "others": sum(result.ok for result in report) - victim.ok,
        "after": after.ok,
        "kind": victim.error.kind if victim.error else None,
        "message": str(victim.error or ""),
        "usage": [victim.usage.input_tokens, victim.usage.output_tokens] if victim.usage else None,
        "attempts": victim.attempts,
        "seconds": report.summary.elapsed,
        "grown": grown,
    }


if __name__ == "__main__":
    options = sys.argv[2:]
    sys.stdout.write(json.dumps(asyncio.run(ask(sys.argv[1], stream="stream" in options, hasty="hasty" in options))))
