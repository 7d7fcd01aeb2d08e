"""The way through a SOCKS proxy, which the wire does not speak: the general lane, with clients of the SDK that are ours."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..providers.format import Format
from ..providers.request import Request
from ..results import Via
from .endpoint import Place, joined
from .lanes import SdkLane
from .per_loop import PerLoop
from .times import Timeouts
from .trust import trust
from .wire import Answer

if TYPE_CHECKING:
    from .endpoint import Client

NO_KEY = "not-used"  # each request has a header of its own for the key that is valid then


class SocksLane:
    """Through a client of the SDK for each event loop.

    Args:
        place: Where it leads, and through which proxy.
        form: How requests are written.
    """

    via: Via = "sdk"

    def __init__(self, place: Place, form: Format) -> None:
        self._same = place.headers
        self._credential = place.credential
        self._lanes = PerLoop(partial(_lane, place, form))

    async def post(self, request: Request, timeouts: Timeouts) -> Answer:
        """Let the running loop's client post, with the key that is valid now."""
        key = await self._credential.headers()
        headers = joined(key, self._same, request.params.get("extra_headers") or {})
        lane = await self._lanes.here()
        return await lane.post(replace(request, params={**request.params, "extra_headers": headers}), timeouts)

    async def aclose(self) -> None:
        """Close the running loop's client."""
        await self._lanes.aclose()


def check_installed(place: Place) -> None:
    """Raises ConfigError if a package is missing that the way to `place`, through a SOCKS proxy, takes."""
    if find_spec("socksio") is None:
        raise ConfigError(
            f"{place.name!r} is behind a SOCKS proxy, which takes one more package: pip install 'llm-fanout[socks]'"
        )
    if _is_anthropic(place) and find_spec("anthropic") is None:
        raise ConfigError(
            f"{place.name!r} is behind a SOCKS proxy, which takes its SDK: pip install 'llm-fanout[anthropic]'"
        )


@asynccontextmanager
async def _lane(place: Place, form: Format) -> AsyncIterator[SdkLane]:
    async with _client(place) as client:
        yield SdkLane(client, form)


def _is_anthropic(place: Place) -> bool:
    return place.name.startswith("anthropic/")


def _client(place: Place) -> Client:
    if _is_anthropic(place):
        from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient

        http = DefaultAsyncHttpxClient(proxy=place.proxy, verify=trust())
        return AsyncAnthropic(api_key=NO_KEY, base_url=place.base_url, http_client=http)
    import openai

    others: Any = dict.fromkeys(of_openai() if not place.name.startswith("openai/") else (), openai.Omit())
    http = openai.DefaultAsyncHttpxClient(proxy=place.proxy, verify=trust())
    return openai.AsyncOpenAI(api_key=NO_KEY, base_url=place.base_url, default_headers=others, http_client=http)


def of_openai() -> list[str]:
    """Headers that the SDK takes from its environment (openai 3.57), which other providers have no business with."""
    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    return ["OpenAI-Organization", "OpenAI-Project", *(line.split(":")[0].strip() for line in lines if ":" in line)]
