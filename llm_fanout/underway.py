"""The calls of one run that are the engine's to start: handed in, tried, tried again, over.

What was closed while the run ran is asked no more: later calls that have no other choice end at once, and when everything
that the run uses is closed, the run ends. What was closed before is worth a look, which the schedule sees to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextvars import Context, copy_context
from math import inf
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from . import clock
from .call import Call, too_long
from .core.job import Attempt, Job, Outcome, State, Verdict
from .core.lanes import COPY
from .core.retry import RetryPolicy
from .core.source import Source
from .engine import Engine
from .errors import Stopped
from .hedging import Copy, Hedging
from .nesting import ENCLOSING, Enclosing, depth
from .openings import Openings, closed_by
from .shell import cancelled
from .tally import Tally
from .work import Terms, Timing

if TYPE_CHECKING:
    from .call import Ended

T = TypeVar("T")

ONE_TRY = RetryPolicy(max_retries=0)  # of a copy: the call itself tries again, if need be


class Host(Protocol):
    """The flow whose calls they are.

    Attributes:
        winding_down: Why no call is started any more, if that is so.
    """

    winding_down: Stopped | None

    def give_up(self, error: Stopped) -> None:
        """The run ends."""

    def fail(self, whose: str, failure: Exception) -> None:
        """It is broken."""

    def make_room(self) -> None:
        """A call waits out a backoff: it does not count against the window meanwhile."""

    def idle(self) -> None:
        """Nothing is left that waits to be started."""


class Passage(Protocol[T]):
    """Where calls come from, and go on to."""

    def begun(self, call: Call[T]) -> None:
        """The answer to `call` has begun."""

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
        self._hedging: Hedging | None = None
        self.parked = 0  # those that wait out a backoff

    def begin(self, now: float, deadline: float) -> None:
        """The run begins, and ends at `deadline` if it has not ended before."""
        self._openings.began = now
        self._deadline = deadline

    def close(self) -> None:
        """All is done."""
        del self._host, self._passage  # circles, which only a collection would break
        if self._hedging is not None and self._terms.hedging is None:
            self._hedging.close()

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
        self._abort([job for call in calls for job in self._jobs_of(call)])

    def cancel_waiting(self) -> None:
        """End those that have no attempt under way, and call back copies that were not sent."""
        self._abort([job for call in self._jobs for job in self._waiting_jobs_of(call)])

    def give(self, call: Call[T]) -> tuple[Job, Timing]:
        """Let go of `call`, which goes on for another run: its job, and how long it took so far."""
        if self._hedging is not None:
            self._hedging.cut(call)
        self._tally.in_flight -= self._attempts_of(call)
        self.parked -= call.parked
        job = self._jobs.pop(call)
        timing = _without_answer(job)
        timing.attempts += 0 if call.copy is None else call.copy.attempts
        return job, timing

    def inherit(self, call: Call[T], job: Job) -> None:
        """Go on with `call`, of another run that ends."""
        self._jobs[call] = job
        self.parked += call.parked
        self._tally.in_flight += self._attempts_of(call)
        for each in self._jobs_of(call):
            each.deadline = self._deadline
            self._engine.hand_over(each, self._terms.lane)  # its own may be paused, or full: nobody is there to resume it

    def started(self, call: Call[T], attempt: Attempt) -> Context:
        """An attempt of `call` begins; the context for it."""
        tally = self._tally
        tally.attempts += 1
        tally.in_flight += 1
        self._unpark(call)
        if tally.in_flight >= len(self._jobs) - self.parked:
            self._host.idle()
        hedge = call.work.hedge
        if hedge or call.work.is_first:
            call.work.begun = call.begun
        if hedge:
            self._watch(call, attempt)
        return self._context_of(attempt)

    def begun(self, call: Call[T], copy: Copy[T] | None = None) -> None:
        """An answer to `call` has begun, to its `copy` if that is one: it is the one that counts."""
        self._passage.begun(call)
        if self._hedging is not None:
            (self._hedging.answered if copy is None else self._hedging.cut)(call)
        if copy is not None and call.outcome is None:
            self._swap(call, copy)
        if call.outcome is None and call.copy is not None and call.copy.job is not None:
            self._abort([call.copy.job])

    def ended(self, call: Call[T], attempt: Attempt, outcome: Outcome, verdict: Verdict, now: float) -> None:
        """An attempt of `call` has ended."""
        self._count_out(attempt)
        if self._hedging is not None:
            (self._hedging.cut if outcome.error else self._hedging.answered)(call)
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
        self._over(call, (outcome, timing, verdict.too_long is not None))

    def broke(self, call: Call[T], job: Job, failure: Exception) -> None:
        """What follows from an end of `call` could not be carried out: its run ends, for it would wait for it for ever."""
        self._jobs.pop(call, None)
        if job.state is State.PARKED:
            self._engine.cancel([job])
        self._host.fail("llm_fanout", failure)

    def evicted(self, call: Call[T], job: Job, error: Exception | None, now: float) -> None:
        """All that `call` could have been tried on was closed, by an answer with that error."""
        if call in self._jobs and call.outcome is None:  # else it was cancelled while this was handed over
            self._unpark(call)
            self._end_if_all_is_closed()
            self._over(call, (Outcome(heard=False, error=closed_by(error)), _without_answer(job), False))

    def untried(self, call: Call[T], job: Job) -> None:
        """`call` was cancelled while it waited."""
        self._unpark(call)
        self._over(call, (cancelled(), _without_answer(job), False))

    def may_copy(self, call: Call[T]) -> bool:
        """Whether a second copy of `call` can be made, which is paid for from now on."""
        job = self._jobs.get(call)
        is_alone = job is not None and job.running is not None and not job.cancelled and call.copy is None
        return is_alone and self._tally.stopped is None and self._passage.extend(call)

    def copy(self, copy: Copy[T]) -> None:
        """Have `copy` made, for which `may_copy` was asked."""
        call = copy.call
        job = self._jobs[call]
        call.copy = copy
        copy.work.begun = copy.begun
        copy.job = Job(job.source, job.cost, ONE_TRY, copy, self._terms.lane, COPY, self._deadline)
        self._engine.hand_in([copy.job])

    def copy_started(self, attempt: Attempt) -> Context:
        """A copy is sent; the context for it."""
        self._tally.attempts += 1
        self._tally.in_flight += 1
        return self._context_of(attempt)

    def copy_ended(self, copy: Copy[T], attempt: Attempt, outcome: Outcome, verdict: Verdict, now: float) -> None:
        """The one attempt of `copy` has ended."""
        self._count_out(attempt)
        job = attempt.job
        if verdict.retry_at is not None:
            self._engine.cancel([job])  # it has had its try
        copy.outcome = outcome, Timing(now - job.added_at, now - attempt.started_at, job.attempts)
        self.copy_over(copy)

    def copy_untried(self, copy: Copy[T], job: Job) -> None:
        """`copy` was called back while it waited, for the first time or for another."""
        if job.attempts:
            copy.outcome = cancelled(), _without_answer(job)
        else:
            copy.kind.spare()
        self.copy_over(copy)

    def copy_over(self, copy: Copy[T]) -> None:
        """`copy` has ended, or will not be sent any more."""
        assert copy.job is not None
        copy.job.payload = None
        copy.job = None
        call = copy.call
        if copy.outcome is None:
            call.copy = None  # it may have another
        if call.outcome is not None:
            self._end(call, *call.outcome)
        elif copy.outcome is not None and copy.outcome[0].error is None:
            self.cancel([call])

    def _swap(self, call: Call[T], copy: Copy[T]) -> None:
        """From now on `copy` is the call, to be tried again should its answer break off, and what was that is its copy."""
        own, other = self._jobs[call], copy.job
        assert other is not None
        other.replace(own)
        self._jobs[call], copy.job = other, own
        other.payload, own.payload = call, copy
        call.work, copy.work = copy.work, call.work
        call.perform, copy.perform = copy.perform, call.perform
        self._unpark(call)

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
        """Another try of `call` comes later, unless the run starts nothing more, or cannot pay for it: then it is up to the
        copy, if one is under way. One that was not sent is called back: the other try is paid for by what was set aside
        for that.
        """
        unsent = list(self._waiting_jobs_of(call))
        if self._host.winding_down is None:
            if self._passage.extend(call):
                unsent.remove(self._jobs[call])
                self._host.make_room()
            else:
                call.stopped = Stopped(f"there is no budget left for another try after: {outcome.error}", kind="budget")
        if unsent:
            self._abort(unsent)

    def _unpark(self, call: Call[T]) -> None:
        """`call` waits out no backoff any more."""
        self.parked -= call.parked
        call.parked = False

    def _count_out(self, attempt: Attempt) -> None:
        """`attempt` is under way no more; one that was cancelled in the step that began it was none."""
        self._tally.in_flight -= 1
        if attempt.unborn:
            self._tally.attempts -= 1
            attempt.job.attempts -= 1

    def _context_of(self, attempt: Attempt) -> Context:
        if not self._terms.nests:
            return self._context
        context = self._context.copy()
        context.run(ENCLOSING.set, Enclosing(self._engine, attempt, context.get(ENCLOSING)))
        return context

    def _jobs_of(self, call: Call[T]) -> Iterator[Job]:
        """Those of a call and its copy that are not over."""
        if call.outcome is None:
            yield self._jobs[call]
        if call.copy is not None and call.copy.job is not None:
            yield call.copy.job

    def _waiting_jobs_of(self, call: Call[T]) -> Iterator[Job]:
        """Those of a call and its copy that wait to be tried."""
        return (job for job in self._jobs_of(call) if job.running is None)

    def _attempts_of(self, call: Call[T]) -> int:
        return sum(job.running is not None for job in self._jobs_of(call))

    def _watch(self, call: Call[T], attempt: Attempt) -> None:
        """Have `call` copied if it takes too long."""
        if self._hedging is None:
            self._hedging = Hedging() if self._terms.hedging is None else self._terms.hedging.here()
        self._hedging.began(call, attempt.job.source, attempt.started_at)

    def _abort(self, jobs: list[Job]) -> None:
        for job in self._engine.cancel(jobs):
            job.payload.untried(job)

    def _over(self, call: Call[T], ended: Ended) -> None:
        """`call` has ended; its copy, if one is under way, has to end first."""
        copy = call.copy
        if copy is None or copy.job is None:
            self._end(call, *ended)
            return
        call.outcome = ended
        if ended[0].error is None:
            self._abort([copy.job])

    def _end(self, call: Call[T], outcome: Outcome, timing: Timing, too_late: bool) -> None:
        # The shell may keep an attempt, and so its job, for as long as its timeout would have been.
        self._jobs.pop(call).payload = None
        copy = call.copy
        if copy is not None and copy.outcome is not None:
            other, others = copy.outcome
            timing.attempts += others.attempts
            if outcome.error is not None and other.error is None:
                call.work, outcome, too_late = copy.work, other, False
                timing.service_time = others.service_time
        self._passage.end(call, outcome, timing, too_late=too_late)


def _without_answer(job: Job) -> Timing:
    """How long a call took that ends without an answer."""
    return Timing(clock.now() - job.added_at, 0.0, job.attempts)
