"""One contender at one probe: the witness here, the contender in its own process and environment."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..environments import ROOT, surroundings
from .probes import Probe
from .seen import Seen
from .witness import Witness

START = 90.0  # seconds that a process may take to import its library: some take ten on a cold disk
LOOK_EVERY = 0.05  # seconds
STDERR_KEPT = 2_000  # characters


@dataclass(frozen=True, slots=True)
class Finding:
    """What one cell of the table says, and the counts behind it."""

    verdict: Literal["pass", "FAIL", "n.a."]
    note: str
    counts: dict[str, int] = field(default_factory=dict)


async def measure(probe: Probe, name: str, python: Path, home: Path) -> Finding:
    """Put `name` to the probe, and judge.

    Args:
        probe: What to ask.
        name: The contender.
        python: The interpreter that has it.
        home: A folder that takes the place of the user's home, so that no settings or caches of theirs matter.
    """
    async with Witness(probe.script) as witness:
        seen = Seen(witness.arrivals)
        said = await _watch(probe, [str(python), "-m", f"{__package__}.child", name, witness.url], seen, home)
        if not seen.of("not_offered") and not seen.of("crashed") and not seen.of("sample"):
            return Finding("n.a.", f"it did not start: {said}")
        return _finding(probe, seen)


def _finding(probe: Probe, seen: Seen) -> Finding:
    for event in seen.of("not_offered"):
        return Finding("n.a.", event["reason"])
    counts = {"sent": len(seen.arrivals), "served": len(seen.served()), "peak": seen.peak, "failed": seen.failed}
    for event in seen.of("crashed"):
        return Finding("FAIL", f"it raised {event['reason']}", counts)
    verdict = probe.judge(seen)
    word = {True: "pass", False: "FAIL", None: "n.a."}[verdict.passed]
    return Finding(word, verdict.note, counts)  # type: ignore[arg-type]  # the table above gives no others


async def _watch(probe: Probe, command: list[str], seen: Seen, home: Path) -> str:
    """Run the contender until it is done, enough is seen, or time is up; gives the end of what it printed."""
    environ = surroundings(home, fenced=True)
    pipe = asyncio.subprocess.PIPE
    printed = home / "printed"
    with printed.open("wb") as errors:
        child = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=errors, cwd=ROOT, env=environ)
        reading = asyncio.ensure_future(_read(child, json.dumps(asdict(probe.job)).encode(), seen))
        try:
            await _until_enough(probe, seen, reading)
        finally:
            if child.returncode is None:
                child.kill()
            await child.wait()
            reading.cancel()
    return printed.read_text(errors="replace")[-STDERR_KEPT:]


async def _until_enough(probe: Probe, seen: Seen, reading: asyncio.Future[None]) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + START
    started = False
    while not reading.done() and loop.time() < end:
        await asyncio.sleep(LOOK_EVERY)
        if not started and seen.events:
            started, end = True, loop.time() + probe.watch
        if seen.arrivals and probe.enough(seen):
            return


async def _read(child: asyncio.subprocess.Process, job: bytes, seen: Seen) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(job)
    child.stdin.close()
    async for line in child.stdout:
        event: dict[str, Any] = json.loads(line)
        seen.events.append(event)
