"""A request of aiohttp that goes out in one step: headers and body in one write, and no task for the body.

aiohttp (3.14) makes a task for each body, so that a server may answer while it is still being sent; on Python 3.11 that is
two more turns of the event loop, too. A small body is handed to the transport whole, however much of it can go out by now,
so that there is nothing for a task to wait for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
from aiohttp import hdrs
from aiohttp.http_writer import StreamWriter
from aiohttp.payload import BytesPayload

if TYPE_CHECKING:
    from aiohttp.connector import Connection

# Bytes of a body. aiohttp writes up to 64 KiB, headers included, whatever is still unsent (StreamWriter.write, LIMIT); with
# more it waits for the transport, and closes the connection if the answer comes before that.
AT_ONCE = 32_768


class Post(aiohttp.ClientRequest):
    """A POST of bytes. Whatever else is asked of it is left to aiohttp, and costs what it does there."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Send it, without waiting for anything; the response's headers are still to be awaited.

        Raises:
            ClientConnectionResetError: The connection is closed; nothing was sent.
        """
        body, protocol = self._body, conn.protocol
        assert protocol is not None
        if not isinstance(body, BytesPayload) or not self._is_plain(conn, body.size or 0):
            return await super().send(conn)
        writer = StreamWriter(protocol, self.loop)
        await writer.write_headers(f"POST {self.url.raw_path_qs} HTTP/1.1", self.headers)
        await writer.write(await body.as_bytes(), drain=False)  # with it, even if it is empty, go the headers
        if protocol.writing_paused:  # by large headers: what is unsent must not be in the way of the next request
            protocol.force_close()
        protocol.start_timeout()
        return self._response(writer)

    def _is_plain(self, conn: Connection, size: int) -> bool:
        """Whether aiohttp would send these very bytes, in one piece, and do nothing besides."""
        return (
            size <= AT_ONCE
            and self.headers.get(hdrs.CONTENT_LENGTH) == str(size)  # else the body is cut to it, or refused
            and self.chunked is None  # nor is it compressed: that goes in chunks
            and self.method == hdrs.METH_POST
            and self.proxy is None
            and self.version == aiohttp.HttpVersion11
            and self._continue is None  # the server is not asked whether it wants the body
            and getattr(self, "_upload_tracker", None) is None  # 3.14.0 has none
            and not self._traces
            and not conn._connector.force_close
        )

    def _response(self, writer: StreamWriter) -> aiohttp.ClientResponse:
        return self.response_class(
            self.method,
            self.original_url,
            writer=None,
            continue100=None,
            timer=self._timer,
            request_info=self.request_info,
            traces=self._traces,
            loop=self.loop,
            session=self._session,
            stream_writer=writer,
        )
