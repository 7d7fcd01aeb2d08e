"""What becomes of an order when something is in its way: one line, and nothing is lost that was done."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from commands import FAST, command, invoke, main, rows_of, until

from llm_fanout.sim import Box, SimConfig

MANY = [f"[[answer:{number} {'x' * 200}]]" for number in range(2_000)]


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Rows whose answers need more room than there is on a full disk."""
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps(text) + "\n" for text in MANY))
    return path


@pytest.mark.parametrize(
    ("journal", "says"),
    [("/proc/run.db", "cannot use the journal /proc/run.db"), ("text", "no journal of llm_fanout"), (".", "cannot")],
)
def test_a_journal_that_cannot_be_used(
    journal: str,
    says: str,
    prompts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is named, nothing is sent, and what was at the output's place is there still; exit code 2."""
    out, foreign = tmp_path / "o.jsonl", tmp_path / "text"
    out.write_text("as it was")
    foreign.write_text("some text that is no database at all" * 30)

    with Box() as box:
        to_box = ("--model", "sim/x", "--base-url", box.url, "--output", out)
        code = main(monkeypatch, "run", prompts, *to_box, "--journal", tmp_path / journal)
        asked = box.stats["requests"]

    said = capsys.readouterr().err
    assert (code, asked) == (2, 0)
    assert said.startswith("error: ")
    assert says in said.splitlines()[0]
    assert "to go on" not in said
    assert out.read_text() == "as it was"


def test_a_journal_in_use(prompts: Path, tmp_path: Path) -> None:
    """Two commands do not share one; the first goes on."""
    (tmp_path / "slow.jsonl").write_text('"[[latency:60]]"\n')

    with Box(SimConfig()) as box:
        words = ("--model", "sim/x", "--base-url", box.url, "--journal", "run.db")
        with command(tmp_path, "run", "slow.jsonl", *words):
            until(lambda: box.stats["in_flight"] == 1)
            with command(tmp_path, "run", prompts, *words) as second:
                code, _ = second.ended()
        asked = box.stats["requests"]

    assert (code, asked) == (2, 1)
    assert "is in use by another run" in second.said


@pytest.mark.parametrize("where", ["journal", "prompts"])
def test_output_does_not_replace_what_is_read(
    where: str, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same file as input and output is a mistake, found before it costs the input."""
    journal = tmp_path / "run.jsonl"
    journal.write_bytes(b"what was answered")
    output = {"journal": journal, "prompts": prompts}[where]
    before = output.read_bytes()

    code = main(monkeypatch, "run", prompts, "--model", "sim/x", "--journal", journal, "--output", output)

    assert code == 2
    assert f"the {where} " in capsys.readouterr().err
    assert output.read_bytes() == before


def test_a_disk_that_is_full_for_the_journal(many: Path, tmp_path: Path) -> None:
    """What fitted is kept and written, the error is one line, and with more room the rest is done."""
    words = ("--model", "sim/x", "--sim", FAST, "--journal", "run.db", "--output", "/dev/null")
    with command(tmp_path, "run", many, *words, file_size=200_000) as first:
        code, _ = first.ended()
    with command(tmp_path, "resume", "run.db", "--output", "o.jsonl") as second:
        code_again, said = second.ended()

    assert (code, code_again) == (1, 0), first.said
    assert [line for line in first.said.splitlines() if line.startswith("error: ")] == [first.said.splitlines()[0]]
    assert "then run the same again to go on" in first.said
    assert first.said.splitlines()[-1] == "to go on: llm-fanout resume run.db"
    assert "replayed" in said
    assert [row["text"].split()[0] for row in rows_of(tmp_path / "o.jsonl")] == [str(number) for number in range(2_000)]


def test_a_disk_that_is_full_for_the_rows(many: Path, tmp_path: Path) -> None:
    """The journal has what was done, and the run goes on to another place; what was at the first one stays."""
    out = tmp_path / "o.jsonl"
    out.write_text("as it was")
    words = ("--model", "sim/x", "--sim", FAST, "--output", "/dev/full", "--journal", "run.db")
    with command(tmp_path, "run", many, *words) as first:
        code, _ = first.ended()
    with command(tmp_path, "resume", "run.db", "--output", "o.jsonl") as second:
        code_again, _ = second.ended()

    assert (code, code_again) == (1, 0)
    assert "error: the rows cannot be written: [Errno 28] No space left on device" in first.said
    assert first.said.splitlines()[-1] == "to go on: llm-fanout resume run.db"
    assert len(rows_of(out)) == 2_000


def test_a_reader_that_goes_away(many: Path, tmp_path: Path) -> None:
    """As with `| head -1`: the run ends, with one line and exit code 1."""
    with command(tmp_path, "run", many, "--model", "sim/x", "--sim", FAST) as process:
        process.stop_reading()
        code, _ = process.ended()

    assert code == 1
    assert process.said.startswith("error: the rows cannot be written: [Errno 32] Broken pipe")
    assert "Exception ignored" not in process.said


def test_rows_go_on_from_where_a_file_ends(prompts: Path, tmp_path: Path) -> None:
    """`>> rows.jsonl` keeps what is in it."""
    out = tmp_path / "rows.jsonl"
    out.write_text('{"text": "zero"}\n')

    with out.open("ab") as rows, pytest.MonkeyPatch.context() as patch:
        saved = os.dup(1)
        os.dup2(rows.fileno(), 1)
        patch.setattr("sys.stdout", open(1, "w", closefd=False))  # noqa: SIM115  # it is not closed
        try:
            code = main(patch, "run", prompts, "--model", "sim/x", "--sim", FAST)
        finally:
            os.dup2(saved, 1)
            os.close(saved)

    assert code == 0
    assert [row["text"] for row in rows_of(out)] == ["zero", "one", "two", "three"]


def test_rows_come_as_they_are_answered(tmp_path: Path) -> None:
    """What reads standard output gets a row while others are still under way."""
    with Box(SimConfig()) as box, command(tmp_path, "run", "-", "--model", "sim/x", "--base-url", box.url) as process:
        process.pipe("[[answer:first]] [[latency:0]]", "[[latency:60]]")
        row = process.line()

    assert json.loads(row)["text"] == "first"


def test_without_a_journal_nothing_is_promised(tmp_path: Path) -> None:
    """A run with failures names no command that goes on, for none would."""
    path = tmp_path / "p.jsonl"
    path.write_text('"[[fault:401]]"\n')

    result = invoke("run", path, "--model", "sim/x", "--sim", FAST)

    assert result.exit_code == 1
    assert "to go on" not in result.stderr
