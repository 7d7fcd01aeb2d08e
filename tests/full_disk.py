"""A process whose files may have few bytes: `python full_disk.py PATH BYTES`. It prints how its run ended."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import sys

from llm_fanout import Executor, RunFailed


async def answer(number: int) -> str:
    """Text that is more than there is room for, with that of the others."""
    return str(number) * 100


async def main(path: str) -> None:
    """Sink what does not fit."""
    run = Executor(max_concurrency=4).map(answer, iter(range(100_000)))
    try:
        await run.sink(path)
    except RunFailed as exc:
        found = {"said": str(exc), "cause": type(exc.__cause__).__name__, "done": run.summary.done, "kept": len(exc.report)}
        sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing beyond it is an OSError
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
    asyncio.run(main(sys.argv[1]))
