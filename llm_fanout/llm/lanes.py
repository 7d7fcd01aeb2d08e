"""The two ways to a provider: our own wire, and the SDK for a client that was passed in. Both give bytes, as they came."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from .endpoint import Place
from .times import Timeouts
from .wire import Answer, Wire

if TYPE_CHECKING:
    from .endpoint import Client


class Lane(Protocol):
    """A way to send one request."""

    def open(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str], timeouts: Timeouts
    ) -> AbstractAsyncContextManager[Answer]:
        """POST `body` as JSON to `path` below the base URL: what came back, an error answer too.

        Leaving the context early closes the connection. Raises what the HTTP library raises where nothing came back.
        """


class WireLane:
    """Over the wire."""

    def __init__(self, wire: Wire, place: Place) -> None:
        self._wire = wire
        self._place = place
        self._headers = {**place.headers, "Content-Type": "application/json", "Accept": "application/json"}

    @asynccontextmanager
    async def open(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str], timeouts: Timeouts
    ) -> AsyncIterator[Answer]:
        """POST with the key that is valid now."""
        credential = self._place.credential
        keys = {} if credential is None else await credential.headers()
        every = {**self._headers, **keys, **headers}
        async with self._wire.send(self._place.base_url + path, every, json.dumps(body).encode(), timeouts) as answer:
            yield answer


class SdkLane:
    """Through a ready client of an SDK, whose own retries are switched off: ours are the only ones."""

    def __init__(self, client: Client) -> None:
        self._client: Any = client.with_options(max_retries=0, timeout=None)

    @asynccontextmanager
    async def open(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str], timeouts: Timeouts
    ) -> AsyncIterator[Answer]:
        """Let the client post, and unwrap what it made of the answer: it knows how to sign, and where a deployment is.

        What the SDKs call raw and streamed is the answer before they read any of it (openai 3.57, anthropic 2.14).
        """
        # Not compressed: httpx2 would unpack a bomb before it could be counted.
        ours = {RAW: "stream", "Accept-Encoding": "identity"}
        options = {"headers": {**headers, **ours}, "timeout": _sdk_timeout(timeouts), "follow_redirects": False}
        try:
            raw = await self._client.post(path, cast_to=object, body=body, options=options)
        except Exception as exc:
            response = getattr(exc, "response", None)  # an APIStatusError of either SDK, which has read it
            if response is None:
                raise
            yield Answer(response.status_code, response.headers, _once(response.content))
            return
        response = raw.http_response
        try:
            read = response.is_stream_consumed  # by a transport of the user's that had the answer at hand
            chunks = _once(response.content) if read else response.aiter_raw()
            yield Answer(response.status_code, response.headers, chunks)
        finally:
            await response.aclose()


RAW = "X-Stainless-Raw-Response"


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _sdk_timeout(timeouts: Timeouts) -> Any:
    """The same for the SDK. The whole is bounded by the attempt, and waiting for its pool is no fault of the server."""
    from openai import Timeout

    return Timeout(None, connect=timeouts.connect, read=timeouts.idle)
