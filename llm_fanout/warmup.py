"""One call of each group with a long common beginning goes first: then the provider has that in its cache for the rest."""

from __future__ import annotations

from typing import Any

from .call import Call
from .results import Result


class WarmUp:
    """The gate of a run whose groups are begun by one call each.

    The others go on when its answer has begun, for then its prompt was read; or when it has ended, however that was.
    """

    takes_all = False

    def __init__(self) -> None:
        self._waiting: dict[bytes, list[Call[Any]]] = {}  # by group, as long as its first call is on its way
        self._first: dict[Call[Any], bytes] = {}
        self._warm: set[bytes] = set()

    def sift(self, calls: list[Call[Any]]) -> list[Call[Any]]:
        """Those of `calls` that need not wait for another of their group."""
        return [call for call in calls if self._passes(call, call.work.prefix)]

    def complete(self) -> list[Call[Any]]:
        """All calls of the run are there."""
        return []

    def begun(self, call: Call[Any]) -> list[Call[Any]]:
        """The answer to `call` has begun: those that may go on now."""
        group = self._first.pop(call, None)
        if group is None:
            return []
        self._warm.add(group)
        return self._waiting.pop(group)

    def over(self, call: Call[Any], result: Result[Any]) -> list[Call[Any]]:
        """`call` has ended: those that may go on now."""
        return self.begun(call)

    def send_away(self) -> list[Call[Any]]:
        """The run ends: all that it holds."""
        gone = [call for calls in self._waiting.values() for call in calls]
        self._waiting = {group: [] for group in self._waiting}
        return gone

    def _passes(self, call: Call[Any], group: bytes | None) -> bool:
        if group is None or group in self._warm:
            return True
        if group in self._waiting:
            self._waiting[group].append(call)
            return False
        self._waiting[group] = []
        self._first[call] = group
        call.work.is_first = True
        return True
