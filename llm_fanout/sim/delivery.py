"""How a body goes out: every frame in its time, and those that are due together at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from aiohttp import web

from .bodies import Body


class Delivery:
    """The answer to one request.

    Args:
        request: What is answered.
        headers: Gives the headers that those of a body come on top of; asked when they are sent.
    """

    def __init__(self, request: web.Request, headers: Callable[[], Mapping[str, str]]) -> None:
        self._request = request
        self._headers = headers
        self._response = web.StreamResponse()
        self._due = bytearray()

    async def send(self, body: Body, begun: float) -> web.StreamResponse:
        """Send all of `body`, whose frames count from the instant `begun` of the loop's clock; returns when that is done.

        Raises:
            ConnectionError: The client hung up; mostly it is cancelled then, by aiohttp.
        """
        loop = asyncio.get_running_loop()
        self._response.content_length = body.length
        for at, data in body.frames:
            if (wait := begun + at - loop.time()) > 0:
                await self._flush(body)
                await asyncio.sleep(wait)
            self._due += data
        await self._flush(body)
        if body.end == "open":
            await loop.create_future()  # until the client hangs up
        if body.end == "abort" and self._request.transport is not None:
            self._request.transport.abort()
        return self._response

    async def _flush(self, body: Body) -> None:
        """Send what is due, after the headers if they are not out."""
        if not self._due:
            return
        if not self._response.prepared:
            self._response.headers.update({**self._headers(), **body.headers})
            await self._response.prepare(self._request)
        await self._response.write(bytes(self._due))
        self._due.clear()
