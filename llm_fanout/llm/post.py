"""A request of aiohttp that goes out in one step: headers and body in one write, and no task for the body."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
from aiohttp.http_writer import StreamWriter
from aiohttp.payload import BytesPayload

if TYPE_CHECKING:
    from aiohttp.connector import Connection

AT_ONCE = 32_768  # bytes of a body; below what asyncio buffers before it asks to wait (64 KiB), so that nothing waits


class Post(aiohttp.ClientRequest):
    """A POST of bytes.

    aiohttp (3.14) makes a task for each body, which lets a server answer while it is still being sent; on Python 3.11 that is
    two more turns of the event loop. A body that fits into the transport's buffer is sent at once all the same.
    """

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Send it; the response's headers are still to be awaited."""
        protocol, body = conn.protocol, self._body
        assert protocol is not None
        if (
            self.proxy is not None
            or protocol.writing_paused
            or not isinstance(body, BytesPayload)
            or (body.size or 0) > AT_ONCE
        ):
            return await super().send(conn)
        writer = StreamWriter(protocol, self.loop)
        await writer.write_headers(f"POST {self.url.raw_path_qs} HTTP/1.1", self.headers)
        await writer.write_eof(await body.as_bytes())
        protocol.start_timeout()
        self.response = self.response_class(
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
        return self.response
