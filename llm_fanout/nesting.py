"""Calls made from within a call: they use the slot of the one that waits for them, so no depth can lock itself up.

An attempt that waits for a run on the same engine lends its slot, and takes one back, ahead of everything new, before it
goes on. Its timeout rests meanwhile. Runs from within go before those from without, so that little is begun at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from .core.job import Attempt
from .engine import Engine


class Enclosing:
    """An attempt within which code of the user runs, and those around it.

    Args:
        engine: Whose attempt it is.
        attempt: The attempt.
        around: The one within which it was started, if any.
    """

    __slots__ = ("_attempt", "_engine", "_waits", "around", "depth")

    def __init__(self, engine: Engine, attempt: Attempt, around: Enclosing | None) -> None:
        self.around = around
        self.depth: int = 1 if around is None else around.depth + 1
        self._engine = engine
        self._attempt = attempt
        self._waits = 0  # runs from within that are waited for

    def is_on(self, engine: Engine) -> bool:
        """Whether it holds a slot of `engine`: it may have ended, and a task that it left behind be asking."""
        return self._engine is engine and self._attempt.job.running is self._attempt

    def lend(self) -> None:
        """It waits for a run from within."""
        self._waits += 1
        if self._waits == 1:
            self._engine.lend(self._attempt)

    def go_on(self) -> asyncio.Future[None] | None:
        """It waits no more: done when it has a slot. None where that need not be waited for: it is being cancelled, say."""
        self._waits -= 1
        if self._waits or not self.is_on(self._engine) or self._attempt.job.cancelled:
            return None
        return self._engine.reclaim(self._attempt)


ENCLOSING: ContextVar[Enclosing | None] = ContextVar("llm_fanout_enclosing", default=None)


def depth() -> int:
    """How many attempts the running code is within."""
    return 0 if (innermost := ENCLOSING.get()) is None else innermost.depth


def enclosing(engine: Engine) -> Iterator[Enclosing]:
    """The attempts of `engine` within which the running code is, innermost first."""
    each = ENCLOSING.get()
    while each is not None:
        if each.is_on(engine):
            yield each
        each = each.around


@asynccontextmanager
async def lending(engine: Engine) -> AsyncIterator[None]:
    """Within this context the running code only waits for calls on `engine`."""
    lenders = list(enclosing(engine))
    for each in lenders:
        each.lend()
    try:
        yield
    finally:
        for slot in [each.go_on() for each in lenders]:  # all ask at once: this may be cancelled while it waits
            if slot is not None:
                await slot
