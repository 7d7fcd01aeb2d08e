"""HTTP, as little of it as we need: send one body, get a status, headers and a stream of chunks.

The seam has one method, so that another HTTP library is one class. aiohttp is the one that costs least per call while it
still cancels cleanly; its pool is not limited here, because the schedule is what limits calls.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import aiohttp

from .times import Timeouts

KEEP_ALIVE = 15.0  # seconds an idle connection is kept: below the 60 s and more after which servers drop theirs
REPLY_LIMIT = 16 * 2**20  # bytes of one decoded reply; the longest answers of today have about 1 MB, with audio some more


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the body in chunks, decoded, as they arrive."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class Wire(Protocol):
    """Anything that carries a request."""

    def send(
        self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts
    ) -> AbstractAsyncContextManager[Answer]:
        """POST `body`. Leaving the context early closes the connection, so that the server stops working for it."""


class ReplyTooLarge(Exception):
    """A reply has more bytes than anybody could want."""


async def counted(chunks: AsyncIterator[bytes], limit: int = REPLY_LIMIT) -> AsyncIterator[bytes]:
    """The chunks, counted while they are read: a hostile or broken server costs `limit` bytes at the most.

    Raises:
        ReplyTooLarge: There are more.
    """
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise ReplyTooLarge(f"the reply has more than {limit} bytes")
        yield chunk


async def read_all(chunks: AsyncIterator[bytes], limit: int = REPLY_LIMIT) -> bytes:
    """The whole body, up to `limit` bytes. Raises ReplyTooLarge."""
    return b"".join([chunk async for chunk in counted(chunks, limit)])


class AiohttpWire:
    """The wire over aiohttp: one session for each event loop that uses it, opened on first use.

    A session lives in an async generator that is only referenced from here. asyncio closes such a generator when its loop
    shuts down and when it is collected; so a client that is forgotten, or outlives its loop, leaks no connection.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[int, asyncio.AbstractEventLoop], tuple[_Owner, aiohttp.ClientSession]] = {}

    @asynccontextmanager
    async def send(self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts) -> AsyncIterator[Answer]:
        """POST `body` over the running loop's connections. Redirects are not followed: they would carry the key along."""
        session = await self._session()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect, sock_read=timeouts.idle)
        async with session.post(url, data=body, headers=headers, timeout=timeout, allow_redirects=False) as response:
            yield Answer(response.status, response.headers, response.content.iter_any())

    async def aclose(self) -> None:
        """Close the running loop's connections; the next `send` opens new ones."""
        owner, _ = self._open.pop(_here(), (None, None))
        if owner is not None:
            await owner.aclose()

    async def _session(self) -> aiohttp.ClientSession:
        here = _here()
        if here not in self._open:
            for place in list(self._open):  # a copy, and one step each: other threads add theirs
                if place[1].is_closed():
                    self._open.pop(place, None)
            owner = _owned_session()
            self._open[here] = owner, await anext(owner)
        return self._open[here][1]


_Owner = AsyncGenerator[aiohttp.ClientSession]


async def _owned_session() -> _Owner:
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE)
    async with aiohttp.ClientSession(connector=connector, trust_env=True, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


def _here() -> tuple[int, asyncio.AbstractEventLoop]:
    """This process and loop: after a fork, the parent's connections are not the child's to use."""
    return os.getpid(), asyncio.get_running_loop()
