"""The jobs that wait for one source: lanes that take turns (see `lanes`), and more of them for background work."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING
from weakref import WeakSet

from .job import Job, State
from .lanes import BACKGROUND, COPY, DEFAULT, Branch, Lane

if TYPE_CHECKING:
    from .quota import Quota
    from .source import Source

WAITING = State.WAITING


class Tree:
    """The jobs that wait for one source, in one class of urgency."""

    __slots__ = ("_lone", "lanes", "line", "root", "serial")

    def __init__(self, line: Line) -> None:
        self.line = line
        self.serial = 0
        self.root = Branch(Lane(), None, self)
        self.lanes: WeakSet[Lane] = WeakSet()  # all that have a place here, those that were passed and stand aside included
        # The only branch with jobs, where that is known: it has every turn, and is charged nothing, for nobody else waits.
        self._lone: Branch | None = None

    def push(self, job: Job, lane: Lane) -> None:
        """Put `job` into its lane's line."""
        branch = job.branch = lane.branch(self)
        heappush(branch.jobs, (job.rank, job.place, job))
        if branch is self._lone:
            return
        if branch.entry is None:
            branch.queue_up()
        else:
            self.look_again()
            branch.rank_up()

    def look_again(self) -> None:
        """Whoever was alone is so no more, or may have been paused."""
        lone, self._lone = self._lone, None
        if lone is not None:
            lone.rank_up()

    def head(self) -> Job | None:
        """The job whose turn it is; None if none waits that may start at all."""
        if self._lone is not None and (job := self._lone.first_job()) is not None:
            return job
        self.look_again()
        branch, alone = self.root, True
        while True:
            first: Branch | None = None
            if branch.below:
                entry = branch.below[0]
                first, lane = entry[3], entry[3].lane
                if first.entry is not entry or lane.paused or lane.running >= lane.max_concurrency:
                    first = branch.first_below()
            if first is not None:
                if branch.clock < first.tag:
                    branch.clock = first.tag  # also while it only waits: nobody who comes later is before it
                alone = alone and len(branch.below) == 1 and not branch.passed
                branch = first
                continue
            if branch.above is None:
                return None
            job = branch.first_job()
            if job is not None and branch.entry is not None and branch.entry[0] == min(job.rank // 1, DEFAULT):
                if alone and not branch.lane.limited:
                    self._lone = branch
                return job
            # Those before it were cancelled: it is less urgent than it looked, or has nothing any more.
            branch.entry = None
            if job is not None:
                branch.queue_up()
            branch, alone = self.root, True

    def start(self, job: Job) -> None:
        """Take out `job`, which `head` gave, and charge its cost to its lanes."""
        branch = job.branch
        assert branch is not None
        heappop(branch.jobs)
        if branch is self._lone:
            job.charged = 0.0
            if not branch.jobs:
                self._clear(branch)
            return
        job.charged = cost = self.line.source.share_of(job.cost)
        job.payers = payers = []
        while (above := branch.above) is not None:
            # Alone among its siblings it is charged nothing, either: nobody is kept waiting.
            if len(above.below) > 1 or above.passed or not (branch.jobs or branch.below):
                branch.charge(cost, above)
                payers.append(branch)
            if branch.lane.limited:
                branch.lane.running += 1
            branch = above

    def _clear(self, lone: Branch) -> None:
        """The only branch with jobs has none any more."""
        self._lone = None
        branch = lone
        while (above := branch.above) is not None:
            branch.entry = None
            above.below.clear()
            branch = above


class Line:
    """The jobs that wait for one source.

    Attributes:
        source: What they wait for.
        foreground: Those that go first.
        background: Those that go when nothing else of the source wants to.
        copies: Second copies of jobs under way, which go after these.
        shares: Whether other lines wait for one of the same quotas.
        promised: The quota whose next start its first job is promised, if any.
        timer: The instant at which it is worth another look.
    """

    __slots__ = ("background", "copies", "foreground", "promised", "shares", "source", "timer")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.foreground = Tree(self)
        self.background = Tree(self)
        self.copies = Tree(self)
        self.shares = False
        self.promised: Quota | None = None
        self.timer = inf

    def push(self, job: Job, lane: Lane) -> None:
        """Let `job` wait."""
        job.state = WAITING
        tree = self.foreground if job.rank < BACKGROUND else self.background if job.rank < COPY else self.copies
        tree.push(job, lane)

    def head(self) -> Job | None:
        """The job whose turn it is; None if none waits that may start at all."""
        return self.foreground.head() or self.background.head() or self.copies.head()

    @property
    def is_empty(self) -> bool:
        """Whether nobody waits for sure, but for copies."""
        return not (self.foreground.root.below or self.background.root.below)

    @property
    def waiting(self) -> Iterator[Job]:
        """All that wait, be it for a lane that is paused or full. Looks at every lane."""
        for tree in (self.foreground, self.background, self.copies):
            for lane in tree.lanes:
                yield from lane.waiting_in(tree)

    def remove(self, jobs: Collection[Job]) -> None:
        """Take out `jobs`, which wait here."""
        for branch in {job.branch for job in jobs}:
            assert branch is not None
            branch.remove(jobs)


def tree_of(job: Job) -> Tree:
    """Where a job waits, or waited last."""
    return job.branch.tree  # type: ignore[union-attr]  # every job that was added has a branch


def lane_of(job: Job) -> Lane:
    """Whose share a job that runs has: it may have been handed over meanwhile."""
    return job.branch.lane  # type: ignore[union-attr]  # as above


def refund(job: Job, cost: float) -> None:
    """`job` was charged `cost` more than it used: its payers get it back with their next start, while others wait too."""
    for branch in job.payers if cost > 0 else ():
        above = branch.above
        has_more = branch.entry is not None or branch.stalled
        if has_more and above is not None and len(above.below) + above.passed > 1:
            branch.credit += cost * branch.per_cost
