"""The server over real sockets, judged by the official SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.request import urlopen

import httpx2
import openai
import pytest
from openai import AsyncOpenAI
from support import post_chat

from llm_fanout.sim import Box, SimConfig
from llm_fanout.sim.config import Settle
from llm_fanout.sim.delivery import Delivery


@pytest.fixture
def box() -> Iterator[Box]:
    """A quick provider that lets in one key."""
    with Box(SimConfig(latency=0.01, jitter=0, api_key="sim-key")) as box:
        yield box


@pytest.fixture
async def client(box: Box) -> AsyncIterator[AsyncOpenAI]:
    """The SDK as it comes, without retries."""
    async with AsyncOpenAI(base_url=box.url, api_key="sim-key", max_retries=0) as client:
        yield client


def ask(client: AsyncOpenAI, text: str, **options: Any) -> Any:
    return client.chat.completions.create(model="gpt-sim", messages=[{"role": "user", "content": text}], **options)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("400", openai.BadRequestError),
        ("401", openai.AuthenticationError),
        ("404", openai.NotFoundError),
        ("429", openai.RateLimitError),
        ("insufficient_quota", openai.RateLimitError),
        ("500", openai.InternalServerError),
        ("502", openai.InternalServerError),
        ("reset", openai.APIConnectionError),
    ],
)
async def test_faults_reach_the_sdk_as_its_errors(client: AsyncOpenAI, box: Box, fault: str, error: type[Exception]) -> None:
    """Each fault is what the SDK's own classes say, and is counted."""
    with pytest.raises(error):
        await ask(client, f"[[fault:{fault}]]")

    assert box.stats["faults"] == {fault: 1}
    assert box.stats["answered"] == 0


async def test_a_hang_ends_when_the_client_leaves(client: AsyncOpenAI, box: Box) -> None:
    """Nothing is answered, and the server notices that the client has gone."""
    call = asyncio.ensure_future(ask(client, "[[fault:hang]] [[latency:0]]"))
    async with asyncio.timeout(30):
        while not box.stats["faults"]:  # the other thread's count is all there is to look at
            await asyncio.sleep(0.01)
        call.cancel()
        while box.stats["in_flight"]:
            await asyncio.sleep(0.01)

    assert box.stats["disconnected"] == 1


async def test_a_wrong_key_is_refused(box: Box) -> None:
    """Only the configured key is let in."""
    async with AsyncOpenAI(base_url=box.url, api_key="other", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            await ask(client, "hello")


async def test_the_quota_is_announced_and_enforced() -> None:
    """Headers say what remains; beyond it comes a 429 that the SDK knows."""
    with Box(SimConfig(rpm=60, burst=2, latency=0, jitter=0)) as box:
        async with AsyncOpenAI(base_url=box.url, api_key="any", max_retries=0) as client:
            first = await client.chat.completions.with_raw_response.create(
                model="gpt-sim", messages=[{"role": "user", "content": "x"}]
            )
            await ask(client, "y")
            with pytest.raises(openai.RateLimitError, match="requests per min"):
                await ask(client, "z")
        stats = box.stats

    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert (stats["answered"], stats["refused"], stats["refused_by"]) == (2, 1, {"requests": 1})


def test_headers_are_a_dialects() -> None:
    """Answers and refusals speak as the config says, and refusals only as much."""
    with Box(SimConfig(otpm=600, latency=0, headers="anthropic", hints="retry-after")) as box:  # a burst of 100
        answers = [post_chat(box.url, "x", max_tokens=100) for _ in range(2)]

    assert [answer[0] for answer in answers] == [200, 429]
    assert all(answer[1]["anthropic-ratelimit-output-tokens-limit"] == "600" for answer in answers)
    assert int(answers[1][1]["retry-after"]) >= 1
    assert "retry-after-ms" not in answers[1][1]


def test_a_bare_refusal_is_bare() -> None:
    """Without hints a refusal has no header that another error would not have."""
    with Box(SimConfig(rpm=1, latency=0, hints="none")) as box:
        answers = [post_chat(box.url, "x") for _ in range(2)]

    assert "x-ratelimit-limit-requests" in answers[0][1]
    assert answers[1][0] == 429
    assert set(answers[1][1]) == {"content-type", "content-length", "date", "server"}


@pytest.mark.parametrize(("settle", "statuses"), [("used", [200, 200]), ("reserved", [200, 429])])
def test_settling_decides_who_comes_next(settle: Settle, statuses: list[int]) -> None:
    """Unused tokens make room for the next, or stay charged."""
    with Box(SimConfig(otpm=600, latency=0, settle=settle)) as box:  # a burst of 100
        seen = [post_chat(box.url, "[[answer:no]]", max_tokens=90)[0] for _ in range(2)]
        stats = box.stats

    assert seen == statuses
    assert stats["tokens_charged"] >= 90 * stats["admitted"]
    assert stats["tokens_answered"] < 90


def test_calendar_windows_turn_while_it_serves() -> None:
    """A second's window holds one request; the next one passes after the turn, which the refusals have told."""
    answers: list[tuple[int, dict[str, str], bytes]] = []
    with Box(SimConfig(rpm=60, window="minute", window_seconds=1, latency=0)) as box:
        while [status for status, _, _ in answers].count(200) < 2:
            answers.append(post_chat(box.url, "x"))
        stats = box.stats

    assert stats["requests"] == 2 + stats["refused"]
    assert all(1 <= int(headers["retry-after-ms"]) <= 1_000 for status, headers, _ in answers if status == 429)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "parse"),
        (b"[]", "parse"),
        (b'{"model": "x"}', "messages"),
        (b'{"model": "x", "messages": ["y"]}', "messages"),
        (b'{"messages": [{}]}', "model"),
        (b'{"model": "x", "messages": [{}], "tools": [3]}', "amiss"),
    ],
)
async def test_bad_requests_are_told_what_is_wrong(box: Box, body: bytes, says: str) -> None:
    """A request that is none gets a 400 in OpenAI's form."""
    async with httpx2.AsyncClient() as http:
        headers = {"Authorization": "Bearer sim-key"}
        answer = await http.post(f"{box.url}/chat/completions", content=body, headers=headers)

    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]


async def test_stats_are_served(box: Box) -> None:
    """What the box saw can be asked for over HTTP, too."""
    async with httpx2.AsyncClient() as http:
        answer = await http.get(box.url.replace("/v1", "/stats"))

    assert answer.json() == box.stats


def test_models_are_down_in_an_outage(box: Box) -> None:
    """Like everything else."""
    box.fail("503")
    with pytest.raises(OSError, match="503"):
        urlopen(f"{box.url}/models")


async def test_a_client_that_leaves_a_stream_is_noticed(client: AsyncOpenAI, box: Box) -> None:
    """Its answer is none, and its place is free."""
    chunks = await ask(client, "[[latency:600]]", stream=True)
    await anext(aiter(chunks))
    await chunks.close()
    async with asyncio.timeout(30):
        while box.stats["in_flight"]:  # the other thread's count is all there is to look at
            await asyncio.sleep(0.01)

    assert (box.stats["disconnected"], box.stats["answered"], box.stats["streams"]) == (1, 0, 1)


def test_a_client_that_leaves_is_no_error(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is logged where it is the connection that fails, before aiohttp has told of its end."""

    async def send(delivery: Delivery, body: object, begun: float) -> object:
        transport = delivery._request.transport
        assert transport is not None
        transport.abort()
        raise ConnectionResetError("Cannot write to closing transport")

    monkeypatch.setattr(Delivery, "send", send)
    with Box(SimConfig(latency=0.0)) as box:
        with pytest.raises(OSError, match=r"reset|closed"):
            post_chat(box.url, "Hello", stream=True)
        stats = box.stats

    assert (stats["disconnected"], stats["in_flight"], caplog.records) == (1, 0, [])


def test_arrivals_are_told_by_text() -> None:
    """The tries of one prompt, and nobody else's; answered or not."""
    with Box(SimConfig(latency=0)) as box:
        for text in ("[[fault:500]]", "b", "[[fault:500]]"):
            post_chat(box.url, text)
        arrivals = [box.arrivals(text) for text in ("[[fault:500]]", "b", "c")]

    assert [len(instants) for instants in arrivals] == [2, 1, 0]
    assert arrivals[0][0] < arrivals[1][0] < arrivals[0][1]
