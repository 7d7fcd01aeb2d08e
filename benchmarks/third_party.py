"""Is llm_fanout right by somebody else's server, too? llmock breaks our calls, judges the client, and we count the answers.

Its verdict alone is not enough: it passes clients that lose answers. So every scenario also says how many of its calls must
be answered. llmock runs in an environment of its own, which uv makes on first use.

    uv run python -m benchmarks.third_party
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import httpx2

from llm_fanout import Endpoint, FanOut, Limits, Report

LLMOCK = "llmock==0.2.2"
CALLS = 40
OPENERS = {"openai/gpt-4o-mini": "/v1", "anthropic/claude-sonnet-4-5": "/anthropic"}


@dataclass(frozen=True)
class Scenario:
    """What llmock does, and how many of the calls must be answered all the same.

    Attributes:
        name: For the table.
        behaviors: Of llmock, as its HTTP interface takes them.
        answered: Calls that must be answered, of `CALLS`.
        stream: Whether answers are read as streams.
        flags: For `llmock serve`.
    """

    name: str
    behaviors: list[dict[str, Any]] = field(default_factory=list)
    answered: int = CALLS
    stream: bool = False
    flags: tuple[str, ...] = ()


def fail(status: int, times: int, **more: Any) -> dict[str, Any]:
    return {"type": "fail", "status": status, "times": times, **more}


def broken_stream(kind: str, times: int, **more: Any) -> dict[str, Any]:
    return {"type": "stream_fault", "kind": kind, "after_chunks": 2, "times": times, **more}


SCENARIOS = (
    Scenario("nothing goes wrong"),
    Scenario("nothing goes wrong, streamed", stream=True),
    Scenario("ten are refused, told to wait 0.5 s", [fail(429, 10, retry_after=0.5)]),
    Scenario("five meet a 500, five a 503", [fail(500, 5), fail(503, 5)]),
    Scenario("three are bad requests", [fail(400, 3)], answered=CALLS - 3),
    Scenario("five streams are cut", [broken_stream("disconnect", 5)], stream=True),
    Scenario("five streams end without a finish reason", [broken_stream("truncate", 5)], stream=True),
    Scenario("five streams have a chunk that is no JSON", [broken_stream("malformed", 5)], stream=True),
    Scenario("two streams stall for 20 s", [broken_stream("stall", 2, stall_seconds=20)], stream=True),
    Scenario("a quota of 600 a minute", flags=("--rpm", "600")),
    Scenario("one call in five fails by chance", flags=("--error-rate", "500=0.1", "--error-rate", "429=0.1")),
)


@contextmanager
def llmock(flags: tuple[str, ...]) -> Iterator[str]:
    """A server of its own for one scenario; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["uv", "tool", "run", "--from", LLMOCK, "llmock", "serve", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen([*command, "--log-level", "error", *flags], stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                ask(f"{url}/_llmock/verdict")
                break
            except (URLError, ConnectionError):
                time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait()


def ask(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data, {"Content-Type": "application/json"})) as answer:  # loopback
        return json.loads(answer.read() or b"null")


async def report_of(url: str, model: str, scenario: Scenario) -> Report[str]:
    endpoint = Endpoint(model, base_url=url + OPENERS[model], api_key="sk-llmock", limits=Limits(max_concurrency=8))
    timeout = httpx2.Timeout(60, read=2)  # seconds; of silence, so that a stall is noticed
    async with FanOut(endpoint, timeout=timeout, max_tokens=50) as fan:
        return await fan.map([f"Say {number}." for number in range(CALLS)], stream=scenario.stream, progress=False)


def line(name: str, model: str, scenario: Scenario, report: Report[str], verdict: Any) -> tuple[str, bool]:
    answered = report.summary.succeeded
    codes = [f"{found['severity']}: {found['code']}" for found in verdict.get("findings", [])]
    passed = bool(verdict.get("passed")) and answered == scenario.answered
    cells = (name, model.partition("/")[0], f"{answered} of {scenario.answered}", report.summary.attempts)
    said = ", ".join(dict.fromkeys(codes)) or "nothing"
    return f"| {' | '.join(map(str, cells))} | {said} | {'pass' if passed else 'FAIL'} |", passed


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(f"llm_fanout against {LLMOCK}; Python {platform.python_version()}, aiohttp {version('aiohttp')},")
    print(f"{datetime.date.today()}; {CALLS} calls, 8 at once\n")
    print("| scenario | provider | answered | attempts | llmock's findings | |")
    print("|---|---|---|--:|---|---|")
    failed = 0
    for scenario in SCENARIOS:
        for model in OPENERS:
            with llmock(scenario.flags) as url:
                if scenario.behaviors:
                    ask(f"{url}/_llmock/scenario", {"behaviors": scenario.behaviors})
                report = asyncio.run(report_of(url, model, scenario))
                said, passed = line(scenario.name, model, scenario, report, ask(f"{url}/_llmock/verdict"))
            print(said, flush=True)
            failed += not passed
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
