"""Several quotas for the same calls (keys, endpoints): each call goes where most is left at the instant in which it starts.

Theory of operation. Jobs wait in one line for all of them, so none waits behind a full quota while another is free, and
whatever each of them has is used. What is left is relative: the smallest share that is free of any limit, slots included, so
that quotas of different sizes are filled to the same degree.

A member that is gated, down, or closed is passed. When it is down a call goes there all the same as often as its breaker
probes; a closed one is left alone while another is open. One whose last calls failed comes last: a server that refuses all
connections at once is always free.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

from ..errors import ConfigError
from .access import Closure
from .job import Cost
from .quota import Lease, Quota
from .source import Source
from .waits import Binding, Waits


class Pool:
    """A source of several quotas.

    Args:
        members: The quotas; at least one, each counts once.

    Raises:
        ConfigError: There is none.
    """

    __slots__ = ("chosen", "members", "waits")

    def __init__(self, members: Iterable[Quota]) -> None:
        self.members = tuple(dict.fromkeys(members))
        if not self.members:
            raise ConfigError("a pool needs at least one quota")
        self.waits = Waits()
        self.chosen = self.members[0]

    @property
    def width(self) -> float:
        """Calls that may be in flight at once, as of now."""
        return sum(member.width for member in self.members)

    @property
    def is_full(self) -> bool:
        """Whether every slot of every member is in use."""
        return all(member.is_full for member in self.members)

    @property
    def is_trusted(self) -> bool:
        """Whether any member ever answered."""
        return any(member.is_trusted for member in self.members)

    @property
    def is_shut(self) -> bool:
        """Whether each member is down or closed."""
        return all(member.is_shut for member in self.members)

    @property
    def closure(self) -> Closure | None:
        """The latest closure, where every member is closed."""
        latest: Closure | None = None
        for member in self.members:
            closure = member.closure
            if closure is None:
                return None
            if latest is None or closure.at > latest.at:
                latest = closure
        return latest

    @property
    def stands_still_for(self) -> Binding | None:
        """What nothing starts for at any member."""
        limit = self.waits.limit
        return limit if limit in ("gate", "outage") and sum(member.slots.in_use for member in self.members) <= 1 else None

    def probe_at(self) -> float:
        """The first instant at which one of them may be probed."""
        return min(member.probe_at() for member in self.members)

    def fits_ever(self, cost: Cost) -> bool:
        """Whether any member can grant `cost`."""
        return any(member.fits_ever(cost) for member in self.members)

    def share_of(self, cost: Cost) -> float:
        """The mean of the members' shares: which one will be taken is not known when a lane is charged."""
        return sum(member.share_of(cost) for member in self.members) / len(self.members)

    def ready_at(self, cost: Cost, now: float) -> float:
        """The first instant at which a member admits `cost`."""
        self.chosen, ready = best_of(self, self.members, cost, now)
        return ready

    def take(self, cost: Cost, now: float) -> Lease:
        """Take from the member that `ready_at` has found."""
        return self.chosen.take(cost, now)


def best_of(source: Source, members: Sequence[Quota], cost: Cost, now: float) -> tuple[Quota, float]:
    """Of `members` of `source` the one to take `cost` from, and when: of those that admit it now, the one with most left."""
    open_ = [member for member in members if member.closure is None] or members
    are_shut = all(member.is_shut for member in open_)
    best, first, most = open_[0], inf, -inf
    for member in open_:
        ready = member.ready_at(cost, now, source)
        if not are_shut and member.is_shut:
            ready = max(ready, member.probe_at())  # also where it is not trusted: there are others to go to
        if ready > now:
            if ready < first:
                best, first = member, ready
        elif (left := member.left(cost, now)) > most or first > now:
            best, first, most = member, now, left
    return best, first
