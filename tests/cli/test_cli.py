"""The command line as a whole."""

from __future__ import annotations

import runpy
import subprocess
import sys
from importlib.abc import MetaPathFinder

import pytest
from commands import invoke, main

from llm_fanout.__main__ import main as console_script


def test_python_dash_m_is_the_console_script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m llm_fanout` does the same."""
    monkeypatch.setattr(sys, "argv", ["llm-fanout", "--version"])
    monkeypatch.delitem(sys.modules, "llm_fanout.__main__")

    with pytest.raises(SystemExit):
        runpy.run_module("llm_fanout", run_name="__main__")

    assert capsys.readouterr().out == "0.1.0\n"


def test_ctrl_c_while_it_starts_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 130, and not a word, also while the command line itself is still being imported."""

    class Pressed(MetaPathFinder):
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            if name == "llm_fanout.cli":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "llm_fanout.cli")
    monkeypatch.setattr(sys, "meta_path", [Pressed(), *sys.meta_path])

    with pytest.raises(SystemExit) as ended:
        console_script()

    assert ended.value.code == 130


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
        (("run", "-", "--model", "sim/x", "--budget", "-1"), "budget"),
        (("run", "-", "--model", "sim/x", "--budget", "5"), "price"),
        (("run", "-", "--model", "sim/x", "--token-budget", "-1"), "token_budget"),
        (("run", "-", "--model", "sim/x", "--deadline", "0"), "deadline"),
        (("resume", "nowhere.db"), "there is no journal nowhere.db"),
        (("purge", "nowhere.db"), "there is no journal nowhere.db"),
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


def test_version_and_help() -> None:
    """`--version` prints it, `--help` the commands; nothing heavy is imported for that, nor for the help of one."""
    code = (
        "import sys; from llm_fanout import cli\n"
        "for arguments in [['--help'], ['mcp', '--help']]:\n"
        "    try: cli.app(arguments)\n"
        "    except SystemExit: pass\n"
        "print([name for name in ('openai', 'aiohttp', 'httpx', 'genai_prices', 'mcp', 'anyio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"
    assert invoke("--version").stdout.strip() == "0.1.0"
