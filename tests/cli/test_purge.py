"""`llm-fanout purge`: what was asked is forgotten, what was answered is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import FAST, command, invoke, main, rows_of, until

from llm_fanout.sim import Box, SimConfig

SECRET = "a secret that nobody must find"


@pytest.mark.parametrize(("rows", "says"), [(1, "1 prompt forgotten\n"), (3, "3 prompts forgotten\n")])
def test_nothing_of_a_prompt_is_left(tmp_path: Path, rows: int, says: str) -> None:
    """Not a byte in the file, nor beside it; and the run can still be resumed without asking anything again."""
    path, out, folder = tmp_path / "p.jsonl", tmp_path / "o.jsonl", tmp_path / "journal"
    folder.mkdir()
    path.write_text("".join(json.dumps(f"{SECRET} [[answer:{number}]]") + "\n" for number in range(rows)))
    invoke("run", path, "--model", "sim/x", "--sim", FAST, "--output", out, "--journal", folder / "run.db")
    before = (folder / "run.db").read_bytes()

    purged = invoke("purge", folder / "run.db")
    again = invoke("resume", folder / "run.db")

    assert purged.stdout == says
    assert SECRET.encode() in before
    assert [SECRET.encode() in each.read_bytes() for each in folder.iterdir()] == [False]
    assert "attempts" not in again.stdout
    assert [row["text"] for row in rows_of(out)] == [str(number) for number in range(rows)]


def test_a_journal_in_use_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever has it is not disturbed."""
    (tmp_path / "p.jsonl").write_text('"[[latency:60]]"\n')

    with Box(SimConfig()) as box:
        words = ("--model", "sim/x", "--base-url", box.url, "--journal", "run.db")
        with command(tmp_path, "run", "p.jsonl", *words):
            until(lambda: box.stats["in_flight"] == 1)
            code = main(monkeypatch, "purge", tmp_path / "run.db")

    assert code == 2
    assert "is in use by another run" in capsys.readouterr().err
