"""Types and steps that several tests use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
Simulate = Callable[[Callable[[], Coroutine[Any, Any, T]]], T]


async def consume(run: Awaitable[T]) -> T:
    """Await `run`: for `asyncio.ensure_future`, which gives a task to cancel."""
    return await run


def in_thread(step: Callable[[], T]) -> T:
    """What `step` gives, run in a new thread: there `asyncio.run` meets no loop that a test plugin has set."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(step).result()
