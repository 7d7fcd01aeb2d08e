"""The command line, as a user meets it."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from llm_fanout import Report, Run, cli
from llm_fanout.sim import Box, SimConfig
from llm_fanout.sim.faults import FAULTS

FAST = "latency=0.01,jitter=0"


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """Three prompts, in the three forms that a row may have."""
    rows = [
        '{"id": "a", "prompt": "[[answer:one]]"}',
        '{"id": 7, "messages": [{"role": "user", "content": "[[answer:two]]"}], "max_tokens": 5}',
        '"[[answer:three]]"',
        "",
    ]
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(rows))
    return path


def invoke(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], input=stdin)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_run_writes_rows_in_input_order(prompts: Path, tmp_path: Path) -> None:
    """One row per prompt with the documented keys, the report on standard output, exit code 0."""
    out = tmp_path / "out.jsonl"

    result = invoke("run", prompts, "--model", "sim/x", "--sim", FAST, "--output", out)
    rows = rows_of(out)

    assert result.exit_code == 0, result.output
    assert [(row["id"], row["text"]) for row in rows] == [("a", "one"), (7, "two"), (2, "three")]
    assert list(rows[0]) == [
        *(
            "id",
            "index",
            "ok",
            "text",
            "error",
            "model",
            "attempts",
            "usage",
            "cost",
            "latency",
            "queue_time",
            "service_time",
            "finish_reason",
        )
    ]
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


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "nowhere.jsonl", "--model", "sim/x"), "cannot read nowhere.jsonl"),
        (("run", "-", "--model", "gpt"), "names no provider"),
        (("run", "-", "--model", "sim/x", "--output", "/nowhere/out.jsonl"), "cannot write"),
        (("run", "-", "--model", "sim/x", "--output", "/proc/out.jsonl"), "cannot write"),
        (("run", "-", "--model", "sim/x", "--output", "/"), "cannot write"),
        (("run", "-", "--model", "sim/x", "--output", "out.xml"), "use one of .jsonl"),
        (("run", "-", "--model", "sim/x", "--rpm", "-1"), "rpm"),
        (("run", "-", "--model", "sim/x", "--timeout", "0"), "timeout"),
        (("run", "-", "--model", "openai/x", "--sim", "rpm=5"), "--sim"),
        (("run", "-", "--model", "sim/x", "--sim", "rpm=5,nonsense=1"), "nonsense"),
        (("sim", "--chaos", "nonsense=1"), "nonsense"),
        (("sim", "--chaos", "headers=odd"), "openai, azure, anthropic, groq, gemini, mistral, openrouter, litellm, none"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    arguments: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong, in one line, without a traceback."""
    code = main(monkeypatch, *arguments)
    said = capsys.readouterr().err

    assert code == 2
    assert said.startswith("error: ")
    assert says in said
    assert len(said.strip().splitlines()) == 1


def main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The console script with these arguments: its exit code."""
    monkeypatch.setattr(sys, "argv", ["llm-fanout", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_python_dash_m_is_the_console_script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m llm_fanout` does the same."""
    monkeypatch.setattr(sys, "argv", ["llm-fanout", "--version"])

    with pytest.raises(SystemExit):
        runpy.run_module("llm_fanout", run_name="__main__")

    assert capsys.readouterr().out == "0.1.0\n"


def piped(send: Callable[[Any], None], tmp_path: Path) -> tuple[int, list[dict[str, Any]]]:
    """Run with a pipe as standard input, in this process: exit code and rows."""
    out = tmp_path / "o.jsonl"
    reader, writer = os.pipe()
    code: list[int] = []
    with os.fdopen(reader) as stdin, os.fdopen(writer, "w") as pipe, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", stdin)
        sender = threading.Thread(target=lambda: (send(pipe), pipe.close()))
        sender.start()
        try:
            cli.app(["run", "-", "--model", "sim/x", "--sim", FAST, "--output", str(out)])
        except SystemExit as ended:
            code.append(int(ended.code or 0))
        sender.join()
    return code[0], rows_of(out)


def test_a_command_runs_on_a_loop_of_ours(prompts: Path, monkeypatch: pytest.MonkeyPatch, our_loops: str) -> None:
    """uvloop's where that is installed, else asyncio's."""
    used: list[str] = []

    async def report_of(run: Run[str]) -> Report[str]:
        used.append(type(asyncio.get_running_loop()).__module__.partition(".")[0])
        return await run

    monkeypatch.setattr(cli, "_report_of", report_of)

    result = invoke("run", prompts, "--model", "sim/x", "--sim", FAST)

    assert result.exit_code == 0
    assert used == [our_loops]


@pytest.mark.usefixtures("our_loops")
def test_standard_input_is_read_as_it_comes(tmp_path: Path) -> None:
    """Rows from a pipe are asked while the pipe is still open."""

    def send(pipe: Any) -> None:
        for number in range(3):
            pipe.write(json.dumps(f"[[answer:{number}]]") + "\n\n")
            pipe.flush()

    code, rows = piped(send, tmp_path)

    assert code == 0
    assert [row["text"] for row in rows] == ["0", "1", "2"]


@pytest.mark.usefixtures("our_loops")
def test_standard_input_fails_at_the_row_and_keeps_what_is_done(tmp_path: Path) -> None:
    """A bad row of a pipe ends the run with exit code 2; the answers before it are written."""

    def send(pipe: Any) -> None:
        pipe.write('"[[answer:kept]]"\n{bad\n"never"\n')

    code, rows = piped(send, tmp_path)

    assert code == 2
    assert [row["text"] for row in rows] == ["kept"]


def test_standard_input_from_a_file(tmp_path: Path, prompts: Path) -> None:
    """`< file` works as well as a pipe."""
    out = tmp_path / "o.jsonl"

    with prompts.open() as stdin, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", stdin)
        with pytest.raises(SystemExit) as ended:
            cli.app(["run", "-", "--model", "sim/x", "--sim", FAST, "--output", str(out)])

    assert ended.value.code == 0
    assert len(rows_of(out)) == 3


def test_no_standard_input_at_all() -> None:
    """`< /dev/null`, as a cron job has it, is an input without rows: nothing to do, and nothing that hangs."""
    with open(os.devnull) as stdin, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", stdin)
        with pytest.raises(SystemExit) as ended:
            cli.app(["run", "-", "--model", "sim/x", "--sim", FAST])

    assert ended.value.code == 0


@pytest.mark.usefixtures("our_loops")
def test_a_source_that_breaks_is_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line without end ends the run; what was done is written."""
    monkeypatch.setattr(cli, "LONGEST_LINE", 1_000)

    def send(pipe: Any) -> None:
        pipe.write('"[[answer:kept]]"\n' + "x" * 3_000)

    code, rows = piped(send, tmp_path)

    assert code == 1
    assert [row["text"] for row in rows] == ["kept"]


@pytest.mark.usefixtures("our_loops")
def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    """Interrupted, it writes the rows that were there, and ends with exit code 130."""
    path, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    path.write_text('"[[answer:done]]"\n"[[latency:60]]"\n')

    with Box(SimConfig(latency=0.01, jitter=0)) as box:

        def interrupt() -> None:
            while box.stats["answered"] < 1:
                time.sleep(0.01)
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        result = invoke("run", path, "--model", "sim/x", "--base-url", box.url, "--output", out)
        thread.join()

    assert result.exit_code == 130
    assert "interrupted" in result.stderr
    assert [(row["ok"], row["text"]) for row in rows_of(out)] == [(True, "done"), (False, "")]


def test_output_does_not_replace_the_prompts(
    prompts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same file as input and output is a mistake, found before it costs the prompts."""
    before = prompts.read_text()

    code = main(monkeypatch, "run", prompts, "--model", "sim/x", "--output", prompts)

    assert code == 2
    assert "prompts" in capsys.readouterr().err
    assert prompts.read_text() == before


def test_output_may_be_a_device(prompts: Path) -> None:
    """`--output /dev/null` throws the rows away, and the report is printed."""
    result = invoke("run", prompts, "--model", "sim/x", "--sim", FAST, "--output", os.devnull)

    assert result.exit_code == 0
    assert result.stdout.startswith("3 calls")
    assert Path(os.devnull).is_char_device()


def test_rows_that_find_no_place_go_to_standard_output(
    prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full at the end costs no result: the rows are printed, and the exit code is 1."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("llm_fanout.rowfile.RowFile.put_in_place", full)

    result = invoke("run", prompts, "--model", "sim/x", "--sim", FAST, "--output", tmp_path / "o.jsonl")

    assert result.exit_code == 1
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == ["one", "two", "three"]
    assert "No space left on device" in result.stderr


def test_ctrl_c_does_not_interrupt_writing(prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second press, while the rows are written, loses none of them."""
    out = tmp_path / "o.jsonl"

    def pressed(row: Any) -> str:
        signal.raise_signal(signal.SIGINT)
        return json.dumps(row) + "\n"

    monkeypatch.setattr("llm_fanout.rowfile.json_line", pressed)

    result = invoke("run", prompts, "--model", "sim/x", "--sim", FAST, "--output", out)

    assert result.exit_code == 0
    assert len(rows_of(out)) == 3


def test_a_missing_key_is_asked_for_where_it_can_be_given(prompts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line has no option for a key: it is told to set the variable, not to pass an argument."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    result = invoke("run", prompts, "--model", "openai/gpt-5-mini")

    assert "set OPENAI_API_KEY" in str(result.exception)
    assert "pass api_key=" not in str(result.exception)


def test_demo_ends_without_a_comparison_if_nothing_succeeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted before the first answer, there is nothing to compare and nothing to divide by."""

    def interrupted(run: Any) -> int:
        run.cancel()
        return cli.INTERRUPTED

    monkeypatch.setattr(cli, "_consume", interrupted)

    result = invoke("demo")

    assert result.exit_code == cli.INTERRUPTED
    assert "0 of 120 calls in 0 ms" in result.stdout
    assert "one by one" not in result.stdout


def test_demo_compares_with_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo reports, and says how long the same calls would have taken one by one."""
    result = invoke("demo", "--calls", "100", "--seed", "3")

    assert result.exit_code == 0, result.output
    assert "100 calls in" in result.stdout
    assert "times as fast" in result.stdout
    assert re.search(r"the provider refused \d+, failed [1-9]\d* and left \d+ hanging", result.stdout)


def test_sim_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sim` says where it is, and what it was told reaches it."""
    served: list[Any] = []

    def serve(config: SimConfig, port: int, on_ready: Callable[[str], object]) -> None:
        on_ready("http://127.0.0.1:1/v1")
        served.append((config, port))

    monkeypatch.setattr("llm_fanout.sim.serve", serve)

    chaos = "429=0.05,hang=0.01,headers=groq,outage=10-70:503"
    result = invoke("sim", "--port", "0", "--rpm", "500", "--tpm", "50000", "--chaos", chaos, "--latency", "0.5")

    faults = {"429": 0.05, "hang": 0.01}
    expected = SimConfig(rpm=500, tpm=50_000, latency=0.5, headers="groq", outage="10-70:503", faults=faults)
    assert "http://127.0.0.1:1/v1" in result.stdout
    assert served == [(expected, 0)]


def test_sim_lists_its_faults() -> None:
    """`sim --faults` names each, with its meaning, and the marks of prompts; it serves nothing."""
    listed = invoke("sim", "--faults")

    lines = listed.stdout.splitlines()
    assert listed.exit_code == 0
    assert {line.split()[0] for line in lines if line} >= {*FAULTS, "[[fault:500]]"}
    assert next(line for line in lines if line.startswith("429-date ")).endswith("a rate limit that names a date")


def test_run_starts_the_provider_that_sim_says(prompts: Path, tmp_path: Path) -> None:
    """Whatever the simulated provider can be, `--sim` can say: here one that is down, and then is not."""
    out = tmp_path / "out.jsonl"

    result = invoke("run", prompts, "--model", "sim/x", "--sim", f"{FAST},headers=none,outage=0-0.1:503", "--output", out)

    assert result.exit_code == 0, result.output
    assert len(rows_of(out)) == 3


def test_a_port_that_is_taken_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`sim` names the port, and the option that finds a free one; exit code 2."""
    with Box() as box:
        port = box.url.split(":")[2].split("/")[0]
        code = main(monkeypatch, "sim", "--port", port)

    assert code == 2
    assert capsys.readouterr().err.startswith(f"error: cannot serve on port {port}: ")


def test_help_of_run_names_its_parts() -> None:
    """How the input is called, what a chaos option looks like in full, and every exit code."""
    said = " ".join(re.sub(r"[│\s]+", " ", invoke("run", "--help").stdout).split())

    assert "PROMPTS.jsonl" in said
    assert "hang=0.02,429=0.05" in said
    assert [code for code in ("0", "1", "2", "130") if f"{code}: " not in said] == []


def test_version_and_help() -> None:
    """`--version` prints it, `--help` the commands; nothing heavy is imported for that."""
    code = (
        "import sys; from llm_fanout import cli\n"
        "try: cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('openai', 'aiohttp', 'httpx', 'genai_prices') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"
    assert invoke("--version").stdout.strip() == "0.1.0"


def test_a_terminal_gets_a_bar(prompts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where standard error is a terminal, progress is drawn there."""
    drawn: list[Any] = []
    monkeypatch.setattr(cli, "_is_terminal", lambda: True)
    monkeypatch.setattr("llm_fanout.hooks.hook", lambda name: lambda: drawn.append)

    result = invoke("run", prompts, "--model", "sim/x", "--sim", FAST)

    assert result.exit_code == 0
    assert drawn[-1].done == 3
