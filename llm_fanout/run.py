"""One fan-out: items in, one Result each out, however you take them.

Theory of operation. A `Run` pulls its source through a window: items that wait, are under way, or are done and not yet
taken count against it, so memory stays flat and a slow reader slows the source down, never a slot. Items that wait out a
backoff do not count, up to a cap of their own, so that a bad patch does not hold the others up. Every item becomes one
`_Call`, and every `_Call` ends exactly once, in `_deliver`.
"""

from __future__ import annotations

import asyncio
import builtins
import sys
import warnings
from collections import OrderedDict
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Sized,
)
from contextlib import aclosing
from contextvars import Context, copy_context
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from . import clock
from .core.quota import Cost, Quota
from .core.retry import RetryPolicy
from .core.schedule import Attempt, Job, Outcome, Verdict
from .engine import Engine, Shell, cancelled
from .errors import CallError, ConfigError, FanOutError, Rejected, RunFailed, Stopped
from .hooks import hook
from .results import Report, Result, Summary
from .tally import Tally

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

WINDOW = 2  # items pulled per slot: one under way, one ready to follow it
PARKED_CAP = 4  # windows of items that may wait out a backoff before pulling pauses
BREATH = 100  # items handed in between two turns of the event loop
PROGRESS_EVERY = 0.1  # seconds between two reports of progress

Progress = bool | Callable[[Summary], None] | None


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
    """One item, as a run needs to know it."""

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
    """One item on its way through the engine."""

    run: Run[T]
    index: int
    work: Work[T]
    context: Context
    shell: Shell | None = None
    parked: bool = False

    def perform(self) -> Coroutine[Any, Any, Outcome]:
        return self.work.perform()

    def started(self) -> None:
        self.run._started(self)

    def ended(self, attempt: Attempt, outcome: Outcome, verdict: Verdict, now: float) -> None:
        self.run._ended(self, attempt, outcome, verdict, now)


class Run(Awaitable[Report[T]], Generic[T]):
    """A fan-out that starts when it is consumed. Take it in one of three ways:

    - `report = await run`: a Report with one Result per item, in input order;
    - `async for result in run`: Results as they are done; none is kept, and the source may be endless;
    - `async for result in run.ordered()`: the same in input order.

    Awaiting twice gives the same numbers; iterating twice is a ConfigError. `async with run:` cancels what is left on
    leaving. Cancelling the task that consumes a run cancels its calls and waits for their clean-up; `report` still has
    what was done. A source that raises ends the run with `RunFailed` once the calls under way are done.
    """

    def __init__(
        self,
        source: Iterable[Any] | AsyncIterable[Any],
        open: Callable[[int, Any], Work[T]],
        engine: Engine,
        *,
        width: Callable[[], int],
        progress: Progress = None,
        total: int | None = None,
    ) -> None:
        self._source = source
        self._open = open
        self._engine = engine
        self._width = width
        self._progress = progress
        self._context = copy_context()
        self._tally = Tally(total=len(source) if isinstance(source, Sized) else total)
        self._closing: Callable[[], Awaitable[None]] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None  # the one it runs on; None before it starts
        self._feeder: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._jobs: dict[_Call[T], Job] = {}
        self._pulled = 0
        self._parked = 0
        self._rest = aiter(source) if isinstance(source, AsyncIterable) else iter(source)
        self._kept: dict[int, Result[T]] | None = None
        self._unread: OrderedDict[int, Result[T]] = OrderedDict()
        self._failure: Exception | None = None
        self._failed_in = "the source"
        self._notify: Callable[[Summary], None] | None = None
        self._notified_at = 0.0

    @property
    def summary(self) -> Summary:
        """The numbers so far; final once the run has ended."""
        return self._tally.summary()

    @property
    def report(self) -> Report[T]:
        """What is done so far, in input order, at any time. An iterated run has handed its results over: only the
        summary is left, with results that nobody has taken yet."""
        if self._kept is not None:
            return Report((self._kept[index] for index in sorted(self._kept)), self.summary)
        return Report((self._unread[index] for index in sorted(self._unread)), self.summary)

    def __await__(self) -> Generator[Any, None, Report[T]]:
        return self._whole().__await__()

    def __aiter__(self) -> AsyncIterator[Result[T]]:
        self._claim()
        return self._iterate(in_order=False)

    def ordered(self) -> AsyncIterator[Result[T]]:
        """Iterate in input order; a result is handed out when all before it were."""
        self._claim()
        return self._iterate(in_order=True)

    def cancel(self) -> None:
        """End the run: nothing more starts, calls under way are cancelled. Each gets a Result that says so.

        May be called from any thread; returns at once. Whoever awaits the run gets its Report.
        """
        if self._tally.stopped is None and not self._over.is_set():
            self._tally.stopped = Stopped("the run was cancelled", kind="cancelled")
            if self.loop is not None and not self.loop.is_closed():
                self.loop.call_soon_threadsafe(self._cancel)

    def close_with(self, closing: Callable[[], Awaitable[None]]) -> None:
        """Await `closing()` once, when the run has ended and before its consumer goes on."""
        self._closing = closing

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        await self.leave()

    async def leave(self) -> None:
        """Cancel what is left, and wait until its clean-up is done; what `async with` does at its end."""
        if self.loop is None:
            self._tally.stopped = Stopped("the run was left before it was started", kind="cancelled")
        else:
            await self._unwind()

    def __del__(self) -> None:
        if getattr(self, "loop", self) is None and self._tally.stopped is None:
            warnings.warn("a run was never awaited or iterated, so nothing was sent; await it", RuntimeWarning, stacklevel=2)

    def _claim(self) -> None:
        if self.loop is not None:
            raise ConfigError("this run has been consumed already; keep its Report, or call map again for another run")

    async def _whole(self) -> Report[T]:
        if self.loop is None:
            self._kept = {}
            self._start()
        elif self._kept is None:
            self._claim()
        try:
            await self._over.wait()
        except asyncio.CancelledError:
            await self._unwind()
            raise
        await self._close()
        self._raise_failure()
        return self.report

    async def _iterate(self, *, in_order: bool) -> AsyncIterator[Result[T]]:
        self._start()
        due = 0
        try:
            while self._unread or not self._over.is_set():
                while (result := self._next_unread(due if in_order else None)) is not None:
                    due += 1
                    self._make_room()
                    yield result
                if not self._over.is_set():
                    self._news.clear()
                    await self._news.wait()
        finally:
            await self._unwind()
        self._raise_failure()

    def _next_unread(self, index: int | None) -> Result[T] | None:
        if index is not None:
            return self._unread.pop(index, None)
        return self._unread.popitem(last=False)[1] if self._unread else None

    async def _unwind(self) -> None:
        """Cancel what is left, and wait until its clean-up is done."""
        self.cancel()
        await self._over.wait()
        await self._close()

    async def _close(self) -> None:
        closing, self._closing = self._closing, None
        if closing is not None:
            await closing()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise RunFailed(
                f"{self._failed_in} raised {type(self._failure).__name__}: {self._failure}; .report has what was done",
                self.report,
            ) from self._failure

    def _start(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._notify = _progress_of(self._progress)
        self._tally.begin()
        self._feeder = self.loop.create_task(self._feed())
        # A callback, not a `finally`: a task that is cancelled before its first step never enters its coroutine.
        self._feeder.add_done_callback(self._fed)
        if self._tally.stopped is not None:
            self._feeder.cancel()

    async def _feed(self) -> None:
        """Hand in one item after another, as the window allows."""
        async with aclosing(_each(self._rest)) as items:
            async for item in items:
                self._hand_in(item)
                if self._pulled % BREATH == 0:
                    await asyncio.sleep(0)
                while not self._has_room():
                    self._room.clear()
                    await self._room.wait()

    def _has_room(self) -> bool:
        window = WINDOW * self._width()
        unread = len(self._unread) if self._kept is None else 0
        return len(self._jobs) - self._parked + unread < window and self._parked < PARKED_CAP * window

    def _make_room(self) -> None:
        if self._has_room():
            self._room.set()

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
            self.cancel()
            self._cancel_jobs()
            self._give_up_the_rest()
        elif isinstance(failure := feeder.exception(), Exception):
            self._failure = failure
        self._check_over()

    def _cancel(self) -> None:
        if self._feeder is None or not self._feeder.cancel():
            self._cancel_jobs()

    def _cancel_jobs(self) -> None:
        over = self._engine.cancel(list(self._jobs.values()))
        for job in over:
            call: Any = job.payload
            self._parked -= call.parked
            self._end(call, cancelled(), Timing(clock.now() - job.added_at, 0.0, job.attempts))

    def _give_up_the_rest(self) -> None:
        """A source that said how much it holds gets a Result for all of it."""
        if isinstance(self._source, Sized) and isinstance(self._rest, Iterator):
            for item in self._rest:
                index, self._pulled = self._pulled, self._pulled + 1
                self._deliver(_refused(index, item, NOT_ATTEMPTED))

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
        self._make_room()

    def _end(self, call: _Call[T], outcome: Outcome, timing: Timing) -> None:
        del self._jobs[call]
        self._deliver(call.work.result(call.index, outcome, timing))
        self._make_room()
        self._check_over()

    def _deliver(self, result: Result[T]) -> None:
        self._tally.count(result)
        if self._kept is not None:
            self._kept[result.index] = result
        else:
            self._unread[result.index] = result
            self._news.set()
        if self._notify is not None and clock.now() - self._notified_at >= PROGRESS_EVERY:
            self._say_progress(self._notify)

    def _say_progress(self, notify: Callable[[Summary], None]) -> None:
        self._notified_at = clock.now()
        try:
            notify(self.summary)
        except Exception as exc:  # the user's own function: its failure ends the run, as a source's does
            self._notify = None
            self._failure, self._failed_in = exc, "progress"
            self.cancel()

    def _check_over(self) -> None:
        if self._feeder is None and not self._jobs and not self._over.is_set():
            self._tally.total = self._pulled
            self._tally.end()
            self._over.set()
            self._news.set()
            if self._notify is not None:
                self._say_progress(self._notify)


NOT_ATTEMPTED = Stopped("the run ended before this call was started", kind="not_attempted")


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


def _progress_of(progress: Progress) -> Callable[[Summary], None] | None:
    if callable(progress):
        return progress
    in_notebook = getattr(builtins, "__IPYTHON__", False) and "ipykernel" in sys.modules
    if progress is True or (progress is None and in_notebook):
        bar: Callable[[Summary], None] = hook("bar")()
        return bar
    return None
