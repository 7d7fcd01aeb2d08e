"""The two lanes give bytes as they came."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import httpx
import httpx2
import pytest
import respx
from anthropic import AsyncAnthropic
from openai import APIConnectionError, AsyncAzureOpenAI, AsyncOpenAI
from support import Given, answer_of

from llm_fanout import Endpoint
from llm_fanout.llm.endpoint import place_of
from llm_fanout.llm.lanes import Lane, SdkLane, WireLane
from llm_fanout.llm.times import Timeouts
from llm_fanout.providers import FORMATS, Request

ASK = [{"role": "user", "content": "hello"}]
BODY = {"model": "gpt-x", "messages": ASK, "top_k": 7}
REQUEST = Request("gpt-x", ASK, {"extra_body": {"top_k": 7}, "extra_headers": {"X-Mine": "1"}})
CHAT = FORMATS["chat"]
URL = "https://mock.example/v1"


async def post(lane: Lane, timeouts: Timeouts | None = None) -> tuple[int, Mapping[str, str], bytes]:
    """What comes back when `REQUEST` is sent through `lane`."""
    answer = await lane.post(REQUEST, timeouts or Timeouts())
    try:
        return answer.status, answer.headers, await answer.read()
    finally:
        await answer.close()


class FakeWire:
    """A wire that writes down what it is given."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Mapping[str, str], Any]] = []

    async def send(
        self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts, proxy: str | None = None
    ) -> Given:
        self.sent.append((url, headers, json.loads(body)))
        self.timeouts = timeouts
        return answer_of(418, {"a": "b"}, b"some ", b"bytes")


async def test_the_wire_lane_sends_one_body() -> None:
    """The path, the key, the request as JSON; extra headers and fields are merged in, and the answer is as it came."""
    wire = FakeWire()
    lane = WireLane(wire, place_of(Endpoint("openai/gpt-x", base_url=URL, api_key="sk-key-123")), CHAT)

    answer = await post(lane)

    url, headers, body = wire.sent[0]
    assert url == f"{URL}/chat/completions"
    assert (headers["Authorization"], headers["X-Mine"], headers["Content-Type"]) == (
        "Bearer sk-key-123",
        "1",
        "application/json",
    )
    assert body == BODY
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

    got, headers, body = await post(SdkLane(client, CHAT))

    assert (got, headers["retry-after"], body) == (status, "7", b'{"odd": "body"}')
    assert len(seen) == 1
    assert seen[0].headers["x-stainless-retry-count"] == "0"
    assert seen[0].headers["x-mine"] == "1"
    assert json.loads(seen[0].content)["top_k"] == 7


async def test_headers_are_read_as_on_the_wire(mocked: tuple[AsyncOpenAI, list[Any], list[Any]]) -> None:
    """Names in lower case, of several of one name the first, and bytes that are no text do no harm."""
    client, answers, _ = mocked
    headers = [(b"Retry-After", b"7"), (b"retry-after", b"9"), (b"X-Odd", b"\xff")]
    answers.append({"status_code": 429, "headers": headers, "content": b"{}"})

    _, got, _ = await post(SdkLane(client, CHAT))

    assert (got["retry-after"], got["x-odd"]) == ("7", "\udcff")


async def test_a_key_that_changes_is_asked_for_each_time() -> None:
    """An async function gives the one that is valid now; none that was seen is shown."""
    keys = iter(["sk-first-0123456789", "sk-first-0123456789", "sk-second-0123456789"])

    async def valid_now() -> str:
        return next(keys)

    wire = FakeWire()
    place = place_of(Endpoint("openai/x", base_url=URL, api_key=valid_now, quota="pool"))
    lane = WireLane(wire, place, CHAT)
    for _ in range(3):
        await post(lane)

    assert [headers["Authorization"] for _, headers, _ in wire.sent] == [
        "Bearer sk-first-0123456789",
        "Bearer sk-first-0123456789",
        "Bearer sk-second-0123456789",
    ]
    assert place.credential.blot("sk-first-0123456789 and sk-second-0123") == "*** and ***"


async def test_the_sdk_lane_speaks_anthropic() -> None:
    """A ready client of the other SDK: its key and version, our path and body, no retries."""
    seen: list[Any] = []

    def reply(call: httpx2.Request) -> httpx2.Response:
        seen.append(call)
        return httpx2.Response(529, content=b'{"type": "error"}')

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(reply)) as http:
        client = AsyncAnthropic(api_key="sk-ant-123", base_url=URL, http_client=http)
        answer = await SdkLane(client, FORMATS["messages"]).post(REQUEST, Timeouts())
        got = answer.status, await answer.read()

    assert got == (529, b'{"type": "error"}')
    assert [(str(call.url), call.headers["authorization"]) for call in seen] == [(f"{URL}/v1/messages", "Bearer sk-ant-123")]
    assert "anthropic-version" in seen[0].headers


async def test_the_sdk_lane_finds_deployments() -> None:
    """A ready client for Azure puts the deployment into the path, and its own key into its own header."""
    seen: list[Any] = []

    def reply(call: httpx2.Request) -> httpx2.Response:
        seen.append(call)
        return httpx2.Response(200, content=b"{}")

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(reply)) as http:
        client = AsyncAzureOpenAI(
            api_key="azure-key", api_version="2026-01-01", azure_endpoint="https://a.example", http_client=http
        )
        await post(SdkLane(client, CHAT))

    assert seen[0].url.path == "/openai/deployments/gpt-x/chat/completions"
    assert seen[0].headers["api-key"] == "azure-key"


async def test_the_sdk_lane_raises_where_nothing_came() -> None:
    """A connection that is refused is the SDK's own exception, with its cause: the table reads it."""

    def refuse(call: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(refuse)) as http:
        client = AsyncOpenAI(api_key="sk-key-123", base_url=URL, http_client=http)
        with pytest.raises(APIConnectionError) as caught:
            await post(SdkLane(client, CHAT))

    assert isinstance(caught.value.__cause__, httpx2.ConnectError)


async def test_the_wire_lane_hands_the_timeouts_on() -> None:
    """To connect, and of silence: the wire gets what the request was given."""
    wire = FakeWire()

    await post(WireLane(wire, place_of(Endpoint("sim/x", base_url=URL)), CHAT), Timeouts(connect=2.0, idle=7.0))

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

    await post(SdkLane(client.with_options(timeout=1.0), CHAT), timeouts)

    assert seen[0].extensions["timeout"] == parts


# What an HTTP library says of itself and of the connection, and what the SDKs say of themselves.
OF_THE_SENDER = re.compile("host|user-agent|connection|content-length|accept-encoding|x-stainless-.*")


async def sent_by_both(
    model: str, request: Request, environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, dict[str, str], Any]]:
    """Address, headers and body of `request` through the wire and through the SDK, which both find the same environment."""
    seen: list[httpx2.Request] = []

    def reply(call: httpx2.Request) -> httpx2.Response:
        seen.append(call)
        return httpx2.Response(200, content=b"{}")

    for name in [name for name in os.environ if name.startswith(("OPENAI_", "ANTHROPIC_"))]:
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    wire, place = FakeWire(), place_of(Endpoint(f"{model}/x"))
    form = place.format()
    await WireLane(wire, place, form).post(request, Timeouts())
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(reply)) as http:
        client: Any = (AsyncOpenAI if model == "openai" else AsyncAnthropic)(http_client=http)
        await SdkLane(client, form).post(request, Timeouts())
    both = [*wire.sent, *((str(call.url), call.headers, json.loads(call.content)) for call in seen)]
    return [(url, _that_matter(headers), body) for url, headers, body in both]


def _that_matter(headers: Mapping[str, str]) -> dict[str, str]:
    lower = {name.lower(): value for name, value in headers.items()}
    return {name: value for name, value in lower.items() if not OF_THE_SENDER.fullmatch(name)}


@pytest.mark.parametrize(
    ("model", "environ"),
    [
        ("openai", {"OPENAI_API_KEY": "sk-key-123"}),
        ("openai", {"OPENAI_API_KEY": "sk-key-123", "OPENAI_BASE_URL": f"{URL}/", "OPENAI_ORG_ID": "org-1"}),
        (
            "openai",
            {
                "OPENAI_API_KEY": "sk-key-123",
                "OPENAI_PROJECT_ID": "proj-1",
                "OPENAI_CUSTOM_HEADERS": "X-Team:  a: b\nOpenAI-Project: p-2\nauthorization: Basic ab\nAccept: a/a\n\nno",
            },
        ),
        ("anthropic", {"ANTHROPIC_API_KEY": "sk-ant-123"}),
        ("anthropic", {"ANTHROPIC_AUTH_TOKEN": "token-123", "ANTHROPIC_BASE_URL": URL}),
        (
            "anthropic",
            {"ANTHROPIC_API_KEY": "sk-ant-123", "ANTHROPIC_CUSTOM_HEADERS": "anthropic-beta: a\nAnthropic-Version: 2"},
        ),
    ],
)
@pytest.mark.parametrize(
    "request_",
    [
        REQUEST,
        Request(
            "x", ASK, {"max_tokens": 5, "extra_headers": {"authorization": "Bearer mine", "ACCEPT": "a/b"}}, stream=True
        ),
    ],
    ids=["whole", "stream"],
)
async def test_both_lanes_send_the_same(
    model: str, environ: dict[str, str], request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To one address, as one body, with the same headers, from the environment and the call."""
    wire, sdk = await sent_by_both(model, request_, environ, monkeypatch)

    assert wire == sdk
