"""The instants at which a job or a line is to be looked at again, the first in front."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from math import inf
from typing import TYPE_CHECKING

from .job import Job, State
from .line import Line
from .retry import Tries

if TYPE_CHECKING:
    _Timer = tuple[float, int, Job | Line]  # an instant, a serial number for equals, whose it is

PARKED = State.PARKED


class Timers:
    """One timer for each job and each line that has one. Those that count no more are dropped late: when they would ring, or
    when such are the greater part."""

    __slots__ = ("_serial", "_stale", "heap")

    def __init__(self) -> None:
        self.heap: list[_Timer] = []
        self._serial = 0
        self._stale = 0

    def __len__(self) -> int:
        return len(self.heap)

    def wake(self, line: Line, at: float) -> None:
        """Look at `line` at the instant `at`, unless it is looked at earlier; `inf` is never."""
        if at < line.timer:
            line.timer = at
            self._push(at, line)

    def set(self, job: Job, at: float) -> None:
        """Look at `job` at the instant `at` and not before; `inf` is never."""
        tries_of(job).until = at
        if at < inf:
            self._push(at, job)

    def forget(self, job: Job) -> None:
        """`job` has no timer any more."""
        if job.tries is None or job.tries.until == inf:
            return
        job.tries.until = inf
        self._stale += 1
        if self._stale * 2 > len(self.heap):
            self.heap = [timer for timer in self.heap if _counts(timer[0], timer[2])]
            heapify(self.heap)
            self._stale = 0

    def due(self, now: float) -> Iterator[Job | Line]:
        """Those whose instant has come; they have no timer any more."""
        while self.heap and self.heap[0][0] <= now:
            at, _, due = heappop(self.heap)
            if not _counts(at, due):
                continue
            if isinstance(due, Line):
                due.timer = inf
            else:
                tries_of(due).until = inf
            yield due

    def parked(self) -> list[Job]:
        """The jobs that are parked. Looks at every timer."""
        jobs = ((at, due) for at, _, due in self.heap if isinstance(due, Job) and due.state is PARKED)
        return [job for at, job in jobs if _counts(at, job)]

    def _push(self, at: float, whose: Job | Line) -> None:
        self._serial += 1
        heappush(self.heap, (at, self._serial, whose))


def tries_of(job: Job) -> Tries:
    """What failures have cost `job` where it is."""
    if job.tries is None:
        job.tries = Tries()
    return job.tries


def _counts(at: float, due: Job | Line) -> bool:
    """Whether it is the timer that its job or line has now."""
    if isinstance(due, Line):
        return due.timer == at
    return due.tries is not None and due.tries.until == at
