"""What an import costs, and what the first call brings with it.

One question: how long does `import llm_fanout` take beside `import asyncio`, and how long a first call, each in a fresh
interpreter? The statements take turns, after a round that does not count and writes the bytecode. The last column says which
of the packages that are heavy are there afterwards. The first call asks the load server, which answers at once.

    uv run python -m benchmarks.imports [--rounds 15] [--json FILE]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .contest import cores
from .environments import ROOT, surroundings
from .load_server import LoadServer
from .measured import Spread, Target, parser_of, ratio, setting, table, write
from .scores import reached

HEAVY = ("aiohttp", "openai", "pydantic", "genai_prices", "httpx", "httpx2", "anthropic", "rich", "typer")
CALL = """
import asyncio
from llm_fanout import FanOut
async def call():
    async with FanOut("openai/x", base_url={url!r}, api_key="none") as fan:
        {read}
asyncio.run(call())
"""
STATEMENTS = {
    "import asyncio": "import asyncio",
    "import llm_fanout": "import llm_fanout",
    "from llm_fanout import FanOut": "from llm_fanout import FanOut",
    "import aiohttp": "import aiohttp",
    "import openai": "import openai",
    "a first call, its text read": CALL.replace("{read}", "assert (await fan.call('hi')).text"),
    "a first map, the report printed": CALL.replace("{read}", "assert str(await fan.map(['hi']))"),
    "a first call, its cost read": CALL.replace("{read}", "(await fan.call('hi')).cost"),
    "a first call, its response read": CALL.replace("{read}", "assert (await fan.call('hi')).response"),
}
TARGETS = (Target("llm_fanout / asyncio", "import llm_fanout", "import asyncio", 1.5, 1.1),)

TIMED = """
import os, sys, time
{pin}
begun = time.perf_counter()
exec(compile({statement!r}, "statement", "exec"))
seconds = time.perf_counter() - begun
import json
heavy = [name for name in {heavy!r} if name in sys.modules]
print(json.dumps({{"seconds": seconds, "cpu": time.process_time(), "heavy": heavy}}))
"""


def timed(statement: str, home: Path) -> dict[str, Any]:
    """Seconds of a statement in a fresh interpreter, CPU seconds of the whole process, and what is loaded then."""
    core = cores()[0]
    pin = "" if core is None else f"os.sched_setaffinity(0, {{{core}}})"
    code = TIMED.format(pin=pin, statement=statement, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=surroundings(home, fenced=False),
    )
    if done.returncode:
        raise RuntimeError(f"it failed: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(statements: dict[str, str], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """What each took in every round that counts."""
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in statements}
    with tempfile.TemporaryDirectory() as home:
        for number in range(rounds + 1):
            for name, statement in statements.items():
                found = timed(statement, Path(home))
                if number:
                    taken[name].append(found)
    return taken


def row(name: str, taken: dict[str, list[dict[str, Any]]]) -> list[str]:
    """A row of the table."""
    seconds = [each["seconds"] for each in taken[name]]
    milliseconds = Spread.of(seconds).times(1e3)
    cpu = Spread.of([each["cpu"] for each in taken[name]]).times(1e3)
    against = ratio(seconds, [each["seconds"] for each in taken["import asyncio"]])
    heavy = ", ".join(taken[name][-1]["heavy"]) or "none"
    return [name, f"{milliseconds:.1f}", f"{against.median:.2f}", f"{cpu.median:.0f}", heavy]


def main() -> None:
    parser = parser_of(__doc__, rounds=15)
    arguments = parser.parse_args()

    run = setting("aiohttp", "openai", "pydantic")
    with LoadServer(cores()[1]) as server:
        statements = {name: text.replace("{url!r}", repr(server.url(0.0))) for name, text in STATEMENTS.items()}
        taken = measure(statements, arguments.rounds)
    print(table(("fresh interpreter", "ms", "x asyncio", "CPU ms in all", "loaded"), [row(name, taken) for name in taken]))
    print(reached(TARGETS, {name: [each["seconds"] for each in found] for name, found in taken.items()}))
    write(arguments.json, run, taken=taken)


if __name__ == "__main__":
    main()
