"""A run, as its consumer sees it: awaited, iterated, cancelled, looked at."""

from __future__ import annotations

import asyncio
import os
import sys
import warnings
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable, Sized
from contextlib import nullcontext
from dataclasses import replace
from html import escape
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Generic, Self, TypeVar

from .engine import Engine
from .errors import ConfigError, JournalError, RunFailed, Stopped
from .flow import Flow
from .nesting import lending
from .progress import Progress, Reporter
from .results import Report, Result
from .shelf import Shelf
from .sink import Sink
from .summary import Summary
from .tally import Tally
from .work import Terms, Work

T = TypeVar("T")

BATCH = 1_000  # results that are written in one step


class Run(Awaitable[Report[T]], Generic[T]):
    """A fan-out that starts when it is consumed. Take it in one of four ways:

    - `report = await run`: a Report with one Result per item, in input order;
    - `async for result in run`: Results as they are done; none is kept, and the source may be endless;
    - `async for result in run.ordered()`: the same in input order;
    - `summary = await run.sink("out.jsonl")`: rows in a file, in input order, in flat memory, for millions of them.

    Awaiting twice gives the same results; iterating twice is a ConfigError. `async with run:` cancels what is left on
    leaving. Cancelling the task that consumes a run cancels its calls and waits for their clean-up; `report` still has
    what was done. A source that raises ends the run with `RunFailed` once the calls under way are done.
    """

    def __init__(
        self,
        source: Iterable[Any] | AsyncIterable[Any],
        open: Callable[[int, Any], Work[T]],
        engine: Engine,
        terms: Terms,
        *,
        progress: Progress = None,
        total: int | None = None,
    ) -> None:
        self._tally = Tally(total=len(source) if isinstance(source, Sized) else total)
        self._shelf: Shelf[T] = Shelf()
        reporter = Reporter(progress, self._tally)
        self._waiting = lending if terms.nests else nullcontext
        self._flow = Flow(source, open, engine, terms, tally=self._tally, shelf=self._shelf, reporter=reporter)
        self._journal = None if terms.memory is None else terms.memory.place
        self._closing: Callable[[], Awaitable[None]] | None = None
        self._claimed = False  # whether somebody consumes it
        self._is_abandoned = False  # whether its end is not waited for any more
        self._made_at = _place_of_caller()

    @property
    def summary(self) -> Summary:
        """The numbers so far; final once the run has ended."""
        return self._tally.summary()

    @property
    def report(self) -> Report[T]:
        """What is done so far, in input order, at any time. An iterated run has handed its results over: there it is the
        summary, and the results that nobody has taken yet."""
        return Report(self._shelf, self.summary)

    def __await__(self) -> Generator[Any, None, Report[T]]:
        return self._whole().__await__()

    def __aiter__(self) -> AsyncIterator[Result[T]]:
        self._claim()
        return self._iterate(in_order=False)

    def ordered(self) -> AsyncIterator[Result[T]]:
        """Iterate in input order; a result is handed out when all before it were."""
        self._claim()
        return self._iterate(in_order=True)

    async def sink(self, path: str | os.PathLike[str] | BinaryIO) -> Summary:
        """Write one row per result (`Result.to_dict`) to a file, in input order, and give the final numbers.

        Memory stays flat: results are written as they are done, and those that come before their turn wait on disk, beside
        `path`, so that a slow call delays no other. When the disk is slower than the answers, the run slows down.

        The file (mode 0600) appears whole or not at all: until the end it is `.<name>.part`, which no other run can write
        to, and a file that was at `path` stays. A run that ends early, by its deadline, by `cancel`, by a source that raises
        or because the task that awaits it is cancelled, puts in place the rows of all calls that it had taken up. Cancelled
        further times while its calls clean up, it leaves no file.

        Args:
            path: Where; the end of its name says what it is to be. `.jsonl` (or `.ndjson`): a JSON object a line. `.csv`:
                text, in which no answer is a formula to a spreadsheet. `.parquet`: typed columns, with the extra
                `llm-fanout[parquet]`. Both have a column for each key that a row can have, `error` and `usage` in parts
                (`error.kind`), and for each field of the first answer, if it is structured; what fits no column is JSON
                in `value`. A pipe, a device, or a file that is open for bytes (`sys.stdout.buffer`; it stays open) gets JSON
                lines as they come.

        Raises:
            ConfigError: The place cannot be written to, or its name ends in none of these: nothing was sent.
            RunFailed: The disk is full, or a value cannot be written as JSON: the run has ended, and what was at `path` is
                there still. What was done is lost then, unless there is a journal. Or the source raised: what was done is
                written; if that is nothing, what was there stays.
        """
        self._check_place(path)
        self._claim()
        try:
            async with Sink(path) as sink:
                self._flow.start()
                try:
                    await self._fill(sink)
                except asyncio.CancelledError:
                    await self.leave()
                    await self._fill(sink)
                    raise
        finally:
            await self.leave()
        self._raise_failure()
        return self.summary

    def cancel(self, why: str = "the run was cancelled") -> None:
        """End the run: nothing more starts, calls under way are cancelled. Each gets a Result that says so, and `why`.

        May be called from any thread; returns at once. Whoever awaits the run gets its Report.
        """
        self._flow.stop(Stopped(why, kind="cancelled"))

    def wind_down(self, why: str = "the run was ended") -> None:
        """Start nothing more, and let calls under way end; those that were not started get Results that say `why`.

        May be called from any thread; returns at once. Whoever awaits the run gets its Report; `cancel` is quicker.
        """
        self._flow.wind_down(Stopped(why, kind="cancelled"))

    def pause(self) -> None:
        """Start nothing more until `resume`; calls under way go on. From any thread; pausing again does nothing."""
        self._flow.pause()

    def resume(self) -> None:
        """Go on after `pause`; from any thread."""
        self._flow.resume()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        await self.leave()

    async def leave(self, why: str = "the run was cancelled") -> None:
        """Cancel what is left, and wait until its clean-up is done; what `async with` does at its end. Who is cancelled
        meanwhile waits no more, nor does anybody who leaves after that."""
        self.cancel(why)
        if self._flow.loop is not None:
            if not self._is_abandoned:
                await self._clean_up()
            await self._close()

    def close_with(self, closing: Callable[[], Awaitable[None]]) -> None:
        """Await `closing()` once, when the run has ended and before its consumer goes on."""
        self._closing = closing

    def __repr__(self) -> str:
        if self._flow.loop is None:
            return "<Run: not started>"
        unpriced = replace(self.summary, spending=())  # no price list is imported for one line that says no cost
        return f"<Run: {str(unpriced).partition(chr(10))[0]}>"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>" if self._flow.loop is None else self.report._repr_html_()

    def __del__(self) -> None:
        flow = getattr(self, "_flow", None)  # None: the constructor raised
        if flow is not None and flow.loop is None and self._tally.stopped is None:
            said = f"the run made at {self._made_at} was never awaited or iterated, so nothing was sent; await it"
            warnings.warn(said, RuntimeWarning, stacklevel=2)

    def _claim(self) -> None:
        claimed, self._claimed = self._claimed, True
        if claimed:
            raise ConfigError("this run has been consumed already; keep its Report, or call map again for another run")

    async def _whole(self) -> Report[T]:
        if not self._shelf.keeps:
            self._claim()
            self._shelf.keeps = True
            self._flow.start()
        await self._wait(self._flow.over.wait())
        await self._close()
        self._raise_failure()
        return self.report

    async def _iterate(self, *, in_order: bool) -> AsyncIterator[Result[T]]:
        self._flow.start()
        due = 0
        try:
            while len(self._shelf) or not self._flow.over.is_set():
                while (result := self._shelf.take(due if in_order else None)) is not None:
                    due += 1
                    self._flow.make_room()
                    yield result
                if not self._flow.over.is_set():
                    await self._wait(self._shelf.news())
        finally:
            await self.leave()
        self._raise_failure()

    def _check_place(self, path: object) -> None:
        if isinstance(path, str | os.PathLike) and Path(path).absolute() == self._journal:
            raise ConfigError(f"cannot write {path}: the journal of the run is to be there; name another file")

    async def _fill(self, sink: Sink) -> None:
        """Have every result written, some at a time, and the file put in place."""
        results: list[Result[T]] = []
        try:
            while len(self._shelf) or not self._flow.over.is_set():
                results = self._take_some()
                if results or sink.is_behind:
                    await sink.write(results)
                else:
                    await self._wait(self._shelf.news())
            if self._flow.failure is None or self._tally.done:  # a run that broke at once has nothing to put there
                await sink.put_in_place()
        except Exception as exc:  # the disk's, or of a value of the user's: no file, so the run is of no use
            for result in results:
                self._shelf.put(result)
            await self.leave("its rows could not be written")
            message = f"the rows cannot be written: {exc}; the run was ended, and a file that was there is as it was"
            raise RunFailed(message, self.report) from exc

    def _take_some(self) -> list[Result[T]]:
        """What is on the shelf, at most a batch of it, in input order."""
        taken = list(islice(iter(lambda: self._shelf.take(None), None), BATCH))
        for _ in taken:
            self._flow.make_room()
        return sorted(taken, key=lambda result: result.index)

    async def _wait(self, waiting: Awaitable[object]) -> None:
        """Await `waiting` while others may use the slot of the attempt that we are in, if we are in one. Cancelled, end the
        run before the slot is asked back: it may be one of its own calls that has it."""
        async with self._waiting():
            try:
                await waiting
            except asyncio.CancelledError:
                await self.leave()
                raise

    async def _clean_up(self) -> None:
        try:
            await self._flow.over.wait()
        except asyncio.CancelledError:
            # A KeyboardInterrupt comes between any two steps of Python: if it cut one of ours short, the end never comes.
            self._is_abandoned = True
            raise

    async def _close(self) -> None:
        closing, self._closing = self._closing, None
        if closing is not None:
            await closing()

    def _raise_failure(self) -> None:
        if self._flow.failure is not None:
            who, what = self._flow.failure
            if isinstance(what, JournalError):
                raise JournalError(str(what), self.report) from what.__cause__
            message = f"{who} raised {type(what).__name__}: {what}; .report has what was done"
            raise RunFailed(message, self.report) from what


def stop_all(runs: Iterable[Run[Any]], error: Stopped) -> None:
    """End `runs` like `cancel`, each call by `error`; from any thread."""
    for run in runs:
        run._flow.stop(error)


async def leave_all(runs: Iterable[Run[Any]], why: str) -> None:
    """Leave those of `runs` that run on this event loop, or were not started yet; each call that is cancelled says `why`."""
    here = asyncio.get_running_loop()
    for run in list(runs):
        if run._flow.loop in (None, here):
            await run.leave(why)


def _place_of_caller() -> str:
    """File and line of the code that called us, for a warning that may come much later."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("llm_fanout."):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
