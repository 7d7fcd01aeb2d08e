"""Where the calls of a run are paid for: set aside before they are handed in, in order, and settled when they have ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .budgets import Budgets, Charge
from .call import Call
from .errors import JournalError, Stopped


class Payer(Protocol):
    """A run."""

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
        pass_on: Gets each call that is paid for.
        at_once: How many may be under way at once, as of now: they share what is left.
    """

    def __init__(
        self, budgets: Budgets, run: Payer, pass_on: Callable[[Call[Any]], None], at_once: Callable[[], float]
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
        """Pass on the calls that there is room for."""
        while self._waiting and self._is_served(self._waiting[0]):
            self._pass_on(self._waiting.popleft())

    def send_away(self) -> None:
        """Pass on all of them: the run ends, and they are told so there."""
        while self._waiting:
            self._pass_on(self._waiting.popleft())

    def extend(self, call: Call[Any]) -> bool:
        """Whether there is room for another try of `call`, which is set aside now."""
        if call.reserved is None:
            return True
        extended = self._budgets.extend(call.reserved, call.work)
        call.reserved = extended or call.reserved
        return extended is not None

    def settle(self, call: Call[Any], used: Charge | None = None) -> Sequence[float | None]:
        """Give back what was set aside for `call` and not used; what it has used of each unit that there is a budget in."""
        reserved, call.reserved = call.reserved, None
        if reserved is None:
            return ()
        used = call.work.charged if used is None else used
        self._budgets.settle(reserved, used)
        return used.usd if self._budgets.is_priced else None, used.tokens

    def _is_served(self, call: Call[Any]) -> bool:
        """Whether it is clear what becomes of `call`: it is paid for, or the run ends."""
        try:
            call.reserved = self._budgets.reserve(call.work, self._at_once(), self._wake)
            return call.reserved is not None
        except Stopped as exc:
            self._run.give_up(exc)
        except JournalError as exc:
            self._run.fail("the journal", exc)
        return False

    def _wake(self) -> None:
        """There may be room; from any thread."""
        self._run.call_soon(self.serve)
