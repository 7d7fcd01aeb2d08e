"""Bodies on their way, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from llm_fanout.sim import Box, SimConfig


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    """A client without any cleverness, on a quick provider."""
    with Box(SimConfig(latency=0.01)) as box:
        async with httpx2.AsyncClient(base_url=box.url, timeout=30) as client:
            yield client


def ask(text: str, *, stream: bool) -> dict[str, object]:
    """The body of a request for an answer of ten words."""
    told = "[[answer:one two three four five six seven eight nine ten]]"
    return {"model": "m", "messages": [{"role": "user", "content": f"{text} {told}"}], "stream": stream}


async def until_silent(answer: httpx2.Response, least: int) -> bytes:
    """What comes, until it is that many bytes."""
    came = b""
    async for chunk in answer.aiter_bytes():
        came += chunk
        if len(came) >= least:
            break
    return came


@pytest.mark.parametrize("stream", [False, True])
async def test_a_whole_answer_ends(http: httpx2.AsyncClient, stream: bool) -> None:
    """With its length stated, or as events in chunks; the limits are announced with either."""
    answer = await http.post("/chat/completions", json=ask("", stream=stream))

    assert answer.headers["content-type"].startswith("text/event-stream" if stream else "application/json")
    assert ("content-length" in answer.headers) != stream
    assert b"ten" in answer.content


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hang_sends_no_header(http: httpx2.AsyncClient, stream: bool) -> None:
    """Whoever waits for it, waits in vain."""
    with pytest.raises(httpx2.ReadTimeout):
        await http.post("/chat/completions", json=ask("[[fault:hang]]", stream=stream), timeout=httpx2.Timeout(30, read=0.2))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_reset_comes_before_the_headers(http: httpx2.AsyncClient, stream: bool) -> None:
    """The connection ends without an answer."""
    with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
        await http.post("/chat/completions", json=ask("[[fault:reset]]", stream=stream))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_cut_comes_in_the_middle(http: httpx2.AsyncClient, stream: bool) -> None:
    """After the headers and some of the body."""
    async with http.stream("POST", "/chat/completions", json=ask("[[fault:cut]]", stream=stream)) as answer:
        with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
            await answer.aread()

    assert answer.status_code == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stall_leaves_the_connection_open(http: httpx2.AsyncClient, stream: bool) -> None:
    """Some of the body comes, and then nothing."""
    came = bytearray()

    async def read(answer: httpx2.Response) -> None:
        async for chunk in answer.aiter_bytes():
            came.extend(chunk)

    timeout, body = httpx2.Timeout(30, read=0.5), ask("[[fault:stall]]", stream=stream)
    async with http.stream("POST", "/chat/completions", json=body, timeout=timeout) as answer:
        with pytest.raises(httpx2.ReadTimeout):
            await read(answer)

    assert b"one" in came
    assert not came.endswith((b"}", b"[DONE]\n\n"))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_drip_comes_byte_by_byte(http: httpx2.AsyncClient, stream: bool) -> None:
    """The first at once, and long nothing."""
    async with http.stream("POST", "/chat/completions", json=ask("[[fault:drip]]", stream=stream)) as answer:
        came = await until_silent(answer, 1)

    assert came == (b"d" if stream else b"{")


@pytest.mark.parametrize(("stream", "line"), [(False, b"\n"), (True, b": keep-alive\n\n")])
async def test_signs_of_life_come_for_ever(http: httpx2.AsyncClient, stream: bool, line: bytes) -> None:
    """Two of them prove nothing, but there is nothing else."""
    async with http.stream("POST", "/chat/completions", json=ask("[[fault:keepalive]]", stream=stream)) as answer:
        came = await until_silent(answer, 2 * len(line))

    assert came == line * 2


async def test_a_client_that_hangs_up_ends_a_stall() -> None:
    """The server keeps nothing for it."""
    with Box(SimConfig(latency=0)) as box:
        async with httpx2.AsyncClient(base_url=box.url) as http:
            async with http.stream("POST", "/chat/completions", json=ask("[[fault:stall]]", stream=True)) as answer:
                await until_silent(answer, 1)
            async with asyncio.timeout(30):
                while box.stats["in_flight"]:  # the other thread's count is all there is to look at
                    await asyncio.sleep(0.01)
        stats = box.stats

    assert (stats["disconnected"], stats["faults"]) == (1, {"stall": 1})
