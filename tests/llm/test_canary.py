"""The key appears nowhere, whatever goes wrong: a canary is sent through every signal, and looked for everywhere."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import pickle
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from openai import AsyncOpenAI
from rich.console import Console
from rich.traceback import Traceback

from llm_fanout import CallError, ConfigError, Endpoint, FanOut, Report, fan_out_sync
from llm_fanout.sim import Box, SimConfig
from llm_fanout.sim.faults import FAULTS

CANARY = "sk-canary-0123456789-abcdefghijklmnopqrstuvwxyz-THE-END"
SECRET = "tell nobody about this prompt"


def looked_at(report: Report[str]) -> Iterator[str]:
    """All that a user may print, log, keep or send of a report."""
    yield repr(report) + str(report) + report._repr_html_() + json.dumps(report.to_dicts())
    for result in report:
        yield repr(result) + str(result.error) + repr(result.error)
        yield pickle.dumps(result.error).decode("latin-1")
        try:
            _ = result.value
        except CallError as exc:
            yield traceback_of(exc)


def traceback_of(exc: BaseException) -> str:
    """As rich shows it, with all locals, to its full length."""
    console = Console(file=io.StringIO(), width=200)
    traceback = Traceback.from_exception(
        type(exc), exc, exc.__traceback__, show_locals=True, locals_max_length=10_000, locals_max_string=100_000
    )
    console.print(traceback)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def logs() -> Iterator[io.StringIO]:
    """Everything that anybody logs at DEBUG."""
    stream, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(stream), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield stream
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


async def met(endpoint: Endpoint, *, stream: bool) -> Report[str]:
    """What came of a prompt for each fault, all met for ever."""
    prompts = [f"{SECRET} [[wait:0.01]] [[fault:{fault}]]" for fault in FAULTS if fault != "drip"]
    async with FanOut(endpoint, timeout=1, max_retries=1, retry_for=1) as fan:
        return await fan.map(prompts, stream=stream, progress=False, deadline=6)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("sdk", [False, True], ids=["wire", "sdk"])
def test_the_key_is_nowhere(logs: io.StringIO, capfd: pytest.CaptureFixture[str], sdk: bool, stream: bool) -> None:
    """Not in logs, output, results, their pickles and JSON, nor in tracebacks with all locals; nor is a prompt logged."""

    async def main(box: Box) -> Report[str]:
        if not sdk:
            return await met(Endpoint("openai/x", base_url=box.url, api_key=CANARY), stream=stream)
        async with AsyncOpenAI(api_key=CANARY, base_url=box.url) as client:
            return await met(Endpoint("openai/x", client=client), stream=stream)

    with Box(SimConfig(latency=0.01)) as box:
        report = asyncio.run(main(box))
    said = [*looked_at(report), logs.getvalue(), *capfd.readouterr()]

    assert report.summary.failed > 50
    assert not [text for text in said if CANARY in text or "0123456789-abc" in text]
    assert sdk or SECRET not in logs.getvalue()  # the SDK itself logs what it sends, at DEBUG


@asynccontextmanager
async def quoting(status: int) -> AsyncIterator[str]:
    """A server that quotes the key that it was sent: whole, and at the end of a message that is too long to be kept."""

    async def answer(request: web.Request) -> web.Response:
        key = request.headers["Authorization"]
        return web.json_response({"error": {"message": f"bad {key} {'x' * 460} {key}"}}, status=status)

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("status", [400, 401, 500])
async def test_a_server_that_quotes_the_key(status: int) -> None:
    """It is blotted out, also where its message is cut within the key."""
    async with quoting(status) as url, FanOut("openai/x", base_url=url, api_key=CANARY, max_retries=0) as fan:
        error = (await fan.call("x")).error

    assert error is not None
    assert "***" in str(error)
    assert CANARY[:12] not in str(error)


async def test_a_server_that_quotes_a_key_of_extra_headers() -> None:
    """It is blotted out as well; a word of a header that holds no key is left."""
    own = {"authorization": f"Bearer {CANARY}", "X-Title": "xxxxxxxxxx"}
    async with quoting(401) as url, FanOut("openai/x", base_url=url, api_key="none", max_retries=0) as fan:
        error = (await fan.call("x", extra_headers=own)).error

    assert error is not None
    assert CANARY[:12] not in str(error)
    assert "xxxxxxxxxx" in str(error)


@pytest.mark.parametrize("sdk", [False, True], ids=["wire", "sdk"])
async def test_a_redirect_is_not_followed(sdk: bool) -> None:
    """It would take the key, and the prompt, to another host; where it leads is said."""

    async def elsewhere(request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(f"{box.url}/chat/completions?token=secret")

    app = web.Application()
    app.router.add_post("/v1/chat/completions", elsewhere)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    with Box() as box:
        async with AsyncOpenAI(api_key=CANARY, base_url=url) as client:
            own = Endpoint("openai/x", base_url=url, api_key=CANARY)
            async with FanOut(Endpoint("openai/x", client=client) if sdk else own, max_retries=0) as fan:
                error: Any = (await fan.call("x")).error
        requests, host = box.stats["requests"], box.url.split("/v1")[0]
    await runner.cleanup()

    assert (error.kind, error.status, requests) == ("invalid", 307, 0)
    assert host in str(error)
    assert "secret" not in str(error)


def test_a_key_that_cannot_be_sent_is_not_shown() -> None:
    """What is wrong with it is said without it."""
    with pytest.raises(ConfigError) as caught:
        fan_out_sync(["x"], model=Endpoint("openai/x", api_key=f"{CANARY}\n"))

    assert CANARY not in str(caught.value)
