"""The formats that APIs speak: how a request is written, and how an answer is read, whole or streamed.

A format is pure. To add one, write a module with a class that has the members of `Format`, one table of parameters for
`translated`, and name it in `FORMATS` of this package. The client does the sending, and knows none of them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ..errors import Rejected
from .reply import Reply
from .request import Request
from .sse import Event


class Format(Protocol):
    """How one API is written and read."""

    @property
    def name(self) -> str:
        """What it is called: "chat", "responses", "messages", "embeddings"."""

    @property
    def path(self) -> str:
        """Where it is, below the provider's base URL: "/chat/completions"."""

    def said(self, request: Request) -> dict[str, Any]:
        """The fields of the body that say the messages; what `frame` has of the same name counts before it.

        Raises:
            Rejected: Of kind "invalid"; this API cannot take a part of a message, which is named.
        """

    def frame(self, request: Request) -> dict[str, Any]:
        """All other fields of the body: they do not depend on the messages. `extra_body` is put in last, as it is.

        Raises:
            Rejected: Of kind "invalid"; this API cannot take a parameter, which is named.
        """

    def read(self, raw: bytes) -> Reply:
        """The answer in `raw`, which was not streamed.

        Raises:
            ProviderError: It carries an error.
            ValueError: It is no answer of this API. Nothing else is raised, whatever the bytes.
        """

    def assembler(self) -> Assembler:
        """A new assembler for one streamed answer. Raises Rejected where this API does not stream."""

    def response(self, raw: bytes) -> object:
        """The answer as the SDK's own object; of its type even where its types refuse the answer.

        Raises:
            ValueError: It is not even a JSON object.
            ImportError: The SDK is not installed; the message says how to.
        """


class Assembler(Protocol):
    """Puts one streamed answer together, in time that is linear in its size."""

    @property
    def is_over(self) -> bool:
        """Whether the end was said: nothing more is to come."""

    def feed(self, event: Event) -> str:
        """Take the next event; gives the text that it adds, "" for none.

        Raises:
            ProviderError: It is an error.
            ValueError: It cannot be read.
        """

    def whole(self) -> bytes:
        """What came so far, in the shape of an answer that was not streamed; without a finish reason if none came.

        Raises:
            ValueError: It is nested too deep to be written.
        """


Rule = Callable[[Any], Mapping[str, Any]]  # a parameter's value -> the body's fields that say it

APART = frozenset({"extra_body", "extra_headers"})  # parameters that are no fields of any body


def under(*path: str) -> Rule:
    """A rule that puts the value, as it is, into the body under these names."""

    def fields(value: object) -> Mapping[str, Any]:
        for name in reversed(path):
            value = {name: value}
        return value  # type: ignore[return-value]  # every path has a name

    return fields


def translated(params: Mapping[str, Any], rules: Mapping[str, Rule], api: str) -> dict[str, Any]:
    """The body's fields that say `params`.

    Args:
        params: By the SDK's names; None is as good as not said.
        rules: What this API takes. They are applied in this order: of two that say a field, the later one is right.
        api: Its name, for the message.

    Raises:
        Rejected: The API takes no such parameter.
    """
    given = {name: value for name, value in params.items() if value is not None and name not in APART}
    body: dict[str, Any] = {}
    for name in given:
        if name not in rules:
            raise cannot_take(api, name)
    for name in rules:
        if name in given:
            add(body, rules[name](given[name]))
    return body


def add(body: dict[str, Any], fields: Mapping[str, Any]) -> None:
    """Put `fields` into `body`; objects under one name are joined."""
    for name, value in fields.items():
        old = body.get(name)
        body[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value


def extras(request: Request) -> Mapping[str, Any]:
    """What goes into the body as it is, after everything else."""
    return request.params.get("extra_body") or {}


def cannot_take(api: str, name: str) -> Rejected:
    """The error that says so."""
    return Rejected(
        f"the {api} API cannot take {name}; leave it out, or send something of that name as it is through extra_body=",
        kind="invalid",
    )
