"""The wire over real sockets."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from support import in_thread, served

from llm_fanout import BadReply
from llm_fanout.llm import signals
from llm_fanout.llm.connections import Connections
from llm_fanout.llm.times import Timeouts
from llm_fanout.llm.wire import AiohttpWire, ReplyTooLarge

BIG = 1_000_000


class Server:
    """A small server, and what it saw."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.left = asyncio.Event()
        self.hanging = asyncio.Event()

    async def echo(self, request: web.Request) -> web.Response:
        self.requests.append((dict(request.headers), await request.read()))
        return web.Response(status=207, headers={"X-Answer": "yes"}, body=b"answer")

    async def hang(self, request: web.Request) -> web.Response:
        self.hanging.set()
        try:
            await asyncio.sleep(60)
        finally:
            self.left.set()
        return web.Response()

    async def big(self, request: web.Request) -> web.Response:
        return web.Response(body=b"x" * BIG)

    async def verbose(self, request: web.Request) -> web.Response:
        many = {f"X-{number}": "yes" for number in range(300)}
        return web.Response(headers={"X-Long": "x" * 30_000, **many}, body=b"answer")

    async def moved(self, request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": f"{self.url}/echo"})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """The server on a free port of 127.0.0.1."""
    server = Server()
    app = web.Application()
    for name in ("echo", "hang", "big", "verbose", "moved"):
        app.router.add_post(f"/{name}", getattr(server, name))
    async with served(app) as port:
        server.url = f"http://127.0.0.1:{port}"
        yield server


async def post(wire: AiohttpWire, url: str) -> tuple[int, Any, bytes]:
    answer = await wire.send(url, {"Authorization": "Bearer key"}, b"question", Timeouts())
    try:
        return answer.status, answer.headers, await answer.read()
    finally:
        await answer.close()


async def pool_of(wire: AiohttpWire) -> Connections:
    """The one that the wire uses here and now."""
    return (await wire._sessions.here()).pool


async def test_a_request_and_its_answer(wire: AiohttpWire, server: Server) -> None:
    """Headers and body go out, status, headers and body come back."""
    status, headers, body = await post(wire, f"{server.url}/echo")

    assert (status, headers["x-answer"], body) == (207, "yes", b"answer")
    assert server.requests[0][1] == b"question"
    assert server.requests[0][0]["Authorization"] == "Bearer key"


async def test_replies_are_counted_while_they_are_read(
    wire: AiohttpWire, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reply above the limit is given up; what there is of it below is whole, in however many pieces it comes."""
    assert (await post(wire, f"{server.url}/big"))[2] == b"x" * BIG

    monkeypatch.setattr("llm_fanout.llm.wire.REPLY_LIMIT", BIG - 1)
    with pytest.raises(ReplyTooLarge, match=f"more than {BIG - 1} bytes"):
        await post(wire, f"{server.url}/big")


async def test_large_headers_are_read(wire: AiohttpWire, server: Server) -> None:
    """Gateways tell much of what they did; an answer is not lost for that, as it would not be with the SDK."""
    _, headers, body = await post(wire, f"{server.url}/verbose")

    assert (len(headers["X-Long"]), headers["X-299"], body) == (30_000, "yes", b"answer")


async def test_redirects_are_not_followed(wire: AiohttpWire, server: Server) -> None:
    """The key goes to nobody else: a redirect is an answer like any other."""
    status, _, _ = await post(wire, f"{server.url}/moved")

    assert status == 307
    assert server.requests == []


async def test_the_users_netrc_changes_nothing(
    wire: AiohttpWire, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A login for the same host, meant for other programs, is neither sent nor in the way of the key."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret")
    monkeypatch.setenv("NETRC", str(netrc))

    await post(wire, f"{server.url}/echo")

    assert server.requests[0][0]["Authorization"] == "Bearer key"


async def test_a_cancelled_call_hangs_up(wire: AiohttpWire, server: Server) -> None:
    """The server notices, and can stop working for it."""
    call = asyncio.ensure_future(post(wire, f"{server.url}/hang"))
    await server.hanging.wait()

    call.cancel()

    async with asyncio.timeout(30):
        await server.left.wait()
    assert call.cancelled() or (await asyncio.wait([call]) and call.cancelled())


async def test_nobody_there_is_a_connector_error(wire: AiohttpWire) -> None:
    """A refused connection comes out as such."""
    with pytest.raises(aiohttp.ClientConnectorError):
        await post(wire, "http://127.0.0.1:1/echo")


async def test_connections_are_reused_and_reopened(wire: AiohttpWire, server: Server) -> None:
    """One session for a loop; after `aclose` the next call opens another."""
    await post(wire, f"{server.url}/echo")
    first = await pool_of(wire)
    await post(wire, f"{server.url}/echo")
    second = await pool_of(wire)
    await wire.aclose()
    await wire.aclose()
    await post(wire, f"{server.url}/echo")
    third = await pool_of(wire)

    assert first is second
    assert first.closed
    assert third is not first


async def test_a_forked_process_opens_its_own(wire: AiohttpWire, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the parent has open is not the child's to use."""
    await post(wire, f"{server.url}/echo")
    parents = await pool_of(wire)

    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        childs = await pool_of(wire)
        await wire.aclose()

    assert childs is not parents
    assert not parents.closed


def test_sessions_end_with_their_loops() -> None:
    """Three loops in a row, nothing closed by hand: no session is left open, and none is remembered."""
    wire = AiohttpWire()
    pools: list[Connections] = []

    async def use() -> None:
        pools.append(await pool_of(wire))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            in_thread(lambda: asyncio.run(use()))
        gc.collect()

    assert [pool.closed for pool in pools] == [True, True, True]
    assert len(wire._sessions._open) == 1


async def test_silence_is_bounded_apart(wire: AiohttpWire, server: Server) -> None:
    """A server that says nothing for longer than `idle` is left, though the attempt has time."""
    with pytest.raises(aiohttp.SocketTimeoutError):
        await wire.send(f"{server.url}/hang", {}, b"question", Timeouts(idle=0.05))

    async with asyncio.timeout(30):
        await server.left.wait()


async def test_connecting_is_bounded_apart(wire: AiohttpWire) -> None:
    """A server that does not accept is left after `connect` seconds."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]  # they fill the queue of a server that accepts nobody
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        try:
            with pytest.raises(aiohttp.ConnectionTimeoutError):
                await wire.send(f"http://127.0.0.1:{full.getsockname()[1]}/", {}, b"", Timeouts(connect=0.05))
        finally:
            for each in waiting:
                each.close()


GZIP, BROTLI = b"Content-Encoding: gzip\r\n", b"Content-Encoding: br\r\n"


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\n" + GZIP + b"Content-Length: 5\r\n\r\nabcde",
        b"HTTP/1.1 200 OK\r\n" + BROTLI + b"Content-Length: 5\r\n\r\nabcde",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
        b"no HTTP at all\r\n\r\n",
    ],
    ids=["gzip", "brotli", "chunks", "no HTTP"],
)
async def test_an_answer_that_cannot_be_decoded_is_no_outage(wire: AiohttpWire, said: bytes) -> None:
    """Somebody is there, and may have done the work: it is malformed, which is tried again twice at the most."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"question")
        writer.write(said)
        await reader.read()  # until the client hangs up
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(aiohttp.ClientError) as caught:
            await post(wire, url)
        await wire.aclose()
    outcome = signals.of_exception(caught.value)

    assert isinstance(outcome.error, BadReply)
    assert (outcome.error.kind, outcome.outage) == ("malformed", False)
