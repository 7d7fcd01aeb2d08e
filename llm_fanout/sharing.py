"""Identical calls that are under way at once, made once."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, Protocol


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
        # As it was when they were asked: whoever adds to the messages of a prompt meanwhile has made another of it.
        self._asked: dict[Any, tuple[bytes, Hashable]] = {}

    def sift(self, calls: Iterable[Any], payers: Hashable = ()) -> list[Any]:
        """Those of `calls` that have to be made; the others follow one under way that the same budgets pay for."""
        left = []
        for call in calls:
            asked = call.work.digest, payers
            leader = self._leaders.setdefault(asked, call)
            if leader is call:
                call.followers = {}
                self._asked[call] = asked
                left.append(call)
            else:
                leader.followers[call] = None
                call.leader = leader
        return left

    def over(self, leader: Call) -> list[Any]:
        """Those that waited for the answer of `leader`, which has come."""
        followers, leader.followers = leader.followers, None
        if followers is None:
            return []
        del self._leaders[self._asked.pop(leader)]
        return list(followers)
