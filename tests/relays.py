"""Proxies on 127.0.0.1: one that speaks HTTP, and one that speaks SOCKS5."""

from __future__ import annotations

import asyncio
import base64
import re
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Relay:
    """What a proxy saw.

    Attributes:
        at: Its address: "127.0.0.1:1234".
        targets: Where each connection was to lead, as the client said it.
        logins: Who each connection said to be: "user:password".
        heard: All that clients sent, as far as the proxy could read it.
        open: Connections of clients just now.
        wants: The login that it lets pass; "" for any.
    """

    def __init__(self, wants: str = "") -> None:
        self.at = ""
        self.wants = wants
        self.targets: list[str] = []
        self.logins: list[str] = []
        self.heard = b""
        self.open = 0

    async def http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """CONNECT, or a request with a whole URL."""
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.decode().split(" ", 2)
        login = re.search(rb"(?i)proxy-authorization: basic (\S+)", head)
        self.logins.append("" if login is None else base64.b64decode(login[1]).decode())
        if self.wants not in ("", self.logins[-1]):
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        place = target.removeprefix("http://").split("/")[0]
        self.targets.append(place)
        there = await asyncio.open_connection(*place.rsplit(":", 1))
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await _joined((reader, writer), there, self._hear)
        else:
            bare = f" http://{place}/".encode()
            there[1].write(self._hear(head).replace(bare, b" /"))
            await _joined((reader, writer), there, lambda data: self._hear(data).replace(bare, b" /"))

    async def socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """SOCKS5 (RFC 1928), with a login (RFC 1929) if the client offers one."""
        methods = await reader.readexactly((await reader.readexactly(2))[1])
        login = b"\x02" in methods
        writer.write(b"\x05\x02" if login else b"\x05\x00")
        self.logins.append(await _login(reader, writer) if login else "")
        _, _, _, kind = await reader.readexactly(4)
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = str(ip_address(await reader.readexactly(4 if kind == 1 else 16)))
        (port,) = struct.unpack("!H", await reader.readexactly(2))
        self.targets.append(f"{host}:{port}")
        there = await asyncio.open_connection(host, port)
        writer.write(b"\x05\x00\x00\x01" + bytes(6))
        await _joined((reader, writer), there, self._hear)

    def _hear(self, data: bytes) -> bytes:
        self.heard += data
        return data


async def _login(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    await reader.readexactly(1)
    user = await reader.readexactly((await reader.readexactly(1))[0])
    password = await reader.readexactly((await reader.readexactly(1))[0])
    writer.write(b"\x01\x00")
    return f"{user.decode()}:{password.decode()}"


async def _joined(here: Streams, there: Streams, said: Callable[[bytes], bytes]) -> None:
    """Carry bytes both ways until either side ends; those of `here` as `said` makes them."""
    ways = [asyncio.ensure_future(_carry(here[0], there[1], said)), asyncio.ensure_future(_carry(there[0], here[1], bytes))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        there[1].close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: Callable[[bytes], bytes]) -> None:
    while data := await reader.read(65_536):
        writer.write(said(data))


@asynccontextmanager
async def relay(speaks: str, wants: str = "") -> AsyncIterator[Relay]:
    """A proxy that speaks "http" or "socks"."""
    relay = Relay(wants)
    step: Callable[..., Coroutine[Any, Any, None]] = getattr(relay, speaks)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay.open += 1
        try:
            await step(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # somebody left
        finally:
            relay.open -= 1
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    relay.at = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
