"""One contender at one probe: the witness here, the contender in its own process and environment."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from .contenders import CONTENDERS
from .job import NotOffered
from .probes import Probe
from .seen import Seen
from .witness import Witness

ROOT = Path(__file__).parents[2]
START = 90.0  # seconds that a process may take to import its library: some take ten on a cold disk
LOOK_EVERY = 0.05  # seconds
STDERR_KEPT = 2_000  # characters

# Nothing may leave the machine: telemetry off, and for whatever is left a proxy at a port where nobody listens.
QUIET = {
    "OPENAI_API_KEY": "none",
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9"),
    "DO_NOT_TRACK": "1",
    "OTEL_SDK_DISABLED": "true",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "LANGSMITH_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "HF_HUB_OFFLINE": "1",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one cell of the table says, and the counts behind it."""

    verdict: Literal["pass", "FAIL", "n.a."]
    note: str
    counts: dict[str, int] = field(default_factory=dict)


def environment(name: str, folder: Path) -> Path:
    """The Python that has `name` installed: this one for us, for a peer that of an environment in `folder`, made once.

    Raises:
        NotOffered: It cannot be installed here; the message says why.
    """
    contender = CONTENDERS[name]
    if not contender.packages:
        return Path(sys.executable)
    if sys.version_info < contender.least_python:
        raise NotOffered("needs Python {}.{}".format(*contender.least_python))
    home = folder / "-".join((contender.packages[0].replace("==", "-"), "py{}{}".format(*sys.version_info)))
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        uv = [shutil.which("uv")] if shutil.which("uv") else [sys.executable, "-m", "uv"]
        folder.mkdir(parents=True, exist_ok=True)
        _run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)], folder)
        _run([*uv, "pip", "install", "--quiet", "--python", str(python), *contender.packages], folder)
        (home / "ready").touch()
    return python


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
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONUNBUFFERED": "1", **QUIET}
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


def _run(command: list[Any], folder: Path) -> None:
    """Run `command` in `folder`: in ours, uv would hold the peers to this project's constraints."""
    environ = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ, cwd=folder)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["(no message)"]
        raise NotOffered(f"cannot be installed: {last[0]}")
