"""One contender at one job, in a process of its own: `python -m benchmarks.conformance.child NAME URL`.

The job comes as JSON on standard input. What happens goes out as JSON lines on what was standard output; whatever the
library prints goes to standard error. Instants are monotonic seconds, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from ..environments import outlet
from .contenders import CONTENDERS, Contender
from .job import Job, NotOffered

SAMPLE_EVERY = 0.5  # seconds
WORK_ROUNDS = 3  # the best of so many counts: the rest is what else the machine did

Tell = Callable[..., None]


def main() -> None:
    tell = _outlet()
    name, url = sys.argv[1:]
    job = Job(**json.loads(sys.stdin.read()))
    try:
        asyncio.run(_perform(_opened(name, url, job), job, tell))
    except NotOffered as exc:
        tell("not_offered", reason=str(exc))
    except Exception as exc:
        tell("crashed", reason=f"{type(exc).__name__}: {exc}")
        raise


def _opened(name: str, url: str, job: Job) -> Contender:
    """The contender, ready. A library that cannot even be set up here is not there; it has not failed the probe."""
    contender = CONTENDERS[name](url, job)
    try:
        if job.waves:
            contender.open()
    except Exception as exc:
        raise NotOffered(f"could not be set up: {type(exc).__name__}: {exc}") from exc
    return contender


async def _perform(contender: Contender, job: Job, tell: Tell) -> None:
    watch = asyncio.ensure_future(_sample(tell))
    if job.race:
        begun = time.monotonic()
        tell("raced", answer=await contender.race(job.waves[0][0]), seconds=time.monotonic() - begun)
    elif job.waves:
        for prompts in job.waves:
            tell("wave", asked=len(prompts))
            answered = await contender.ask(prompts)
            tell("asked", answered=sum(answered), failed=len(prompts) - sum(answered))
    for items in job.work:
        tell("worked", items=items, seconds=await _best_of(contender, items))
    watch.cancel()
    tell("done")


async def _best_of(contender: Contender, items: int) -> float:
    seconds = []
    for _ in range(WORK_ROUNDS):
        begun = time.perf_counter()
        await contender.work(items)
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


async def _sample(tell: Tell) -> None:
    """What waiting costs: seconds of processor time so far, and tasks that are alive."""
    while True:
        tell("sample", cpu=time.process_time(), tasks=len(asyncio.all_tasks()))
        await asyncio.sleep(SAMPLE_EVERY)


def _outlet() -> Tell:
    """A line of JSON for every event."""
    out = outlet()

    def tell(event: str, **facts: Any) -> None:
        out.write(json.dumps({"event": event, "at": time.monotonic(), **facts}) + "\n")

    return tell


if __name__ == "__main__":
    main()
