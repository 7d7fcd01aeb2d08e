"""`llm-fanout run`, as a user meets it."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from commands import FAST, KEYS, invoke, main, rows_of

from llm_fanout.cli import saying
from llm_fanout.sim import Box, SimConfig


def test_run_writes_rows_in_input_order(prompts: Path, tmp_path: Path) -> None:
    """One row per prompt with the documented keys, the report on standard output, exit code 0."""
    out = tmp_path / "out.jsonl"

    result = invoke("run", prompts, "--model", "sim/x", "--sim", FAST, "--output", out)
    rows = rows_of(out)

    assert result.exit_code == 0, result.output
    assert [(row["id"], row["text"]) for row in rows] == [("a", "one"), (7, "two"), (2, "three")]
    assert tuple(rows[0]) == KEYS
    assert "3 calls" in result.stdout
    assert out.stat().st_mode & 0o777 == 0o600


def test_run_writes_columns(prompts: Path, tmp_path: Path) -> None:
    """An output that is called `.csv` has a column for each key."""
    out = tmp_path / "out.csv"

    invoke("run", prompts, "--model", "sim/x", "--sim", FAST, "--output", out)

    with out.open(newline="") as file:
        assert [(row["index"], row["text"]) for row in csv.DictReader(file)] == [("0", "one"), ("1", "two"), ("2", "three")]


def test_run_to_standard_output(prompts: Path) -> None:
    """Without --output the rows go to standard output, and everything else to standard error."""
    result = invoke("run", prompts, "--model", "sim/x", "--sim", FAST)

    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == ["one", "two", "three"]
    assert "3 calls" in result.stderr


def test_options_reach_the_calls(tmp_path: Path) -> None:
    """Limits, timeout, retries and instructions are obeyed."""
    path = tmp_path / "p.jsonl"
    path.write_text('"[[fault:hang]]"\n"fine"\n')
    out = tmp_path / "o.jsonl"
    options = ("--timeout", "0.2", "--max-retries", "0", "--rpm", "6000", "--tpm", "100000", "--max-concurrency", "1")

    result = invoke(
        "run", path, "--model", "sim/x", "--sim", FAST, "--output", out, "--instructions", "[[answer:said]]", *options
    )
    rows = rows_of(out)

    assert result.exit_code == 1
    assert rows[0]["error"] == {
        "kind": "timeout",
        "status": None,
        "message": rows[0]["error"]["message"],
        "retry_after": None,
    }
    assert rows[0]["attempts"] == 1
    assert rows[1]["text"] == "said"
    assert "timeout" in result.stdout


def test_a_server_that_is_already_there(prompts: Path, tmp_path: Path) -> None:
    """--base-url names it."""
    with Box(SimConfig(latency=0.01)) as box:
        result = invoke("run", prompts, "--model", "sim/x", "--base-url", box.url, "--output", tmp_path / "o.jsonl")
        asked = box.stats["requests"]

    assert result.exit_code == 0
    assert asked == 3


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{not json", "line 2"),
        ('{"id": 1}', "'prompt' or 'messages'"),
        ('{"prompt": "x", "temprature": 1}', "temprature"),
        ('{"prompt": "x", "base_url": "http://evil"}', "base_url"),
        ('{"prompt": "x", "api_key": "k"}', "api_key"),
        ('{"prompt": "x", "extra_headers": {"a": "b"}}', "extra_headers"),
        ('{"id": "a", "prompt": "x"}', "was there already, in line 1"),
        ('"\udcff"', "not UTF-8"),
    ],
)
def test_a_bad_row_ends_it_before_anything_is_sent(
    tmp_path: Path, line: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line's number, what is wrong and what was expected; exit code 2, no request, no output."""
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "a", "prompt": "fine"}\n' + line + "\n", errors="surrogateescape")
    out = tmp_path / "o.jsonl"

    with Box(SimConfig(latency=0.01)) as box:
        code = main(monkeypatch, "run", path, "--model", "sim/x", "--base-url", box.url, "--output", out)
        asked = box.stats["requests"]

    said = capsys.readouterr().err
    assert code == 2
    assert says in said
    assert "line 2" in said
    assert asked == 0
    assert not out.exists()


def test_bad_rows_can_be_left_out(tmp_path: Path) -> None:
    """--on-bad-row skip leaves them out and says which."""
    path = tmp_path / "p.jsonl"
    path.write_text('"[[answer:a]]"\n{bad\n"[[answer:b]]"\n')
    out = tmp_path / "o.jsonl"

    result = invoke("run", path, "--model", "sim/x", "--sim", FAST, "--output", out, "--on-bad-row", "skip")

    assert result.exit_code == 0
    assert [row["text"] for row in rows_of(out)] == ["a", "b"]
    assert "left out: line 2" in result.stderr


def test_a_missing_key_is_asked_for_where_it_can_be_given(prompts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line has no option for a key: it is told to set the variable, not to pass an argument."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    result = invoke("run", prompts, "--model", "openai/gpt-5-mini")

    assert "set OPENAI_API_KEY" in str(result.exception)
    assert "pass api_key=" not in str(result.exception)


def test_run_starts_the_provider_that_sim_says(prompts: Path, tmp_path: Path) -> None:
    """Whatever the simulated provider can be, `--sim` can say: here one that is down, and then is not."""
    out = tmp_path / "out.jsonl"

    result = invoke("run", prompts, "--model", "sim/x", "--sim", f"{FAST},headers=none,outage=0-0.1:503", "--output", out)

    assert result.exit_code == 0, result.output
    assert len(rows_of(out)) == 3


def test_help_of_run_names_its_parts() -> None:
    """How the input is called, what a chaos option looks like in full, and every exit code."""
    said = " ".join(re.sub(r"[│\s]+", " ", invoke("run", "--help").stdout).split())

    assert "PROMPTS.jsonl" in said
    assert "hang=0.02,429=0.05" in said
    assert [code for code in ("0", "1", "2", "3", "130", "143") if f"{code}: " not in said] == []


def test_a_terminal_gets_a_bar(prompts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where standard error is a terminal, progress is drawn there."""
    drawn: list[Any] = []
    monkeypatch.setattr(saying, "is_terminal", lambda: True)
    monkeypatch.setattr("llm_fanout.hooks.hook", lambda name: lambda: drawn.append)

    result = invoke("run", prompts, "--model", "sim/x", "--sim", FAST)

    assert result.exit_code == 0
    assert drawn[-1].done == 3


def test_output_may_be_a_device(prompts: Path) -> None:
    """`--output /dev/null` throws the rows away, and the report is printed."""
    result = invoke("run", prompts, "--model", "sim/x", "--sim", FAST, "--output", os.devnull)

    assert result.exit_code == 0
    assert result.stdout.startswith("3 calls")
    assert Path(os.devnull).is_char_device()


def test_no_bar_is_drawn_over_rows(prompts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the rows appear in the terminal, as they come, there is none."""
    monkeypatch.setattr(saying, "is_terminal", lambda: True)
    monkeypatch.setattr("typer.testing._NamedTextIOWrapper.isatty", lambda self: True)

    result = invoke("run", prompts, "--model", "sim/x", "--sim", FAST)

    assert result.exit_code == 0
    assert result.stderr.startswith("3 calls")


def test_a_dry_run_sends_nothing(prompts: Path) -> None:
    """It says what a run would take, on standard output, and which limit binds."""
    with Box() as box:
        result = invoke("run", prompts, "--model", "sim/x", "--base-url", box.url, "--rpm", 1, "--dry-run")
        asked = box.stats["requests"]

    assert (result.exit_code, asked) == (0, 0)
    assert "3 calls" in result.stdout
    assert "rpm" in result.stdout


def test_a_dry_run_leaves_no_files(prompts: Path, tmp_path: Path) -> None:
    """Neither the output nor the journal is touched."""
    words = ("--output", tmp_path / "o.jsonl", "--journal", tmp_path / "run.db")

    invoke("run", prompts, "--model", "sim/x", "--sim", FAST, "--dry-run", *words)

    assert list(tmp_path.iterdir()) == [prompts]


def test_a_dry_run_of_standard_input(prompts: Path) -> None:
    """It is read to its end."""
    result = invoke("run", "-", "--model", "sim/x", "--sim", FAST, "--dry-run", stdin=prompts.read_text())

    assert "3 calls" in result.stdout


def test_alike_prompts_share_an_answer_if_asked_to(tmp_path: Path) -> None:
    """With --dedupe one request answers those that ask the same, and their rows say so."""
    path, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    path.write_text('"[[latency:0.5]] the same"\n' * 3)

    with Box(SimConfig()) as box:
        result = invoke("run", path, "--model", "sim/x", "--base-url", box.url, "--output", out, "--dedupe")
        asked = box.stats["requests"]

    assert (result.exit_code, asked) == (0, 1)
    assert [row["source"] for row in rows_of(out)] == ["provider", "shared", "shared"]


@pytest.mark.parametrize(("fallback", "code"), [((), 1), (("--fallback", "sim/y"), 0)])
def test_a_fallback_answers_for_what_cannot_be_had(prompts: Path, fallback: tuple[str, ...], code: int) -> None:
    """A key that is refused closes the first model, and the next one takes over."""
    result = invoke("run", prompts, "--model", "sim/x", "--sim", f"{FAST},401=1", *fallback)

    assert result.exit_code == code
    assert [json.loads(line)["ok"] for line in result.stdout.splitlines()] == [not code] * 3
