"""Where a model is reached, with which key, under which limits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..core.stated import Limits
from ..errors import ConfigError
from ..hooks import hook
from ..quotas import QuotaKey

if TYPE_CHECKING:
    from openai import AsyncOpenAI

OPENAI_URL = "https://api.openai.com/v1"  # openai SDK 3.54: the client's default base_url
SHORTEST_SECRET = 8  # characters; shorter "keys" are the words that servers without keys are given
OPENAI_HEADERS = {"OPENAI_ORG_ID": "OpenAI-Organization", "OPENAI_PROJECT_ID": "OpenAI-Project"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place that answers for one model.

    Args:
        model: Provider and model: "openai/gpt-5-mini". "sim/..." is the provider in a box, which starts by itself in
            this process and needs no key.
        base_url: Where an OpenAI-compatible server is; by default OPENAI_BASE_URL or OpenAI itself.
        api_key: By default OPENAI_API_KEY. A server that wants none takes any text.
        client: A ready `openai.AsyncOpenAI`, for what a key and a URL cannot say (Azure, own authentication, own HTTP
            client): calls go through it, without its retries. It belongs to one event loop, and you close it.
        limits: What this account may do; by default those of the FanOut.
        quota: The quota's name where several models share one, or a key changes; by default the model.
    """

    model: str
    base_url: str | None = field(default=None, kw_only=True)
    api_key: str | None = field(default=None, kw_only=True, repr=False)
    client: AsyncOpenAI | None = field(default=None, kw_only=True, repr=False)
    limits: Limits | None = field(default=None, kw_only=True)
    quota: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class Place:
    """An Endpoint with everything known: what its calls need, and which quota they use."""

    name: str
    model: str
    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    client: AsyncOpenAI | None = field(repr=False)
    quota: QuotaKey

    def without_secrets(self, text: str) -> str:
        """`text` with the key blotted out, should it be in there."""
        key = self.client.api_key if self.client is not None else self.headers["Authorization"].removeprefix("Bearer ")
        return text.replace(key, "***") if len(key) >= SHORTEST_SECRET else text


def place_of(endpoint: Endpoint, environ: Mapping[str, str] = os.environ) -> Place:
    """Find out what `endpoint` leaves open, from the environment variables that the SDK reads.

    Raises:
        ConfigError: The provider is not known, or there is no key for it.
    """
    provider, slash, model = endpoint.model.partition("/")
    if not slash or not model:
        raise ConfigError(
            f"model {endpoint.model!r} names no provider; write 'openai/{endpoint.model}', or 'sim/...' to try"
        )
    if provider not in ("openai", "sim"):
        raise ConfigError(
            f"provider {provider!r} of model {endpoint.model!r} is not known; 'openai/...' reaches any OpenAI-compatible "
            "server through base_url=, 'sim/...' is the provider in a box"
        )
    if endpoint.client is not None:
        return _ready(endpoint, model, endpoint.client)
    base_url, api_key = _embedded(endpoint) if provider == "sim" else _openai(endpoint, environ)
    headers = {"Authorization": f"Bearer {api_key}"}
    if provider == "openai":
        headers |= {header: environ[name] for name, header in OPENAI_HEADERS.items() if environ.get(name)}
    base_url = base_url.rstrip("/")
    return Place(endpoint.model, model, base_url, headers, None, QuotaKey.of(base_url, api_key, endpoint.quota or model))


def _embedded(endpoint: Endpoint) -> tuple[str, str]:
    if endpoint.base_url is not None:
        return endpoint.base_url, endpoint.api_key or "sim"
    url: str = hook("embedded")().url
    return url, "sim"


def _openai(endpoint: Endpoint, environ: Mapping[str, str]) -> tuple[str, str]:
    base_url = endpoint.base_url or environ.get("OPENAI_BASE_URL") or OPENAI_URL
    api_key = endpoint.api_key or environ.get("OPENAI_API_KEY")
    if not api_key:
        raise ConfigError(
            f"there is no API key for {endpoint.model!r}: set OPENAI_API_KEY, or in code api_key= (any text for a server "
            "that wants none); 'sim/...' needs no key"
        )
    if not api_key.isascii() or any(character.isspace() for character in api_key):
        raise ConfigError(f"the API key for {endpoint.model!r} has a space, a line break or a non-ASCII character in it")
    if not base_url.startswith(("http://", "https://")):
        raise ConfigError(f"base_url must start with http:// or https://, got {base_url!r}")
    return base_url, api_key


def _ready(endpoint: Endpoint, model: str, client: AsyncOpenAI) -> Place:
    if endpoint.base_url is not None or endpoint.api_key is not None:
        raise ConfigError("a ready client has its own base_url and api_key; pass either the client or these")
    base_url = str(client.base_url).rstrip("/")
    quota = QuotaKey.of(base_url, client.api_key, endpoint.quota or model)
    return Place(endpoint.model, model, base_url, {}, client, quota)
