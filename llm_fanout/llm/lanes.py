"""The two ways to a provider: our own wire, and the SDK for a client that was passed in. Both give bytes, as they came."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from ..providers.format import Format
from ..providers.request import Request
from ..providers.writing import Writer, body_of
from ..results import Via
from .endpoint import Place, joined
from .times import Timeouts
from .wire import Answer, Wire, read_all

if TYPE_CHECKING:
    from .endpoint import Client


class Lane(Protocol):
    """A way to send requests in one format.

    Attributes:
        via: What it is, in a word for `Result.via`.
    """

    via: Via

    async def post(self, request: Request, timeouts: Timeouts) -> Answer:
        """POST `request`: what came back, an error answer too, which is to be closed.

        Raises what the HTTP library raises where nothing came back, and Rejected for what the format cannot say.
        """


class WireLane:
    """Over the wire."""

    via: Via = "wire"

    def __init__(self, wire: Wire, place: Place, form: Format) -> None:
        self._wire = wire
        self._url = place.base_url + form.path
        self._proxy = place.proxy
        self._credential = place.credential
        self._writer = Writer(form)
        self._same = joined({"Content-Type": "application/json", "Accept": "application/json"}, place.headers)
        key = place.credential.fixed
        self._fixed = None if key is None else joined(key, self._same)  # headers of a key that does not change

    async def post(self, request: Request, timeouts: Timeouts) -> Answer:
        """POST with the key that is valid now."""
        body = self._writer.write(request)
        headers = self._fixed or joined(await self._credential.headers(), self._same)
        if own := request.params.get("extra_headers"):
            headers = joined(headers, own)
        return await self._wire.send(self._url, headers, body, timeouts, self._proxy)


class SdkLane:
    """Through a ready client of an SDK, whose own retries are switched off: ours are the only ones."""

    via: Via = "sdk"

    def __init__(self, client: Client, form: Format) -> None:
        self._client: Any = client.with_options(max_retries=0, timeout=None)
        self._form = form

    async def post(self, request: Request, timeouts: Timeouts) -> Answer:
        """Let the client post, and unwrap what it made of the answer: it knows how to sign, and where a deployment is.

        What the SDKs call raw and streamed is the answer before they read any of it (openai 3.57, anthropic 2.14).
        """
        body = body_of(self._form, request)
        # Not compressed: httpx2 would unpack a bomb before it could be counted.
        headers = {**(request.params.get("extra_headers") or {}), RAW: "stream", "Accept-Encoding": "identity"}
        bounds = _bounds(timeouts.connect, timeouts.idle)
        options = {"headers": headers, "timeout": bounds, "follow_redirects": False}
        try:
            raw = await self._client.post(self._form.path, cast_to=object, body=body, options=options)
        except Exception as exc:
            response = getattr(exc, "response", None)  # an APIStatusError of either SDK, which has read it
            if response is None:
                raise
            return _SdkAnswer(response)
        return _SdkAnswer(raw.http_response)


RAW = "X-Stainless-Raw-Response"


class _SdkAnswer:
    """An answer of httpx2, or httpx."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self.status: int = response.status_code
        self.headers = _plain(response.headers.raw)

    @property
    def chunks(self) -> AsyncIterator[bytes]:
        response = self._response
        read = response.is_stream_consumed  # by the SDK, or by a transport of the user's that had the answer at hand
        return _once(response.content) if read else response.aiter_raw()

    async def read(self) -> bytes:
        return await read_all(self.chunks)

    async def close(self) -> None:
        await self._response.aclose()


def _plain(raw: Sequence[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """Headers in lower case; of several of one name the first, and decoded as on the wire.

    Three looks into those of httpx2 cost as much as this, and a dozen names are looked for in every answer.
    """
    return {name.lower().decode("latin-1"): value.decode("utf-8", "surrogateescape") for name, value in reversed(raw)}


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


@lru_cache(maxsize=64)
def _bounds(connect: float, idle: float | None) -> Any:
    """The same for the SDK. The whole is bounded by the attempt, and waiting for its pool is no fault of the server."""
    from openai import Timeout

    return Timeout(None, connect=connect, read=idle)
