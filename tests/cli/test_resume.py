"""`llm-fanout resume`: the same again, and no more than is needed."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from commands import FAST, invoke, main, rows_of

from llm_fanout import fan_out_sync
from llm_fanout.cli.fulfil import COMMAND
from llm_fanout.journal import Journal
from llm_fanout.sim import Box, SimConfig


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


def test_it_asks_what_failed_and_nothing_else(tmp_path: Path, db: Path) -> None:
    """Failures are asked again, answers are not, and all rows are written."""
    path, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    path.write_text('"[[answer:fine]]"\n"[[faults:401,ok]] [[answer:at last]]"\n')

    with Box(SimConfig(latency=0.01)) as box:
        to_box = ("--model", "sim/x", "--base-url", box.url, "--output", out, "--journal", db)
        first = invoke("run", path, *to_box)
        second = invoke("resume", db)
        asked = box.stats["requests"]

    assert (first.exit_code, second.exit_code, asked) == (1, 0, 3)
    assert first.stderr.strip() == f"to go on: llm-fanout resume {db}"
    assert [row["text"] for row in rows_of(out)] == ["fine", "at last"]
    assert "2 succeeded" in second.stdout
    assert "to go on" not in second.stderr


def test_it_says_what_it_does(prompts: Path, tmp_path: Path, db: Path) -> None:
    """Whose key is sent where is the journal's to say: so the command is shown. Its paths are whole."""
    words = ("--model", "sim/x", "--sim", FAST, "--output", tmp_path / "o.jsonl", "--stream", "--fallback", "sim/y")
    invoke("run", prompts, *words, "--fallback", "sim/z", "--rpm", 60_000, "--timeout", 2.5, "--journal", db)

    said = invoke("resume", db).stderr

    line = f"llm-fanout run {prompts} --model=sim/x --output={tmp_path}/o.jsonl --journal={db} --rpm=60000 --timeout=2.5"
    assert said == f"once more: {line} --fallback=sim/y --fallback=sim/z --stream --sim={FAST}\n"


def test_a_url_of_the_shell_is_kept(prompts: Path, tmp_path: Path, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another shell the calls go to the same place, and what was answered there is not asked again."""
    with Box(SimConfig(latency=0.01)) as box:
        url = box.url
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        invoke("run", prompts, "--model", "openai/x", "--output", tmp_path / "o.jsonl", "--journal", db)
        monkeypatch.delenv("OPENAI_BASE_URL")
        again = invoke("resume", db)
        asked = box.stats["requests"]

    assert asked == 3
    assert f"--base-url={url}" in again.stderr
    assert "replayed      3 calls" in again.stdout


def test_a_simulated_provider_has_another_port_and_is_the_same(prompts: Path, tmp_path: Path, db: Path) -> None:
    """What the one answered, the next is not asked."""
    invoke("run", prompts, "--model", "sim/x", "--sim", FAST, "--output", tmp_path / "o.jsonl", "--journal", db)

    said = invoke("resume", db).stdout

    assert "3 succeeded" in said
    assert "attempts" not in said


def test_bounds_may_be_others(tmp_path: Path, db: Path) -> None:
    """A run that its budget has ended goes on under a higher one, to another place, and keeps what it then said."""
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"[[answer:{n}]]", "max_tokens": 10}) + "\n" for n in range(4)))
    words = ("--model", "sim/x", "--sim", FAST, "--max-concurrency", 1)

    first = invoke("run", path, *words, "--token-budget", 160, "--output", tmp_path / "one.jsonl", "--journal", db)
    second = invoke("resume", db, "--token-budget", 5_000, "--output", tmp_path / "two.csv")
    third = invoke("resume", db)

    assert (first.exit_code, second.exit_code, third.exit_code) == (3, 0, 0)
    assert "budget" in first.stdout
    assert 0 < sum(row["ok"] for row in rows_of(tmp_path / "one.jsonl")) < 4
    assert len((tmp_path / "two.csv").read_text().splitlines()) == 5
    assert "--token-budget=5000" in third.stderr


def test_a_row_that_has_changed_is_asked_anew(prompts: Path, tmp_path: Path, db: Path) -> None:
    """The others are not, and the report says how many those were."""
    out = tmp_path / "o.jsonl"
    invoke("run", prompts, "--model", "sim/x", "--sim", FAST, "--output", out, "--journal", db)
    prompts.write_text(prompts.read_text().replace("three", "four"))

    said = invoke("resume", db).stdout

    assert [row["text"] for row in rows_of(out)] == ["one", "two", "four"]
    assert "2 calls, which an earlier run has answered" in said


def test_a_row_that_was_left_out_is_left_out_again(prompts: Path, tmp_path: Path, db: Path) -> None:
    """Choices that are words come back as what they were."""
    prompts.write_text("{bad\n" + prompts.read_text())
    words = ("--on-bad-row", "skip", "--durability", "power", "--no-store-prompts")
    invoke("run", prompts, "--model", "sim/x", "--sim", FAST, "--output", tmp_path / "o.jsonl", "--journal", db, *words)

    again = invoke("resume", db)

    assert again.exit_code == 0, again.output
    assert "left out: line 1" in again.stderr
    assert "--no-store-prompts --durability=power" in again.stderr


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty, and no journal"),
        (
            b"no database at all, and longer than a header of SQLite" * 20,
            "no journal of llm_fanout, or it is damaged",
        ),
    ],
)
@pytest.mark.parametrize("command", ["resume", "purge"])
def test_what_is_no_journal_stays_as_it_is(
    command: str, content: bytes, says: str, db: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says so; exit code 2."""
    db.write_bytes(content)

    code = main(monkeypatch, command, db)

    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith("error: ")
    assert says in said
    assert db.read_bytes() == content


def test_a_journal_of_a_program(db: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """No command has made it, so none can go on: that program can."""
    fan_out_sync(["[[answer:one]]"], model="sim/x", journal=db)

    code = main(monkeypatch, "resume", db)

    assert code == 2
    assert "run the program that did again, with the same journal" in capsys.readouterr().err


def test_prompts_that_are_gone(
    prompts: Path, tmp_path: Path, db: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are named, and what was written stays."""
    out = tmp_path / "o.jsonl"
    invoke("run", prompts, "--model", "sim/x", "--sim", FAST, "--output", out, "--journal", db)
    prompts.unlink()

    code = main(monkeypatch, "resume", db)

    assert code == 2
    assert f"cannot read {prompts}" in capsys.readouterr().err
    assert len(rows_of(out)) == 3


def test_prompts_of_standard_input_are_to_be_piped_again(
    prompts: Path, db: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints the command that does it."""
    with prompts.open() as stdin, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", stdin)
        main(patch, "run", "-", "--model", "sim/x", "--sim", FAST, "--journal", db)
    capsys.readouterr()

    code = main(monkeypatch, "resume", db, "--rpm", "900")

    said = capsys.readouterr().err.strip()
    assert code == 2
    assert said.endswith(f"pipe them again: ... | llm-fanout run - --model=sim/x --journal={db} --rpm=900 --sim={FAST}")


@pytest.mark.parametrize("note", [{"prompts": "p", "model": "sim/x", "speed": 3}, {"prompts": "p", "model": 5}])
def test_a_command_of_another_version(
    note: dict[str, Any], db: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it meant cannot be guessed."""
    fan_out_sync(["[[answer:one]]"], model="sim/x", journal=Journal(db, notes={COMMAND: note}))

    code = main(monkeypatch, "resume", db)

    assert code == 2
    assert "upgrade it" in capsys.readouterr().err


def test_no_key_is_in_the_journal(prompts: Path, tmp_path: Path, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the command's note nor anything else has one."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-of-this-test")
    with Box(SimConfig(latency=0.01)) as box:
        words = ("--model", "openai/x", "--base-url", box.url, "--output", tmp_path / "o.jsonl", "--journal", db)
        invoke("run", prompts, *words)

    with sqlite3.connect(db) as there:
        notes = there.execute("SELECT text FROM notes WHERE name = ?", (COMMAND,)).fetchall()
    there.close()
    assert b"canary" not in db.read_bytes()
    assert len(notes) == 1
