"""A port on loopback that can refuse connections for a while, and is kept meanwhile."""

from __future__ import annotations

import asyncio
import socket

from aiohttp import web

HOST = "127.0.0.1"
BACKLOG = 4096  # connections that may wait to be accepted
TURNS = 3  # of the loop, until a connection that was just accepted can be seen: its task, its start, and one to spare


class Listener:
    """One port, served by `runner` while it is open.

    While it refuses, it stays bound, so that nobody else gets it, not even a client as the near end of its own
    connection: on loopback one in some ten thousand tries would connect to itself.

    Args:
        runner: The application; set up before `open`.
        port: 0 picks a free one.

    Raises:
        OSError: The port cannot be had.
    """

    def __init__(self, runner: web.AppRunner, port: int) -> None:
        self._runner = runner
        self._socket = _bound(port)
        self.port: int = self._socket.getsockname()[1]
        self._site: web.SockSite | None = None

    async def open(self) -> None:
        """Serve. Opening twice does no harm."""
        if self._site is None:
            self._site = web.SockSite(self._runner, self._socket, backlog=BACKLOG)
            await self._site.start()

    async def refuse(self) -> None:
        """Refuse connections, and abort those that are open. Refusing twice does no harm."""
        if self._site is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket)  # a server closed in mid-accept forgets the socket, open
        self._abort()
        for _ in range(TURNS):
            await asyncio.sleep(0)
            self._abort()
        await self._site.stop()
        self._site, self._socket = None, _bound(self.port)

    def close(self) -> None:
        """Give up the port, after the runner's cleanup, which closes the connections."""
        self._socket.close()

    def _abort(self) -> None:
        for connection in self._runner.server.connections if self._runner.server else ():
            if connection.transport is not None:
                connection.transport.abort()


def _bound(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else ended connections keep the port for a minute
    try:
        sock.bind((HOST, port))
    except OSError as exc:
        sock.close()
        raise OSError(exc.errno, f"cannot have the address {HOST}:{port}: {exc.strerror}") from exc
    return sock
