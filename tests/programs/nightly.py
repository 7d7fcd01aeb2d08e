"""Rows from a generator, one key, below daytime traffic, done by six, an alarm on failures, an exit code."""

import sys
from collections.abc import Iterator
from datetime import datetime, time, timedelta

from llm_fanout import Endpoint, FanOut, Limits, Prompt, RunFailed, Summary


def rows(count: int) -> Iterator[Prompt]:
    """Rows as they come from a file that is too large to be read at once."""
    yield from (Prompt(f"Label the text number {number}.", id=f"row-{number}", tag=number) for number in range(count))


def alert(now: Summary) -> None:
    """Complain about many failures; raising would stop the run."""
    if now.done > 1_000 and now.failure_ratio > 0.02:
        print("ALERT", now.failure_ratio, dict(now.errors), file=sys.stderr)


async def main(url: str, count: int, out: str) -> int:
    """0 if nearly everything succeeded."""
    six = datetime.combine(datetime.now() + timedelta(days=1), time(6)).astimezone()
    limits = Limits(rpm=800_000, tpm=500_000_000, headroom=0.3)
    key = Endpoint("openai/gpt-5-mini", base_url=url, api_key="key-of-tonight", limits=limits)
    fan = FanOut(key, instructions="Label the text.", priority="background")
    try:
        summary = await fan.map(rows(count), deadline=six, total=count, progress=alert).sink(out)
    except RunFailed as exc:
        print(exc, file=sys.stderr)
        return 4
    finally:
        await fan.aclose()
    return 0 if summary.stopped is None and summary.failure_ratio < 0.02 else 3
