"""The calls of one run on their way: pulled through a window, handed to the engine, each delivered exactly once.

Theory of operation. Items that wait, are under way, or are done and not yet taken count against a window, so memory stays
flat and a slow reader slows the source down, never a slot. Items that wait out a backoff do not count, up to a cap of their
own, so that a bad patch does not hold the others up. Everything is a step of the feed, of the engine, of the journal, or of
a timer. Every item becomes one `Call`, and every `Call` ends exactly once, in `_deliver`.

A call that has to be made is a job of the engine. Aside are those that have not to be made, for an earlier run has answered
them and its answer is being read; those that wait for the answer of an identical call, or for room in a budget; and those
whose Result is on its way to disk, before anybody sees it.

What was closed while it ran is asked no more: later items that have no other choice get their Results at once, and when
everything that the run uses is closed, the run ends. What was closed before is worth a look, which the schedule sees to.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Sequence, Sized
from contextvars import Context, copy_context
from dataclasses import replace
from functools import partial
from itertools import islice
from math import inf
from typing import Any, Generic, TypeVar, cast

from . import clock
from .budgets import Charge
from .call import Call, refused, too_long
from .clock import in_words
from .core.job import Attempt, Job, Outcome, Verdict
from .core.source import Source
from .engine import Engine
from .errors import FanOutError, JournalError, Stopped
from .feed import BREATH, feed_of
from .memory import answer_of
from .nesting import ENCLOSING, Enclosing, depth
from .openings import Openings, closed_by
from .progress import Reporter
from .results import Result
from .sharing import Shared
from .shelf import Shelf
from .shell import cancelled
from .spending import Spending
from .tally import Tally
from .work import Repeatable, Terms, Timing, Work

log = logging.getLogger("llm_fanout")

T = TypeVar("T")

WINDOW = 2  # items pulled per slot: one under way, one ready to follow it
UNLIMITED_WINDOW = 1_000  # items pulled where the number of slots is not limited
REFILL = 8  # a window is filled up again when this part of it is free: one step for several items
PARKED_CAP = 4  # windows of items that may wait out a backoff before pulling pauses
TICK = 1.0  # seconds between two reports while nothing happens
PATIENCE = 60.0  # seconds without any result after which a warning says what is waited for


class Flow(Generic[T]):
    """Pulls a source, has every item called, and puts each Result on a shelf.

    The context variables of all calls are those of the moment in which the flow is made.

    Args:
        source: The items.
        open: The Work of an item, given its index; if it raises a FanOutError, that item fails and the rest goes on.
        engine: Who starts the calls.
        terms: What they share.
        tally: The numbers of the run.
        shelf: Where results go.
        reporter: Who is told of each.
    """

    def __init__(
        self,
        source: Iterable[Any] | AsyncIterable[Any],
        open: Callable[[int, Any], Work[T]],
        engine: Engine,
        terms: Terms,
        *,
        tally: Tally,
        shelf: Shelf[T],
        reporter: Reporter,
    ) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None  # the one it runs on; None before it starts
        self.over = asyncio.Event()
        self.failure: tuple[str, Exception] | None = None  # what broke it: whose, and what was raised
        self._rest = iter(source) if isinstance(source, Sized) and isinstance(source, Iterable) else None
        self._feed = feed_of(source if self._rest is None else self._rest, self._room, self._take, self._fed)
        self._feeding = True
        self._open = open
        self._engine = engine
        self._terms = terms
        self._tally = tally
        self._shelf = shelf
        self._reporter = reporter
        self._context = copy_context()
        self._rank = -depth() if terms.nests else 0  # runs from within go first
        self._deadline = inf
        self._cancelled: Stopped | None = None  # why calls are cancelled
        self._winding_down: Stopped | None = None  # why none is started any more
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._jobs: dict[Call[T], Job] = {}
        self._aside: dict[Call[T], None] = {}
        self._unpaid: deque[Call[T]] = deque()  # of those aside, that wait for room in a budget
        self._shared: Shared | None = None
        self._is_ready = False  # whether the feed has begun
        self._is_over = False
        self._openings = Openings(terms.sources)
        self._pulled = 0
        self._parked = 0
        self._wanting = 0  # places that must become free before it is worth looking for room

    def start(self) -> None:
        """Begin to pull, on the running loop; `over` is set when every item has its Result."""
        self.loop = asyncio.get_running_loop()
        self._openings.began = clock.now()
        self._shared = None if self._terms.shared is None else self._terms.shared.here()
        self._tally.begin()
        for totals in self._terms.counted_in:
            totals.begin(self._tally)
        if self._tally.stopped is None:
            self._set_timers(self.loop)
        if self._terms.memory is None:
            self._ready(None)
        else:
            self._terms.memory.open(self._ready)

    def stop(self, error: Stopped) -> None:
        """Start nothing more, and cancel what is under way; from any thread. Stopping again, or too late, does nothing."""
        if self._cancelled is not None or self.over.is_set():
            return
        self._cancelled = error
        self._give_up(error)

    def wind_down(self, error: Stopped) -> None:
        """Start nothing more, and let what is under way end; from any thread. The others end by `error`."""
        if self._winding_down is None and not self.over.is_set():
            self._winding_down = error
            self._give_up(error)

    def pause(self) -> None:
        """Start nothing more until `resume`; what is under way goes on."""
        self._tally.paused = True
        self._engine.pause(self._terms.lane)

    def resume(self) -> None:
        """Go on where it was paused."""
        self._tally.paused = False
        self._engine.resume(self._terms.lane)

    def fail(self, whose: str, failure: Exception) -> None:
        """What broke the run: it ends, and whoever consumes it is told."""
        if self.failure is None:
            self.failure = whose, failure
        self.stop(Stopped(f"{whose} failed", kind="cancelled"))

    def make_room(self) -> None:
        """Something left the window: pull on, if there is room now."""
        self._wanting -= 1
        if self._wanting <= 0 and self._feeding:
            self._feed.more()

    def _room(self) -> int:
        """Items that there is room for; none until it is worth a step, and none once nothing could be done with them."""
        if self._tally.stopped is not None and self._cancelled is None:
            return 0
        width = self._terms.width
        window = UNLIMITED_WINDOW if width == inf else int(WINDOW * width)
        if self._parked >= PARKED_CAP * window:
            return 0
        free = window - (len(self._jobs) - self._parked + len(self._aside) + self._shelf.untaken)
        self._wanting = max(1, window // REFILL) - free
        return free if self._wanting <= 0 else 0

    def _set_timers(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timers["watch"] = loop.call_later(PATIENCE, self._watch, 0)
        if self._reporter.wants:
            self._timers["tick"] = loop.call_later(TICK, self._tick)
        seconds = self._terms.deadline()
        if seconds < inf:
            self._deadline = self._openings.began + seconds
            self._timers["deadline"] = loop.call_later(seconds, self._expire, seconds)

    def _ready(self, failure: JournalError | None) -> None:
        """The journal is open, or cannot be opened."""
        if failure is not None:
            self.fail("the journal", failure)
        self._is_ready = True
        self._feed.start()
        if self._tally.stopped is not None:
            self._feed.stop()

    def _take(self, items: list[Any]) -> None:
        """Go on with the next items: those that nobody has answered are asked."""
        calls = []
        for item in items:
            if self._tally.stopped is not None:
                self._refuse(item, self._tally.stopped)
                continue
            try:
                calls.append(Call(self, self._pulled, self._open(self._pulled, item)))
            except FanOutError as exc:  # one bad row costs one row
                self._refuse(item, exc)
            else:
                self._pulled += 1
        if self._terms.memory is not None:
            self._aside.update(dict.fromkeys(calls))
            calls = self._terms.memory.sift(calls, self._answered, partial(self.fail, "the journal"))
            for call in calls:
                del self._aside[call]
        self._ask(calls)

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
            asked = self._shared.sift(calls)
            self._aside.update((call, None) for call in calls if call.leader is not None)
            calls = asked
        if self._terms.budgets is None:
            self._hand_in(calls)
            return
        for call in calls:
            try:
                self._terms.budgets.check(call.work)
            except Stopped as exc:  # it would never fit: one such row costs one row
                self._end(call, Outcome(heard=False, error=exc), Timing())
            else:
                self._aside[call] = None
                self._unpaid.append(call)
        self._pay()

    def _pay(self) -> None:
        """Hand in calls that the budgets have room for, in order; the others wait until there is some."""
        while self._unpaid:
            call = self._unpaid[0]
            if self._tally.stopped is None and not self._is_settled(call):
                return
            self._unpaid.popleft()
            del self._aside[call]
            self._hand_in([call])

    def _is_settled(self, call: Call[T]) -> bool:
        """Whether the budgets have room for `call`, which is reserved now, or never will have: then the run ends."""
        budgets = self._terms.budgets
        assert budgets is not None
        try:
            call.reserved = budgets.reserve(call.work, min(self._terms.width, UNLIMITED_WINDOW), self._wake)
            return call.reserved is not None
        except Stopped as exc:
            self._give_up(exc)
        except JournalError as exc:
            self.fail("the journal", exc)
        return True

    def _wake(self) -> None:
        """There may be room in the budgets; from any thread."""
        self._call_soon(self._pay)

    def _hand_in(self, calls: list[Call[T]]) -> None:
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
            self._give_up(why)

    def _give_up(self, error: Stopped) -> None:
        """The run ends, by `error` unless it ends already by another."""
        if self._tally.stopped is None:
            self._tally.stopped = error
        self._call_soon(self._stop)

    def _call_soon(self, step: Callable[[], None]) -> None:
        if self.loop is not None:
            try:
                self.loop.call_soon_threadsafe(step)
            except RuntimeError:
                pass  # the loop is closed: nothing is under way there

    def _fed(self, failure: Exception | None) -> None:
        """The source has ended, or broke, or nothing more is wanted of it."""
        if failure is not None:
            self.failure = "the source", failure
        if self._tally.stopped is None:
            self._feeding = False
            self._check_over()
        else:
            self._stop_calls()
            self._give_up_the_rest()

    def _stop(self) -> None:
        self._stop_calls()
        if self._feeding and self._is_ready:
            self._feed.stop()
        self._check_over()

    def _expire(self, seconds: float) -> None:
        self.stop(Stopped(f"the deadline of {in_words(seconds)} has passed", kind="deadline"))

    def _tick(self) -> None:
        """Tell how it goes although nothing has ended: it may be standing still."""
        loop = self.loop
        assert loop is not None
        self._timers["tick"] = loop.call_later(TICK, self._tick)
        self._report()

    def _watch(self, done: int) -> None:
        """Say what is waited for, if nothing has come for long."""
        now_done = self._tally.done
        if now_done == done and self._jobs and (not self._tally.in_flight or self._tally.binding() == "outage"):
            what = self._tally.binding()
            log.warning(
                "no result for %.0f s: %d calls wait for %s; they go on as soon as they can",
                PATIENCE,
                len(self._jobs),
                what,
            )
        loop = self.loop
        assert loop is not None
        self._timers["watch"] = loop.call_later(PATIENCE, self._watch, now_done)

    def _stop_calls(self) -> None:
        """Cancel all, or those that have not begun, if that is what was wished."""
        if self._cancelled is not None:
            self._cancel_calls()
        elif self._winding_down is not None:
            self._cancel([job for job in self._jobs.values() if job.running is None])
        self._pay()

    def _cancel_calls(self) -> None:
        for call in [call for call in self._aside if call.leader is not None]:
            self._stop_following(call)
        for call in [call for call in self._jobs if call.followers]:
            self._bequeath(call)
        self._cancel(list(self._jobs.values()))

    def _cancel(self, jobs: list[Job]) -> None:
        for job in self._engine.cancel(jobs):
            call: Call[T] = job.payload
            self._parked -= call.parked
            self._end(call, cancelled(), Timing(clock.now() - job.added_at, 0.0, job.attempts))

    def followed(self, call: Call[T], result: Result[Any], spending: Sequence[Spending]) -> None:
        """The answer that `call` waited for has come; one that was cut off by a bound of another run is none."""
        del self._aside[call]
        call.leader = None
        fields = answer_of(result, spending=spending, attempts=0, source="shared")
        cut_off = result.source == "none" or isinstance(result.error, Stopped)
        shared = None if cut_off else cast("Repeatable[T]", call.work).again(call.index, fields)
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
        call.flow = self

    def _bequeath(self, call: Call[T]) -> None:
        """Calls of other runs wait for the answer of `call`: it goes on as one of theirs."""
        assert call.followers
        job = self._jobs.pop(call)
        self._parked -= call.parked
        self._tally.in_flight -= job.running is not None
        next(iter(call.followers)).flow.inherit(call, job)
        if not call.is_orphan:
            call.is_orphan = True
            outcome = Outcome(heard=False, error=self._cancelled)
            timing = Timing(clock.now() - job.added_at, 0.0, job.attempts)
            result = call.work.result(call.index, outcome, timing)
            self._keep(call, replace(result, spending=()), self._settle(call, call.reserved))

    def _stop_following(self, call: Call[T]) -> None:
        leader, call.leader = call.leader, None
        assert leader is not None and leader.followers is not None  # noqa: PT018
        del leader.followers[call], self._aside[call]
        self._end(call, cancelled(), Timing())

    def _give_up_the_rest(self) -> None:
        """A source that said how much it holds gets a Result for all of it, some in each turn of the event loop."""
        items: list[Any] = []
        try:
            items = list(islice(self._rest or (), BREATH))
        except Exception as exc:  # the user's own source: what it raised ends the run
            self.failure = "the source", exc
        stopped = self._tally.stopped
        if stopped is None or stopped.kind != "not_attempted":
            stopped = Stopped("the run ended before this call was started", kind="not_attempted")
        for item in items:
            self._refuse(item, stopped)
        if items and self.loop is not None:
            self.loop.call_soon(self._give_up_the_rest)
            return
        self._feeding = False
        self._check_over()

    def _refuse(self, item: Any, error: FanOutError) -> None:
        index, self._pulled = self._pulled, self._pulled + 1
        self._deliver(refused(index, item, error))

    def started(self, call: Call[T], attempt: Attempt) -> Context:
        """An attempt of `call` begins; the context for it."""
        tally = self._tally
        tally.attempts += 1
        tally.in_flight += 1
        if call.parked:
            call.parked = False
            self._parked -= 1
        if self._feeding and tally.in_flight >= len(self._jobs) - self._parked:
            self._feed.more()  # nothing is left that waits: the limits may have been raised
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
            if self._winding_down is not None:
                self._cancel([attempt.job])
            elif call.reserved is None or self._is_extended(call, call.reserved):
                self.make_room()
            else:
                self._end_unpaid(call, attempt.job, outcome)
            return
        job = attempt.job
        if verdict.too_long is not None:
            outcome = too_long(outcome, verdict.too_long)
        self._end(call, outcome, Timing(now - job.added_at, now - attempt.started_at, job.attempts))
        if outcome.closes:
            self._end_if_all_is_closed()

    def _is_extended(self, call: Call[T], reserved: Charge) -> bool:
        """Whether the budgets have room for another try of `call`, which is reserved now."""
        assert self._terms.budgets is not None
        extended = self._terms.budgets.extend(reserved, call.work)
        call.reserved = extended or reserved
        return extended is not None

    def _end_unpaid(self, call: Call[T], job: Job, outcome: Outcome) -> None:
        """End a call that is to be tried again, for the budget has no room for that."""
        for each in self._engine.cancel([job]):
            self._parked -= call.parked
            error = Stopped(f"there is no budget left for another try after: {outcome.error}", kind="budget")
            timing = Timing(clock.now() - each.added_at, 0.0, each.attempts)
            self._end(call, Outcome(heard=False, error=error), timing)

    def evicted(self, call: Call[T], job: Job, error: Exception | None, now: float) -> None:
        """All that `call` could have been tried on was closed, by an answer with that error."""
        if call in self._jobs:  # else it was cancelled while this was handed over
            self._parked -= call.parked
            self._end(call, Outcome(heard=False, error=closed_by(error)), Timing(now - job.added_at, 0.0, job.attempts))
            self._end_if_all_is_closed()

    def _end(self, call: Call[T], outcome: Outcome, timing: Timing) -> None:
        if (job := self._jobs.pop(call, None)) is not None:
            # The shell may keep an attempt, and so its job, for as long as its timeout would have been.
            job.payload = None
        if not outcome.heard and isinstance(outcome.error, Stopped):
            outcome.error = self._cancelled or self._winding_down or outcome.error
        result = call.work.result(call.index, outcome, timing)
        charge = self._settle(call)
        if call.followers is not None and self._shared is not None:
            spending = result.spending if call.is_orphan else ()  # it is the first one's that still wants it
            for follower in self._shared.over(call):
                follower.flow.followed(follower, result, spending)
                spending = ()
        if call.is_orphan:
            self._left()
        else:
            self._keep(call, result, charge)

    def _settle(self, call: Call[T], used: Charge | None = None) -> Sequence[float | None]:
        """Give back what was reserved for `call` and not used; what its budgets are charged."""
        reserved, call.reserved = call.reserved, None
        if reserved is None or self._terms.budgets is None:
            return ()
        used = call.work.charged if used is None else used
        self._terms.budgets.settle(reserved, used)
        return used.usd if self._terms.budgets.is_priced else None, used.tokens

    def _keep(self, call: Call[T], result: Result[T], charge: Sequence[float | None] = ()) -> None:
        """Deliver a Result, as soon as it is on disk, if that is wished."""
        if self._terms.memory is None or result.source == "none":
            self._deliver(result)
            self._left()
        else:
            self._aside[call] = None
            self._terms.memory.keep(call.key, result, charge, partial(self._kept, call))

    def _kept(self, call: Call[T], result: Result[T], failure: JournalError | None) -> None:
        """The Result of `call` is on disk, or cannot be written: then it does not count."""
        del self._aside[call]
        if failure is not None:
            self.fail("the journal", failure)
            error = Stopped("the answer could not be written to the journal", kind="cancelled", partial=result.text)
            result = replace(result, error=error, reply=b"", returned=None)
        self._deliver(result)
        self._left()

    def _left(self) -> None:
        """A call has left the window."""
        self.make_room()
        if not self._jobs and not self._aside:
            self._check_over()

    def _deliver(self, result: Result[T]) -> None:
        self._tally.count(result)
        self._shelf.put(result)
        if self._reporter.wants:
            self._report()

    def _report(self, *, final: bool = False) -> None:
        try:
            self._context.run(self._reporter.say, final=final)
        except Exception as exc:  # the user's own function: if it fails the run fails, as with a source
            self.fail("progress", exc)

    def _check_over(self) -> None:
        if self._feeding or self._jobs or self._aside or self._is_over:
            return
        self._is_over = True
        for timer in self._timers.values():
            timer.cancel()
        if self._terms.memory is None:
            self._finish(None)
        else:
            self._terms.memory.close(self._finish)

    def _finish(self, failure: JournalError | None) -> None:
        """All is done, and what is kept is on disk."""
        if failure is not None and self.failure is None:
            self.failure = "the journal", failure
        self._tally.total = self._pulled
        self._tally.end()
        for totals in self._terms.counted_in:
            totals.end(self._tally)
        try:
            self._report(final=True)
        finally:  # a KeyboardInterrupt in there is asyncio's to pass on
            self.over.set()
            self._shelf.wake()
