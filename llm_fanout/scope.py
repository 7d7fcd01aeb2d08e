"""A scope: one agent's share of the quotas it uses, and everything that runs inside, to be looked at and ended as one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from math import inf
from typing import Any, cast
from weakref import WeakSet

from . import clock
from .budgets import Purse
from .clock import in_words
from .core.lanes import Lane
from .errors import JournalError, Stopped
from .hooks import hook
from .journal import Journal, OpenJournal
from .journal.opened import Done
from .memory import Memory
from .notes import Notes
from .run import Run, leave_all, stop_all
from .summary import Summary
from .tally import Totals

_LOCK = threading.Lock()  # of all scopes: a run is entered in a tree of them, and a tree ends, at one instant
_NOWHERE = Lane()  # whose share calls use that nobody can make any more
_NO_RUNS: WeakSet[Run[Any]] = WeakSet()


class Scope:
    """What `fan.scope(...)` gives: everything that is called inside, at any depth, belongs to it.

    Printed, it is a line for each scope of the tree: calls, cost, tokens, what was waited for, and time.

    Attributes:
        name: As it was named.
    """

    __slots__ = (
        "_children",
        "_ended",
        "_ends_at",
        "_journal",
        "_notes",
        "_open",
        "_own",
        "_rank",
        "_runs",
        "_seconds",
        "_timer",
        "around",
        "budgets",
        "calls",
        "lane",
        "name",
        "totals",
    )

    def __init__(
        self,
        name: str,
        lane: Lane,
        *,
        rank: int | None,
        around: Scope | None,
        own: Sequence[Purse],
        journal: OpenJournal | None,
        notes: Notes,
    ) -> None:
        self.name = name
        self.lane = lane
        self.calls = Lane(lane)  # single calls: one line, beside those of its runs
        self.around = around
        self.totals = Totals()
        self.totals.open()
        self.budgets = [(purse.unit, purse.budget) for purse in own]
        self._children: list[Scope] = []
        self._open: dict[Scope, None] = {}  # those of its children that were not left
        self._rank = rank
        self._own = own
        self._journal = journal
        self._notes: Notes | None = notes
        self._runs: WeakSet[Run[Any]] = WeakSet()
        self._ended: Stopped | None = None  # why nothing more is called in it
        self._ends_at = inf
        self._seconds = inf  # that it had when it was entered
        self._timer: asyncio.TimerHandle | None = None

    @property
    def summary(self) -> Summary:
        """The numbers of all calls inside so far, those of its children included."""
        return self.totals.summary()

    @property
    def children(self) -> Sequence[Scope]:
        """The scopes that were opened inside, in order; it grows with each. One that was left still has its numbers."""
        return self._children

    @property
    def rank(self) -> int | None:
        """The priority of calls that name none: its own, or that of the nearest scope around it that has one."""
        return next((each._rank for each in self.path() if each._rank is not None), None)

    @property
    def memory(self) -> Memory | None:
        """What its calls remember: its own journal, or that of the nearest scope around it that has one."""
        journal = next((each._journal for each in self.path() if each._journal is not None), None)
        return None if journal is None else Memory(journal)

    def purses(self) -> list[Purse]:
        """The budgets that its calls have to keep: its own, and those of the scopes around it."""
        return [purse for scope in self.path() for purse in scope._own]

    def cancel(self) -> None:
        """End all runs inside, those of its children included; nothing new starts in it. From any thread; returns at once.

        Calls inside raise `Stopped` from then on, and so does the end of its `async with`, should one be swallowed.
        """
        self._end(Stopped(f"scope {self.name!r} was cancelled; open another to go on", kind="cancelled"))

    def expire_in(self, seconds: float) -> None:
        """End it like `cancel` in so many seconds, unless it has been left by then; `inf` for no bound."""
        if seconds == inf:
            return
        self._seconds = seconds
        self._ends_at = clock.now() + seconds
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire)

    def enter(self, run: Run[Any]) -> None:
        """`run` is made inside.

        Raises:
            Stopped: The scope was left, cancelled or is out of time, or one around it was or is.
        """
        self._look_at_the_clock()
        with _LOCK:
            over = self._over
            if over is None:
                self._runs.add(run)
        if over is not None:
            run.cancel()  # nobody will get it
            raise over._refusal()

    def note(self, error: Stopped) -> None:
        """`error` is raised into the body of a scope; if it is swallowed there, the end of its `async with` raises it again.

        The scope is the one whose bound it is; if that cannot be told, this one. A Report that says `stopped` is no reason
        to call this.
        """
        whose = next((each for each in self.path() if each._has_bound(error)), self)
        if whose._notes is not None:
            whose._notes.add(error)

    def path(self) -> Iterator[Scope]:
        """It and the scopes around it, innermost first."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.around

    def open_in(self, around: Scope) -> None:
        """It is a child of `around` from now on."""
        with _LOCK:
            around._children.append(self)
            around._open[self] = None

    async def leave(self) -> None:
        """Cancel what still runs inside, and wait until its clean-up is done; that of another loop is only cancelled."""
        why = Stopped(f"scope {self.name!r} has ended; call, and await, within its `async with`", kind="cancelled")
        try:
            await leave_all(self._end(why), why.message)
        finally:
            self._close()

    def __str__(self) -> str:
        return cast("str", hook("text")(self))

    def _repr_html_(self) -> str:
        return cast("str", hook("html")(self))

    def __repr__(self) -> str:
        return f"<Scope {self.name!r}: {self.totals.done} calls done>"

    @property
    def _over(self) -> Scope | None:
        """The innermost scope on the path that has ended."""
        return next((each for each in self.path() if each._ended is not None), None)

    def _look_at_the_clock(self) -> None:
        """End what is out of time: the event loop whose timer says so may have been busy."""
        now = clock.now()
        for each in self.path():
            if each._ended is None and each._ends_at <= now:
                each._expire()

    def _expire(self) -> None:
        why = f"the deadline of scope {self.name!r} has passed, {in_words(self._seconds)} after it was entered"
        self._end(Stopped(f"{why}; allow more time, or ask less", kind="deadline"))

    def _refusal(self) -> Stopped:
        """Why nothing can be called in it, noted; a new one each time, for a traceback grows where it is raised."""
        assert self._ended is not None
        error = Stopped(self._ended.message, kind=self._ended.kind)
        if self._notes is not None:
            self._notes.add(error)
        return error

    def _has_bound(self, error: Stopped) -> bool:
        """Whether `error` may be because of a bound of this scope."""
        if error.kind == "budget":
            return any(purse.has_refused for purse in self._own)
        return self._ended is not None

    def _end(self, why: Stopped) -> list[Run[Any]]:
        """Let nothing more be called in it, unless it has ended already, and stop the runs inside: these."""
        with _LOCK:
            if self._ended is None:
                self._ended = why
            runs = [run for scope in self._inside() for run in scope._runs]
        stop_all(runs, why)
        return runs

    def _inside(self) -> Iterator[Scope]:
        """It, and the scopes inside that were not left, at any depth. Under the lock."""
        rest = [self]
        while rest:
            scope = rest.pop()
            rest += scope._open
            yield scope

    def _close(self) -> None:
        """It was left: there may be thousands of them in a long life, so only its numbers stay."""
        if self._timer is not None:
            self._timer.cancel()
        with _LOCK:
            if self.around is not None:
                self.around._open.pop(self, None)
            self._open.clear()
            self._runs = _NO_RUNS
        self.totals.close()
        self._timer = None
        self.lane = self.calls = _NOWHERE
        self._own, self._journal, self._notes = (), None, None


SCOPE: ContextVar[Scope | None] = ContextVar("llm_fanout_scope", default=None)


@asynccontextmanager
async def opened(
    name: str,
    root: Lane,
    *,
    weight: float,
    rank: int | None,
    max_concurrency: int | None,
    seconds: Callable[[], float],
    purses: Sequence[Purse] = (),
    journal: Journal | None = None,
) -> AsyncIterator[Scope]:
    """A scope inside the current one, or under `root`; the current one until it is left.

    Args:
        name: For reports.
        root: The lane of its client.
        weight: Its share against its siblings'.
        rank: The priority of calls that name none.
        max_concurrency: Calls at once.
        seconds: Gives, when it is entered, those after which it ends; `inf` for no bound.
        purses: Its budgets.
        journal: Where answers are kept.

    Raises:
        ConfigError: A figure is out of its range.
        JournalError: The journal cannot be used.
        Stopped: One was raised into its body, and swallowed there.
    """
    around = SCOPE.get()
    above = root if around is None else around.lane
    lane = Lane(above, weight=weight, max_concurrency=max_concurrency)
    async with _in_use(journal, purses) as kept:
        notes = Notes()
        scope = Scope(name, lane, rank=rank, around=around, own=purses, journal=kept, notes=notes)
        if around is not None:
            scope.open_in(around)
        with notes:
            scope.expire_in(seconds())
            SCOPE.set(scope)
            try:
                yield scope
            finally:
                _step_out(scope)
                await scope.leave()


def _step_out(scope: Scope) -> None:
    """Let the current scope be the one around `scope`, if we are inside.

    Not by token: an agent framework may leave in another context than it came in, and that may be one of another scope.
    """
    current = SCOPE.get()
    if current is not None and scope in current.path():
        SCOPE.set(scope.around)


@asynccontextmanager
async def _in_use(journal: Journal | None, purses: Sequence[Purse]) -> AsyncIterator[OpenJournal | None]:
    """That journal, open, for what these budgets are spent on, too.

    It is closed at the end, also if it could not be opened, or nobody waited for that.
    """
    if journal is None:
        yield None
        return
    kept = OpenJournal(journal, budgeted=bool(purses))
    memory = Memory(kept, owned=True, purses=purses)
    try:
        await _told(memory.open)
        yield kept
    except BaseException:
        with suppress(JournalError):  # what is on its way says more, and may have a report
            await _told(memory.close)
        raise
    await _told(memory.close)


async def _told(ask: Callable[[Done], None]) -> None:
    """Wait for what `ask` asks of a journal. Raises JournalError."""
    told: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def then(failure: JournalError | None) -> None:
        if told.done():
            return  # whoever waited was cancelled
        if failure is None:
            told.set_result(None)
        else:
            told.set_exception(failure)

    ask(then)
    await told
