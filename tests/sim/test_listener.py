"""A port that can refuse connections for a while."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import closing

import pytest
from aiohttp import web

from llm_fanout.sim.listener import HOST, Listener


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    """A port behind which nothing is to be had."""
    runner = web.AppRunner(web.Application())
    with closing(Listener(runner, 0)) as listener:
        await runner.setup()
        await listener.open()
        yield listener
        await runner.cleanup()


async def test_connections_are_refused_for_a_while(listener: Listener) -> None:
    """Refusing and opening again keep the port; doing either twice does no harm."""
    for _ in range(2):
        await listener.refuse()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(HOST, listener.port)
    for _ in range(2):
        await listener.open()
    _, writer = await asyncio.open_connection(HOST, listener.port)
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("turns", range(5))
async def test_open_connections_are_cut(listener: Listener, turns: int) -> None:
    """However far they have come: not yet accepted, just accepted, or idle."""
    with closing(socket.create_connection((HOST, listener.port))) as client:
        client.setblocking(False)
        for _ in range(turns):
            await asyncio.sleep(0)

        await listener.refuse()

        try:
            said = await asyncio.get_running_loop().sock_recv(client, 1)
        except ConnectionResetError:
            said = b""
    assert said == b""


async def test_the_port_is_nobody_elses_meanwhile(listener: Listener) -> None:
    """It stays bound, so that no other program is given it."""
    await listener.refuse()
    with closing(socket.socket()) as other, pytest.raises(OSError, match="in use"):
        other.bind((HOST, listener.port))
