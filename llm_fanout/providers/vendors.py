"""Who runs models, where, and how each wants to be spoken to: one row for each name before the slash of "provider/model".

Sources: the openai SDK 3.57 and the anthropic SDK 2.14 (base URLs, environment variables, headers), and Google's page on the
OpenAI compatibility of the Gemini API, read 2026-11.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from . import FORMATS, messages
from .format import Format
from .reply import Reply


@dataclass(frozen=True, slots=True)
class Vendor:
    """One row.

    Attributes:
        formats: How each of its APIs is written and read, by the name of the API.
        base_url: Where it is, unless somebody says otherwise.
        url_in: The environment variables that say otherwise, the first one first.
        key_in: The environment variables that hold a key.
        headers: Headers that every request has.
        headers_in: Environment variables of more headers.
        custom_in: The environment variable that has still more, a line each: "Name: value".
        prices: What the price list calls it.
    """

    formats: Mapping[str, Format]
    base_url: str = ""
    url_in: tuple[str, ...] = ()
    key_in: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    headers_in: Mapping[str, str] = field(default_factory=dict)
    custom_in: str = ""
    prices: str = ""


_OPENAI = {name: FORMATS[name] for name in ("chat", "responses", "embeddings")}

VENDORS: Mapping[str, Vendor] = {
    "openai": Vendor(
        _OPENAI,
        base_url="https://api.openai.com/v1",
        url_in=("OPENAI_BASE_URL",),
        key_in=("OPENAI_API_KEY",),
        headers_in={"OPENAI_ORG_ID": "OpenAI-Organization", "OPENAI_PROJECT_ID": "OpenAI-Project"},
        custom_in="OPENAI_CUSTOM_HEADERS",
        prices="openai",
    ),
    "anthropic": Vendor(
        {"chat": FORMATS["messages"]},
        base_url="https://api.anthropic.com",
        url_in=("ANTHROPIC_BASE_URL",),
        key_in=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
        headers={"anthropic-version": messages.VERSION},
        custom_in="ANTHROPIC_CUSTOM_HEADERS",
        prices="anthropic",
    ),
    "gemini": Vendor(
        {"chat": FORMATS["chat"], "embeddings": FORMATS["embeddings"]},
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        url_in=("GEMINI_BASE_URL",),
        key_in=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        prices="google",
    ),
    "sim": Vendor(_OPENAI),
}


def vendor_at(base_url: str, form: Format) -> str:
    """Who is there, by the name before the slash; at an address of nobody's, one who speaks that API."""
    for name, vendor in VENDORS.items():
        if vendor.base_url == base_url:
            return name
    return "anthropic" if form.name == messages.API else "openai"


def decode(raw: bytes, name: str) -> Reply:
    """What the answer `raw`, which came in the format of that name, says. It was read once, so it can be."""
    return FORMATS[name].read(raw)


def response(raw: bytes, name: str) -> object:
    """The answer `raw` as the SDK's own object."""
    return FORMATS[name].response(raw)
