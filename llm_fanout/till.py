"""Where the calls of a run are paid for: set aside before they are handed in, in order, and settled when they have ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from .budgets import Budgets, Charge
from .call import Call
from .errors import JournalError, Stopped


class Payer(Protocol):
    """A run."""

    @property
    def is_paused(self) -> bool:
        """Whether it starts nothing for now."""

    def call_soon(self, step: Callable[[], None]) -> None:
        """Do `step` on its event loop; from any thread."""

    def give_up(self, error: Stopped) -> None:
        """It ends."""

    def fail(self, whose: str, failure: Exception) -> None:
        """It is broken."""


class Till:
    """The calls of one run that wait until its budgets have room for them.

    Args:
        budgets: What has to be kept.
        run: Whose calls they are: it ends when there will be no room for the next of them.
        pass_on: Gets calls that are paid for.
        at_once: How many may be under way at once, as of now: they share what is left.
    """

    def __init__(
        self, budgets: Budgets, run: Payer, pass_on: Callable[[list[Call[Any]]], None], at_once: Callable[[], float]
    ) -> None:
        self._budgets = budgets
        self._run = run
        self._pass_on = pass_on
        self._at_once = at_once
        self._waiting: deque[Call[Any]] = deque()

    def join(self, call: Call[Any]) -> None:
        """`call` waits for its turn. Raises Stopped if there would never be room for it."""
        self._budgets.check(call.work)
        self._waiting.append(call)

    def serve(self) -> None:
        """Pass on the calls that there is room for; the run ends if there will be none for the next.

        A run that is paused takes no room from those that are not; to be called when it goes on.
        """
        if self._run.is_paused:
            return
        paid, end = [], None
        try:
            while self._waiting and self._is_paid(self._waiting[0]):
                paid.append(self._waiting.popleft())
        except Stopped as exc:
            end = partial(self._run.give_up, exc)
        except JournalError as exc:
            end = partial(self._run.fail, "the journal", exc)
        if paid:
            self._pass_on(paid)
        if end is not None:
            end()

    def send_away(self) -> None:
        """Pass on all of them: the run ends, and they are told so there."""
        gone = list(self._waiting)
        self._waiting.clear()
        self._pass_on(gone)

    def extend(self, call: Call[Any]) -> bool:
        """Whether there is room for another try of `call`, which is set aside now."""
        assert call.reserved is not None  # it was passed on
        extended = self._budgets.extend(call.reserved, call.work)
        call.reserved = extended or call.reserved
        return extended is not None

    def settle(self, call: Call[Any]) -> Sequence[float | None]:
        """Give back what was set aside for `call` and not used; what it has used of each unit that there is a budget in."""
        reserved, call.reserved = call.reserved, None
        if reserved is None:
            return ()
        used: Charge = call.work.charged
        self._budgets.settle(reserved, used)
        return used.usd if self._budgets.is_priced else None, used.tokens

    def _is_paid(self, call: Call[Any]) -> bool:
        """Whether there is room for `call`, which is set aside now."""
        call.reserved = self._budgets.reserve(call.work, self._at_once(), self._wake)
        return call.reserved is not None

    def _wake(self) -> None:
        """There may be room; from any thread."""
        self._run.call_soon(self.serve)
