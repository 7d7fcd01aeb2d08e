"""The programs that users write: they run against the box, and a type checker sees what it must."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

import agents
import nbformat
import pyarrow
import pytest
from nbclient import NotebookClient
from pyarrow import parquet

from llm_fanout import FanOut
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


def asked_as(monkeypatch: pytest.MonkeyPatch, **urls: str) -> None:
    """What models of these providers are found at, each with a key."""
    for name, url in urls.items():
        monkeypatch.setenv(f"{name}_BASE_URL", url)
        monkeypatch.setenv(f"{name}_API_KEY", f"key-of-{name}")


async def test_judges(box: Box, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Three runs at once on three providers, joined by position; one of them dies half-way, and the spare steps in."""
    vote = '{"grade": "good", "reason": "it is"}'
    answers = {f"a{number}": f"answer {number} [[answer:{vote}]]" for number in range(400)}
    with Box(SimConfig(latency=0.02, outage="0.6-600:503")) as gemini:
        asked_as(monkeypatch, OPENAI=box.url, ANTHROPIC=box.url.removesuffix("/v1"), GEMINI=gemini.url)

        await program("judges").main(answers)

        by_gemini = gemini.stats["answered"]
    said = re.fullmatch(r"100\.0% unanimous, (\d+) votes by a stand-in, \$(\d\.\d\d)\n", capsys.readouterr().out)
    assert said is not None
    assert (int(said[1]), box.stats["answered"]) == (400 - by_gemini, 1_200 - by_gemini)
    assert by_gemini < 400
    assert float(said[2]) > 0


def test_latency(box: Box) -> None:
    """A line for each server and metric, nothing failed."""
    environ = {**os.environ, "URL_A": box.url, "URL_B": box.url}
    command = [sys.executable, str(PROGRAMS / "latency.py")]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)

    lines = done.stdout.splitlines()
    line = r"vllm-([ab]) closed (ttft|inter_token|latency) \d\.\d{3} \d\.\d{3} \d\.\d{3} failed=0"
    assert len({re.fullmatch(line, each) for each in lines} - {None}) == len(lines) == 2 * 3
    assert (box.stats["requests"], box.stats["streams"]) == (2 * 1_050, 2 * 1_050)
    assert 16 < box.stats["peak_in_flight"] <= 32


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


def save_tickets(path: Path) -> None:
    """Two hundred, of which one can never be classified, and two cannot at first."""
    bodies = [f"ticket {number}" for number in range(197)]
    bodies += ["broken [[fault:400]]", "refused once [[faults:400,ok]]", "refused too [[faults:400,ok]]"]
    path.write_text("\n".join(["ticket_id,body", *(f'{100 + number},"{body}"' for number, body in enumerate(bodies))]))


async def test_notebook(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Answers become columns beside the tickets'; failures are looked at, and the last cell asks only them again."""
    asked_as(monkeypatch, OPENAI=box.url)
    monkeypatch.chdir(tmp_path)
    save_tickets(tmp_path / "tickets.csv")

    await program("notebook").notebook()

    said = capsys.readouterr().out
    assert "200 calls" in said
    assert [line.split(" ")[0] for line in said.splitlines() if line[:3] in ("297", "298", "299")] == ["297", "298", "299"]
    assert re.search(
        r"category\n(?:(?:billing|bug|how-to|other) +\d+\.\d+\n)+Name: urgency, dtype: float64 \$0\.\d\d\n$", said
    )
    assert (box.stats["requests"], box.stats["answered"]) == (203, 199)


def cells_of(source: str) -> list[str]:
    """The program for a notebook as its cells: what is before the function, and its body, cell by cell."""
    before, _, body = source.partition("async def notebook() -> None:")
    first, *others = dedent(body.partition("\n")[2]).split("\n# cell ")
    return [before, first, *(f"# cell {other}" for other in others)]


@pytest.mark.filterwarnings("ignore")  # of the kernel's own packages
def test_notebook_cell_by_cell(box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a kernel, where a client stays open from cell to cell, it says the same, and nothing is left open at the end."""
    asked_as(monkeypatch, OPENAI=box.url)
    monkeypatch.setenv("IPYTHONDIR", os.fspath(tmp_path))
    save_tickets(tmp_path / "tickets.csv")
    cells = cells_of((PROGRAMS / "notebook.py").read_text())
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])

    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": os.fspath(tmp_path)}}).execute()

    said = [
        "".join(output.get("text", "") + str(output.get("data", "")) for output in cell.outputs) for cell in notebook.cells
    ]
    assert len(said) == 5
    assert "200/200" in said[2]
    assert [line.split(" ")[0] for line in said[3].splitlines()] == ["297", "298", "299"]
    assert "Name: urgency, dtype: float64 $0." in said[4]
    assert "nclosed" not in "".join(said)
    assert (box.stats["requests"], box.stats["answered"]) == (203, 199)


async def test_orchestrator(box: Box, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A planner on one framework names eight topics, and agents on another read fifty sources each, within their scopes."""
    asked_as(monkeypatch, OPENAI=box.url)
    agents.set_tracing_disabled(True)
    topics = [f"topic {number}" for number in range(9)]
    plan = json.dumps({"topics": topics})

    answer = await program("orchestrator").main(f"What to do? [[answer:{plan}]]")

    said = [re.fullmatch(r"(topic \d) (0\.\d+)", line) for line in capsys.readouterr().out.splitlines()]
    costs = {match[1]: float(match[2]) for match in said if match is not None}
    assert (sorted(costs), len(said)) == (topics[:8], 8)
    assert all(0 < cost < 0.5 for cost in costs.values())
    assert answer == plan
    assert box.stats["answered"] == box.stats["requests"] == 1 + 8 * (1 + 50 + 1) + 1
    assert box.stats["tool_answers"] == 1 + 8


async def test_pages(box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page is read with the glossary, notes are merged by chapters, and those in a book; again, nothing is asked."""
    asked_as(monkeypatch, OPENAI=box.url)
    monkeypatch.chdir(tmp_path)
    names = ["introduction", *(f"chapter {number}" for number in range(9))]
    chapters = {name: [f"page {number} of {name}" for number in range(50)] for name in names}

    book = await program("pages").main(chapters)
    asked = box.stats["requests"]
    again = await program("pages").main(chapters)
    asked_again = box.stats["requests"] - asked
    async with FanOut("openai/gpt-5-mini") as fan:
        plain = await program("pages").plain(fan, chapters)

    assert book.startswith("[simulated answer]")
    assert again == book
    assert (asked, asked_again) == (1 + 10 * 50 + 10 + 1, 0)
    assert plain.startswith("[simulated answer]")
    assert box.stats["requests"] == 2 * asked


def test_type_checkers_see_what_they_must() -> None:
    """mypy --strict accepts the programs, refuses exactly the lines marked E, and reveals the types that are noted."""
    paths = [str(path) for path in sorted(PROGRAMS.glob("*.py"))]
    config, cache = PROGRAMS / "mypy.ini", Path(".mypy_cache/programs")  # not that of others, who look with other options
    options = ["--no-error-summary", f"--config-file={config}", f"--cache-dir={cache}"]
    command = [sys.executable, "-m", "mypy", *options, *paths]
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
