"""The key of an endpoint: what carries it, where it came from, and how it is kept out of every text."""

from __future__ import annotations

import inspect
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import takewhile
from typing import TypeVar

from ..errors import ConfigError

SHORTEST_SECRET = 8  # characters; shorter "keys" are the words that servers without keys are given
SECRETIVE = re.compile("auth|key|token|secret|cookie|pass", re.IGNORECASE)  # names of headers: others say plain words
REMEMBERED = 8  # keys of one that changes which are still kept out of texts

T = TypeVar("T")
Key = str | Callable[[], Awaitable[str]]


class Credential:
    """A key, or a function that gives the one that is valid now.

    Args:
        key: Either.
        whose: Whose it is, for messages.
        secrets: What other headers say, which may hold a key as well: "Bearer sk-...".

    Attributes:
        key: It; empty if it changes.
        fixed: The headers that carry it; None if it changes.

    Raises:
        ConfigError: The key cannot be in a header.
    """

    def __init__(self, key: Key, whose: str, *, secrets: Iterable[str] = ()) -> None:
        self.key = key if isinstance(key, str) else ""
        self._ask = None if isinstance(key, str) else key
        self._whose = whose
        self._others = [word for secret in secrets for word in secret.split()]
        self._seen: deque[str] = deque(maxlen=REMEMBERED)
        self.fixed: Mapping[str, str] | None = self._carry(key) if isinstance(key, str) else None

    async def headers(self) -> Mapping[str, str]:
        """The headers that carry the key that is valid now; raises whatever the user's function raises."""
        if self._ask is None:
            return self.fixed or {}
        key = await awaited(self._ask(), self._ask)
        if not isinstance(key, str):
            raise ConfigError(f"api_key={self._ask!r} gave {type(key).__name__}; it must give the key as text")
        return self._carry(key)

    def blot(self, text: str, headers: Mapping[str, str] | None = None) -> str:
        """`text` with every key blotted out, should one be in there, be it cut off; also those in `headers` of one call."""
        own = [word for name, said in (headers or {}).items() if SECRETIVE.search(name) for word in str(said).split()]
        for key in (*self._seen, *self._others, *own):
            if len(key) >= SHORTEST_SECRET:
                text = _without(text, key)
        return text

    def _carry(self, key: str) -> Mapping[str, str]:
        if not key.isascii() or any(character.isspace() for character in key):
            raise ConfigError(f"the API key for {self._whose!r} has a space, a line break or a non-ASCII character in it")
        if key not in self._seen:
            self._seen.append(key)
        return {"Authorization": f"Bearer {key}"}  # as all vendors have it, Anthropic since its API of 2026-10-21


async def awaited(answer: Awaitable[T], function: object) -> T:
    """What `function`, which gave `answer`, gives in the end. Raises TypeError if it is not async."""
    if not inspect.isawaitable(answer):
        raise TypeError(f"{function!r} is not async: it returned {type(answer).__name__}; define it with `async def`")
    return await answer


def _without(text: str, key: str) -> str:
    """`text` without `key`, and without what there is of it where it was cut off."""
    begun, rest = key[:SHORTEST_SECRET], key[SHORTEST_SECRET:]
    first, *parts = text.split(begun)
    return "***".join([first, *(part[_agreeing(part, rest) :] for part in parts)])


def _agreeing(part: str, rest: str) -> int:
    """How many characters the two have in common before they differ."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(part, rest, strict=False)))
