"""The programs that users write: they run against the box, and a type checker sees what it must."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from llm_fanout.sim import Box, SimConfig

PROGRAMS = Path(__file__).parent / "programs"
UNCOMMITTED = 64  # results that may be on their way to a journal


def program(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"program_{name}", PROGRAMS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def box() -> Iterator[Box]:
    """A quick provider."""
    with Box(SimConfig(latency=0.02, answer_tokens=12)) as box:
        yield box


async def test_judges(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs at once on three providers, joined by position; one of them dies half-way, and the spare steps in."""
    vote = '{"grade": "good", "reason": "it is"}'
    answers = {f"a{number}": f"answer {number} [[answer:{vote}]]" for number in range(400)}
    with Box(SimConfig(latency=0.02, outage="0.6-600:503")) as gemini:
        for name, url in (("OPENAI", box.url), ("ANTHROPIC", box.url.removesuffix("/v1")), ("GEMINI", gemini.url)):
            monkeypatch.setenv(f"{name}_BASE_URL", url)
            monkeypatch.setenv(f"{name}_API_KEY", f"key-of-{name}")

        unanimous, stand_ins, cost = await program("judges").main(answers)

        answered_before = gemini.stats["answered"]
    assert unanimous == 1.0
    assert (stand_ins, box.stats["answered"]) == (400 - answered_before, 1_200 - answered_before)
    assert stand_ins > 0
    assert cost > 0


async def test_latency(box: Box) -> None:
    """A line for each server and metric, nothing failed."""
    lines = await program("latency").main({"one": box.url, "two": box.url})

    assert len(lines) == 6
    assert all(re.fullmatch(r"(one|two) \w+ 0\.\d{3} 0\.\d{3} \d\.\d{3} failed=0", line) for line in lines)


NIGHT = 800  # rows; its limits are 117 calls a second


def nightly(box: Box, home: Path) -> subprocess.Popen[str]:
    """The program for the night, in a process of its own that works in `home`."""
    environ = {**os.environ, "OPENAI_BASE_URL": box.url, "KEY_A": "key-of-a", "KEY_B": "key-of-b"}
    command = [sys.executable, str(PROGRAMS / "nightly.py")]
    return subprocess.Popen(command, cwd=home, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_nightly(box: Box, tmp_path: Path) -> None:
    """Killed half-way and run again, it makes a table of all rows in order, and asks again only what was under way."""
    ids = [f"row-{number}" for number in range(NIGHT)]
    bodies = [f"Text number {number}." for number in range(NIGHT)]
    parquet.write_table(pyarrow.table({"id": ids, "body": bodies}), tmp_path / "in.parquet")

    with nightly(box, tmp_path) as night:
        while night.poll() is None and box.stats["answered"] < NIGHT / 2:
            with suppress(subprocess.TimeoutExpired):
                night.wait(0.05)
        night.kill()
    is_there_too_soon = (tmp_path / "out.parquet").exists()
    with nightly(box, tmp_path) as again:
        said, complaints = again.communicate()

    table = parquet.read_table(tmp_path / "out.parquet").to_pydict()
    assert (night.returncode, again.returncode, complaints) == (-signal.SIGKILL, 0, "")
    assert not is_there_too_soon
    assert said.startswith(f"{NIGHT} calls")
    assert table["id"] == ids
    assert all(table["ok"])
    assert all(isinstance(topic, str) for topic in table["topic"])
    assert NIGHT <= box.stats["requests"] <= NIGHT + box.stats["peak_in_flight"] + UNCOMMITTED


async def test_notebook(box: Box) -> None:
    """Answers become columns; failures are looked at and asked again."""
    tickets = {100 + number: f"ticket {number}" for number in range(10)} | {5: "[[fault:400]]"}

    rows = await program("notebook").main(tickets, box.url)

    assert [row["ok"] for row in rows] == [True] * 10 + [False, False]
    assert rows[-1]["id"] == 5
    assert {row["category"] for row in rows[:10]} <= {"billing", "bug", "how-to", "other"}


async def test_orchestrator(box: Box) -> None:
    """Fan-outs inside scopes inside tasks inside an executor, on one quota of four slots."""
    answer = await program("orchestrator").main("What to do? [[answer:one two three four]]", box.url)

    assert answer == "one two three four"
    assert box.stats["peak_in_flight"] <= 4
    assert box.stats["requests"] == 2 + 2 * 4 * 21


def test_type_checkers_see_what_they_must() -> None:
    """mypy --strict accepts the programs, refuses exactly the lines marked E, and reveals the types that are noted."""
    paths = [str(path) for path in sorted(PROGRAMS.glob("*.py"))]
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file=", *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    errors, revealed = {}, {}
    for line in done.stdout.splitlines():
        where, _, what = line.rpartition("/")[2].partition(": ")
        if "error: " in f"{what} ":
            errors[where] = what
        if match := re.search(r'Revealed type is "(.*)"', what):
            revealed[where] = match[1].replace("builtins.", "")
    source = PROGRAMS / "type_errors.py"
    marked = {number: line for number, line in enumerate(source.read_text().splitlines(), 1) if "  # " in line}

    assert set(errors) == {f"{source.name}:{number}" for number, line in marked.items() if line.endswith("# E")}, done.stdout
    assert revealed == {
        f"{source.name}:{number}": line.split("# R: ")[1] for number, line in marked.items() if "# R: " in line
    }
