"""HTTP, as little of it as we need: send one body, get a status, headers and a stream of chunks.

The seam has one method, so that another HTTP library is one class. aiohttp is the one that costs least per call while it
still cancels cleanly; its pool is not limited here, because the schedule is what limits calls.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from typing import Protocol, cast

import aiohttp

from .connections import Connections
from .per_loop import PerLoop
from .post import Post
from .times import Timeouts
from .trust import trust

BROKEN = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientConnectionResetError)
REPLY_LIMIT = 16 * 2**20  # bytes of one decoded reply; the longest answers of today have about 1 MB, with audio some more
# aiohttp's own are 8,190 and 128; an answer that has more is paid for all the same. The SDK's h11 takes 100 kB in all.
HEADER_LIMIT = 65_536  # bytes of one header of an answer
MOST_HEADERS = 1_000


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
        self._sessions = PerLoop(_session)

    async def send(
        self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts, proxy: str | None = None
    ) -> Answer:
        """POST `body` over the running loop's connections. Redirects are not followed: they would carry the key along."""
        session = await self._sessions.here()
        bounds = _bounds(timeouts.connect, timeouts.idle)
        trusted = True if proxy is None and url.startswith("http:") else trust()
        try:
            response = await session.post(
                url, data=body, headers=headers, timeout=bounds, allow_redirects=False, proxy=proxy, ssl=trusted
            )
        except BROKEN as exc:
            if cast("Connections", session.connector).has_opened():
                raise
            raise StaleConnection("a kept connection broke before there was an answer") from exc
        return _AiohttpAnswer(response)

    async def aclose(self) -> None:
        """Close the running loop's connections; the next `send` opens new ones."""
        await self._sessions.aclose()


class _AiohttpAnswer:
    """An answer of aiohttp, whose connection goes back as soon as the body has ended."""

    __slots__ = ("_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    @property
    def chunks(self) -> AsyncIterator[bytes]:
        return self._response.content.iter_any()

    async def read(self) -> bytes:
        content = self._response.content
        body = await content.readany()
        if content.at_eof():  # nearly all answers come in one piece
            return body
        return await read_all(_with_first(body, self.chunks), REPLY_LIMIT)

    async def close(self) -> None:
        self._response.close()


async def _with_first(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def _session() -> aiohttp.ClientSession:
    # aiohttp's trust_env stays off: it would read ~/.netrc and look for a proxy in a thread each, for every request.
    return aiohttp.ClientSession(
        connector=Connections(),
        request_class=Post,
        cookie_jar=aiohttp.DummyCookieJar(),
        max_field_size=HEADER_LIMIT,
        max_headers=MOST_HEADERS,
    )


@lru_cache(maxsize=64)
def _bounds(connect: float, idle: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=idle)
