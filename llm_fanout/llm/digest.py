"""What tells one call from another: a digest of everything that shapes its answer, and of nothing else.

A journal is looked up by it, so it must never change for the same call: what is digested has a version, and tests hold it to
digests that were made by the first one. In it are where the call goes (provider, model, API, base URL; the name of the quota
instead of the URL where the Endpoint has one, for then several URLs are one place), its parameters, the schema of its
answer, and its messages. Not in it are the key, headers, timeouts, how it is sent, and what it is called.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

VERSION = b"llm_fanout call 1"
SIZE = 16  # bytes; among a million calls two alike by chance: once in 10**26
NO_SHAPE = frozenset({"extra_headers", "metadata", "service_tier"})  # parameters that say how it is sent, or booked

_written = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=repr).encode


class Frame:
    """What the calls of a run share of that; `digest` is made when it is first asked for, and all that a pickle carries.

    Args:
        places: Of each place that a call may go to first: model with its provider, API, and base URL or name.
        params: The parameters of its request.
        system: The message before every prompt, if there is one.
        schema: The JSON schema of its answer, if there is one.
    """

    __slots__ = ("_digest", "_said")

    def __init__(
        self,
        places: Iterable[Sequence[str]],
        params: Mapping[str, Any],
        system: Mapping[str, Any] | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> None:
        self._said = places, params, system, schema
        self._digest = b""

    @property
    def digest(self) -> bytes:
        """That of all this."""
        if not self._digest:
            places, params, system, schema = self._said
            shaping = {name: value for name, value in params.items() if name not in NO_SHAPE}
            said = [sorted({tuple(place) for place in places}), shaping, system, schema]
            self._digest = _digest(VERSION, _canonical(said))
        return self._digest

    def digest_of(self, content: object) -> bytes:
        """That of one call: this, and its prompt, a text or a list of messages.

        A text is one message of the user's: written either way, it is the same call.
        """
        text = content if isinstance(content, str) else _lone_text(content)
        if text is not None:
            return _digest(self.digest, b"t", text.encode("utf-8", "surrogatepass"))
        return _digest(self.digest, b"m", _canonical(content))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.digest,)


def _restored(digest: bytes) -> Frame:
    frame = Frame((), {})
    frame._digest = digest
    return frame


def _lone_text(content: object) -> str | None:
    if isinstance(content, list) and len(content) == 1 and content[0].keys() == {"role", "content"}:
        role, said = content[0]["role"], content[0]["content"]
        return said if role == "user" and isinstance(said, str) else None
    return None


def _canonical(said: object) -> bytes:
    """`said` as JSON, the same however it was put: the order of names, a tuple for a list, 1.0 for 1."""
    return _written(_plain(said)).encode()


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):  # an SDK's object, a tool perhaps
        value = value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _digest(*parts: bytes) -> bytes:
    return blake2b(b"".join(parts), digest_size=SIZE).digest()
