"""6. 1M rows, Parquet -> Parquet, resume after a crash, hard budget, two keys, below daytime traffic, alert on failures."""

import asyncio
import os
import sys
from collections.abc import Iterator
from datetime import datetime, time, timedelta

import pyarrow.parquet as pq
from pydantic import BaseModel

from llm_fanout import Endpoint, FanOut, Limits, Prompt, Summary


class Label(BaseModel):
    topic: str
    score: float


def rows(path: str) -> Iterator[Prompt]:
    for batch in pq.ParquetFile(path).iter_batches(1_000, columns=["id", "body"]):
        yield from (Prompt(row["body"], id=row["id"]) for row in batch.to_pylist())


def alert(now: Summary) -> None:
    if now.done > 1_000 and now.failure_ratio > 0.02:
        print("ALERT", now.failure_ratio, dict(now.errors), file=sys.stderr)  # raising here would stop the run


async def main() -> int:
    six = datetime.combine(datetime.now() + timedelta(days=1), time(6)).astimezone()
    keys = [
        Endpoint("openai/gpt-5-mini", api_key=os.environ[k], limits=Limits(rpm=5_000, tpm=4_000_000, headroom=0.3))
        for k in ("KEY_A", "KEY_B")
    ]
    async with FanOut(keys, instructions="Label the text.", priority="background") as fan:
        summary = await fan.map(
            rows("in.parquet"),
            response_format=Label,
            journal="night.db",
            budget=400.0,
            deadline=six,
            total=1_000_000,
            progress=alert,
        ).sink("out.parquet")
    print(summary)
    return 0 if summary.stopped is None and summary.failure_ratio < 0.02 else 3


sys.exit(asyncio.run(main()))
