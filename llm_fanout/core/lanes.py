"""Whose turn it is: agents share a quota by weight, and each of them is served in order.

Theory of operation. Lanes form a tree: an agent's lane under that of whoever started it, a run's lane under its agent's.
At every branch the backlogged lane with the smallest *tag* is next. A start raises the tags along its path by its cost over
the lane's weight; the cost is the share of its scarcest resource (requests or tokens) that it takes from the quota. A lane
that had nothing to do comes back at the tag of whoever was picked last: being idle earns nothing, and costs nothing.
A lane that is passed because it is full is charged against all the same, or it would come back in debt to whoever went on.
That is start-time fair queuing (Goyal, Vin, Cheng 1996) over the dominant resource (Ghodsi et al., DRF, 2011).

What is promised, at each branch, for lanes that stay backlogged:

- service in proportion to weight, to within the largest single cost of each lane;
- a bounded wait: between two starts of a lane with weight w, the first of cost c, every other lane with weight v starts at
  most c * v / w of cost and one call more. The longest wait is the sum of that over the others, divided by the quota's rate.

Inside its own lane, priority goes first: interactive calls that an agent makes itself are served before everything else of
that agent, and never out of another agent's share. Background work has a tree of its own, which is looked at only when
nothing else of the quota wants to start; second copies of calls under way have one that comes after that. A lane that is
paused, or has as many calls under way as it may, is passed.

Jobs of one lane and priority are served in the order of their `place`. The head that was picked is not overtaken while it
waits for its tokens, except by a more urgent call of the same lane.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from heapq import heapify, heappop, heappush, heapreplace
from math import floor, inf
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .checks import is_number
from .job import Job, State

if TYPE_CHECKING:
    from .line import Tree

INTERACTIVE, DEFAULT, BACKGROUND = 0, 1, 2
COPY = 3  # of a call that is under way: goes when nobody else at all wants to
WAITING = State.WAITING
PRIORITIES = {"interactive": INTERACTIVE, "default": DEFAULT, "background": BACKGROUND}


def rank_of(priority: str) -> int:
    """The rank of a priority by its name.

    Raises:
        ConfigError: There is no such priority.
    """
    if priority not in PRIORITIES:
        raise ConfigError(f"priority must be one of {', '.join(map(repr, PRIORITIES))}, got {priority!r}")
    return PRIORITIES[priority]


class Lane:
    """One agent's, or one run's, part of whatever quotas it uses.

    Args:
        parent: The lane whose share it shares; None for one at the top.
        weight: Its share against its siblings', > 0.
        max_concurrency: Calls at once, those of lanes below it included; None for no bound of its own.

    Raises:
        ConfigError: A figure is out of its range.
    """

    __slots__ = (
        "__weakref__",
        "_branches",
        "limited",
        "max_concurrency",
        "parent",
        "paused",
        "running",
        "stalled",
        "weight",
    )

    def __init__(self, parent: Lane | None = None, *, weight: float = 1.0, max_concurrency: int | None = None) -> None:
        if not (is_number(weight) and 0 < weight < inf):
            raise ConfigError(f"weight must be a number > 0, got {weight!r}; 2 is twice the share of its neighbours")
        if max_concurrency is not None and not (is_number(max_concurrency) and max_concurrency == max_concurrency // 1 >= 1):
            raise ConfigError(f"max_concurrency must be a whole number >= 1, got {max_concurrency!r}; None sets no bound")
        self.parent = parent
        self.weight = weight
        self.max_concurrency = inf if max_concurrency is None else max_concurrency
        self.paused = False
        self.running = 0
        self.stalled: list[Branch] = []  # where it was passed because it was full
        # Whether it or one above it has a bound of its own: most have none, and then nobody has to count.
        self.limited: bool = max_concurrency is not None or (parent is not None and parent.limited)
        self._branches: dict[Tree, Branch] = {}

    def waiting_in(self, tree: Tree) -> Iterator[Job]:
        """Its own jobs that wait in `tree`, be it paused or full."""
        return (job for _, _, job in self._branches[tree].jobs if job.state is WAITING)

    @property
    def is_full(self) -> bool:
        """Whether nothing more of it may start for now."""
        return self.paused or self.running >= self.max_concurrency

    def branch(self, tree: Tree) -> Branch:
        """Its place in `tree`."""
        branch = self._branches.get(tree)
        if branch is None:
            above = tree.root if self.parent is None else self.parent.branch(tree)
            branch = self._branches[tree] = Branch(self, above, tree)
            tree.lanes.add(self)
        return branch

    def pause(self) -> None:
        """Start nothing of it, nor of those below it."""
        self.paused = True
        for tree in self._branches:
            tree.look_again()

    def leave(self) -> list[Tree]:
        """A call has ended; the trees in which lanes were passed that can go on now. Only if it is `limited`."""
        woken: list[Tree] = []
        lane: Lane | None = self
        while lane is not None and lane.limited:  # those above one that is not are not, either: nobody counts there
            lane.running -= 1
            woken += lane.reopen()
            lane = lane.parent
        return woken

    def reopen(self) -> list[Tree]:
        """Queue again where it was passed, if it is not full any more; the trees where that is so."""
        if self.is_full or not self.stalled:
            return []
        stalled, self.stalled = self.stalled, []
        for branch in stalled:
            branch.stalled = False
            assert branch.above is not None
            branch.above.passed -= 1
            credit = branch.credit
            branch.queue_up()
            branch.credit = credit  # it had more to do all the while
        return [branch.tree for branch in stalled]


class Branch:
    """A lane in one tree: the jobs that wait in it, or the branches below it in which some do."""

    __slots__ = (
        "above",
        "below",
        "clock",
        "credit",
        "entry",
        "jobs",
        "lane",
        "passed",
        "per_cost",
        "stalled",
        "tag",
        "tree",
    )

    def __init__(self, lane: Lane, above: Branch | None, tree: Tree) -> None:
        self.lane = lane
        self.above = above
        self.tree = tree
        self.per_cost = 1.0 / lane.weight
        self.tag = 0.0
        self.clock = 0.0  # the tag of the branch below that was picked last
        self.credit = 0.0  # cost that was charged and then not used: taken off the next charge
        self.entry: _Entry | None = None  # the one entry above that is true; None while it is not queued
        self.stalled = False
        self.passed = 0  # branches below that stand aside
        self.below: list[_Entry] = []
        self.jobs: list[tuple[float, int, Job]] = []  # rank, place, job

    def queue_up(self) -> None:
        """Stand among its siblings, and see to it that those above do."""
        self.tree.look_again()
        branch, above = self, self.above
        while above is not None and not branch.stalled and branch.entry is None:
            branch.tag = max(branch.tag, above.clock)
            branch.credit = 0.0  # what was charged while others waited as well; now it starts afresh
            branch._stand(above)
            branch, above = above, above.above

    def rank_up(self) -> None:
        """Its first job is more urgent than it was: go before less urgent siblings."""
        if self.entry is not None and self.above is not None and self.jobs and self.jobs[0][0] < self.entry[0]:
            self._stand(self.above)

    def first_job(self) -> Job | None:
        """The first job that still waits here."""
        jobs = self.jobs
        while jobs:
            job = jobs[0][2]
            if job.state is WAITING:
                return job
            heappop(jobs)
        return None

    def remove(self, jobs: Collection[Job]) -> None:
        """Take out those of `jobs` that wait here."""
        self.jobs = [entry for entry in self.jobs if entry[2] not in jobs]
        heapify(self.jobs)

    def first_below(self) -> Branch | None:
        """The branch below whose turn it is; those that are full are passed, and stand aside."""
        below = self.below
        while below:
            entry = below[0]
            branch = entry[3]
            if branch.entry is not entry:
                heappop(below)  # it has been queued anew since
                continue
            lane = branch.lane
            if not (lane.paused or lane.running >= lane.max_concurrency):
                return branch
            heappop(below)
            branch.entry = None
            branch.stalled = True
            lane.stalled.append(branch)
            self.passed += 1
        return None

    def charge(self, cost: float, above: Branch) -> None:
        """One of its jobs starts: its tag rises, and it goes back among its siblings below `above`."""
        cost *= self.per_cost
        if self.credit:
            back = min(self.credit, cost)
            self.credit -= back
            cost -= back
        self.tag += cost
        if self.jobs or self.below:
            self._stand(above)
        else:
            heappop(above.below)
            self.entry = None

    def _stand(self, above: Branch) -> None:
        jobs, tree, below = self.jobs, self.tree, above.below
        tree.serial += 1
        rank = floor(jobs[0][0]) if jobs and jobs[0][0] < DEFAULT else DEFAULT
        entry = (rank, self.tag, tree.serial, self)
        if below and below[0] is self.entry:
            heapreplace(below, entry)  # one step instead of two
        else:
            heappush(below, entry)
        self.entry = entry


_Entry = tuple[int, float, int, Branch]  # rank, tag, a serial number for equals, the branch
