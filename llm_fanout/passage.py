"""The calls of one run from opened to done: asked, or answered otherwise, and kept.

Theory of operation. A call that has to be made is a job of the engine. Aside are those that have not to be made, for an
earlier run has answered them and its answer is being read; those that wait for the answer of an identical call, or for
room in a budget; and those whose Result is on its way to disk, before anybody sees it. Every call that comes in ends exactly
once, in the flow's `deliver`.

What was closed while the run ran is asked no more: later calls that have no other choice get their Results at once, and when
everything that the run uses is closed, the run ends. What was closed before is worth a look, which the schedule sees to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextvars import Context, copy_context
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any, Generic, Protocol, TypeVar, cast

from . import clock
from .budgets import Purse
from .call import Call, too_long
from .core.job import Attempt, Job, Outcome, Verdict
from .core.source import Source
from .engine import Engine
from .errors import JournalError, Stopped
from .memory import answer_of
from .nesting import ENCLOSING, Enclosing, depth
from .openings import Openings, closed_by
from .results import Result
from .sharing import Shared
from .shell import cancelled
from .spending import Spending
from .tally import Tally
from .till import Payer, Till
from .work import Repeatable, Terms, Timing

T = TypeVar("T")

UNLIMITED_WIDTH = 1_000  # calls that share a budget where the number of slots is not limited


class Host(Payer, Protocol):
    """The flow whose calls they are.

    Attributes:
        cancelled: Why calls are cancelled, if they are.
        winding_down: Why none is started any more, if that is so.
    """

    cancelled: Stopped | None
    winding_down: Stopped | None

    def deliver(self, result: Result[Any]) -> None:
        """A Result, for good."""

    def left(self) -> None:
        """A call has left the window."""

    def make_room(self) -> None:
        """A call waits out a backoff: it does not count against the window meanwhile."""

    def idle(self) -> None:
        """Nothing is left that waits to be started."""


class Passage(Generic[T]):
    """The calls that are on their way.

    Args:
        engine: Who starts them.
        terms: What they share.
        tally: The numbers of the run.
        host: Whose they are.
    """

    def __init__(self, engine: Engine, terms: Terms, tally: Tally, host: Host) -> None:
        self._engine = engine
        self._terms = terms
        self._tally = tally
        self._host = host
        self._context = copy_context()
        self._rank = -depth() if terms.nests else 0  # runs from within go first
        self._deadline = inf
        self._jobs: dict[Call[T], Job] = {}
        self._aside: dict[Call[T], None] = {}
        self._parked = 0
        self._openings = Openings(terms.sources)
        self._shared: Shared | None = None
        self._till = None if terms.budgets is None else Till(terms.budgets, host, self._paid, self._at_once)

    def begin(self, now: float, deadline: float) -> None:
        """The run begins, and ends at `deadline` if it has not ended before."""
        self._openings.began = now
        self._deadline = deadline
        self._shared = None if self._terms.shared is None else self._terms.shared.here()

    @property
    def _payers(self) -> tuple[Purse, ...]:
        """Who pays for its calls."""
        return () if self._terms.budgets is None else self._terms.budgets.purses

    def close(self) -> None:
        """All is done."""
        del self._host  # a circle, which only a collection would break
        self._till = None

    @property
    def waiting(self) -> int:
        """Calls that are not over, as far as they have to be made."""
        return len(self._jobs)

    @property
    def parked(self) -> int:
        """Those of them that wait out a backoff."""
        return self._parked

    @property
    def in_window(self) -> int:
        """Calls that count against the window."""
        return len(self._jobs) - self._parked + len(self._aside)

    @property
    def is_empty(self) -> bool:
        """Whether no call is on its way."""
        return not self._jobs and not self._aside

    def enter(self, calls: list[Call[T]]) -> None:
        """Go on with `calls`: those that nobody has answered are asked."""
        if self._terms.memory is not None:
            self._aside.update(dict.fromkeys(calls))
            calls = self._terms.memory.sift(calls, self._answered, partial(self._host.fail, "the journal"))
            for call in calls:
                del self._aside[call]
        self._ask(calls)

    def stop(self) -> None:
        """Cancel all, or those that have not begun, if that is what was wished."""
        host = self._host  # with the last call it is let go of
        if self._till is not None:
            self._till.send_away()
        if host.cancelled is not None:
            self._cancel_all()
        elif host.winding_down is not None:
            self._cancel([job for job in self._jobs.values() if job.running is None])

    def _answered(self, call: Call[T], result: Result[T] | None) -> None:
        """An earlier run has answered `call`; with None, that cannot be used."""
        del self._aside[call]
        if result is not None:
            self._keep(call, result)
        else:
            self._ask([call])

    def _ask(self, calls: list[Call[T]]) -> None:
        """Have `calls` made, or wait for those that are under way and ask the same."""
        if self._shared is not None:
            asked = self._shared.sift(calls, self._payers)
            self._aside.update((call, None) for call in calls if call.leader is not None)
            calls = asked
        if self._till is None:
            self._hand_in(calls)
        else:
            self._pay(calls, self._till)

    def _pay(self, calls: list[Call[T]], till: Till) -> None:
        for call in calls:
            try:
                till.join(call)
            except Stopped as exc:  # one such row costs one row
                self._end(call, Outcome(heard=False, error=exc), Timing())
            else:
                self._aside[call] = None
        if self._tally.stopped is None:
            till.serve()
        else:
            till.send_away()

    def _paid(self, calls: list[Call[T]]) -> None:
        self._hand_in(self._called_up(calls))

    def _called_up(self, calls: list[Call[T]]) -> Iterator[Call[T]]:
        """`calls`, each aside until it is its turn: if those before it end at once, the run is not over."""
        for call in calls:
            del self._aside[call]
            yield call

    def _at_once(self) -> float:
        return min(self._terms.width, UNLIMITED_WIDTH)

    def _hand_in(self, calls: Iterable[Call[T]]) -> None:
        jobs = []
        for call in calls:
            try:
                jobs.append(self._job_of(call))
            except Stopped as exc:
                self._end(call, Outcome(heard=False, error=exc), Timing())
        if jobs:
            self._engine.hand_in(jobs)

    def _job_of(self, call: Call[T]) -> Job:
        """A call as a job.

        Raises:
            Stopped: All that it could be tried on was closed, or the run ends.
        """
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

    def started(self, call: Call[T], attempt: Attempt) -> Context:
        """An attempt of `call` begins; the context for it."""
        tally = self._tally
        tally.attempts += 1
        tally.in_flight += 1
        if call.parked:
            call.parked = False
            self._parked -= 1
        if tally.in_flight >= len(self._jobs) - self._parked:
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
            self._parked += 1
            self._wait_out(call, attempt.job, outcome)
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
            self._parked -= call.parked
            self._end_if_all_is_closed()
            self._end(call, Outcome(heard=False, error=closed_by(error)), Timing(now - job.added_at, 0.0, job.attempts))

    def _wait_out(self, call: Call[T], job: Job, outcome: Outcome) -> None:
        """Another try of `call` comes later, unless the run starts nothing more, or cannot pay for it."""
        if self._host.winding_down is not None:
            self._cancel([job])
        elif self._till is None or self._till.extend(call):
            self._host.make_room()
        else:
            call.stopped = Stopped(f"there is no budget left for another try after: {outcome.error}", kind="budget")
            self._cancel([job])

    def _end(self, call: Call[T], outcome: Outcome, timing: Timing, *, too_late: bool = False) -> None:
        if (job := self._jobs.pop(call, None)) is not None:
            # The shell may keep an attempt, and so its job, for as long as its timeout would have been.
            job.payload = None
        if not outcome.heard and isinstance(outcome.error, Stopped):
            outcome.error = call.stopped or self._host.cancelled or self._host.winding_down or outcome.error
        result = call.work.result(call.index, outcome, timing)
        charge = () if self._till is None else self._till.settle(call)
        followers = [] if self._shared is None else self._shared.over(call)
        if call.is_orphan:
            self._host.left()
        else:
            self._keep(call, result, charge)
        _tell(followers, result, result.spending if call.is_orphan else (), self if too_late else None)

    def _keep(self, call: Call[T], result: Result[T], charge: Sequence[float | None] = ()) -> None:
        """Deliver a Result, as soon as it is on disk, if that is wished."""
        if self._terms.memory is None or result.source == "none":
            self._host.deliver(result)
            self._host.left()
        else:
            self._aside[call] = None
            self._terms.memory.keep(call.key, result, charge, partial(self._kept, call))

    def _kept(self, call: Call[T], result: Result[T], failure: JournalError | None) -> None:
        """The Result of `call` is on disk, or cannot be written: then it does not count."""
        del self._aside[call]
        if failure is not None:
            self._host.fail("the journal", failure)
            error = Stopped("the answer could not be written to the journal", kind="cancelled", partial=result.text)
            result = replace(result, error=error, reply=b"", returned=None)
        self._host.deliver(result)
        self._host.left()

    def _cancel_all(self) -> None:
        for call in [call for call in self._aside if call.leader is not None]:
            self._stop_following(call)
        for call in [call for call in self._jobs if call.followers]:
            self._bequeath(call)
        self._cancel(list(self._jobs.values()))  # and what was left to others may start

    def _cancel(self, jobs: list[Job]) -> None:
        """End those that wait now, and the others as soon as their attempts have ended."""
        for job in self._engine.cancel(jobs):
            call: Call[T] = job.payload
            self._parked -= call.parked
            self._end(call, cancelled(), Timing(clock.now() - job.added_at, 0.0, job.attempts))

    def followed(self, call: Call[T], result: Result[Any] | None, spending: Sequence[Spending]) -> None:
        """The answer that `call` waited for has come; with None there is none."""
        del self._aside[call]
        call.leader = None
        shared = None
        if result is not None:
            fields = answer_of(result, spending=spending, attempts=0, source="shared")
            shared = cast("Repeatable[T]", call.work).again(call.index, fields)
        if shared is not None:
            self._keep(call, shared)
        else:
            self._ask([call])

    def inherit(self, call: Call[Any], job: Job) -> None:
        """`call`, of another run that ends, goes on for ours."""
        self._jobs[call] = job
        self._parked += call.parked
        self._tally.in_flight += job.running is not None
        job.deadline = self._deadline
        call.passage = self
        self._engine.hand_over(job, self._terms.lane)  # its own may be paused, or full, and nobody is there to resume it

    def _bequeath(self, call: Call[T]) -> None:
        """Calls of other runs wait for the answer of `call`: it goes on as one of theirs."""
        assert call.followers
        job = self._jobs.pop(call)
        self._parked -= call.parked
        self._tally.in_flight -= job.running is not None
        next(iter(call.followers)).passage.inherit(call, job)
        if not call.is_orphan:
            call.is_orphan = True
            outcome = Outcome(heard=False, error=self._host.cancelled)
            timing = Timing(clock.now() - job.added_at, 0.0, job.attempts)
            result = call.work.result(call.index, outcome, timing)
            # What is set aside for it stays so: whoever shares it keeps the same budgets, and settles that.
            self._keep(call, replace(result, spending=()))

    def _stop_following(self, call: Call[T]) -> None:
        leader, call.leader = call.leader, None
        assert leader is not None
        assert leader.followers is not None
        del leader.followers[call], self._aside[call]
        self._end(call, cancelled(), Timing())


def _tell(
    followers: list[Call[Any]], result: Result[Any], spending: Sequence[Spending], late_for: Passage[Any] | None
) -> None:
    """The answer that `followers` waited for has come; what it has used is booked to the first of them, if to any.

    One that was cut off by a bound of its run is none; nor is one that came too late for `late_for`, to the others.
    """
    is_cut_off = result.source == "none" or isinstance(result.error, Stopped)
    for follower in followers:
        is_none = is_cut_off or late_for not in (None, follower.passage)
        follower.passage.followed(follower, None if is_none else result, spending)
        spending = ()
