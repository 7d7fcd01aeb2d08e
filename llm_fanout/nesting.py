"""Calls made from within a call: whoever waits for them holds no slot, so no depth and no circle can lock itself up.

An attempt that waits for a run whose calls may make calls themselves lends its slot, and takes one back, ahead of everything
new, before it goes on. Its timeout rests meanwhile. It does so for a run of another executor, too: that one's calls may wait
for this one's. Runs from within go before those from without, so that little is begun at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
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

    __slots__ = ("_attempt", "_back", "_engine", "_waits", "around", "depth")

    def __init__(self, engine: Engine, attempt: Attempt, around: Enclosing | None) -> None:
        self.around = around
        self.depth: int = 1 if around is None else around.depth + 1
        self._engine = engine
        self._attempt = attempt
        self._waits = 0  # runs from within that are waited for
        self._back: Future[None] | None = None  # while it has asked for its slot back

    @property
    def is_running(self) -> bool:
        """Whether it is under way: it may have ended, and a task that it left behind be asking."""
        return self._attempt.job.running is self._attempt

    def lend(self) -> None:
        """It waits for a run from within."""
        self._waits += 1
        if self._waits == 1 and self._back is None:
            self._engine.lend(self._attempt)

    def go_on(self) -> Future[None] | None:
        """It waits no more: done when it has a slot. None where that need not be waited for: it is being cancelled, say."""
        self._waits -= 1
        if self._waits or not self.is_running or self._attempt.job.cancelled:
            return None
        back = self._back
        if back is None:
            back = self._back = self._engine.reclaim(self._attempt)
            back.add_done_callback(self._came_back)
        return back

    def _came_back(self, _: object) -> None:
        self._back = None
        if self._waits and self.is_running:  # nobody waited for the slot in the end, and there is a run to wait for again
            self._engine.lend(self._attempt)


ENCLOSING: ContextVar[Enclosing | None] = ContextVar("llm_fanout_enclosing", default=None)


def depth() -> int:
    """How many attempts the running code is within."""
    return 0 if (innermost := ENCLOSING.get()) is None else innermost.depth


def enclosing() -> Iterator[Enclosing]:
    """The attempts within which the running code is, innermost first."""
    each = ENCLOSING.get()
    while each is not None:
        if each.is_running:
            yield each
        each = each.around


@asynccontextmanager
async def lending() -> AsyncIterator[None]:
    """Within this context the running code only waits for calls that run code of the user."""
    lenders = list(enclosing())
    for each in lenders:
        each.lend()
    try:
        yield
    finally:
        for slot in [each.go_on() for each in lenders]:  # all ask at once, for this may be cancelled
            if slot is not None:
                await asyncio.shield(asyncio.wrap_future(slot))
