"""The calls of one run that are the engine's to start: handed in, tried, tried again, over.

What was closed while the run ran is asked no more: later calls that have no other choice end at once, and when everything
that the run uses is closed, the run ends. What was closed before is worth a look, which the schedule sees to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextvars import Context, copy_context
from math import inf
from typing import Generic, Protocol, TypeVar

from . import clock
from .call import Call, too_long
from .core.job import Attempt, Job, Outcome, Verdict
from .core.source import Source
from .engine import Engine
from .errors import Stopped
from .nesting import ENCLOSING, Enclosing, depth
from .openings import Openings, closed_by
from .shell import cancelled
from .tally import Tally
from .work import Terms, Timing

T = TypeVar("T")


class Host(Protocol):
    """The flow whose calls they are.

    Attributes:
        winding_down: Why no call is started any more, if that is so.
    """

    winding_down: Stopped | None

    def give_up(self, error: Stopped) -> None:
        """The run ends."""

    def make_room(self) -> None:
        """A call waits out a backoff: it does not count against the window meanwhile."""

    def idle(self) -> None:
        """Nothing is left that waits to be started."""


class Passage(Protocol[T]):
    """Where calls come from, and go on to."""

    def extend(self, call: Call[T]) -> bool:
        """Whether another try of `call` can be paid for."""

    def end(self, call: Call[T], outcome: Outcome, timing: Timing, *, too_late: bool = False) -> None:
        """`call` is over; too late if another try of it would have been beyond its deadline."""


class UnderWay(Generic[T]):
    """The calls that are handed in and not over.

    Args:
        engine: Who starts them.
        terms: What they share.
        tally: The numbers of the run.
        host: Whose they are.
        passage: Where they go on to.
    """

    def __init__(self, engine: Engine, terms: Terms, tally: Tally, host: Host, passage: Passage[T]) -> None:
        self._engine = engine
        self._terms = terms
        self._tally = tally
        self._host = host
        self._passage = passage
        self._context = copy_context()
        self._rank = -depth() if terms.nests else 0  # runs from within go first
        self._deadline = inf
        self._jobs: dict[Call[T], Job] = {}
        self._openings = Openings(terms.sources)
        self.parked = 0  # those that wait out a backoff

    def begin(self, now: float, deadline: float) -> None:
        """The run begins, and ends at `deadline` if it has not ended before."""
        self._openings.began = now
        self._deadline = deadline

    def close(self) -> None:
        """All is done."""
        del self._host, self._passage  # circles, which only a collection would break

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Call[T]]:
        return iter(list(self._jobs))

    def hand_in(self, calls: Iterable[Call[T]]) -> None:
        """Have `calls` made; those for which it is too late end at once."""
        jobs = []
        for call in calls:
            try:
                jobs.append(self._job_of(call))
            except Stopped as exc:
                self._passage.end(call, Outcome(heard=False, error=exc), Timing())
        if jobs:
            self._engine.hand_in(jobs)

    def cancel(self, calls: Iterable[Call[T]]) -> None:
        """End those of `calls` that wait now, and the others as soon as their attempts have ended."""
        for job in self._engine.cancel([self._jobs[call] for call in calls]):
            call: Call[T] = job.payload
            self.parked -= call.parked
            self._end(call, cancelled(), self._untried(job))

    def cancel_waiting(self) -> None:
        """End those that have no attempt under way."""
        self.cancel([call for call, job in self._jobs.items() if job.running is None])

    def give(self, call: Call[T]) -> tuple[Job, Timing]:
        """Let go of `call`, which goes on for another run: its job, and how long it took so far."""
        job = self._jobs.pop(call)
        self.parked -= call.parked
        self._tally.in_flight -= job.running is not None
        return job, self._untried(job)

    def inherit(self, call: Call[T], job: Job) -> None:
        """Go on with `call`, of another run that ends."""
        self._jobs[call] = job
        self.parked += call.parked
        self._tally.in_flight += job.running is not None
        job.deadline = self._deadline
        self._engine.hand_over(job, self._terms.lane)  # its own may be paused, or full, and nobody is there to resume it

    def started(self, call: Call[T], attempt: Attempt) -> Context:
        """An attempt of `call` begins; the context for it."""
        tally = self._tally
        tally.attempts += 1
        tally.in_flight += 1
        if call.parked:
            call.parked = False
            self.parked -= 1
        if tally.in_flight >= len(self._jobs) - self.parked:
            self._host.idle()
        context = self._context.copy()
        if self._terms.nests:
            context.run(ENCLOSING.set, Enclosing(self._engine, attempt, context.get(ENCLOSING)))
        return context

    def ended(self, call: Call[T], attempt: Attempt, outcome: Outcome, verdict: Verdict, now: float) -> None:
        """An attempt of `call` has ended."""
        self._tally.in_flight -= 1
        if verdict.retry_at is not None:
            call.parked = True
            self.parked += 1
            self._wait_out(call, outcome)
            return
        job = attempt.job
        if verdict.too_long is not None:
            outcome = too_long(outcome, verdict.too_long)
        if outcome.closes:
            self._end_if_all_is_closed()
        timing = Timing(now - job.added_at, now - attempt.started_at, job.attempts)
        self._end(call, outcome, timing, too_late=verdict.too_long is not None)

    def evicted(self, call: Call[T], job: Job, error: Exception | None, now: float) -> None:
        """All that `call` could have been tried on was closed, by an answer with that error."""
        if call in self._jobs:  # else it was cancelled while this was handed over
            self.parked -= call.parked
            self._end_if_all_is_closed()
            self._end(call, Outcome(heard=False, error=closed_by(error)), Timing(now - job.added_at, 0.0, job.attempts))

    def _job_of(self, call: Call[T]) -> Job:
        """A call as a job.

        Raises:
            Stopped: All that it could be tried on was closed, or it is not to be made, or the run ends.
        """
        if call.stopped is not None:
            raise call.stopped
        if self._tally.stopped is not None:
            raise self._tally.stopped
        openings, choices = self._openings, call.work.choices
        for source, _ in choices:
            if source not in openings.met:
                self._meet(source)
        try:
            choices = openings.among(choices)
        except Stopped:
            self._end_if_all_is_closed()
            raise
        source, cost = choices[0]
        rank = call.work.rank + self._rank
        job = self._jobs[call] = Job(source, cost, call.work.retry, call, self._terms.lane, rank, self._deadline)
        if len(choices) > 1:
            job.fallbacks = tuple(choices[1:])
        return job

    def _meet(self, source: Source) -> None:
        """A call needs `source`, which none has needed before."""
        self._openings.met.add(source)
        self._tally.waits_for(source)
        for totals in self._terms.counted_in:
            totals.waits_for(source)

    def _end_if_all_is_closed(self) -> None:
        """Pull nothing more if nothing could be done with it; what is under way may end, for it may have been paid for."""
        if self._tally.stopped is None and (why := self._openings.end()) is not None:
            self._host.give_up(why)

    def _wait_out(self, call: Call[T], outcome: Outcome) -> None:
        """Another try of `call` comes later, unless the run starts nothing more, or cannot pay for it."""
        if self._host.winding_down is not None:
            self.cancel([call])
        elif self._passage.extend(call):
            self._host.make_room()
        else:
            call.stopped = Stopped(f"there is no budget left for another try after: {outcome.error}", kind="budget")
            self.cancel([call])

    def _end(self, call: Call[T], outcome: Outcome, timing: Timing, *, too_late: bool = False) -> None:
        # The shell may keep an attempt, and so its job, for as long as its timeout would have been.
        self._jobs.pop(call).payload = None
        self._passage.end(call, outcome, timing, too_late=too_late)

    @staticmethod
    def _untried(job: Job) -> Timing:
        """How long a call took that ends without an answer of its own."""
        return Timing(clock.now() - job.added_at, 0.0, job.attempts)
