"""A request that an SDK has made, as far as we have to understand it: whose quota it takes, and about how much of it.

What is sent are its own bytes. They are read to reserve tokens, to keep budgets, and to know how the answer is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

from ..providers import FORMATS
from ..providers.chat import wants_max_completion_tokens
from ..providers.format import Format
from ..providers.reading import document, encoded, mapping, rows, text
from ..providers.request import Request

Pairs = Iterable[tuple[bytes, bytes]]
Fields = Mapping[str, Any]

# What belongs to one connection (RFC 9110, 7.6.1), or is the wire's to say: how it packs what it gets, and where that ends.
HOP = frozenset({"host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length"})
NOT_SENT = HOP | {"accept-encoding", "proxy-authorization", "proxy-connection"}
KEYS = ("authorization", "x-api-key", "api-key")  # headers with a key: OpenAI's and most, Anthropic's older, Azure's
NO_KEY = "none"

# Messages is called with its version in the path by the SDK, and without by some gateways. In a thread it is another API.
PATHS: Mapping[str, Format] = {**{form.path: form for form in FORMATS.values()}, "/messages": FORMATS["messages"]}
_OTHERS = re.compile("/threads/[^/]+/messages$")
_DEPLOYMENT = re.compile(
    "/deployments/[^/]+$"
)  # Azure's: the SDK puts it in front of the path, and it is no part of the base


@dataclass(slots=True, eq=False)
class Sent:
    """A request of an API that we know.

    Attributes:
        url: Where it goes.
        headers: Those that are sent.
        body: Its bytes.
        fields: What they say.
        form: The API.
        base_url: Where that begins.
        key: What the quota is told by: its key, if there is one.
        request: The same in our words, as far as its tokens go.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes
    fields: Fields
    form: Format
    base_url: str
    key: str
    request: Request

    @classmethod
    def of(cls, method: str, url: str, headers: Pairs, body: bytes) -> Sent | None:
        """The request of these; None if it is none that we know: not of these APIs, without a model, or no JSON.

        Args:
            method: In upper case.
            url: The whole of it.
            headers: As they would be sent.
            body: As it would be sent.
        """
        place = _place_of(url.partition("?")[0]) if method == "POST" else None
        if place is None:
            return None
        try:
            fields = document(body)
        except ValueError:
            return None
        model = text(fields.get("model"))
        if not model:
            return None
        form, base_url = place
        lower = _lower(headers)
        sent = {name: value for name, value in lower.items() if name not in NOT_SENT}
        return cls(url, sent, body, fields, form, base_url, _key_in(lower), _asked(form, model, fields))

    def body_for(self, request: Request) -> bytes:
        """What is sent for `request`, which asks the same, but may bound the answer."""
        most = request.max_tokens
        if most == self.request.max_tokens:
            return self.body
        return encoded({**self.fields, _bound_in(self.form, request.model): most})


@lru_cache(maxsize=64)
def _place_of(address: str) -> tuple[Format, str] | None:
    """The API that is called there, and its base URL; None for any other address."""
    path = next((path for path in PATHS if address.endswith(path)), None)
    if path is None or _OTHERS.search(address):
        return None
    scheme, _, rest = _DEPLOYMENT.sub("", address.removesuffix(path)).partition("://")
    host, slash, below = rest.partition("/")
    return PATHS[path], f"{scheme}://{host.rpartition('@')[2]}{slash}{below}"


def _lower(headers: Pairs) -> dict[str, str]:
    """Headers by their names in lower case; several of one name are one, as RFC 9110 (5.3) says."""
    said: dict[str, str] = {}
    for raw, value in headers:
        name = raw.decode("latin-1").lower()
        here = value.decode("utf-8", "surrogateescape")
        said[name] = f"{said[name]}, {here}" if name in said else here
    return said


def _key_in(headers: Mapping[str, str]) -> str:
    """The key that is in them; a digest of what cannot be one, and a word where there is none."""
    said = next((headers[name] for name in KEYS if headers.get(name)), NO_KEY)
    key = said.removeprefix("Bearer ")
    if key.isascii() and not any(map(str.isspace, key)):
        return key
    return sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _bound_in(form: Format, model: str) -> str:
    """The field that bounds an answer."""
    if form.name == "responses":
        return "max_output_tokens"
    return "max_completion_tokens" if form.name == "chat" and wants_max_completion_tokens(model) else "max_tokens"


# What it asks, in our words


def _asked(form: Format, model: str, fields: Fields) -> Request:
    declared = {name: fields[name] for name in ("tools", "functions", "response_format") if fields.get(name)}
    params: dict[str, Any] = {**declared, **_bound(fields)}
    if isinstance(number := fields.get("n"), int) and number > 1:
        params["extra_body"] = {"n": number}
    if schema := mapping(fields.get("text")).get("format"):
        params["response_format"] = schema
    return Request(model, _MESSAGES[form.name](fields), params, stream=fields.get("stream") is True)


def _bound(fields: Fields) -> Mapping[str, int]:
    """How long the answer may be, under whichever name it is said; nothing if it is not said."""
    for name in ("max_completion_tokens", "max_output_tokens", "max_tokens"):
        most = fields.get(name)
        if isinstance(most, int) and most >= 1:
            return {"max_tokens": most}
    return {}


def _of_chat(fields: Fields) -> Sequence[Fields]:
    return rows(fields.get("messages"))


def _of_responses(fields: Fields) -> Sequence[Fields]:
    said = fields.get("input")
    items = [{"role": "user", "content": said}] if isinstance(said, str) else rows(said)
    instructions = text(fields.get("instructions"))
    return [{"role": "system", "content": instructions}, *items] if instructions else items


def _of_messages(fields: Fields) -> Sequence[Fields]:
    turns, system = rows(fields.get("messages")), fields.get("system")
    return [{"role": "system", "content": system}, *turns] if system else turns


def _of_embeddings(fields: Fields) -> Sequence[Fields]:
    """A message for each text. A text may be written as the numbers of its tokens; as many words count a little more."""
    said = fields.get("input")
    texts = said if isinstance(said, list) and not all(isinstance(each, int) for each in said) else [said]
    return [{"content": "a " * len(each) if isinstance(each, list) else each} for each in texts]


_MESSAGES: Mapping[str, Callable[[Fields], Sequence[Fields]]] = {
    "chat": _of_chat,
    "responses": _of_responses,
    "messages": _of_messages,
    "embeddings": _of_embeddings,
}
