"""The request that goes out in one step, held to what aiohttp's own does, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import trustme

from llm_fanout.llm import post as posting
from llm_fanout.llm.post import AT_ONCE
from llm_fanout.llm.times import Timeouts
from llm_fanout.llm.wire import AiohttpWire, StaleConnection

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer"
PATH = "/v1/chat?a=%20b#c"
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


async def ours(recorder: Recorder, wire: AiohttpWire, *args: Any, path: str = PATH, **kwargs: Any) -> bytes:
    """All that a server gets of two requests by the wire."""
    for _ in range(2):
        answer = await wire.send(recorder.url + path, *args, Timeouts(), **kwargs)
        assert await answer.read() == b"answer"
        await answer.close()
    await wire.aclose()
    return await recorder.kept.get()


async def theirs(recorder: Recorder, headers: Mapping[str, str], body: bytes, *, path: str = PATH, **options: Any) -> bytes:
    """The same by aiohttp itself."""
    async with aiohttp.ClientSession() as client:
        for _ in range(2):
            async with client.post(recorder.url + path, headers=headers, data=body, **options) as answer:
                assert await answer.read() == b"answer"
    return await recorder.kept.get()


def in_order(raw: bytes) -> list[bytes]:
    """Its lines; the order of headers tells nothing."""
    return sorted(raw.split(b"\r\n"))


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
async def test_it_sends_what_aiohttp_sends(recorder: Recorder, wire: AiohttpWire, headers: dict[str, str]) -> None:
    """Whatever a user has among the headers of a call; none is read as something else by the server."""
    sent = await ours(recorder, wire, headers, b"question")

    assert in_order(sent) == in_order(await theirs(recorder, headers, b"question"))


@pytest.mark.parametrize("size", [0, 1, AT_ONCE, AT_ONCE + 1, 2**20])
async def test_bodies_of_any_size_are_sent_whole(recorder: Recorder, wire: AiohttpWire, size: int) -> None:
    """Of those that go in one step, and of those that do not, as much as aiohttp sends."""
    sent = await ours(recorder, wire, HEADERS["ours"], b"~" * size)
    expected = await theirs(recorder, HEADERS["ours"], b"~" * size)

    assert (sent.count(b"~"), in_order(sent) == in_order(expected)) == (2 * size, True)  # no diff of a megabyte


@pytest.mark.parametrize("path", ["", "/", "/a b/ü?c=%20d&e=+", "/v1/chat#top"])
async def test_it_goes_where_aiohttp_goes(recorder: Recorder, wire: AiohttpWire, path: str) -> None:
    """With the path written as HTTP wants it."""
    sent = await ours(recorder, wire, HEADERS["ours"], b"question", path=path)

    assert in_order(sent) == in_order(await theirs(recorder, HEADERS["ours"], b"question", path=path))


async def test_a_login_in_the_url_is_sent(recorder: Recorder, wire: AiohttpWire) -> None:
    """As aiohttp sends it: as a header."""
    recorder.url = recorder.url.replace("://", "://somebody:secret@")
    sent = await ours(recorder, wire, {}, b"question")

    assert in_order(sent) == in_order(await theirs(recorder, {}, b"question"))
    assert b"Authorization: Basic" in sent


async def test_a_plain_proxy_is_told_the_whole_url(recorder: Recorder, wire: AiohttpWire) -> None:
    """It would not know where to go."""
    sent = await ours(recorder, wire, {}, b"question", proxy=recorder.url)

    assert in_order(sent) == in_order(await theirs(recorder, {}, b"question", proxy=recorder.url))
    assert sent.startswith(f"POST {recorder.url}/v1/chat".encode())


async def test_it_goes_over_tls(monkeypatch: pytest.MonkeyPatch, wire: AiohttpWire) -> None:
    """The same bytes."""
    authority, tls = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(tls)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    monkeypatch.setattr("llm_fanout.llm.post.trust", lambda: trusted)

    async with recording(tls) as recorder:
        sent = await ours(recorder, wire, HEADERS["ours"], b"question")
        expected = await theirs(recorder, HEADERS["ours"], b"question", ssl=trusted)

    assert in_order(sent) == in_order(expected)
    assert sent.count(b"question") == 2


@pytest.mark.parametrize("length", ["eight", "-1"])
async def test_a_length_that_is_no_number_is_refused(recorder: Recorder, wire: AiohttpWire, length: str) -> None:
    """As aiohttp refuses it, before anything is sent."""
    with pytest.raises(ValueError, match="Invalid Content-Length"):
        await ours(recorder, wire, {"Content-Length": length}, b"question")
    await wire.aclose()

    assert await recorder.kept.get() == b""


@pytest.mark.parametrize("header", [("X-Name", "a\r\nX-Other: b"), ("X-Name\nX-Other", "b")], ids=["value", "name"])
async def test_a_header_of_several_lines_is_refused(recorder: Recorder, wire: AiohttpWire, header: tuple[str, str]) -> None:
    """It could say anything in the name of the user: not even a connection is opened."""
    with pytest.raises(ValueError, match="header injection"):
        await ours(recorder, wire, dict([header]), b"question")

    assert recorder.connections == 0


async def test_what_is_no_place_is_refused(wire: AiohttpWire) -> None:
    """As aiohttp refuses it; what is no URL of HTTP at all does not get here."""
    with pytest.raises(aiohttp.InvalidURL):
        await wire.send("http:///v1", {}, b"question", Timeouts())


async def test_who_asks_first_sends_no_body_before_the_answer(recorder: Recorder, wire: AiohttpWire) -> None:
    """An Expect header among the extra ones means what it says."""
    raw = await ours(recorder, wire, HEADERS["expect"], b"question")

    assert raw.count(b"question") == 2
    assert [b"question" in before for before in recorder.before] == [False, False]


async def test_word_of_an_answer_to_come_is_none(wire: AiohttpWire) -> None:
    """What a server says before (103, early hints; 102, it is at work) is passed over."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"question")
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
        writer.write(ANSWER)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        answer = await post(wire, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        await wire.aclose()

    assert answer == b"answer"


async def test_a_status_that_is_none_is_the_answer(wire: AiohttpWire) -> None:
    """Below 100 there is no word of an answer to come: nobody waits for another one."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"question")
        writer.write(ANSWER.replace(b"200", b"099"))
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, asyncio.timeout(30):
        answer = await wire.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", {}, b"question", Timeouts())
        body = await answer.read()
        await wire.aclose()

    assert (answer.status, body) == (99, b"answer")


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


async def test_an_early_answer_is_taken(deaf: Deaf, wire: AiohttpWire) -> None:
    """Sending waits for nothing, even where headers fill the transport; the connection is left: the rest is in the way."""
    for connections in (1, 2):
        assert await deaf.asked(wire, connections, headers={"X-Large": "x" * NO_ROOM}) == b"answer"


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
    pool = (await wire._sessions.here()).pool

    assert (rest, call.cancelled(), pool._acquired, dict(pool._conns)) == (b"", True, set(), {})


def closed_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on each connection is closed in the moment in which it is to be used."""
    write = posting._write

    def closing(protocol: Any, request: bytes, silence: float | None) -> asyncio.Transport:
        protocol.transport.close()
        return write(protocol, request, silence)

    monkeypatch.setattr(posting, "_write", closing)


async def test_a_kept_connection_that_is_closed_is_stale(
    recorder: Recorder, wire: AiohttpWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it costs no try."""
    await post(wire, recorder.url)
    closed_under_way(monkeypatch)

    with pytest.raises(StaleConnection) as caught:
        await post(wire, recorder.url)  # though the same task has opened it, a call before

    assert isinstance(caught.value.__cause__, aiohttp.ClientConnectionResetError)


async def test_a_new_connection_that_is_closed_is_a_failure(
    recorder: Recorder, wire: AiohttpWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not idle, so that it says something of the server."""
    closed_under_way(monkeypatch)

    with pytest.raises(aiohttp.ClientConnectionResetError):
        await post(wire, recorder.url)
