"""One of a kind for each event loop: connections live and end with theirs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar
from weakref import finalize

T = TypeVar("T")


class PerLoop(Generic[T]):
    """What `opened` gives, once for each event loop that asks, opened on first use and closed when the loop shuts down.

    Each lives in an async generator that is only referenced from here. asyncio closes such a generator when its loop shuts
    down and when it is collected; so what is forgotten, or outlives its loop, leaks no connection.

    Args:
        opened: Gives a context manager that does not wait when it is entered, or two calls would open two. It must not lead
            back here: then what is forgotten would be collected in any order, and complain that it was not closed.
    """

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._opened = opened
        self._open: dict[_Place, tuple[AsyncGenerator[T], T]] = {}
        # So it is reachable until this is collected, and emptied only then: this may be a part of a circle (clients of SDKs
        # are), and what is in there would be finalised in any order.
        finalize(self, self._open.clear).atexit = False

    def opened_here(self) -> T | None:
        """The running loop's, if it is open."""
        found = self._open.get((os.getpid(), asyncio.get_running_loop()))
        return None if found is None else found[1]

    async def here(self) -> T:
        """The running loop's."""
        found = self.opened_here()
        return found if found is not None else await self._open_at((os.getpid(), asyncio.get_running_loop()))

    async def aclose(self) -> None:
        """Close the running loop's; who asks after that gets a new one."""
        owner, _ = self._open.pop((os.getpid(), asyncio.get_running_loop()), (None, None))
        if owner is not None:
            await owner.aclose()

    async def _open_at(self, here: _Place) -> T:
        for place in list(self._open):  # a copy, and one step each: other threads add theirs
            if place[1].is_closed():
                self._open.pop(place, None)
        owner = _owned(self._opened)
        opened = await anext(owner)
        self._open[here] = owner, opened
        return opened


async def _owned(opened: Callable[[], AbstractAsyncContextManager[T]]) -> AsyncGenerator[T]:
    async with opened() as one:  # no method: it would keep its own owner alive
        yield one


_Place = tuple[int, asyncio.AbstractEventLoop]  # a process and a loop: after a fork, connections are the parent's alone
