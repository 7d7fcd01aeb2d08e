"""Bodies of requests: as fields, or as the bytes that are sent. What the requests of a run share is written once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from .format import Format
from .reading import encoded
from .request import Request


def body_of(form: Format, request: Request) -> dict[str, Any]:
    """The body that asks for `request` in the words of `form`.

    Raises:
        Rejected: Of kind "invalid"; this API cannot take a parameter or a part of a message, which is named.
    """
    return {**form.said(request), **form.frame(request)}


class _Frame(NamedTuple):
    """What was written of a request besides its messages, and what that was made of."""

    params: Mapping[str, Any]
    model: str
    schema: object
    stream: bool
    names: frozenset[str]
    rest: bytes  # what follows after the messages: `,"model":...}`

    def holds_for(self, request: Request) -> bool:
        """Whether `request` has the same: the very objects, for to compare them would cost more than to write them."""
        return (
            self.params is request.params
            and self.model is request.model
            and self.schema is request.schema
            and self.stream is request.stream
        )


class Writer:
    """Writes requests as JSON.

    Of one request after another that have the same parameters and the same first message (the very objects: those of a run,
    and its instructions) these are written once. So what is changed in them between two calls of a run is not seen.

    Args:
        form: In whose words.
    """

    def __init__(self, form: Format) -> None:
        self._form = form
        self._frame: _Frame | None = None
        self._first: tuple[object, msgspec.Raw | None] = None, None

    def write(self, request: Request) -> bytes:
        """The body of `request`.

        Raises:
            Rejected: As for `body_of`.
            TypeError: Something in it cannot be written as JSON.
            ValueError: It is nested too deep.
        """
        frame = self._frame
        if frame is None or not frame.holds_for(request):
            frame = self._frame = self._framed(request)
        said = self._form.said(request)
        if not frame.names.isdisjoint(said):
            return encoded(body_of(self._form, request))
        if messages := said.get("messages"):
            messages[0] = self._known(messages[0])
        try:
            return msgspec.json.encode(said)[:-1] + frame.rest
        except (TypeError, UnicodeEncodeError):
            return encoded(body_of(self._form, request))

    def _framed(self, request: Request) -> _Frame:
        fields = self._form.frame(request)
        rest = b"," + encoded(fields)[1:]
        return _Frame(request.params, request.model, request.schema, request.stream, frozenset(fields), rest)

    def _known(self, message: object) -> object:
        """The first message of a conversation: written already, if the one before began with it."""
        first, fragment = self._first
        if first is not message:
            self._first = message, None
            return message
        if fragment is None:
            fragment = msgspec.Raw(encoded(message))
            self._first = message, fragment
        return fragment
