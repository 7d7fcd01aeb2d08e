"""HTTP, as little of it as we need: send one body, get a status, headers and a stream of chunks.

The seam has one method, so that another HTTP library is one class. aiohttp is the one that costs least per call while it
still cancels cleanly; its pool is not limited here, because the schedule is what limits calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol, Self

import aiohttp

from .connections import Connections
from .per_loop import PerLoop
from .post import AT_ONCE, HEADER_LIMIT, MOST_HEADERS, head_of, post, tls_to
from .times import Timeouts

if TYPE_CHECKING:
    from aiohttp.connector import Connection

BROKEN = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientConnectionResetError)
REPLY_LIMIT = 16 * 2**20  # bytes of one decoded reply; the longest answers of today have about 1 MB, with audio some more
HEADS = 64  # of requests, kept for each event loop: one for a place, and more where headers change


class Answer(Protocol):
    """What came back. It has to be closed.

    Attributes:
        status: The HTTP status.
        headers: As they came; to be looked up by names in lower case.
    """

    status: int
    headers: Mapping[str, str]

    @property
    def chunks(self) -> AsyncIterator[bytes]:
        """The body, decoded, as it arrives; to be iterated over once."""

    async def read(self) -> bytes:
        """The whole body. Raises ReplyTooLarge."""

    async def close(self) -> None:
        """Give the connection back; one whose answer was not read to its end is closed, so that the server stops."""


class Wire(Protocol):
    """Anything that carries a request."""

    async def send(
        self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts, proxy: str | None = None
    ) -> Answer:
        """POST `body`, through the proxy of that URL, if any."""


class ReplyTooLarge(Exception):
    """A reply has more bytes than anybody could want."""


class StaleConnection(ConnectionError):
    """A connection that had been used before broke before an answer began: most likely the server had dropped it."""


def bounded(size: int, limit: int) -> int:
    """`size`, the bytes of a reply so far; asked at each chunk, so that a hostile or broken server costs `limit` bytes.

    Raises:
        ReplyTooLarge: There are more.
    """
    if size > limit:
        raise ReplyTooLarge(f"the reply has more than {limit} bytes")
    return size


async def read_all(chunks: AsyncIterator[bytes], limit: int = REPLY_LIMIT) -> bytes:
    """The whole body, up to `limit` bytes. Raises ReplyTooLarge."""
    body, size = [], 0
    async for chunk in chunks:
        size = bounded(size + len(chunk), limit)
        body.append(chunk)
    return b"".join(body)


class AiohttpWire:
    """The wire over aiohttp: one session for each event loop that uses it, opened on first use."""

    def __init__(self) -> None:
        self._sessions = PerLoop(_Session)

    async def send(
        self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts, proxy: str | None = None
    ) -> Answer:
        """POST `body` over the running loop's connections. Redirects are not followed: they would carry the key along."""
        session = self._sessions.opened_here() or await self._sessions.here()
        bounds, begun = _bounds(timeouts.connect, timeouts.idle), session.loop.time()
        try:
            head = session.head_of(url, tuple(headers.items())) if proxy is None and len(body) <= AT_ONCE else None
            if head is not None:
                message, content, connection = await post(session.pool, head, body, bounds)
                return _AiohttpAnswer(message.code, message.headers, content, connection)
            response = await session.post(url, headers, body, bounds, proxy)
            return _AiohttpAnswer(response.status, response.headers, response.content, response)
        except BROKEN as exc:
            if session.pool.has_opened(begun):
                raise
            raise StaleConnection("a kept connection broke before there was an answer") from exc

    async def aclose(self) -> None:
        """Close the running loop's connections; the next `send` opens new ones."""
        await self._sessions.aclose()


class _Session:
    """What one event loop has of it: connections, the heads of requests, and aiohttp's session for those that are not plain.

    Attributes:
        head_of: As `post.head_of`; it remembers the last ones.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.pool = Connections()
        self.head_of = lru_cache(maxsize=HEADS)(head_of)
        # Its trust_env stays off: it would read ~/.netrc and look for a proxy in a thread each, for every request.
        self._session = aiohttp.ClientSession(
            connector=self.pool,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_field_size=HEADER_LIMIT,
            max_headers=MOST_HEADERS,
        )

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, bounds: aiohttp.ClientTimeout, proxy: str | None
    ) -> aiohttp.ClientResponse:
        """A request in aiohttp's own way."""
        tls = tls_to(url, proxy)
        return await self._session.post(
            url, data=body, headers=headers, timeout=bounds, allow_redirects=False, proxy=proxy, ssl=tls
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._session.close()


class _AiohttpAnswer:
    """An answer of aiohttp, whose connection goes back as soon as the body has ended."""

    __slots__ = ("_content", "_held", "headers", "status")

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        content: aiohttp.StreamReader,
        held: aiohttp.ClientResponse | Connection,
    ) -> None:
        self.status = status
        self.headers = headers
        self._content = content
        self._held = held

    @property
    def chunks(self) -> AsyncIterator[bytes]:
        return self._content.iter_any()

    async def read(self) -> bytes:
        content = self._content
        body = await content.readany()
        if content.at_eof():  # nearly all answers come in one piece
            return body
        return await read_all(_with_first(body, self.chunks), REPLY_LIMIT)

    async def close(self) -> None:
        self._held.close()


async def _with_first(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


@lru_cache(maxsize=64)
def _bounds(connect: float, idle: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=idle)
