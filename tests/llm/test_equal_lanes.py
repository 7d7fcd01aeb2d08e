"""The same bytes through our wire and through the SDKs, over either HTTP library: the Results are equal.

What the box answers with each fault is recorded once, whole and as a stream. A server then plays it, byte for byte, to one
call in each lane.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import httpx
import httpx2
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from llm_fanout import Endpoint, FanOut, Result
from llm_fanout.quotas import quotas
from llm_fanout.sim import Box, SimConfig
from llm_fanout.sim.catalogue import MIXED
from llm_fanout.sim.faults import FAULTS, NO_FAULT

TOLD = 60  # seconds that refusals name here, which is longer than any call may try
SILENCE = 2.0  # seconds after which a call that is not answered is given up
OPEN = 0.5  # seconds after which a recorded answer that has not ended is taken for one that never does
AT_ONCE = 16  # of them; more would wait for the machine

ENDLESS = frozenset({"hang", "drip", "stall", "keepalive"})
# No answer came, or not all of one: the message is the HTTP library's, or ours of who saw first that nothing comes.
OWN_WORDS = frozenset({"reset", "cut", *ENDLESS})

LANES = {"chat": ("openai over httpx2", "openai over httpx"), "messages": ("anthropic over httpx2",)}
PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages"}
FAULTED = sorted({NO_FAULT, *FAULTS} - set(MIXED))


class Case(NamedTuple):
    """One answer."""

    api: str
    fault: str
    stream: bool

    @property
    def name(self) -> str:
        return f"{self.api}-{self.fault}-{'stream' if self.stream else 'whole'}"


CASES = list(map(Case._make, product(LANES, FAULTED, (False, True))))
Met = dict[tuple[Case, str], Result[str]]


@dataclass(frozen=True)
class Recording:
    """The bytes of an answer, and whether the connection ends with them."""

    content: bytes
    ends: bool


async def record(port: int, case: Case) -> Recording:
    """What the box at `port` answers."""
    ask = [{"role": "user", "content": f"[[wait:{TOLD}]] [[fault:{case.fault}]] {case.name}"}]
    body = json.dumps({"model": "x", "max_tokens": 30, "messages": ask, "stream": case.stream}).encode()
    head = (
        f"POST {PATHS[case.api]} HTTP/1.1\r\nHost: box\r\nAuthorization: Bearer {case.name}\r\nConnection: close\r\n"
        f"anthropic-version: 2023-06-01\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode() + body)
    content = bytearray()
    try:
        async with asyncio.timeout(OPEN if case.fault in ENDLESS else None):
            while piece := await reader.read(2**16):
                content += piece
    except TimeoutError:
        return Recording(bytes(content), ends=False)
    except ConnectionResetError:
        pass
    finally:
        writer.close()
    return Recording(bytes(content), ends=True)


@asynccontextmanager
async def playing(recordings: dict[str, Recording]) -> AsyncIterator[str]:
    """The address of a server that answers `/<anybody>/<name>/...` with the recording of that name."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
        recording = recordings[head.split("/")[2]]
        writer.write(recording.content)
        if not recording.ends:
            await reader.read()  # until who asked goes away
        writer.close()

    async with await asyncio.start_server(play, "127.0.0.1") as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def endpoint_in(lane: str, case: Case, url: str, http: Any) -> Endpoint:
    """Where the recording is asked for in that lane: each call is on an account of its own."""
    base_url = f"{url}/{lane.replace(' ', '-')}/{case.name}"
    model = "openai/x" if case.api == "chat" else "anthropic/x"
    if lane == "wire":
        return Endpoint(model, base_url=base_url, api_key="none")
    sdk: Any = AsyncOpenAI if case.api == "chat" else AsyncAnthropic
    return Endpoint(model, client=sdk(base_url=base_url, api_key="none", http_client=http))


async def ask(endpoint: Endpoint, case: Case, places: asyncio.Semaphore) -> Result[str]:
    """One call, tried once."""
    timeout = httpx2.Timeout(None, read=SILENCE) if case.stream else SILENCE
    async with places, FanOut(endpoint, timeout=timeout, max_retries=0) as fan:
        return (await fan.map([case.name], stream=case.stream, max_tokens=30, progress=False, retry_for=0.001))[0]


async def met_all() -> Met:
    """The Result of each case in each lane."""
    with Box(SimConfig(latency=0.0, jitter=0.0, answer_tokens=20)) as box:
        port = int(box.url.split(":")[2].split("/")[0])
        recordings = dict(zip(CASES, await asyncio.gather(*(record(port, case) for case in CASES)), strict=True))
    places = asyncio.Semaphore(AT_ONCE)
    played = playing({case.name: recording for case, recording in recordings.items()})
    async with httpx2.AsyncClient() as new, httpx.AsyncClient() as old, played as url:
        pairs = [(case, lane) for case in CASES for lane in ("wire", *LANES[case.api])]
        endpoints = [endpoint_in(lane, case, url, old if lane.endswith("httpx") else new) for case, lane in pairs]
        calls = (ask(at, case, places) for at, (case, _) in zip(endpoints, pairs, strict=True))
        return dict(zip(pairs, await asyncio.gather(*calls), strict=True))


@pytest.fixture(scope="module")
def met() -> Iterator[Met]:
    """The same."""
    random, quotas.engine._schedule._random = quotas.engine._schedule._random, lambda: 0.0  # messages say how long to wait
    try:
        yield asyncio.run(met_all())
    finally:
        quotas.engine._schedule._random = random


def facts_of(result: Result[str], fault: str) -> dict[str, object]:
    """All that a Result says but times and places, and words that are nobody's but the HTTP library's."""
    error = result.error
    return {
        "message": error and fault not in OWN_WORDS and error.message,
        "returned": result.value if error is None else type(error),
        "kind": error and error.kind,
        "status": error and error.status,
        "retry_after": error and error.retry_after,
        "partial": error and error.partial,
        "text": result.text,
        "finish_reason": result.finish_reason,
        "tool_calls": result.tool_calls,
        "usage": result.usage,
        "attempts": result.attempts,
        "reply": result.reply,
        "api": result.api,
    }


@pytest.mark.parametrize("fault", FAULTED)
def test_equal_bytes_give_equal_results(met: Met, fault: str) -> None:
    """Answer or error, whole and streamed: what is said of it, what was used, how often it was tried, and the bytes."""
    cases = [case for case in CASES if case.fault == fault]
    pairs = [(case, lane) for case in cases for lane in LANES[case.api]]

    got = {(case.name, lane): facts_of(met[case, lane], fault) for case, lane in pairs}

    assert got == {(case.name, lane): facts_of(met[case, "wire"], fault) for case, lane in pairs}


def test_what_was_recorded_is_what_it_is_called(met: Met) -> None:
    """Every fault fails its call, and an answer without one is a success with a text."""
    failed = {case.fault for (case, _), result in met.items() if not result.ok}

    assert failed == set(FAULTED) - {NO_FAULT}
    assert all(result.text for (case, _), result in met.items() if case.fault == NO_FAULT)


def test_each_result_says_what_carried_it(met: Met) -> None:
    """Our wire or the SDK, failed calls included."""
    assert {(lane == "wire", result.via) for (_, lane), result in met.items()} == {(True, "wire"), (False, "sdk")}
