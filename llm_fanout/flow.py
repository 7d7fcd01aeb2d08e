"""The calls of one run on their way: pulled through a window, handed to the engine, each delivered exactly once.

Theory of operation. Items that wait, are under way, or are done and not yet taken count against a window, so memory stays
flat and a slow reader slows the source down, never a slot. Items that wait out a backoff do not count, up to a cap of their
own, so that a bad patch does not hold the others up. One task, the feeder, pulls the source; everything else is a step
of the engine. Every item becomes one `_Call`, and every `_Call` ends exactly once, in `_deliver`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sized
from contextlib import aclosing
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from . import clock
from .core.quota import Cost, Quota
from .core.retry import RetryPolicy
from .core.schedule import Attempt, Job, Outcome, Verdict
from .engine import Engine, Shell, cancelled
from .errors import CallError, FanOutError, Rejected, Stopped
from .progress import Reporter
from .results import Result
from .shelf import Shelf
from .tally import Tally

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

WINDOW = 2  # items pulled per slot: one under way, one ready to follow it
PARKED_CAP = 4  # windows of items that may wait out a backoff before pulling pauses
BREATH = 100  # items handed in between two turns of the event loop


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one call took, from handed in to done, and how often it was tried."""

    latency: float = 0.0
    service_time: float = 0.0
    attempts: int = 0

    @property
    def queue_time(self) -> float:
        """Seconds that were not the last attempt."""
        return self.latency - self.service_time


class Work(Protocol[T_co]):
    """One item, as a flow needs to know it."""

    @property
    def quota(self) -> Quota:
        """The limits that it needs."""

    @property
    def cost(self) -> Cost:
        """What each attempt reserves."""

    @property
    def retry(self) -> RetryPolicy:
        """How hard it tries."""

    def perform(self) -> Coroutine[Any, Any, Outcome]:
        """Try once. A failure is an Outcome; only CancelledError is raised."""

    def result(self, index: int, outcome: Outcome, timing: Timing) -> Result[T_co]:
        """The item's Result, from how its last attempt ended."""


@dataclass(slots=True, eq=False)
class _Call(Generic[T]):
    """One item on its way through the engine: the payload of its job."""

    flow: Flow[T]
    index: int
    work: Work[T]
    context: Context
    shell: Shell | None = None
    parked: bool = False

    def perform(self) -> Coroutine[Any, Any, Outcome]:
        return self.work.perform()

    def started(self) -> None:
        self.flow._started(self)

    def ended(self, attempt: Attempt, outcome: Outcome, verdict: Verdict, now: float) -> None:
        self.flow._ended(self, attempt, outcome, verdict, now)


class Flow(Generic[T]):
    """Pulls a source, has every item called, and puts each Result on a shelf.

    The context variables of all calls are those of the moment in which the flow is made.

    Args:
        source: The items.
        open: The Work of an item, given its index; if it raises a FanOutError, that item fails and the rest goes on.
        engine: Who starts the calls.
        width: How many calls the limits admit at once, as of now.
        tally: The numbers of the run.
        shelf: Where results go.
        reporter: Who is told of each.
    """

    def __init__(
        self,
        source: Iterable[Any] | AsyncIterable[Any],
        open: Callable[[int, Any], Work[T]],
        engine: Engine,
        *,
        width: Callable[[], int],
        tally: Tally,
        shelf: Shelf[T],
        reporter: Reporter,
    ) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None  # the one it runs on; None before it starts
        self.over = asyncio.Event()
        self.failure: tuple[str, Exception] | None = None  # what broke it: whose, and what was raised
        self._items = aiter(source) if isinstance(source, AsyncIterable) else iter(source)
        self._sized = isinstance(source, Sized)
        self._open = open
        self._engine = engine
        self._width = width
        self._tally = tally
        self._shelf = shelf
        self._reporter = reporter
        self._context = copy_context()
        self._room = asyncio.Event()
        self._feeder: asyncio.Task[None] | None = None
        self._jobs: dict[_Call[T], Job] = {}
        self._pulled = 0
        self._parked = 0

    def start(self) -> None:
        """Begin to pull, on the running loop; `over` is set when every item has its Result."""
        self.loop = asyncio.get_running_loop()
        self._tally.begin()
        self._feeder = self.loop.create_task(self._feed())
        # A callback, not a `finally`: a task that is cancelled before its first step never enters its coroutine.
        self._feeder.add_done_callback(self._fed)
        if self._tally.stopped is not None:
            self._feeder.cancel()

    def stop(self, reason: str) -> None:
        """Start nothing more, and cancel what is under way; from any thread. Stopping again, or too late, does nothing."""
        if self._tally.stopped is not None or self.over.is_set():
            return
        self._tally.stopped = Stopped(reason, kind="cancelled")
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._stop)

    def make_room(self) -> None:
        """Something left the window: pull on, if there is room now."""
        if self._has_room():
            self._room.set()

    async def _feed(self) -> None:
        """Hand in one item after another, as the window allows."""
        async with aclosing(_each(self._items)) as items:
            async for item in items:
                self._hand_in(item)
                if self._pulled % BREATH == 0:
                    await asyncio.sleep(0)
                while not self._has_room():
                    self._room.clear()
                    await self._room.wait()

    def _has_room(self) -> bool:
        window = WINDOW * self._width()
        return len(self._jobs) - self._parked + self._shelf.untaken < window and self._parked < PARKED_CAP * window

    def _hand_in(self, item: Any) -> None:
        index, self._pulled = self._pulled, self._pulled + 1
        try:
            work = self._open(index, item)
        except FanOutError as exc:  # one bad row costs one row
            self._deliver(_refused(index, item, exc))
            return
        call = _Call(self, index, work, self._context)
        job = self._jobs[call] = Job(work.quota, work.cost, work.retry, call)
        self._tally.waits_for(work.quota)
        self._engine.hand_in(job)

    def _fed(self, feeder: asyncio.Task[None]) -> None:
        """The source has ended, or broke, or nothing more is wanted of it."""
        self._feeder = None
        if feeder.cancelled():
            self.stop("the run was cancelled")
            self._cancel_jobs()
            self._give_up_the_rest()
        elif isinstance(failure := feeder.exception(), Exception):
            self.failure = "the source", failure
        self._check_over()

    def _stop(self) -> None:
        if self._feeder is None or not self._feeder.cancel():
            self._cancel_jobs()

    def _cancel_jobs(self) -> None:
        for job in self._engine.cancel(list(self._jobs.values())):
            call: Any = job.payload
            self._parked -= call.parked
            self._end(call, cancelled(), Timing(clock.now() - job.added_at, 0.0, job.attempts))

    def _give_up_the_rest(self) -> None:
        """A source that said how much it holds gets a Result for all of it."""
        if self._sized and isinstance(self._items, Iterator):
            for item in self._items:
                index, self._pulled = self._pulled, self._pulled + 1
                error = Stopped("the run ended before this call was started", kind="not_attempted")
                self._deliver(_refused(index, item, error))

    def _started(self, call: _Call[T]) -> None:
        self._tally.attempts += 1
        self._tally.in_flight += 1
        self._parked -= call.parked
        call.parked = False

    def _ended(self, call: _Call[T], attempt: Attempt, outcome: Outcome, verdict: Verdict, now: float) -> None:
        self._tally.in_flight -= 1
        if verdict.over:
            job = attempt.job
            self._end(call, outcome, Timing(now - job.added_at, now - attempt.started_at, job.attempts))
            return
        call.parked = True
        self._parked += 1
        self.make_room()

    def _end(self, call: _Call[T], outcome: Outcome, timing: Timing) -> None:
        del self._jobs[call]
        self._deliver(call.work.result(call.index, outcome, timing))
        self.make_room()
        self._check_over()

    def _deliver(self, result: Result[T]) -> None:
        self._tally.count(result)
        self._shelf.put(result)
        self._report()

    def _report(self, *, final: bool = False) -> None:
        try:
            self._reporter.say(final=final)
        except Exception as exc:  # the user's own function: if it fails the run fails, as with a source
            self.failure = "progress", exc
            self.stop("progress raised")

    def _check_over(self) -> None:
        if self._feeder is None and not self._jobs and not self.over.is_set():
            self._tally.total = self._pulled
            self._tally.end()
            self._report(final=True)
            self.over.set()
            self._shelf.wake()


def _refused(index: int, item: Any, error: FanOutError) -> Result[Any]:
    failure = error if isinstance(error, CallError) else Rejected(str(error), kind="invalid")
    id = getattr(item, "id", None)
    return Result(index=index, id=index if id is None else id, prompt=item, tag=getattr(item, "tag", None), error=failure)


async def _each(items: Iterator[T] | AsyncIterator[T]) -> AsyncGenerator[T]:
    if isinstance(items, AsyncIterator):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
