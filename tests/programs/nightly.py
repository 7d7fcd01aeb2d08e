"""1M rows, Parquet -> Parquet, resume after a crash, hard budget, two keys, below daytime traffic, alert on failures."""

import asyncio
import os
import sys
from collections.abc import Iterator
from datetime import datetime, time, timedelta

import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it has no types
from pydantic import BaseModel

from llm_fanout import Endpoint, FanOut, Limits, Prompt, Summary


class Label(BaseModel):
    """What is wanted of each row."""

    topic: str
    score: float


def rows(path: str) -> Iterator[Prompt]:
    """Rows of a file that is too large to be read at once."""
    for batch in pq.ParquetFile(path).iter_batches(1_000, columns=["id", "body"]):
        yield from (Prompt(row["body"], id=row["id"]) for row in batch.to_pylist())


def alert(now: Summary) -> None:
    """Complain about many failures; raising would stop the run."""
    if now.done > 1_000 and now.failure_ratio > 0.02:
        print("ALERT", now.failure_ratio, dict(now.errors), file=sys.stderr)


async def main() -> int:
    """0 if nearly everything succeeded."""
    six = datetime.combine(datetime.now() + timedelta(days=1), time(6)).astimezone()
    limits = Limits(rpm=5_000, tpm=4_000_000, headroom=0.3)
    keys = [Endpoint("openai/gpt-5-mini", api_key=os.environ[key], limits=limits) for key in ("KEY_A", "KEY_B")]
    async with FanOut(keys, instructions="Label the text.", priority="background") as fan:
        run = fan.map(
            rows("in.parquet"),
            response_format=Label,
            journal="night.db",
            budget=400.0,
            deadline=six,
            total=1_000_000,
            progress=alert,
        )
        summary = await run.sink("out.parquet")
    print(summary)
    return 0 if summary.stopped is None and summary.failure_ratio < 0.02 else 3


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
