"""The course of one run: its source pulled through a window, its calls on their way, each Result delivered exactly once.

Theory of operation. Items that wait, are under way, or are done and not yet taken count against a window, so memory stays
flat and a slow reader slows the source down, never a slot. Items that wait out a backoff do not count, up to a cap of their
own, so that a bad patch does not hold the others up. Everything is a step of the feed, of the engine, of the journal, or of
a timer. Every item becomes one `Call`, which ends exactly once, in `deliver`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable, Sized
from contextvars import copy_context
from itertools import islice
from math import inf
from typing import Any, Generic, TypeVar

from . import clock
from .call import Call, refused
from .clock import in_words
from .engine import Engine
from .errors import FanOutError, JournalError, Stopped
from .feed import feed_of
from .passage import Passage
from .progress import Reporter
from .results import Result
from .shelf import Shelf
from .tally import Tally
from .vigil import Vigil
from .work import Terms, Work

T = TypeVar("T")

WINDOW = 2  # items pulled per slot: one under way, one ready to follow it
UNLIMITED_WINDOW = 1_000  # items pulled where the number of slots is not limited
REFILL = 8  # places of a window, or such a part of a smaller one
# Items taken between two turns of the event loop, beyond those that replace others: a millisecond of work, or two.
BREATH = 20
PARKED_CAP = 4  # windows of items that may wait out a backoff before pulling pauses


def refill_of(window: int) -> int:
    """Places of a window that are free before it is filled up: one step for several items."""
    return max(1, min(REFILL, window // REFILL))


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

    Attributes:
        loop: The event loop that it runs on; None before it starts.
        over: Set when it is over.
        failure: What broke it: whose, and what was raised.
        cancelled: Why calls are cancelled, if they are.
        winding_down: Why none is started any more, if that is so.
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
        self.loop: asyncio.AbstractEventLoop | None = None
        self.over = asyncio.Event()
        self.failure: tuple[str, Exception] | None = None
        self.cancelled: Stopped | None = None
        self.winding_down: Stopped | None = None
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
        self._calls: Passage[T] = Passage(engine, terms, tally, self)
        self._vigil = Vigil(tally, self._calls)
        self._is_ready = False  # whether the feed has begun
        self._is_over = False
        self._takes_all = terms.gate is not None and terms.gate.takes_all
        self._pulled = 0
        self._wanting = 0  # places that must become free before it is worth looking for room
        self._freed = 0  # places that became free since items were taken last

    def start(self) -> None:
        """Begin to pull, on the running loop; `over` is set when every item has its Result."""
        self.loop = asyncio.get_running_loop()
        seconds, now = self._terms.deadline(), clock.now()
        self._tally.begin()
        for totals in self._terms.counted_in:
            totals.begin(self._tally)
        self._calls.begin(now, now + seconds)
        if self._tally.stopped is None:
            self._vigil.begin(expire=self._expire, seconds=seconds, tick=self._report if self._reporter.wants else None)
        if self._terms.memory is None:
            self._ready(None)
        else:
            self._terms.memory.open(self._ready)

    def stop(self, error: Stopped) -> None:
        """Start nothing more, and cancel what is under way; from any thread. Stopping again, or too late, does nothing."""
        if self.cancelled is not None or self.over.is_set():
            return
        self.cancelled = error
        self.give_up(error)

    def wind_down(self, error: Stopped) -> None:
        """Start nothing more, and let what is under way end; from any thread. The others end by `error`."""
        if self.winding_down is None and not self.over.is_set():
            self.winding_down = error
            self.give_up(error)

    @property
    def is_paused(self) -> bool:
        """Whether nothing is started for now."""
        return self._tally.paused

    def pause(self) -> None:
        """Start nothing more until `resume`; what is under way goes on."""
        self._tally.paused = True
        self._engine.pause(self._terms.lane)

    def resume(self) -> None:
        """Go on where it was paused."""
        self._tally.paused = False
        self._engine.resume(self._terms.lane)
        self.call_soon(self._calls.resume)

    def fail(self, whose: str, failure: Exception) -> None:
        """What broke the run: it ends, and whoever consumes it is told."""
        if self.failure is None:
            self.failure = whose, failure
        self.stop(Stopped(f"{whose} failed", kind="cancelled"))

    def make_room(self) -> None:
        """Something left the window: pull on, if there is room now."""
        self._wanting -= 1
        self._freed += 1
        if self._wanting <= 0 and self._feeding:
            self._feed.more()

    def _room(self) -> int:
        """Items that there is room for; none until it is worth a step, and none once nothing could be done with them."""
        if self._tally.stopped is not None and self.cancelled is None:
            return 0
        width = inf if self._takes_all else self._terms.width
        window = UNLIMITED_WINDOW if width == inf else int(WINDOW * width)
        if self._calls.parked >= PARKED_CAP * window:
            return 0
        held = 0 if self._takes_all else self._calls.in_window + self._shelf.untaken
        free = window - held
        self._wanting = refill_of(window) - free
        return min(free, BREATH + self._freed) if self._wanting <= 0 else 0

    def _ready(self, failure: JournalError | None) -> None:
        """The journal is open, or cannot be opened."""
        if failure is not None:
            self.fail("the journal", failure)
        self._is_ready = True
        self._feed.start()
        if self._tally.stopped is not None:
            self._feed.stop()

    def _take(self, items: list[Any]) -> None:
        """Go on with the next items."""
        self._freed = 0
        calls = []
        for item in items:
            if self._tally.stopped is not None:
                self._refuse(item, self._tally.stopped)
                continue
            try:
                calls.append(Call(self._calls, self._pulled, self._open(self._pulled, item)))
            except FanOutError as exc:  # one bad row costs one row
                self._refuse(item, exc)
            else:
                self._pulled += 1
        self._calls.enter(calls)

    def give_up(self, error: Stopped) -> None:
        """The run ends, by `error` unless it ends already by another."""
        if self._tally.stopped is None:
            self._tally.stopped = error
        self.call_soon(self._stop)

    def call_soon(self, step: Callable[[], None]) -> None:
        """Do `step` on the run's event loop; from any thread."""
        if self.loop is not None:
            try:
                self.loop.call_soon_threadsafe(step)
            except RuntimeError:
                pass  # the loop is closed: nothing is under way there

    def _fed(self, failure: Exception | None) -> None:
        """The source has ended, or broke, or nothing more is wanted of it."""
        if failure is not None:
            self.failure = "the source", failure
        if failure is not None and self._takes_all:
            self.stop(Stopped("the source failed", kind="cancelled"))
        if self._tally.stopped is None:
            self._feeding = False
            self._calls.complete()
            self._check_over()
        else:
            self._calls.stop()
            self._give_up_the_rest()

    def _stop(self) -> None:
        if self._is_over:
            return
        self._calls.stop()
        if self._feeding and self._is_ready:
            self._feed.stop()
        self._check_over()

    def _expire(self, seconds: float) -> None:
        self.stop(Stopped(f"the deadline of {in_words(seconds)} has passed", kind="deadline"))

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
        self.deliver(refused(index, item, error))

    def left(self) -> None:
        """A call has left the window."""
        self.make_room()
        if self._calls.is_empty:
            self._check_over()

    def idle(self) -> None:
        """Nothing is left that waits to be started: the limits may have been raised."""
        if self._feeding:
            self._feed.more()

    def deliver(self, result: Result[T]) -> None:
        """A Result, for good."""
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
        if self._feeding or self._is_over or not self._calls.is_empty:
            return
        self._is_over = True
        if self._tally.paused:  # its lane would stand aside for good, and others be charged for passing it
            self._engine.resume(self._terms.lane)
        self._calls.close()
        self._vigil.end()
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
