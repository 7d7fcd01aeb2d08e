"""The two lanes give bytes as they came."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import httpx2
import pytest
import respx
from openai import AsyncOpenAI

from llm_fanout import Endpoint, Prompt
from llm_fanout.llm.endpoint import place_of
from llm_fanout.llm.lanes import SdkLane, WireLane
from llm_fanout.llm.prompt import Request, Settings
from llm_fanout.llm.times import Timeouts
from llm_fanout.llm.wire import Answer

REQUEST = Request.of(
    "gpt-x",
    Prompt("hello"),
    Settings.of({"temperature": 0.5, "extra_headers": {"X-Mine": "1"}, "extra_body": {"top_k": 7}}),
)
URL = "https://mock.example/v1"


class FakeWire:
    """A wire that writes down what it is given."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Mapping[str, str], Any]] = []

    @asynccontextmanager
    async def send(self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts) -> AsyncIterator[Answer]:
        self.sent.append((url, headers, json.loads(body)))
        self.timeouts = timeouts

        async def chunks() -> AsyncIterator[bytes]:
            yield b"some "
            yield b"bytes"

        yield Answer(418, {"a": "b"}, chunks())


async def test_the_wire_lane_sends_one_body() -> None:
    """The path, the key, the request as JSON; extra headers and fields are merged in, and the answer is as it came."""
    wire = FakeWire()
    lane = WireLane(wire, place_of(Endpoint("openai/gpt-x", base_url=URL, api_key="sk-key-123")))

    answer = await lane.send(REQUEST, Timeouts())

    url, headers, body = wire.sent[0]
    assert url == f"{URL}/chat/completions"
    assert (headers["Authorization"], headers["X-Mine"], headers["Content-Type"]) == (
        "Bearer sk-key-123",
        "1",
        "application/json",
    )
    assert body == {"model": "gpt-x", "messages": [{"role": "user", "content": "hello"}], "temperature": 0.5, "top_k": 7}
    assert answer == (418, {"a": "b"}, b"some bytes")


@pytest.fixture(params=["httpx", "httpx2"])
async def mocked(request: pytest.FixtureRequest) -> AsyncIterator[tuple[AsyncOpenAI, list[Any], list[Any]]]:
    """The SDK over either HTTP library, what it will be answered, and what it sent."""
    answers: list[Any] = []
    seen: list[Any] = []
    if request.param == "httpx":
        with respx.mock:

            def reply(call: httpx.Request) -> httpx.Response:
                seen.append(call)
                return httpx.Response(**answers.pop(0))

            respx.post(f"{URL}/chat/completions").mock(side_effect=reply)
            async with httpx.AsyncClient() as http:
                yield AsyncOpenAI(api_key="sk-key-123", base_url=URL, http_client=cast("Any", http)), answers, seen
    else:

        def reply2(call: httpx2.Request) -> httpx2.Response:
            seen.append(call)
            return httpx2.Response(**answers.pop(0))

        async with httpx2.AsyncClient(transport=httpx2.MockTransport(reply2)) as http2:
            yield AsyncOpenAI(api_key="sk-key-123", base_url=URL, http_client=http2), answers, seen


@pytest.mark.parametrize("status", [200, 400, 429, 500, 503])
async def test_the_sdk_lane_gives_what_came(mocked: tuple[AsyncOpenAI, list[Any], list[Any]], status: int) -> None:
    """Status, headers and bytes of any answer, after exactly one request: the SDK's own retries are off."""
    client, answers, seen = mocked
    answers.append({"status_code": status, "headers": {"retry-after": "7"}, "content": b'{"odd": "body"}'})

    got, headers, body = await SdkLane(client).send(REQUEST, Timeouts())

    assert (got, headers["retry-after"], body) == (status, "7", b'{"odd": "body"}')
    assert len(seen) == 1
    assert seen[0].headers["x-stainless-retry-count"] == "0"
    assert seen[0].headers["x-mine"] == "1"
    assert json.loads(seen[0].content)["top_k"] == 7


async def test_the_wire_lane_hands_the_timeouts_on() -> None:
    """To connect, and of silence: the wire gets what the request was given."""
    wire = FakeWire()

    await WireLane(wire, place_of(Endpoint("sim/x", base_url=URL))).send(REQUEST, Timeouts(connect=2.0, idle=7.0))

    assert wire.timeouts == Timeouts(connect=2.0, idle=7.0)


@pytest.mark.parametrize(
    ("timeouts", "parts"),
    [
        (Timeouts(connect=2.0, idle=7.0), {"connect": 2.0, "read": 7.0, "write": None, "pool": None}),
        (Timeouts(), {"connect": 10.0, "read": None, "write": None, "pool": None}),
    ],
)
async def test_the_sdk_lane_hands_the_timeouts_on(
    mocked: tuple[AsyncOpenAI, list[Any], list[Any]], timeouts: Timeouts, parts: dict[str, float | None]
) -> None:
    """The same through the SDK, over either HTTP library, whatever the client's own timeout is."""
    client, answers, seen = mocked
    answers.append({"status_code": 200, "content": b"{}"})

    await SdkLane(client.with_options(timeout=1.0)).send(REQUEST, timeouts)

    assert seen[0].extensions["timeout"] == parts
