"""What one decision of the core costs, and whether it stays so from a thousand jobs to a million.

One question: how long does one decision take (start + finish, with slots, requests and tokens a minute, in one lane or in
eight that compete), measured in `heapq.heapreplace` of a (float, int, object) on 1,000 entries? The contenders take turns;
every round makes all decisions of a fresh schedule, after a round that does not count.

The second table hands in all jobs at once, and then the same jobs through a window, as a run does: microseconds per event
(an event is an add, a start or a finish) and what is kept in memory while they wait.

    uv run python -m benchmarks.core [--rounds 7] [--json FILE]
"""

from __future__ import annotations

import gc
import random
import statistics
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from heapq import heapify, heapreplace

from llm_fanout.core.job import Attempt, Cost, Job, Outcome
from llm_fanout.core.lanes import Lane
from llm_fanout.core.quota import Quota
from llm_fanout.core.schedule import Schedule
from llm_fanout.core.stated import Limits

from .measured import parser_of, setting, write

ENTRIES = 1_000
DECISIONS = 50_000
IN_FLIGHT = 50
CHUNK = 400  # decisions between two additions, which are not timed
SIZES = (1_000, 10_000, 100_000, 1_000_000)
REPEATS = 3  # of which the quickest counts: other work only ever adds
WINDOW = 200  # jobs ahead, where they are not all there from the beginning
LIMITS = Limits(max_concurrency=IN_FLIGHT, rpm=1e9, tpm=1e12)  # never waits, yet all of it is asked, taken and settled
RESERVED, USED = Cost.of(500.0, 1_000.0), Cost.of(500.0, 250.0)
WELL = Outcome(used=USED)
STEP = 1e-4  # seconds from one decision to the next
FLOOR, AIM = 12.0, 8.0


def heap() -> float:
    """Seconds per `heapreplace`."""
    draw = random.Random(1)
    entries = [(draw.random(), number, object()) for number in range(ENTRIES)]
    heapify(entries)
    fresh = [(1.0 + draw.random() + number / ENTRIES, number, object()) for number in range(DECISIONS)]
    begun = time.perf_counter()
    for entry in fresh:
        heapreplace(entries, entry)
    return (time.perf_counter() - begun) / DECISIONS


def decisions(lanes: int) -> float:
    """Seconds per start + finish, with so many lanes that all have work: about as many jobs wait as the heap has entries."""
    backlog = _Backlog([Lane() for _ in range(lanes)])
    backlog.add(ENTRIES + IN_FLIGHT)
    for _ in range(IN_FLIGHT):
        backlog.begin()
    start, finish, under_way, seconds = backlog.schedule.start, backlog.schedule.finish, backlog.under_way, 0.0
    for _ in range(DECISIONS // CHUNK):
        now = backlog.now
        begun = time.perf_counter()
        for _ in range(CHUNK):
            now += STEP
            finish(under_way.popleft(), WELL, now)
            under_way.append(start(now))  # type: ignore[arg-type]  # always one: a check would be timed
        seconds += time.perf_counter() - begun
        backlog.now = now
        backlog.add(CHUNK)
    return seconds / DECISIONS


class _Backlog:
    """A schedule with jobs that wait, and with attempts under way, the oldest first."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self.now = 1.75e9
        self.schedule = Schedule(random.Random(1).random)
        self._quota = Quota(LIMITS)
        self._lanes = lanes
        self.under_way: deque[Attempt] = deque()

    def add(self, jobs: int) -> None:
        """Let so many jobs more wait."""
        for number in range(jobs):
            self.schedule.add(Job(self._quota, RESERVED, lane=self._lanes[number % len(self._lanes)]), self.now)

    def begin(self) -> None:
        """Start the next job."""
        self.under_way.append(_begun(self.schedule.start(self.now)))

    def end(self) -> None:
        """Let the oldest attempt end well."""
        self.now += STEP
        self.schedule.finish(self.under_way.popleft(), WELL, self.now)

    def run(self, jobs: int, ahead: int) -> None:
        """Start and end so many jobs, never more than `ahead` of them waiting; they are added in here."""
        self.add(ahead)
        for number in range(jobs):
            self.begin()
            self.end()
            if number + ahead < jobs:
                self.add(1)


def _begun(attempt: Attempt | None) -> Attempt:
    if attempt is None:
        raise RuntimeError("nothing could start")
    return attempt


CONTENDERS: dict[str, Callable[[], float]] = {
    "heapq.heapreplace, 1,000": heap,
    "start + finish, one lane": partial(decisions, 1),
    "start + finish, eight lanes": partial(decisions, 8),
}


def compared(rounds: int) -> dict[str, list[float]]:
    """Seconds of each round by contender."""
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for number in range(rounds + 1):
        for name, contender in CONTENDERS.items():
            gc.collect()
            taken = contender()
            if number:
                seconds[name].append(taken)
    return seconds


def per_event(jobs: int, ahead: int) -> float:
    """Seconds per event of a run of so many jobs."""
    gc.collect()
    backlog = _Backlog([Lane()])
    begun = time.perf_counter()
    backlog.run(jobs, ahead)
    return (time.perf_counter() - begun) / (3 * jobs)


def peak(jobs: int, ahead: int) -> int:
    """Bytes that such a run has allocated at its peak."""
    gc.collect()
    tracemalloc.start()
    _Backlog([Lane()]).run(jobs, ahead)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def show(seconds: dict[str, list[float]]) -> None:
    """The first table."""
    base = statistics.median(seconds["heapq.heapreplace, 1,000"])
    print(f"{'':32}{'median us':>10}{'min':>8}{'max':>8}{'ratio':>8}   at most {FLOOR:g}, aim {AIM:g}")
    for name, taken in seconds.items():
        median = statistics.median(taken)
        late = "MISSED" if median / base > FLOOR else ""
        row = f"{median * 1e6:>10.3f}{min(taken) * 1e6:>8.3f}{max(taken) * 1e6:>8.3f}{median / base:>8.2f}"
        print(f"{name:32}{row}   {late}")


def main() -> None:
    parser = parser_of(__doc__, rounds=7)
    arguments = parser.parse_args()

    run = setting()
    seconds = compared(arguments.rounds)
    show(seconds)

    print(f"\n{'jobs':>12}{'all at once: us/event':>24}{'bytes/job':>11}{'window of 200: us/event':>26}{'peak kB':>9}")
    growth = []
    for jobs in SIZES:
        whole, windowed = (min(per_event(jobs, ahead) for _ in range(REPEATS)) for ahead in (jobs, WINDOW))
        kept, flat = peak(jobs, jobs) / jobs, peak(jobs, WINDOW) / 1e3
        growth.append({"jobs": jobs, "whole_s": whole, "bytes_a_job": kept, "windowed_s": windowed, "peak_kb": flat})
        print(f"{jobs:>12,}{whole * 1e6:>24.3f}{kept:>11.0f}{windowed * 1e6:>26.3f}{flat:>9.0f}", flush=True)
    write(arguments.json, run, seconds=seconds, growth=growth)


if __name__ == "__main__":
    main()
