"""`llm-fanout mcp`, as its clients meet it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from commands import invoke, main, until
from mcp import Client, StdioServerParameters, stdio_client
from support import consume

from llm_fanout.sim import Box, SimConfig

QUICK = SimConfig(latency=0.01, jitter=0)
Step = Callable[["Dialog"], None]


class Dialog:
    """The client's side of the protocol, a line at a time."""

    def __init__(self, reading: BinaryIO, writing: BinaryIO) -> None:
        self._reading = reading
        self._writing = writing

    def say(self, method: str, number: int | None = None, **params: object) -> None:
        line = {"jsonrpc": "2.0", "method": method, "params": params} | ({} if number is None else {"id": number})
        self._writing.write(json.dumps(line).encode() + b"\n")
        self._writing.flush()

    def greet(self) -> None:
        self.say("initialize", 1, protocolVersion="2025-06-18", capabilities={}, clientInfo={"name": "t", "version": "1"})
        assert self.heard()["id"] == 1
        self.say("notifications/initialized")

    def ask(self, number: int, *prompts: str) -> None:
        self.say("tools/call", number, name="fan_out", arguments={"prompts": prompts})

    def heard(self) -> dict[str, Any]:
        line: dict[str, Any] = json.loads(self._reading.readline())
        return line

    def report(self) -> dict[str, Any]:
        """What the next line says that the tool gave."""
        report: dict[str, Any] = self.heard()["result"]["structuredContent"]
        return report

    def hang_up(self) -> None:
        self._writing.close()

    def go(self) -> None:
        """Read no more, and leave the other end to find out."""
        self._reading.close()


class Talk:
    """The command in this process, its input and output in a thread's hands: `with` these steps, its exit code."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, steps: Step, *arguments: object) -> int:
        (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
        with ExitStack() as stack:
            patch = stack.enter_context(self._monkeypatch.context())
            patch.setattr(sys, "stdin", stack.enter_context(open(theirs_in)))
            stack.enter_context(suppress(BrokenPipeError))  # of what nobody reads any more, when it is closed
            patch.setattr(sys, "stdout", stack.enter_context(open(theirs_out, "w")))
            dialog = Dialog(stack.enter_context(open(ours_in, "rb")), stack.enter_context(open(ours_out, "wb")))
            thread = threading.Thread(target=steps, args=(dialog,))
            thread.start()
            code = main(patch, "mcp", *arguments)
            thread.join()
        return code


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch) -> Talk:
    return Talk(monkeypatch)


@pytest.fixture
def box() -> Iterator[Box]:
    with Box(QUICK) as box:
        yield box


def test_it_answers_until_its_input_ends(talk: Talk, box: Box) -> None:
    """One request after another, under the budget of all; then it ends with exit code 0."""
    reports = []

    def steps(dialog: Dialog) -> None:
        dialog.greet()
        for number in (2, 3):
            dialog.ask(number, "[[answer:one]]", "[[answer:two]]")
            reports.append(dialog.report())
        dialog.hang_up()

    code = talk(steps, "--model", "sim/x", "--base-url", box.url, "--token-budget", 5_000, "--max-tokens", 20)

    assert code == 0
    assert [[each["answer"] for each in report["results"]] for report in reports] == [["one", "two"]] * 2
    assert 5_000 > reports[0]["left"]["tokens"] > reports[1]["left"]["tokens"]


SLOW = "[[latency:60]]"


@pytest.mark.parametrize(
    ("options", "prompts", "entries"),
    [
        (("--instructions", "[[answer:this]]"), ["What did they say?"], ["this"]),
        (("--max-tokens", "1"), ["[[answer:one two three four five six]]"], ["max_tokens"]),
        (("--max-retries", "0"), ["[[faults:500,ok]]"], ["server"]),
        (("--timeout", "0.2", "--max-retries", "0"), [SLOW], ["timeout"]),
        (("--deadline", "0.3"), [SLOW], ["deadline"]),
        (("--deadline", "2", "--rpm", "1"), ["[[answer:first]]"] * 2, ["first", "deadline"]),
        (("--tpm", "5"), ["a prompt of more than five tokens for sure"], ["too_large"]),
        (("--most-prompts", "1"), ["a", "b"], ["2 prompts are too many for one call: give at most 1, and call again"]),
        (("--most-characters", "1900", "--most-prompts", "1"), [f"[[answer:{'x' * 4_000}]]"], ["cut"]),
    ],
)
def test_its_options_hold(talk: Talk, box: Box, options: tuple[str, ...], prompts: list[str], entries: list[str]) -> None:
    """Each changes what comes back."""
    told: list[Any] = []

    def steps(dialog: Dialog) -> None:
        dialog.greet()
        dialog.ask(2, *prompts)
        told.append(dialog.heard()["result"])
        dialog.hang_up()

    talk(steps, "--model", "sim/x", "--base-url", box.url, *options)

    assert list(map(gist_of, told[0].get("structuredContent", {}).get("results") or [told[0]])) == entries


def test_no_more_calls_are_under_way_than_it_is_told(talk: Talk, box: Box) -> None:
    """--max-concurrency holds for all requests together."""

    def steps(dialog: Dialog) -> None:
        dialog.greet()
        for number in (2, 3):
            dialog.ask(number, *["a"] * 5)
        assert {dialog.report()["answered"] for _ in range(2)} == {5}
        dialog.hang_up()

    talk(steps, "--model", "sim/x", "--base-url", box.url, "--max-concurrency", 2)

    assert box.stats["peak_in_flight"] == 2


def gist_of(entry: dict[str, Any]) -> str:
    """What one entry comes to, or an error without any."""
    if "content" in entry:
        return str(json.loads(entry["content"][0]["text"])["error"])
    return str(entry.get("error") or entry.get("incomplete") or ("cut" if "rest" in entry else entry["answer"]))


def test_a_fallback_answers_and_sim_starts_the_provider(talk: Talk) -> None:
    """Where the first model refuses the key, the second takes over; no server has to be there for either."""
    reports = []

    def steps(dialog: Dialog) -> None:
        dialog.greet()
        dialog.ask(2, "[[answer:this]]")
        reports.append(dialog.report())
        dialog.hang_up()

    talk(steps, "--model", "sim/x", "--sim", "latency=0.01,401=1", "--fallback", "sim/y")

    assert reports[0]["results"] == [{"index": 0, "answer": "this"}]


def test_with_a_journal_it_goes_on_where_it_was(talk: Talk, box: Box, tmp_path: Path) -> None:
    """Started again, it does not ask what was answered, and its budget is not refilled."""
    reports = []

    def steps(dialog: Dialog) -> None:
        dialog.greet()
        dialog.ask(2, "[[answer:one]]")
        reports.append(dialog.report())
        dialog.hang_up()

    options = ("--journal", tmp_path / "run.db", "--token-budget", 5_000, "--max-tokens", 20)
    for _ in range(2):
        talk(steps, "--model", "sim/x", "--base-url", box.url, *options)

    assert box.stats["requests"] == 1
    assert [report["results"] for report in reports] == [[{"index": 0, "answer": "one"}]] * 2
    assert reports[0]["left"] == reports[1]["left"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_what_is_under_way(talk: Talk, box: Box, number: signal.Signals, code: int) -> None:
    """The calls are cancelled, the handlers of before are back, and it waits for no more input."""
    started_with = signal.signal(number, signal.default_int_handler)  # a shell's background jobs have it ignored

    def steps(dialog: Dialog) -> None:
        dialog.greet()
        dialog.ask(2, "[[latency:60]]")
        until(lambda: box.stats["in_flight"] == 1)
        os.kill(os.getpid(), number)

    try:
        assert talk(steps, "--model", "sim/x", "--base-url", box.url) == code
    finally:
        assert signal.signal(number, started_with) is signal.default_int_handler
    until(lambda: box.stats["in_flight"] == 0)


def test_a_signal_that_is_ignored_stays_so(talk: Talk, box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever started it does not want Ctrl-C to be heard."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)

    def steps(dialog: Dialog) -> None:
        dialog.greet()
        os.kill(os.getpid(), signal.SIGINT)
        dialog.hang_up()

    try:
        assert talk(steps, "--model", "sim/x", "--base-url", box.url) == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_client_that_is_gone_is_an_end(talk: Talk, box: Box) -> None:
    """Its output closed, it ends quietly, as at the end of its input."""

    def steps(dialog: Dialog) -> None:
        dialog.greet()
        dialog.go()
        dialog.say("tools/list", 2)

    assert talk(steps, "--model", "sim/x", "--base-url", box.url) == 0


CHATTY = """
from llm_fanout.cli import main
from llm_fanout.tool import FanOutTool

ask = FanOutTool._ask

def asking(*arguments):
    print("stray")
    return ask(*arguments)

FanOutTool._ask = asking
main()
"""


async def test_the_real_client_over_real_pipes(box: Box, tmp_path: Path) -> None:
    """The SDK's client starts the command, and is answered; a call that it cancels is cancelled at the provider; its process
    ends with it; and what else is printed in it is no part of the protocol."""
    arguments = ["-c", CHATTY, "mcp", "--model", "sim/x", "--base-url", box.url]
    with (tmp_path / "stderr").open("w+") as stderr:
        pipes = stdio_client(StdioServerParameters(command=sys.executable, args=arguments), errlog=stderr)
        async with Client(pipes) as client:
            [tool] = (await client.list_tools()).tools
            first = await client.call_tool("fan_out", {"prompts": ["[[answer:one]]"]})
            task = asyncio.ensure_future(consume(client.call_tool("fan_out", {"prompts": ["[[latency:60]]"] * 3})))
            await asyncio.to_thread(until, lambda: box.stats["in_flight"] == 3)
            task.cancel()
            await asyncio.to_thread(until, lambda: box.stats["in_flight"] == 0)
            last = await client.call_tool("fan_out", {"prompts": ["[[answer:two]]"]})
        stderr.seek(0)
        said = stderr.read()

    assert tool.name == "fan_out"
    assert [each.structured_content["results"][0]["answer"] for each in (first, last)] == ["one", "two"]  # type: ignore[index]
    assert said == "stray\n" * 3


def test_bytes_that_python_holds_are_read_as_well() -> None:
    """Called from within Python, where standard input is no file, it reads what there is."""
    result = invoke("mcp", "--model", "sim/x", stdin="")

    assert (result.exit_code, result.stdout) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--model", "gpt"), "names no provider"),
        (("--model", "sim/x", "--budget", "1"), "price"),
        (("--model", "sim/x", "--token-budget", "-1"), "token_budget"),
        (("--model", "sim/x", "--most-characters", "100"), "most_characters"),
        (("--model", "sim/x", "--journal", "/nowhere/run.db"), "/nowhere/run.db"),
        (("--model", "openai/x", "--sim", "rpm=5"), "--sim"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    arguments: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong, in one line, before anything is served."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    code = main(monkeypatch, "mcp", *arguments)
    said = capsys.readouterr().err

    assert code == 2
    assert said.startswith("error: ")
    assert says in said
    assert len(said.strip().splitlines()) == 1


def test_without_the_extra_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line with the command to type."""
    monkeypatch.setitem(sys.modules, "mcp", None)
    monkeypatch.setitem(sys.modules, "mcp.server", None)

    assert main(monkeypatch, "mcp", "--model", "sim/x") == 2
    assert "pip install 'llm-fanout[mcp]'" in capsys.readouterr().err
