"""What a line of jobs waits for: one quota, or several of which each job takes the one that has most left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .access import Closure
    from .job import Cost
    from .quota import Lease, Quota
    from .waits import Binding, Waits


class Source(Protocol):
    """Where capacity comes from.

    Attributes:
        waits: What the first job in line waits for.
    """

    waits: Waits

    @property
    def chosen(self) -> Quota:
        """The member that the last `ready_at` spoke of; its `why` says what for, if that was not in time."""

    @property
    def members(self) -> Sequence[Quota]:
        """The quotas from one of which a lease is taken: at least one, each of them once."""

    @property
    def width(self) -> float:
        """Calls that may be in flight at once, as of now; `inf` if that is not limited."""

    @property
    def is_full(self) -> bool:
        """Whether every slot is in use."""

    @property
    def is_trusted(self) -> bool:
        """Whether anybody there ever answered, so that waiting for the end of an outage is better than to fail."""

    @property
    def is_shut(self) -> bool:
        """Whether nobody there takes calls for now: each member is down or closed."""

    @property
    def closure(self) -> Closure | None:
        """Since when and why nobody is let in, where every member is closed; the latest of them."""

    @property
    def stands_still_for(self) -> Binding | None:
        """What nothing at all starts for just now, while somebody waits: a told wait or an outage."""

    def probe_at(self) -> float:
        """While it is shut: the instant at which one call may look whether it is so still; `inf` while one is looking."""

    def fits_ever(self, cost: Cost) -> bool:
        """Whether `cost` can be granted at all."""

    def share_of(self, cost: Cost) -> float:
        """How much of the scarcest rate `cost` takes, in calls: what a lane is charged for it."""

    def ready_at(self, cost: Cost, now: float) -> float:
        """The instant at which `cost` is admitted, <= `now` if it is already; `inf` if only a `give` can tell."""

    def take(self, cost: Cost, now: float) -> Lease:
        """Take `cost`, right after `ready_at(cost, now)` was in time."""
