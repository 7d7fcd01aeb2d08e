"""One caller, in a process of its own: `python -m benchmarks.child NAME [CORE]`.

Turns come as JSON lines on standard input; what each one took goes out as a JSON line on what was standard output.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import time
from dataclasses import asdict
from pathlib import Path

from .callers import PROMPT, Caller
from .environments import outlet
from .roster import ALL
from .turn import Taken, Turn

TICK = 0.001  # seconds
SCHEDULED = Path("/proc/self/schedstat")  # of the main thread: ns run, ns waited, slices


def main() -> None:
    out = outlet()
    name, *core = sys.argv[1:]
    if core:
        os.sched_setaffinity(0, {int(core[0])})
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # thousands of connections, and each takes one
    for line in sys.stdin:
        taken = asyncio.run(play(ALL[name], Turn(**json.loads(line))))
        out.write(json.dumps(asdict(taken)) + "\n")


async def play(kind: type[Caller], turn: Turn) -> Taken:
    """Do as told.

    Raises:
        RuntimeError: A prompt was not answered.
    """
    prompts = [PROMPT.format(number) for number in range(turn.calls)]
    caller = kind(turn.url, turn.width)
    await caller.open()
    late: list[float] = []
    ticking = asyncio.ensure_future(_tick(late)) if turn.ticks else None
    gc.collect()
    waited, begun, cpu = _waited(), time.perf_counter(), time.process_time()
    answered = await caller.ask(prompts)
    cpu, seconds, waited = time.process_time() - cpu, time.perf_counter() - begun, _waited() - waited
    if ticking is not None:
        ticking.cancel()
    await caller.close()
    if answered != turn.calls:
        raise RuntimeError(f"{turn.calls - answered} of {turn.calls} prompts were not answered")
    return Taken(cpu=cpu, seconds=seconds, waited=waited, late=sorted(late)[len(late) * 99 // 100] if late else 0.0)


def _waited() -> float:
    """Seconds that the thread of the event loop has been ready and not run; 0 where the system does not tell."""
    try:
        return int(SCHEDULED.read_text(encoding="ascii").split()[1]) / 1e9
    except OSError:
        return 0.0


async def _tick(late: list[float]) -> None:
    while True:
        due = time.perf_counter() + TICK
        await asyncio.sleep(TICK)
        late.append(time.perf_counter() - due)


if __name__ == "__main__":
    main()
