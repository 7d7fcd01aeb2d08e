"""Budgets in use: by whichever calls share them, from any thread, and over the whole life of a journal.

Theory of operation. Before a call is handed in, the most that it can use is reserved in every budget that it has to keep;
when it has ended, that is settled with what it used. What does not fit waits until something is settled, and if nothing is
under way, it never will fit: then the run ends. A budget that a journal goes with has a ceiling on disk, always above what
is used and reserved: should the process be killed, what was under way may be paid for, and counts as used up to there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from math import inf
from typing import Literal, NamedTuple, Protocol

from .core.budget import Budget
from .errors import JournalError, Stopped
from .journal import OpenJournal

AHEAD = 64  # calls like the one that asks for it, by which a ceiling is raised: one write to the disk for so many
LOW = 16  # calls like it that must have room below the ceiling, or it is raised again, before anybody has to wait

Unit = Literal["usd", "tokens"]
Wake = Callable[[], None]


class Charge(NamedTuple):
    """What a call may use, or has used, of its budgets."""

    usd: float = 0.0
    tokens: float = 0.0

    def __add__(self, other: Charge) -> Charge:  # type: ignore[override]  # no longer tuple: the sum
        return Charge(self.usd + other.usd, self.tokens + other.tokens)


class Billed(Protocol):
    """Work that is paid for."""

    @property
    def least(self) -> Charge:
        """What it must be able to use, to be asked at all."""

    def allow(self, room: Charge, at_once: float) -> Charge:
        """Let it use some of `room`, about what each of `at_once` calls can have if it does not say itself: the most that
        one attempt will use.
        """

    @property
    def attempt(self) -> Charge:
        """What one more attempt uses at most."""

    @property
    def charged(self) -> Charge:
        """What its attempts have used, or may have used."""


_LOCK = threading.Lock()  # of all purses: a call may have to keep several, and takes from all of them or from none


class Purse:
    """One budget in use.

    Args:
        limit: USD, or tokens.
        unit: Which of these.
        whose: Of what it is the budget, for errors: "the run", "scope 'a'".

    Attributes:
        has_refused: Whether there was a call that it had no room for.
    """

    def __init__(self, limit: float, unit: Unit, whose: str) -> None:
        self.budget = Budget(limit)
        self.unit = unit
        self.place = Charge._fields.index(unit)
        self.has_refused = False
        self._whose = whose
        self._waiting: dict[Wake, None] = {}  # each once, in order
        self._journal: OpenJournal | None = None
        self._ceiling = inf
        self._is_rising = False
        self._failure: JournalError | None = None

    def keep_in(self, journal: OpenJournal) -> None:
        """From now on it is the budget of all that is in `journal`, which is open."""
        self.budget.used = journal.spent[self.place]
        self._journal = journal
        self._ceiling = self.budget.used
        # What is under way when it is closed, on another event loop, may be paid for.
        journal.used[self.unit] = lambda: self.budget.used + self.budget.reserved

    def wait(self, wake: Wake) -> None:
        """Call `wake` when there may be room. Under the lock."""
        self._waiting[wake] = None

    def woken(self) -> list[Wake]:
        """Those who waited. Under the lock."""
        waiting, self._waiting = self._waiting, {}
        return list(waiting)

    def is_covered(self, amount: float) -> bool:
        """Whether `amount` more may be reserved as far as the journal knows; if it soon may not, it is told. Under the lock.

        Raises:
            JournalError: It could not be told.
        """
        if self._failure is not None:
            raise self._failure
        # Twice what is under way: if all of it fails at once and may have been paid for, each may be tried once more before
        # there is time to write that down.
        needed = self.budget.used + 2 * (self.budget.reserved + amount)
        if needed + LOW * amount > self._ceiling < self.budget.limit and not self._is_rising:
            self._raise(min(self.budget.limit, needed + AHEAD * amount))
        return needed <= self._ceiling or self._ceiling >= self.budget.limit

    def stopped(self, amount: float) -> Stopped:
        """Why a call that needs `amount` is not made."""
        self.has_refused = True
        said = self._said
        budget = self.budget
        if amount > budget.limit:
            why = f"the call may take {said(amount)}, more than the budget of {self._whose} ({said(budget.limit)})"
            return Stopped(f"{why}; shorten it, lower max_tokens or raise the budget", kind="budget")
        left = said(max(0.0, budget.limit - budget.used))
        why = f"the budget of {self._whose} is spent: of {said(budget.limit)} {left} are left, and the next call may take"
        return Stopped(f"{why} {said(amount)}; go on under a higher one", kind="budget")

    def _said(self, amount: float) -> str:
        return f"{amount:.4g} USD" if self.unit == "usd" else f"{amount:,.0f} tokens"

    def _raise(self, ceiling: float) -> None:
        def raised(failure: JournalError | None) -> None:
            with _LOCK:
                self._is_rising = False
                self._failure = failure
                if failure is None:
                    self._ceiling = ceiling
                waiting = self.woken()
            for wake in waiting:
                wake()

        assert self._journal is not None
        self._is_rising = True
        self._journal.raise_ceiling(self.unit, ceiling, raised)


def purses_of(usd: float | None, tokens: float | None, whose: str) -> list[Purse]:
    """The budgets of something, as far as they are stated."""
    stated: list[tuple[float | None, Unit]] = [(usd, "usd"), (tokens, "tokens")]
    return [Purse(limit, unit, whose) for limit, unit in stated if limit is not None]


class Budgets:
    """The budgets that the calls of one run have to keep: its own, those of its scopes, its client's.

    Attributes:
        purses: These budgets.
        is_priced: Whether one of them is in USD.
    """

    def __init__(self, purses: Sequence[Purse]) -> None:
        self.purses = tuple(purses)
        self.is_priced = any(purse.unit == "usd" for purse in purses)

    def check(self, work: Billed) -> None:
        """Raises Stopped if `work` would never fit, had nothing been used; where there never was anything, nothing fits, and
        that is not its fault.
        """
        least = work.least
        for purse in self.purses:
            if purse.budget.limit and not purse.budget.fits_ever(least[purse.place]):
                raise purse.stopped(least[purse.place])

    def reserve(self, work: Billed, at_once: float, wake: Wake) -> Charge | None:
        """What is reserved for `work`; None if it has to wait: then `wake` is called once, from any thread.

        Args:
            work: What is to be paid for.
            at_once: Calls that may be under way at once, which share what is left.
            wake: Called when it is worth another try.

        Raises:
            Stopped: There will be no room for it any more.
            JournalError: The journal could not be told.
        """
        with _LOCK:
            least = work.least
            for purse in self.purses:
                amount = least[purse.place]
                if purse.budget.fits(amount):
                    continue
                if not purse.budget.may_fit_later(amount):
                    raise purse.stopped(amount)
                purse.wait(wake)
                return None
            charge = work.allow(self._room(), at_once)
            return charge if self._taken(charge, wake) else None

    def extend(self, reserved: Charge, work: Billed) -> Charge | None:
        """What is reserved from now on for `work`, which is tried again after what it has used; None if there is no room, or
        the journal could not be told, of which the next that `reserve` hears.
        """
        with _LOCK:
            wanted = work.charged + work.attempt
            more = Charge(max(0.0, wanted.usd - reserved.usd), max(0.0, wanted.tokens - reserved.tokens))
            if not all(purse.budget.fits(more[purse.place]) for purse in self.purses):
                return None
            try:
                for purse in self.purses:
                    purse.is_covered(more[purse.place])  # if it is not quite, one more attempt of each call still is
            except JournalError:
                return None
            for purse in self.purses:
                purse.budget.reserve(more[purse.place])
            return reserved + more

    def settle(self, reserved: Charge, used: Charge) -> None:
        """A call has ended for which so much was reserved, and which has used so much."""
        with _LOCK:
            for purse in self.purses:
                purse.budget.settle(reserved[purse.place], used[purse.place])
            waiting = [wake for purse in self.purses for wake in purse.woken()]
        for wake in waiting:
            wake()

    def _room(self) -> Charge:
        rooms = [
            min((purse.budget.room for purse in self.purses if purse.unit == unit), default=inf) for unit in Charge._fields
        ]
        return Charge(*rooms)

    def _taken(self, charge: Charge, wake: Wake) -> bool:
        for purse in self.purses:
            if not purse.is_covered(charge[purse.place]):
                purse.wait(wake)
                return False
        for purse in self.purses:
            purse.budget.reserve(charge[purse.place])
        return True
