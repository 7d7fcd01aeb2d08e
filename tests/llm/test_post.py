"""The request that goes out in one step, held to what aiohttp's own does, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp.connector import Connection

from llm_fanout.llm.post import AT_ONCE, Post
from llm_fanout.llm.times import Timeouts
from llm_fanout.llm.wire import AiohttpWire, StaleConnection

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer"
NO_ROOM = 8 * 2**20  # bytes that no pair of sockets takes in at once (Linux: tcp_wmem has 4 MB at the most)


class Recorder:
    """A server that answers the whole of each request, and keeps the bytes of each connection.

    Attributes:
        before: What had come of each request before it was asked to go on.
        connections: How many there were.
    """

    def __init__(self) -> None:
        self.url = ""
        self.before: list[bytes] = []
        self.connections = 0
        self.kept: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        all_of_it = b""
        while request := await self._one(reader, writer):
            all_of_it += request
            writer.write(ANSWER)
        self.kept.put_nowait(all_of_it)
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """A request, with what came together with its end; b"" if there is none."""
        raw = b""
        while b"\r\n\r\n" not in raw:
            raw += (some := await reader.read(65_536))
            if not some:
                return raw
        if b"100-continue" in raw:
            self.before.append(raw)
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not _is_whole(raw):
            raw += await reader.read(65_536)
        return raw


def _is_whole(raw: bytes) -> bool:
    head, _, body = raw.partition(b"\r\n\r\n")
    if b"content-length: " in head.lower():
        return len(body) >= int(head.lower().split(b"content-length: ")[1].split()[0])
    return body.endswith(b"0\r\n\r\n")


@asynccontextmanager
async def recording(tls: ssl.SSLContext | None = None) -> AsyncIterator[Recorder]:
    """The server, on a free port of 127.0.0.1."""
    recorder = Recorder()
    async with await asyncio.start_server(recorder.serve, "127.0.0.1", 0, ssl=tls) as server:
        port = server.sockets[0].getsockname()[1]
        recorder.url = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
        yield recorder


@pytest.fixture
async def recorder() -> AsyncIterator[Recorder]:
    """A server without TLS; to be asked for before a wire, whose connections it waits for at its end."""
    async with recording() as recorder:
        yield recorder


async def sent(recorder: Recorder, request: type[aiohttp.ClientRequest], session: Any, **options: Any) -> bytes:
    """All that a server gets of two requests of that class, made by sessions and calls with those options."""
    method = options.pop("method", "POST")
    async with aiohttp.ClientSession(request_class=request, **session()) as client:
        for _ in range(2):
            async with client.request(method, f"{recorder.url}/v1/chat?a=%20b#c", **options) as answer:
                assert await answer.read() == b"answer"
    return await recorder.kept.get()


HEADERS: dict[str, dict[str, str]] = {
    "none": {},
    "ours": {"Authorization": "Bearer key", "Content-Type": "application/json", "X-Stainless-Retry": "0"},
    "accept": {"Accept": "text/event-stream", "accept-encoding": "identity", "User-Agent": "somebody"},
    "host": {"Host": "elsewhere.example", "Cookie": "a=b"},
    "beyond ASCII": {"X-Name": "é ü 漢"},
    "close": {"Connection": "close"},
    "the length": {"Content-Length": "8"},
    "another length": {"content-length": "3"},
    "a padded length": {"Content-Length": "008"},
    "encoding": {"Content-Encoding": "gzip"},
    "chunks": {"Transfer-Encoding": "chunked"},
    "expect": {"Expect": "100-continue"},
}


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
async def test_its_bytes_are_those_of_aiohttp(recorder: Recorder, headers: dict[str, str]) -> None:
    """Whatever a user has among the headers of a call; none is read as something else by the server."""
    ours, theirs = [
        await sent(recorder, request, dict, data=b"question", headers=headers) for request in (Post, aiohttp.ClientRequest)
    ]

    assert ours == theirs


@pytest.mark.parametrize("size", [0, 1, AT_ONCE, AT_ONCE + 1, 2**20])
async def test_bodies_of_any_size_are_sent_whole(recorder: Recorder, size: int) -> None:
    """Of those that go in one step, and of those that do not, as much as aiohttp sends."""
    ours, theirs = [
        await sent(recorder, request, dict, data=b"~" * size, headers=HEADERS["ours"])
        for request in (Post, aiohttp.ClientRequest)
    ]

    assert (ours.count(b"~"), ours == theirs) == (2 * size, True)  # no diff of a megabyte


@pytest.mark.parametrize(
    "options",
    [
        {"data": None},
        {"data": b"question", "method": "PUT"},
        {"data": b"question", "compress": True},
        {"data": b"question", "chunked": True},
        {"data": b"question", "chunked": False},
        {"data": bytearray(b"question")},
        {"data": {"a": "b"}},
    ],
    ids=str,
)
async def test_other_requests_are_left_to_aiohttp(recorder: Recorder, options: dict[str, Any]) -> None:
    """No body, another method, and bodies in another form."""
    ours, theirs = [await sent(recorder, request, dict, **options) for request in (Post, aiohttp.ClientRequest)]

    assert ours == theirs


async def test_a_plain_proxy_is_told_the_whole_url(recorder: Recorder) -> None:
    """It would not know where to go."""
    ours, theirs = [
        await sent(recorder, request, dict, data=b"question", proxy=recorder.url)
        for request in (Post, aiohttp.ClientRequest)
    ]

    assert ours == theirs
    assert ours.startswith(f"POST {recorder.url}/v1/chat".encode())


@pytest.mark.parametrize("kind", ["http 1.0", "force_close"])
async def test_other_sessions_are_left_to_aiohttp(recorder: Recorder, kind: str) -> None:
    """An older HTTP, and connections that serve once."""

    def session() -> dict[str, Any]:
        if kind == "force_close":
            return {"connector": aiohttp.TCPConnector(force_close=True)}
        return {"version": aiohttp.HttpVersion10}

    ours, theirs = [await sent(recorder, request, session, data=b"question") for request in (Post, aiohttp.ClientRequest)]

    assert ours == theirs
    assert b"\r\nConnection: " in ours


async def test_it_goes_over_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes, in the same order."""
    authority, tls = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(tls)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)

    async with recording(tls) as recorder:
        ours, theirs = [
            await sent(recorder, request, dict, data=b"question", ssl=trusted) for request in (Post, aiohttp.ClientRequest)
        ]

    assert ours == theirs
    assert ours.count(b"question") == 2


@pytest.mark.parametrize("length", ["eight", "-1"])
async def test_a_length_that_is_no_number_is_refused(recorder: Recorder, length: str) -> None:
    """As aiohttp refuses it, before anything is sent."""
    with pytest.raises(ValueError, match="Invalid Content-Length"):
        await sent(recorder, Post, dict, data=b"question", headers={"Content-Length": length})

    assert await recorder.kept.get() == b""


async def test_who_asks_first_sends_no_body_before_the_answer(recorder: Recorder) -> None:
    """An Expect header among the extra ones means what it says."""
    raw = await sent(recorder, Post, dict, data=b"question", headers=HEADERS["expect"])

    assert raw.count(b"question") == 2
    assert [b"question" in before for before in recorder.before] == [False, False]


async def test_who_watches_sees_what_is_sent(recorder: Recorder) -> None:
    """A session that traces is told of headers and body, and a tracker of how far they are."""
    seen: list[Any] = []
    trace = aiohttp.TraceConfig()

    async def note(session: Any, context: Any, params: Any) -> None:
        seen.append(type(params))

    trace.on_request_headers_sent.append(note)
    trace.on_request_chunk_sent.append(note)
    async with aiohttp.ClientSession(request_class=Post, trace_configs=[trace]) as client:
        await client.post(recorder.url, data=b"question")
    async with aiohttp.ClientSession(request_class=Post) as client:
        tracker = aiohttp.UploadTracker()
        await client.post(recorder.url, data=b"question", upload_tracker=tracker)

    assert seen == [aiohttp.TraceRequestHeadersSentParams, aiohttp.TraceRequestChunkSentParams]
    assert (tracker.attempts, tracker.bytes_written) == (1, 8)


async def post(wire: AiohttpWire, url: str, body: bytes = b"question", headers: Mapping[str, str] = {}) -> bytes:
    answer = await wire.send(url, headers, body, Timeouts())
    try:
        return await answer.read()
    finally:
        await answer.close()


async def test_no_task_is_made_for_a_small_body(recorder: Recorder, wire: AiohttpWire) -> None:
    """A call on a connection that is open makes none at all."""
    loop, made = asyncio.get_running_loop(), 0

    def count(loop: asyncio.AbstractEventLoop, coroutine: Any, **kwargs: Any) -> asyncio.Task[Any]:
        nonlocal made
        made += 1
        return asyncio.Task(coroutine, loop=loop, **kwargs)

    await post(wire, recorder.url)
    loop.set_task_factory(count)
    try:
        await post(wire, recorder.url, b"x" * AT_ONCE)
    finally:
        loop.set_task_factory(None)

    assert (made, recorder.connections) == (0, 1)


class Deaf:
    """A server that reads next to nothing, and answers when it is told to."""

    def __init__(self) -> None:
        self.url = ""
        self.streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.streams.append((reader, writer))

    async def asked(
        self, wire: AiohttpWire, connections: int, body: bytes = b"question", headers: Mapping[str, str] = {}
    ) -> bytes:
        """The answer to a request, given once its first bytes have come on the last of so many connections."""
        call = asyncio.ensure_future(post(wire, self.url, body, headers))
        await until(lambda: len(self.streams) == connections)
        reader, writer = self.streams[-1]
        assert await reader.readexactly(4) == b"POST"
        writer.write(ANSWER)
        async with asyncio.timeout(30):
            return await call


@pytest.fixture
async def deaf() -> AsyncIterator[Deaf]:
    """The server on a free port of 127.0.0.1, with the smallest buffers that there are."""
    deaf = Deaf()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)  # its connections have it from here
        listener.bind(("127.0.0.1", 0))
        async with await asyncio.start_server(deaf.connected, sock=listener, limit=1) as server:
            deaf.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            yield deaf
            for _, writer in deaf.streams:
                writer.transport.abort()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until it is so."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


async def test_nothing_is_waited_for(deaf: Deaf, wire: AiohttpWire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sending is one step, even where headers fill the transport; an early answer is taken, and the connection left."""
    steps = 0
    send = Post.send

    async def stepped(self: Post, conn: Connection) -> aiohttp.ClientResponse:
        nonlocal steps
        sending = send(self, conn)
        try:
            sending.send(None)
        except StopIteration as end:
            steps += 1
            assert conn.protocol is not None
            assert conn.protocol.writing_paused
            return end.value  # type: ignore[no-any-return]  # it is untyped in StopIteration
        raise AssertionError("it waits")

    monkeypatch.setattr(Post, "send", stepped)
    for connections in (1, 2):
        assert await deaf.asked(wire, connections, headers={"X-Large": "x" * NO_ROOM}) == b"answer"

    assert steps == 2


@pytest.mark.filterwarnings("ignore:Sending a large body")
async def test_a_large_body_may_be_answered_early(deaf: Deaf, wire: AiohttpWire) -> None:
    """The answer is taken, the rest is not sent, and the next call has another connection."""
    for connections in (1, 2):
        assert await deaf.asked(wire, connections, b"x" * NO_ROOM) == b"answer"


async def test_a_cancelled_call_hangs_up(deaf: Deaf, wire: AiohttpWire) -> None:
    """The server sees the end of the request, and nothing is left in the pool."""
    call = asyncio.ensure_future(post(wire, deaf.url))
    await until(lambda: bool(deaf.streams))
    async with asyncio.timeout(30):
        heard, stream = b"", deaf.streams[0][0]
        while not heard.endswith(b"question"):
            heard += await stream.read(1_000)
        call.cancel()
        rest = await stream.read()
    pool = (await wire._sessions.here()).connector

    assert pool is not None
    assert (rest, call.cancelled(), pool._acquired, dict(pool._conns)) == (b"", True, set(), {})


def closed_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on each connection is closed in the moment in which it is to be used."""
    send = Post.send

    def sending(self: Post, conn: Connection) -> Coroutine[Any, Any, aiohttp.ClientResponse]:
        assert conn.transport is not None
        conn.transport.close()
        return send(self, conn)

    monkeypatch.setattr(Post, "send", sending)


async def test_a_kept_connection_that_is_closed_is_stale(
    recorder: Recorder, wire: AiohttpWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it costs no try."""
    await post(wire, recorder.url)
    closed_under_way(monkeypatch)

    with pytest.raises(StaleConnection) as caught:
        await asyncio.ensure_future(post(wire, recorder.url))  # in a task that has not opened one

    assert isinstance(caught.value.__cause__, aiohttp.ClientConnectionResetError)


async def test_a_new_connection_that_is_closed_is_a_failure(
    recorder: Recorder, wire: AiohttpWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not idle, so that it says something of the server."""
    closed_under_way(monkeypatch)

    with pytest.raises(aiohttp.ClientConnectionResetError):
        await post(wire, recorder.url)
