"""Identical calls that are under way at once, made once."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable
from typing import Any, Protocol
from weakref import WeakKeyDictionary


class Call(Protocol):
    """A call on its way.

    Attributes:
        followers: Calls that wait for its answer, in order; they go on without it, if need be.
    """

    work: Any
    followers: dict[Any, None] | None


class Shared:
    """The calls under way on one event loop, by what they ask."""

    def __init__(self) -> None:
        self._leaders: dict[tuple[bytes, Hashable], Any] = {}

    def sift(self, calls: Iterable[Any], payers: Hashable = ()) -> list[Any]:
        """Those of `calls` that have to be made; the others follow one under way that the same budgets pay for."""
        left = []
        for call in calls:
            leader = self._leaders.setdefault((call.work.digest, payers), call)
            if leader is call:
                call.followers = {}
                left.append(call)
            else:
                leader.followers[call] = None
                call.leader = leader
        return left

    def over(self, leader: Call, payers: Hashable = ()) -> list[Any]:
        """Those that waited for the answer of `leader`, which has come."""
        followers, leader.followers = leader.followers, None
        if followers is None:
            return []
        del self._leaders[leader.work.digest, payers]
        return list(followers)


class SharedHere:
    """One `Shared` for each event loop: a call is only waited for where it is made."""

    def __init__(self) -> None:
        self._shared: WeakKeyDictionary[asyncio.AbstractEventLoop, Shared] = WeakKeyDictionary()

    def here(self) -> Shared:
        """That of the running loop."""
        return self._shared.setdefault(asyncio.get_running_loop(), Shared())
