"""What happens to a run by the clock alone: its deadline, a report while nothing happens, a warning when nothing does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from math import inf
from typing import Protocol

from .tally import Tally

log = logging.getLogger("llm_fanout")

TICK = 1.0  # seconds between two reports while nothing happens
PATIENCE = 60.0  # seconds without any result after which a warning says what is waited for


class Calls(Protocol):
    """Calls that are on their way."""

    @property
    def waiting(self) -> int:
        """How many are not over."""


class Vigil:
    """The timers of one run, from `begin` to `end`.

    Args:
        tally: Its numbers.
        calls: Those that are on their way.
    """

    def __init__(self, tally: Tally, calls: Calls) -> None:
        self._tally = tally
        self._calls = calls
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def begin(self, *, expire: Callable[[float], None], seconds: float, tick: Callable[[], None] | None) -> None:
        """Call `expire` with the `seconds` after which the run is out of time, if it ever is, and `tick` every second."""
        self._loop = asyncio.get_running_loop()
        self._watch(self._tally.done)
        if tick is not None:
            self._tick(tick)
        if seconds < inf:
            self._timers["deadline"] = self._loop.call_later(seconds, expire, seconds)

    def end(self) -> None:
        """Nothing happens any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _tick(self, tick: Callable[[], None]) -> None:
        def ring() -> None:
            self._tick(tick)
            tick()

        self._timers["tick"] = self._loop.call_later(TICK, ring)

    def _watch(self, done: int) -> None:
        self._timers["watch"] = self._loop.call_later(PATIENCE, self._look, done)

    def _look(self, done: int) -> None:
        """Say what is waited for, if nothing has come for long."""
        tally, waiting = self._tally, self._calls.waiting
        if tally.done == done and waiting and (not tally.in_flight or tally.binding() == "outage"):
            log.warning(
                "no result for %.0f s: %d calls wait for %s; they go on as soon as they can",
                PATIENCE,
                waiting,
                tally.binding(),
            )
        self._watch(tally.done)
