"""The running numbers of a run, and the Summary they make."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from . import clock
from .core.source import Source
from .core.waits import Binding
from .errors import CallError, Kind, Stopped
from .results import Result
from .spending import Price, Spending, Usage
from .spread import Spread
from .summary import Summary, Timed

LATELY = 10.0  # seconds over which the pace is taken; the later half of a run that is younger than twice that
MARK = 0.5  # seconds between two marks
MARKS = 40  # that are remembered: a little more than the ten seconds


class Recent:
    """How fast calls have ended of late, as far as somebody looked."""

    __slots__ = ("_began", "_marks", "_next_at")

    def __init__(self, now: float) -> None:
        self._began = self._next_at = now
        self._marks = deque([(now, 0)], maxlen=MARKS)  # an instant, and how many calls had ended then

    def mark(self, done: int, now: float) -> None:
        """So many calls have ended; to be said whenever somebody looks."""
        if now >= self._next_at:
            self._next_at = now + MARK
            self._marks.append((now, done))
        else:
            self._marks[-1] = (now, done)

    def seconds_per_call(self, done: int, in_flight: int, now: float) -> float:
        """Seconds from one end to the next, of late; `done`, the calls that have ended, is > 0.

        "Late" goes back so far that the burst at the start is out of it, and that each slot has ended a call since: calls
        that take long end in waves.
        """
        lately = min(LATELY, (now - self._began) / 2)
        at, before = self._began, 0
        for at, before in reversed(tuple(self._marks)):  # a copy, for another thread may be counting
            if now - at >= lately and done - before >= max(1, in_flight):
                break
        return (now - at) / max(1, done - before)


_Sort = tuple[str, int, Price | None]  # list prices change at round numbers of input tokens and are linear in between


@dataclass(slots=True, eq=False)
class Tally:
    """Counts what happens to the calls of a run, on its event loop; `summary` may be called from any thread.

    `done` is how many calls have ended.
    """

    total: int | None = None
    attempts: int = 0
    in_flight: int = 0
    stopped: Stopped | None = None
    done: int = 0
    paused: bool = False
    replayed: int = 0
    _waited: float = 0.0
    _succeeded: int = 0
    _recent: Recent | None = None
    times: Mapping[Timed, Spread] = field(default_factory=lambda: {metric: Spread() for metric in get_args(Timed)})
    _errors: Counter[Kind] = field(default_factory=Counter)
    _examples: dict[Kind, str] = field(default_factory=dict)
    _sums: dict[_Sort, list[int]] = field(default_factory=dict)  # replies, and the tokens of each sort
    _sources: dict[Source, dict[Binding, float]] = field(default_factory=dict)
    _began: float | None = None
    _ended: float | None = None

    def begin(self) -> None:
        """The run starts."""
        self._began = clock.now()

    @property
    def has_begun(self) -> bool:
        """Whether the run has started."""
        return self._began is not None

    def copy(self) -> Tally:
        """Another with the same numbers, since when it runs, and what it waits for."""
        other = Tally(_sources=self._sources, _began=self._began, _ended=self._ended)
        other.add(self)
        return other

    def end(self) -> None:
        """The run has ended."""
        self._ended = clock.now()

    def waits_for(self, source: Source) -> None:
        """A call of the run needs `source`; from now on the run may be held up by it."""
        if source not in self._sources:
            self._sources[source] = source.waits.held(clock.now())

    def count(self, result: Result[Any]) -> None:
        """A call has ended."""
        self.done += 1
        if result.source == "journal":
            self.replayed += 1
        else:
            self._waited += result.queue_time
        if result.error is None:
            self._succeeded += 1
            self._note_times(result)
        else:
            self._note_error(result, result.error)
        for spending in result.spending if result.source != "journal" else ():  # that was paid before
            self._note_spending(spending)

    def _note_spending(self, spending: Spending) -> None:
        sort, usage = (spending.model, spending.request_size, spending.price), spending.usage
        sums = self._sums.get(sort)
        if sums is None:
            sums = self._sums[sort] = [0, 0, 0, 0, 0]
        sums[0] += spending.calls
        sums[1] += usage.input_tokens
        sums[2] += usage.output_tokens
        sums[3] += usage.cached_tokens
        sums[4] += usage.reasoning_tokens

    def _note_times(self, result: Result[Any]) -> None:
        self.times["latency"].add(result.latency)
        self.times["queue_time"].add(result.queue_time)
        self.times["service_time"].add(result.service_time)
        if result.ttft is not None:
            self.times["ttft"].add(result.ttft)

    def _note_error(self, result: Result[Any], error: CallError) -> None:
        self._errors[error.kind] += 1
        if error.kind not in self._examples:
            self._examples[error.kind] = f"id {result.id}: {error.message}"

    def add(self, other: Tally) -> None:
        """Count what `other` has counted, too."""
        self.attempts += other.attempts
        self.in_flight += other.in_flight
        self.done += other.done
        self.replayed += other.replayed
        self._waited += other._waited
        self._succeeded += other._succeeded
        self._errors.update(other._errors.copy())
        self._examples = other._examples | self._examples
        for metric, spread in other.times.items():
            self.times[metric].merge(spread)
        for sort, sums in list(other._sums.items()):
            ours = self._sums.get(sort, [0] * len(sums))
            self._sums[sort] = [ours + theirs for ours, theirs in zip(ours, sums, strict=True)]

    def summary(self) -> Summary:
        """The numbers as of now."""
        done, succeeded = self.done, self._succeeded
        spending = [
            Spending(model, size, sums[0], Usage(*sums[1:]), price)
            for (model, size, price), sums in list(self._sums.items())
        ]
        return Summary(
            total=self.total,
            done=done,
            succeeded=succeeded,
            failed=done - succeeded,
            in_flight=self.in_flight,
            replayed=self.replayed,
            attempts=self.attempts,
            spending=spending,
            elapsed=self._elapsed(),
            waited=self._waited,
            eta=self._eta(done),
            binding=self.binding(),
            waits_for=self._waits_for_now(),
            errors=dict(self._errors.copy().most_common()),
            examples=self._examples.copy(),
            times={metric: spread.copy() for metric, spread in self.times.items()},
            stopped=self.stopped,
        )

    def _elapsed(self) -> float:
        if self._began is None:
            return 0.0
        return (clock.now() if self._ended is None else self._ended) - self._began

    def _eta(self, done: int) -> float | None:
        if self.total is None or self._began is None or not done or self._waits_for_now():
            return None
        if self._recent is None:
            self._recent = Recent(self._began)
        now = clock.now() if self._ended is None else self._ended
        self._recent.mark(done, now)
        return self._recent.seconds_per_call(done, self.in_flight, now) * (self.total - done)

    def _waits_for_now(self) -> str:
        if self._ended is not None:
            return ""
        if self.paused:
            return "paused"
        return next((limit for source in list(self._sources) if (limit := source.stands_still_for) is not None), "")

    def binding(self) -> str:
        """What was waited for most, so far."""
        waits: Counter[str] = Counter()
        now = clock.now() if self._ended is None else self._ended
        for source, before in list(self._sources.items()):
            for limit, seconds in source.waits.held(now).items():
                waits[limit] += seconds - before.get(limit, 0.0)  # type: ignore[assignment]  # seconds, not a count
        longest = waits.most_common(1)
        return longest[0][0] if longest and longest[0][1] > 0 else "provider"


class Totals:
    """The numbers of many runs: those of a client, or of a scope. From any thread; nothing is done for each call.

    A run of an event loop that was closed under it counts as it stood then.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[Tally] = set()
        self._sum = Tally()  # of the runs that have ended

    def open(self) -> None:
        """The time begins to count; it does with the first run, if not before."""
        with self._lock:
            self._sum.begin()

    def close(self) -> None:
        """The time counts no more."""
        with self._lock:
            self._sum.end()

    def begin(self, run: Tally) -> None:
        """One more run starts."""
        with self._lock:
            if not self._sum.has_begun:
                self._sum.begin()
            self._running.add(run)

    def end(self, run: Tally) -> None:
        """A run has ended."""
        with self._lock:
            self._running.discard(run)
            self._sum.add(run)

    def waits_for(self, source: Source) -> None:
        """A call of a run needs `source`."""
        with self._lock:
            self._sum.waits_for(source)

    @property
    def done(self) -> int:
        """How many calls have ended."""
        with self._lock:
            return self._sum.done + sum(run.done for run in self._running)

    def summary(self) -> Summary:
        """The numbers as of now."""
        with self._lock:
            whole = self._sum.copy()
            for run in self._running:
                whole.add(run)
        return whole.summary()
