"""Where a model is reached, with which key, under which limits."""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from ..core.checks import is_number
from ..core.stated import Limits
from ..errors import ConfigError
from ..hooks import hook
from ..providers.vendors import VENDORS, Vendor
from ..quotas import QuotaKey
from .credential import Credential, Key
from .proxies import proxy_to
from .redaction import redacted

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI

    from ..providers.format import Format
    from ..providers.reply import Reply
    from ..providers.request import Request

    Client = AsyncOpenAI | AsyncAnthropic
    Function = Callable[[Request], Awaitable[str | Reply]]

Api = Literal["chat", "responses"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place that answers for one model.

    Args:
        model: Provider and model: "openai/gpt-5-mini", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-pro". "sim/..." is
            the provider in a box, which starts by itself in this process and needs no key.
        base_url: Where it is; by default the provider's own address, or OPENAI_BASE_URL, ANTHROPIC_BASE_URL. With
            "openai/..." any OpenAI-compatible server.
        api_key: By default OPENAI_API_KEY, ANTHROPIC_API_KEY, or GEMINI_API_KEY. A server that wants none takes any text.
            As with the SDKs, OPENAI_ORG_ID, OPENAI_PROJECT_ID, OPENAI_CUSTOM_HEADERS or ANTHROPIC_CUSTOM_HEADERS go along.
            An async function that gives the key which is valid now is asked before every attempt; then say `quota=`.
        client: A ready `openai.AsyncOpenAI`, `AsyncAzureOpenAI` or `anthropic.AsyncAnthropic`, for what a key and a URL
            cannot say (Azure, own authentication, own HTTP client): calls go through it, without its retries. It belongs to
            one event loop, and you close it.
        provider: An async function that answers by itself: it gets a `llm_fanout.providers.Request` and gives text or a
            `Reply`. What it raises is the call's failure: a `CallError` as it is, TimeoutError and OSError are tried again.
            A journal knows its answers by `model` (and `quota`): two functions need two names.
        api: "responses" for OpenAI's Responses instead of Chat Completions.
        limits: What this account may do; by default those of the FanOut.
        price: USD per million tokens, (input, output) or (input, output, cached input), instead of the list price.
        quota: The quota's name where several models share one, or a key changes; by default the model.

    Raises:
        ConfigError: An argument is out of its range, or does not go with another.
    """

    model: str
    base_url: str | None = field(default=None, kw_only=True)
    api_key: Key | None = field(default=None, kw_only=True, repr=False)
    client: Client | None = field(default=None, kw_only=True, repr=False)
    provider: Function | None = field(default=None, kw_only=True)
    api: Api = field(default="chat", kw_only=True)
    limits: Limits | None = field(default=None, kw_only=True)
    price: tuple[float, ...] | None = field(default=None, kw_only=True)
    quota: str | None = field(default=None, kw_only=True)

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickle carries no key, nor a client that has one: where it is loaded, the environment's key is used.
        kept = {"base_url": self.base_url, "provider": self.provider, "api": self.api}
        return _restored, (self.model, {**kept, "limits": self.limits, "price": self.price, "quota": self.quota})

    def __post_init__(self) -> None:
        if self.api not in ("chat", "responses"):
            raise ConfigError(f"api must be 'chat' or 'responses', got {self.api!r}; embeddings are `fan.embed`'s")
        if self.price is not None:
            _check_price(self.price)
        own = self.base_url is not None or self.api_key is not None
        if self.provider is not None and (own or self.client is not None):
            raise ConfigError("a function that answers by itself has no base_url, api_key or client; leave them out")
        if self.client is not None and own:
            raise ConfigError("a ready client has its own base_url and api_key; pass either the client or these")
        if self.client is not None and not inspect.iscoroutinefunction(getattr(self.client, "post", None)):
            raise ConfigError(f"client must be an AsyncOpenAI, AsyncAzureOpenAI or AsyncAnthropic, got {self.client!r}")
        if callable(self.api_key) and self.quota is None:
            raise ConfigError("an api_key that changes needs quota=, a name for the quota that all its values share")


def _restored(model: str, fields: Mapping[str, Any]) -> Endpoint:
    return Endpoint(model, **fields)


@dataclass(frozen=True, slots=True)
class Place:
    """An Endpoint with everything known: what its calls need, and which quota they use.

    Attributes:
        name: Provider and model, as asked for.
        model: The model alone.
        base_url: Where it is; empty for a function.
        headers: Those that every request has, besides the key's.
        credential: The key; an empty one for a function, and for a client that signs by other means.
        formats: How its APIs are written and read, by name.
        api: The one that prompts are asked through.
        quota: Which quota its calls use.
        known_as: What tells it from other places with the model: its base URL, or the name of its quota, if that was said.
        proxy: The URL of the proxy through which it is reached; None for none, and where a ready client decides.
    """

    name: str
    model: str
    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    credential: Credential = field(repr=False)
    formats: Mapping[str, Format] = field(repr=False)
    api: str
    quota: QuotaKey
    known_as: str
    proxy: str | None = field(default=None, repr=False)

    def format(self, api: str | None = None) -> Format:
        """How `api` is written and read here, by default that of prompts.

        Raises:
            ConfigError: This provider has no such API.
        """
        name = api or self.api
        if name not in self.formats:
            raise ConfigError(
                f"{self.name!r} has no {name}; its provider has {', '.join(self.formats) or 'none of its own'}"
            )
        return self.formats[name]


def place_of(endpoint: Endpoint, environ: Mapping[str, str] = os.environ) -> Place:
    """Find out what `endpoint` leaves open, from the environment variables that the SDKs read.

    Raises:
        ConfigError: The provider is not known, there is no key for it, or it is behind a proxy of an unknown kind.
    """
    provider, slash, model = endpoint.model.partition("/")
    if not slash or not model:
        raise ConfigError(
            f"model {endpoint.model!r} names no provider; write 'openai/{endpoint.model}', or 'sim/...' to try"
        )
    if endpoint.provider is not None:
        return _function(endpoint, model, endpoint.provider)
    vendor = VENDORS.get(provider)
    if vendor is None:
        raise ConfigError(
            f"provider {provider!r} of model {endpoint.model!r} is not known; known are {', '.join(VENDORS)}; 'openai/...' "
            "reaches any OpenAI-compatible server through base_url=, and Endpoint(provider=fn) asks a function of yours"
        )
    if endpoint.client is not None:
        return _ready(endpoint, model, vendor, endpoint.client)
    embedded = provider == "sim" and endpoint.base_url is None
    base_url, key = _embedded(endpoint) if provider == "sim" else _own(endpoint, vendor, environ)
    base_url = _checked(base_url).rstrip("/")
    named = {header: environ[name] for name, header in vendor.headers_in.items() if environ.get(name)}
    custom = _lines(environ.get(vendor.custom_in, ""))
    return Place(
        endpoint.model,
        model,
        base_url,
        headers=joined(vendor.headers, named, custom),
        credential=Credential(key, endpoint.model, secrets=custom.values()),
        formats=vendor.formats,
        api=endpoint.api,
        quota=_quota_of(endpoint, base_url, key if isinstance(key, str) else "", model),
        known_as=endpoint.quota or ("" if embedded else base_url),  # that one has another port in each process
        proxy=None if embedded else proxy_to(base_url),  # what runs in this process is no proxy's to reach
    )


def joined(*headers: Mapping[str, str]) -> dict[str, str]:
    """Headers as one; what a name says, in whatever case, is the last one's to say."""
    said = {name.lower(): (name, value) for each in headers for name, value in each.items()}
    return dict(said.values())


def _lines(text: str) -> dict[str, str]:
    """Headers that are written a line each; lines that are none are passed over, as by the SDKs."""
    pairs = (line.partition(":") for line in text.split("\n"))
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def _embedded(endpoint: Endpoint) -> tuple[str, Key]:
    if endpoint.base_url is not None:
        return endpoint.base_url, endpoint.api_key or "sim"
    url: str = hook("embedded")().url
    return url, "sim"


def _own(endpoint: Endpoint, vendor: Vendor, environ: Mapping[str, str]) -> tuple[str, Key]:
    base_url = endpoint.base_url or first_set(vendor.url_in, environ) or vendor.base_url
    key = endpoint.api_key or first_set(vendor.key_in, environ)
    if not key:
        raise ConfigError(
            f"there is no API key for {endpoint.model!r}: set {' or '.join(vendor.key_in)}, or in code api_key= (any text "
            "for a server that wants none); 'sim/...' needs no key"
        )
    return base_url, key


def _checked(base_url: str) -> str:
    """`base_url`, if it is one, and may be shown: it is in every Result."""
    try:
        parts = urlsplit(base_url)
        _ = parts.port
    except ValueError as exc:
        raise ConfigError(f"base_url must be a URL, got {redacted(base_url)!r} ({exc})") from None
    if "@" in parts.netloc:
        raise ConfigError(
            "base_url must have no user and password in it, for it is shown; "
            "say extra_headers={'Authorization': 'Basic ...'}, or pass a ready client"
        )
    if not base_url.startswith(("http://", "https://")):
        raise ConfigError(f"base_url must start with http:// or https://, got {redacted(base_url)!r}")
    return base_url


def first_set(names: tuple[str, ...], environ: Mapping[str, str]) -> str | None:
    """What the first of these variables says that says anything."""
    return next((environ[name] for name in names if environ.get(name)), None)


def _ready(endpoint: Endpoint, model: str, vendor: Vendor, client: Client) -> Place:
    base_url = redacted(str(client.base_url)).rstrip("/")  # it is in every Result
    # Azure's token providers and Anthropic's auth tokens leave no key: then the URL and the model tell the quota.
    key = client.api_key if isinstance(client.api_key, str) and not any(map(str.isspace, client.api_key)) else ""
    quota = _quota_of(endpoint, base_url, key, model)
    credential = Credential(key, endpoint.model)
    known_as = endpoint.quota or base_url
    return Place(endpoint.model, model, base_url, {}, credential, vendor.formats, endpoint.api, quota, known_as)


def _function(endpoint: Endpoint, model: str, function: Function) -> Place:
    if not callable(function):
        raise ConfigError(f"provider must be an async function of a Request, got {function!r}")
    whose = f"{getattr(function, '__qualname__', type(function).__qualname__)} at {id(function):#x}"
    quota = _quota_of(endpoint, whose, "", model)
    credential = Credential("", endpoint.model)
    return Place(endpoint.model, model, "", {}, credential, {}, endpoint.api, quota, endpoint.quota or "")


def _quota_of(endpoint: Endpoint, base_url: str, key: str, model: str) -> QuotaKey:
    return QuotaKey.of(base_url, key, endpoint.quota or model)


def _check_price(price: tuple[float, ...]) -> None:
    fits = isinstance(price, tuple) and len(price) in (2, 3)
    if not fits or not all(is_number(each) and isfinite(each) and each >= 0 for each in price):
        raise ConfigError(
            f"price must be (input, output) or (input, output, cached input) in USD per million tokens, got {price!r}"
        )
