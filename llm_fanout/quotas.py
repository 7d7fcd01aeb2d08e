"""Who owns a quota: the process. Everyone who calls the same endpoint with the same key for the same model meets here.

A statement of limits is the truth about the account, so the newest one holds for everybody, figure by figure; a figure that
nobody states any more goes with its last holder. A quota is forgotten when nobody holds it, nothing is in flight on it, and
it is as full as a new one: closing a client and opening the next never grants a second burst.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any
from weakref import finalize

from . import clock
from .core.access import Reach
from .core.quota import Quota
from .core.stated import Limits
from .engine import Engine

log = logging.getLogger("llm_fanout")


@dataclass(frozen=True, slots=True)
class QuotaKey:
    """What tells one quota from another. The credential is kept as a digest only."""

    base_url: str
    credential: str
    name: str

    @classmethod
    def of(cls, base_url: str, api_key: str, name: str) -> QuotaKey:
        """The key for these; `name` is the model unless the account says otherwise."""
        return cls(base_url.rstrip("/"), _digest(api_key), name)

    def is_opened_by(self, other: QuotaKey) -> bool:
        """Whether the credential of `other` is its own; one that is not known, for it changes, may be any."""
        return self.credential in (other.credential, _digest(""))

    def reaches(self, other: QuotaKey, reach: Reach) -> bool:
        """Whether what closes one of them, and reaches that far, closes the other. A credential is one of its endpoint: what
        servers that want none are given may be the same word."""
        if reach == "quota":
            return self == other
        return self.base_url == other.base_url and (reach == "endpoint" or self.credential == other.credential)


def _digest(api_key: str) -> str:
    return hashlib.sha256(api_key.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Hold:
    """A quota that is held; `leave()` lets go of it, and does so once however often it is called.

    `state(limits)` says anew what the account may do: the newest statement, which holds for everybody.
    """

    quota: Quota
    leave: Callable[[], object]
    state: Callable[[Limits], None]


@dataclass(slots=True)
class _Entry:
    quota: Quota
    limits: Limits
    holders: dict[int, Limits] = field(default_factory=dict)


class Quotas:
    """All quotas of one process, and the one engine whose schedule holds them."""

    def __init__(self) -> None:
        self.engine = Engine()
        self._entries: dict[QuotaKey, _Entry] = {}
        self._lock = threading.Lock()
        self._tickets = count()
        # A holder may be collected anywhere, also in here under the lock: its leaving is only noted then.
        self._left: deque[tuple[QuotaKey, int]] = deque()

    def join(self, key: QuotaKey, limits: Limits, holder: object) -> Hold:
        """The quota of `key`, which obeys `limits` from now on; held until `leave` or until `holder` is collected."""
        ticket = next(self._tickets)
        with self._lock:
            self._part()
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = _Entry(Quota(limits, kin=partial(self._kin, key)), limits)
            _warn_of_change(key, entry, limits)
            entry.holders[ticket] = limits
            self._obey(entry)
        leave = finalize(holder, self._left.append, (key, ticket))
        leave.atexit = False
        return Hold(entry.quota, leave, partial(self._restate, key, ticket))

    def __len__(self) -> int:
        with self._lock:
            self._part()
            return len(self._entries)

    def _kin(self, key: QuotaKey, reach: Reach) -> list[Quota]:
        """The other quotas that are closed with that of `key`.

        The engine asks under its own lock, which is elsewhere taken under this one: so it is a copy that is looked at, which
        is made in one step of the interpreter.
        """
        entries = tuple(self._entries.items())
        return [entry.quota for other, entry in entries if other != key and key.reaches(other, reach)]

    def _restate(self, key: QuotaKey, ticket: int, limits: Limits) -> None:
        """The holder of `ticket` says something else from now on."""
        with self._lock:
            self._part()
            entry = self._entries[key]
            entry.holders.pop(ticket, None)
            _warn_of_change(key, entry, limits)
            entry.holders[ticket] = limits
            self._obey(entry)

    def _part(self) -> None:
        """Let go of those who left, and forget what nobody needs any more."""
        while self._left:
            key, ticket = self._left.popleft()
            entry = self._entries[key]
            del entry.holders[ticket]
            if entry.holders:
                self._obey(entry)
        now = clock.now()
        for key, entry in tuple(self._entries.items()):
            if not entry.holders and entry.quota.is_unused(now) and self.engine.forget(entry.quota):
                del self._entries[key]

    def _obey(self, entry: _Entry) -> None:
        limits = _newest(entry.holders.values())
        if limits != entry.limits:
            entry.limits = limits
            self.engine.retune(entry.quota, limits)


def _newest(statements: Iterable[Limits]) -> Limits:
    """One statement out of many: of each figure the newest that was given."""
    newest: dict[str, Any] = {}
    for limits in statements:
        newest |= limits.stated()
    return Limits(**newest)


def _warn_of_change(key: QuotaKey, entry: _Entry, limits: Limits) -> None:
    before = entry.limits.stated() if entry.holders else {}
    for name, value in limits.stated().items():
        if before.get(name, value) != value:
            log.warning("%s of %s changes from %s to %s for everybody who uses it", name, key.name, before[name], value)


quotas = Quotas()
