"""The two ways to a provider: our own wire, and the SDK for a client that was passed in. Both give bytes, as they came."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from .endpoint import Place
from .prompt import Request
from .times import Timeouts
from .wire import Wire, read_all

if TYPE_CHECKING:
    from openai import AsyncOpenAI

RawAnswer = tuple[int, Mapping[str, str], bytes]  # status, headers, body


class Lane(Protocol):
    """A way to send one request."""

    async def send(self, request: Request, timeouts: Timeouts) -> RawAnswer:
        """What came back, an error answer too. Raises what the HTTP library raises where nothing came back."""


class WireLane:
    """Chat Completions over the wire."""

    def __init__(self, wire: Wire, place: Place) -> None:
        self._wire = wire
        self._url = f"{place.base_url}/chat/completions"
        self._headers = {**place.headers, "Content-Type": "application/json", "Accept": "application/json"}

    async def send(self, request: Request, timeouts: Timeouts) -> RawAnswer:
        """POST the request as JSON."""
        params = dict(request.params)
        headers = {**self._headers, **(params.pop("extra_headers", None) or {})}
        extra = params.pop("extra_body", None) or {}
        body = json.dumps({"model": request.model, "messages": request.messages, **params, **extra}).encode()
        async with self._wire.send(self._url, headers, body, timeouts) as answer:
            return answer.status, answer.headers, await read_all(answer.chunks)


class SdkLane:
    """Chat Completions through a ready `AsyncOpenAI`, whose own retries are switched off: ours are the only ones."""

    def __init__(self, client: AsyncOpenAI) -> None:
        self._client = client.with_options(max_retries=0, timeout=None)

    async def send(self, request: Request, timeouts: Timeouts) -> RawAnswer:
        """Call the client, and unwrap what it made of the answer."""
        from openai import APIStatusError

        create: Any = self._client.chat.completions.with_raw_response.create
        try:
            answer = await create(
                model=request.model, messages=request.messages, timeout=_sdk_timeout(timeouts), **request.params
            )
        except APIStatusError as exc:
            return exc.response.status_code, exc.response.headers, exc.response.content
        response = answer.http_response
        return response.status_code, response.headers, response.content


def _sdk_timeout(timeouts: Timeouts) -> Any:
    """The same for the SDK. The whole is bounded by the attempt, and waiting for its pool is no fault of the server."""
    from openai import Timeout

    return Timeout(None, connect=timeouts.connect, read=timeouts.idle)
