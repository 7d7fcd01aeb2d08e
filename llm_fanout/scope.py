"""A scope: one agent's share of the quotas it uses, and everything that runs inside, to be looked at and ended as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

from .budgets import Purse
from .core.lanes import Lane
from .errors import JournalError, Stopped
from .journal import Journal, OpenJournal
from .journal.opened import Done
from .memory import Memory
from .run import Run, leave_all
from .summary import Summary
from .tally import Totals


class Scope:
    """What `fan.scope(...)` gives: everything that is called inside, at any depth, belongs to it.

    Attributes:
        name: As it was named.
        children: The scopes that were opened inside, in order.
    """

    def __init__(
        self,
        name: str,
        lane: Lane,
        *,
        rank: int | None,
        around: Scope | None,
        own: Sequence[Purse],
        journal: OpenJournal | None,
    ) -> None:
        self.name = name
        self.lane = lane
        self.calls = Lane(lane)  # single calls: one line, beside those of its runs
        self.around = around
        self.totals = Totals()
        self.totals.open()
        self.children: Sequence[Scope] = ()
        self._rank = rank
        self._own = own
        self._journal = journal
        self._runs: WeakSet[Run[Any]] = WeakSet()
        self._left = False
        self._noted: Stopped | None = None

    @property
    def summary(self) -> Summary:
        """The numbers of all calls inside so far, those of its children included."""
        return self.totals.summary()

    @property
    def rank(self) -> int | None:
        """The priority of calls that name none: its own, or that of the nearest scope around it that has one."""
        return self._rank if self._rank is not None or self.around is None else self.around.rank

    @property
    def memory(self) -> Memory | None:
        """What its calls remember: its own journal, or that of the nearest scope around it that has one."""
        if self._journal is None:
            return None if self.around is None else self.around.memory
        return Memory(self._journal)

    def purses(self) -> list[Purse]:
        """The budgets that its calls have to keep: its own, and those of the scopes around it."""
        return [purse for scope in self.path() for purse in scope._own]

    def cancel(self) -> None:
        """End all runs inside, those of its children included; nothing new starts in it. Returns at once."""
        self._left = True
        for run in list(self._runs):
            run.cancel(f"scope {self.name!r} has ended")
        for child in self.children:
            child.cancel()

    def enter(self, run: Run[Any]) -> None:
        """`run` is made inside.

        Raises:
            Stopped: The scope was left or cancelled, or one around it was.
        """
        for each in self.path():
            if each._left:
                run.cancel()  # nobody will get it
                raise Stopped(f"scope {each.name!r} has ended; call within its `async with`", kind="cancelled")
        self._runs.add(run)

    def note(self, error: Stopped) -> None:
        """`error` is raised into what runs inside, by way of code that is not ours."""
        self._noted = error

    def path(self) -> Iterator[Scope]:
        """It and the scopes around it, innermost first."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.around

    async def leave(self) -> None:
        """Cancel what still runs inside, and wait until its clean-up is done; that of another loop is only cancelled."""
        self.cancel()
        await leave_all(self._runs, f"scope {self.name!r} has ended")
        for child in self.children:
            await child.leave()
        self.totals.close()

    def __repr__(self) -> str:
        return f"<Scope {self.name!r}: {self.summary.done} calls done>"


SCOPE: ContextVar[Scope | None] = ContextVar("llm_fanout_scope", default=None)


@asynccontextmanager
async def opened(
    name: str,
    root: Lane,
    *,
    weight: float,
    rank: int | None,
    max_concurrency: int | None,
    purses: Sequence[Purse] = (),
    journal: Journal | None = None,
) -> AsyncIterator[Scope]:
    """A scope inside the current one, or under `root`; the current one until it is left.

    Raises:
        ConfigError: A figure is out of its range.
        JournalError: The journal cannot be used.
    """
    around = SCOPE.get()
    above = root if around is None else around.lane
    lane = Lane(above, weight=weight, max_concurrency=max_concurrency)
    async with _in_use(journal, purses) as kept:
        scope = Scope(name, lane, rank=rank, around=around, own=purses, journal=kept)
        if around is not None:
            around.children = (*around.children, scope)
        SCOPE.set(scope)
        try:
            yield scope
        finally:
            SCOPE.set(around)  # not by token: an agent framework may leave in another context than it came in
            await scope.leave()


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
