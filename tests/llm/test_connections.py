"""The pool over real sockets: how many it opens, how fast, and which it uses again."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from support import Simulate, completion, served

from llm_fanout import FanOut, clock
from llm_fanout.llm.connections import Connections, _is_quiet
from llm_fanout.llm.times import Timeouts
from llm_fanout.llm.wire import AiohttpWire


class Server:
    """It answers when it is told to, and knows its connections by the port of whoever opened them."""

    def __init__(self) -> None:
        self.url = ""
        self.ports: list[int] = []  # of each request
        self.port_of: dict[str, int] = {}
        self.waiting: dict[str, asyncio.Event] = {}
        self.open = 0

    async def answer(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        name = (await request.read()).decode()
        self.ports.append(request.transport.get_extra_info("peername")[1])
        self.port_of[name] = self.ports[-1]
        if name:
            self.open += 1
            try:
                await self.waiting.setdefault(name, asyncio.Event()).wait()
            finally:
                self.open -= 1
        return web.Response(body=b"answer")

    def let(self, name: str) -> None:
        """Answer what was asked by that name."""
        self.waiting.setdefault(name, asyncio.Event()).set()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """The server on a free port of 127.0.0.1."""
    server = Server()
    app = web.Application()
    app.router.add_post("/", server.answer)
    async with served(app, backlog=1_000) as port:
        server.url = f"http://localhost:{port}/"
        yield server


async def post(wire: AiohttpWire, server: Server, name: str = "") -> bytes:
    answer = await wire.send(server.url, {}, name.encode(), Timeouts())
    try:
        return await answer.read()
    finally:
        await answer.close()


async def until(condition: Any) -> None:
    """Let the loop turn until it is so."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


def at_work(*calls: Coroutine[Any, Any, bytes]) -> list[asyncio.Task[bytes]]:
    return [asyncio.ensure_future(call) for call in calls]


async def test_what_was_used_last_is_used_next(wire: AiohttpWire, server: Server) -> None:
    """The others grow old, and are closed; the server is less likely to have dropped the one that is taken."""
    calls = at_work(*(post(wire, server, name) for name in "abc"))
    await until(lambda: server.open == 3)
    port_of_b = server.port_of["b"]
    for name, call in zip("cab", (calls[2], calls[0], calls[1]), strict=True):
        server.let(name)
        await call
    for _ in range(3):
        await post(wire, server)

    assert server.ports[3:] == [port_of_b] * 3


async def test_no_more_are_opened_than_are_needed(
    wire: AiohttpWire, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that waits for its turn to open one takes one that came back meanwhile."""
    turn, waits = asyncio.Event(), 0

    async def paced(self: Connections) -> None:
        nonlocal waits
        waits += 1
        if waits > 1:
            await turn.wait()

    monkeypatch.setattr(Connections, "_paced", paced)
    first, second = at_work(post(wire, server, "a"), post(wire, server))
    await until(lambda: server.open == 1 and waits == 2)
    server.let("a")
    await first
    turn.set()
    await second

    assert len(set(server.ports)) == 1


def test_a_burst_is_opened_at_a_pace(simulate: Simulate[list[float]]) -> None:
    """Of 1,000 that are wanted at once 50 are opened at once, and 5,000 a second then; after a rest it is the same."""

    async def burst() -> list[float]:
        opened: list[float] = []
        async with Connections() as pool:

            async def one(start: float) -> None:
                await pool._paced()
                opened.append(clock.now() - start)

            for _ in range(2):
                await asyncio.gather(*(one(clock.now()) for _ in range(1_000)))
                await asyncio.sleep(1.0)
        return opened

    opened = simulate(burst)

    for each in (opened[:1_000], opened[1_000:]):
        assert sum(at == 0 for at in each) == pytest.approx(50, abs=1)
        assert max(each) == pytest.approx(0.19, abs=0.001)


async def test_a_name_is_looked_up_once(wire: AiohttpWire, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """For all connections of a burst together."""
    looked_up: list[object] = []
    look_up = socket.getaddrinfo

    def counted(host: Any, *args: Any, **kwargs: Any) -> Any:
        looked_up.append(host)
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", counted)
    calls = at_work(*(post(wire, server, "a") for _ in range(60)))
    await until(lambda: server.open == 60)
    server.let("a")
    await asyncio.gather(*calls)

    assert looked_up == ["localhost"]
    assert len(set(server.ports)) == 60


async def test_cancelled_calls_leave_nothing_open(wire: AiohttpWire, server: Server) -> None:
    """At whatever step of opening, sending or waiting they are cancelled, and the pool goes on."""
    before = len(asyncio.all_tasks())
    calls: list[asyncio.Task[bytes]] = []
    for _ in range(10):
        calls += at_work(*(post(wire, server, "never") for _ in range(30)))
        await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
    await until(lambda: server.open == 150)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await until(lambda: server.open == 0)
    pool = (await wire._sessions.here()).pool

    assert (len(pool._acquired), sum(map(len, pool._conns.values()))) == (0, 0)
    assert await post(wire, server) == b"answer"
    assert len(asyncio.all_tasks()) <= before + 2


@asynccontextmanager
async def forgetful(answers: int) -> AsyncIterator[tuple[str, list[int]]]:
    """A server that answers so many requests on a connection, and closes it on the next; the requests of each connection."""
    requests: list[int] = []
    body = json.dumps(completion("yes")).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(0)
        mine = len(requests) - 1
        try:
            while True:
                asked = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(asked.lower().split(b"content-length: ")[1].split()[0]))
                requests[mine] += 1
                if requests[mine] > answers:
                    break
                writer.write(head + body)
        except asyncio.IncompleteReadError:
            pass  # the client has closed it
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", requests


async def test_a_connection_that_the_server_dropped_costs_no_try() -> None:
    """Found out by using it again, it is replaced at once, though no retry is allowed."""
    async with forgetful(1) as (url, requests), FanOut("openai/x", base_url=url, api_key="key", max_retries=0) as fan:
        results = [await fan.call("hello") for _ in range(3)]

    assert [(result.value, result.attempts) for result in results] == [("yes", 1), ("yes", 2), ("yes", 2)]
    assert requests == [2, 2, 1]


class Abrupt:
    """A server in a thread that closes each connection with the answer, and does not say so."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"

    def serve(self, connections: int) -> None:
        with self._listener:
            for _ in range(connections):
                connection, _ = self._listener.accept()
                with connection:
                    asked = b""
                    while not asked.endswith(b"question"):
                        asked += connection.recv(65_536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_end_that_the_loop_has_not_seen_is_seen(loop: str) -> None:
    """The next call begins in the step in which the answer came: a connection that has ended by then is not used."""
    server = Abrupt()
    thread = threading.Thread(target=server.serve, args=(3,), daemon=True)
    thread.start()

    async def main() -> list[bytes]:
        wire, answers = AiohttpWire(), []
        for _ in range(3):
            answer = await wire.send(server.url, {}, b"question", Timeouts())
            answers.append(await answer.read())
            (idle,) = (await wire._sessions.here()).pool._conns.values()
            transport = idle[-1][0].transport
            assert transport is not None
            select.select(
                [transport.get_extra_info("socket").fileno()], [], [], 30
            )  # the end is there; the loop stands still
        await wire.aclose()
        return answers

    factory = pytest.importorskip("uvloop").new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        answers = runner.run(main())
    thread.join()

    assert answers == [b"answer"] * 3


def test_where_nobody_can_ask_a_connection_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no `poll`: there a connection that has ended is found out by using it."""
    monkeypatch.delattr(select, "poll")

    assert _is_quiet(asyncio.Transport())


async def test_a_new_connection_that_breaks_is_a_failure() -> None:
    """It was not idle, so that it says something of the server or of the call."""
    async with forgetful(0) as (url, requests), FanOut("openai/x", base_url=url, api_key="key", max_retries=0) as fan:
        result = await fan.call("hello")

    assert (result.error and result.error.kind, result.attempts, requests) == ("connection", 1, [1])


@pytest.mark.parametrize(
    "unasked", [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray", b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n"]
)
async def test_what_is_said_unasked_is_no_answer(wire: AiohttpWire, unasked: bytes) -> None:
    """A connection on which the server said something while it was idle is not used again: that answers no request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"question")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer")
        writers.append(writer)
        await reader.read()  # until the client hangs up
        writer.close()

    async def ask() -> bytes:
        answer = await wire.send(url, {}, b"question", Timeouts())
        try:
            return await answer.read()
        finally:
            await answer.close()

    writers: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        first = await ask()
        writers[0].write(unasked)
        pool = (await wire._sessions.here()).pool
        await until(lambda: all(proto.should_close for idle in pool._conns.values() for proto, _ in idle))
        second = await ask()
        await wire.aclose()  # the server waits for its connections

    assert (first, second, len(writers)) == (b"answer", b"answer", 2)
