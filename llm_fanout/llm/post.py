"""A small request in one step: its head, prepared once for all that go to the same place, and its body, in one write.

aiohttp (3.14) builds every request anew, from the URL to the last header, makes a task for its body, and many objects
besides, which the garbage collector looks at: a third of what a call costs with it. Here the connection, and whatever comes
over it, are aiohttp's, and so is the head; but what is the same for each call is made once. What is not as plain as that,
its session sends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
from aiohttp import hdrs
from aiohttp.helpers import TimerNoop
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_writer import _serialize_headers
from yarl import URL

from .trust import trust

if TYPE_CHECKING:
    import asyncio
    from ssl import SSLContext

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.http_parser import RawResponseMessage
    from aiohttp.streams import StreamReader

    from .connections import Connections

AT_ONCE = 2**18  # bytes of a body; while a larger one is on its way, silence of the server should not count
FRAMING = {"content-length", "transfer-encoding", "expect"}  # headers that say how the body goes, or when
HEADER_LIMIT = 65_536  # bytes of one header of an answer
MOST_HEADERS = 1_000  # aiohttp's own limits are 8,190 and 128; an answer that has more is paid for all the same
NO_TIMER = TimerNoop()  # the attempt is bounded as a whole, by whoever makes it


class Head:
    """What all POSTs to one URL with the same headers have in common.

    Args:
        url: Where they go.
        headers: The pairs of names and values.

    Attributes:
        request: It as aiohttp's pool wants it, which opens connections for it.
        key: Which connections it can use.

    Raises:
        aiohttp.InvalidURL: There is no such place.
        ValueError: A header has the end of a line in it.
    """

    __slots__ = ("_start", "key", "request")

    def __init__(self, url: str, headers: tuple[tuple[str, str], ...]) -> None:
        self.request = request = aiohttp.ClientRequest("POST", URL(url), headers=headers, data=b"", ssl=tls_to(url))
        self.key = request.connection_key
        del request.headers[hdrs.CONTENT_LENGTH]
        self._start = _serialize_headers(f"POST {request.url.raw_path_qs} HTTP/1.1", request.headers)[:-2]

    def with_body(self, body: bytes) -> bytes:
        """A whole request."""
        return b"%bContent-Length: %d\r\n\r\n%b" % (self._start, len(body), body)


def head_of(url: str, headers: tuple[tuple[str, str], ...]) -> Head | None:
    """The head of POSTs that are as most are: their length is their own affair, and their URL has no login. Else None."""
    is_plain = "@" not in url and FRAMING.isdisjoint(name.lower() for name, _ in headers)
    return Head(url, headers) if is_plain else None


def tls_to(url: str, proxy: str | None = None) -> SSLContext | bool:
    """What aiohttp is told of TLS: whom to trust, or True where there is none, and no context has to be made for it.

    It is a part of what tells connections apart, so that it has to be the same for all requests to one place.
    """
    return True if proxy is None and url.startswith("http:") else trust()


async def post(
    pool: Connections, head: Head, body: bytes, bounds: aiohttp.ClientTimeout
) -> tuple[RawResponseMessage, StreamReader, Connection]:
    """Send `body`, and await the head of the answer: that, its body to come, and the connection over which it comes.

    The connection goes back to the pool at the end of the answer. Who does not want so much closes it.

    Raises:
        aiohttp.ClientError: There is no connection, or it broke, or what came is no HTTP.
    """
    connection = pool.take(head.key) or await _connected(pool, head, bounds)
    protocol = connection.protocol
    assert protocol is not None
    try:
        transport = _write(protocol, head.with_body(body), bounds.sock_read)
        message, content = await protocol.read()
        while 100 <= message.code < 200 and message.code != 101:  # the answer is still to come
            message, content = await protocol.read()
        # It came early: what is unsent must not be in the way of the next request. Over TLS that cannot be told: what is
        # encrypted counts as sent. No server is known that answers early, keeps the connection and reads no more of it.
        if transport.get_write_buffer_size():
            protocol.force_close()
    except HttpProcessingError as exc:
        connection.close()
        raise aiohttp.ClientResponseError(
            head.request.request_info, (), status=exc.code, message=exc.message, headers=exc.headers
        ) from exc
    except BaseException:
        connection.close()
        raise
    content.on_eof(connection.release)
    return message, content, connection


async def _connected(pool: Connections, head: Head, bounds: aiohttp.ClientTimeout) -> Connection:
    try:
        return await pool.connect(head.request, [], bounds)
    except TimeoutError as exc:
        raise aiohttp.ConnectionTimeoutError(f"Connection timeout to host {head.request.url}") from exc


def _write(protocol: ResponseHandler, request: bytes, silence: float | None) -> asyncio.Transport:
    """Send `request`, without a wait, and expect an answer, in which nothing may come for `silence` seconds."""
    protocol.set_response_params(
        timer=NO_TIMER,
        read_until_eof=True,
        read_timeout=silence,
        max_field_size=HEADER_LIMIT,
        max_headers=MOST_HEADERS,
    )
    transport = protocol.transport
    if transport is None or transport.is_closing():
        raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
    transport.write(request)
    protocol.start_timeout()
    return transport
