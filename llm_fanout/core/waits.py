"""What the first call in a line waits for, and for how long it was what: the longest is what binds."""

from __future__ import annotations

from math import inf
from typing import Literal

Binding = Literal["concurrency", "requests", "tokens", "input", "output", "day", "permits", "gate", "outage", "closed"]


class Waits:
    """Seconds by limit. While calls start one after another as fast as a limit lets them, it counts as that limit's all the
    time.

    Attributes:
        limit: What is waited for now; None if there is nobody in line.
    """

    __slots__ = ("_held", "_since", "limit")

    def __init__(self) -> None:
        self.limit: Binding | None = None
        self._held: dict[Binding, float] = {}
        self._since = -inf

    def turn_to(self, limit: Binding | None, now: float) -> None:
        """The first call in line waits for `limit` from now on; None if there is nobody in line."""
        if limit != self.limit:
            if self.limit is not None:
                self._held[self.limit] = self._held.get(self.limit, 0.0) + now - self._since
            self.limit, self._since = limit, now

    def held(self, now: float) -> dict[Binding, float]:
        """How long, in seconds and per limit, the first call in line waited for it."""
        held = dict(self._held)
        if self.limit is not None:
            held[self.limit] = held.get(self.limit, 0.0) + now - self._since
        return held
