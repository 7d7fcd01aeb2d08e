"""A rate that somebody else keeps: an `aiolimiter.AsyncLimiter` in front of an executor's quota."""

from __future__ import annotations

import asyncio
from functools import partial

from aiolimiter import AsyncLimiter

from .core.limits import Permits
from .core.quota import Quota
from .engine import Engine
from .errors import ConfigError


class RateGate:
    """Turns an AsyncLimiter into permits, one waiter at a time: its own queue serves the smallest request first.

    A slot is never held while a permit is awaited, and a permit is fetched only when all else is there.

    Args:
        limiter: Acquired once for each attempt.

    Raises:
        ConfigError: It never lets a whole call pass.
    """

    def __init__(self, limiter: AsyncLimiter) -> None:
        if limiter.max_rate < 1:
            raise ConfigError(
                f"rate lets {limiter.max_rate:g} calls pass per {limiter.time_period:g} s, and never a whole one; "
                "use AsyncLimiter(1, a longer time)"
            )
        self.permits = Permits()
        self._limiter = limiter
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # the limiter's: the first that asks

    def fetch(self, engine: Engine, quota: Quota, *, busy: bool) -> None:
        """Acquire one permit if one is wanted; stop if nobody is left to want it. From any thread."""
        here = _running_loop()
        if self._loop is None or self._loop.is_closed():
            self._loop, self._task = here, None
        if self._loop is None:
            return  # nobody has handed anything in
        if self._loop is here:
            self._fetch(engine, quota, busy=busy)
        else:
            self._loop.call_soon_threadsafe(partial(self._fetch, engine, quota, busy=busy))

    def _fetch(self, engine: Engine, quota: Quota, *, busy: bool) -> None:
        if self._task is not None:
            if not busy:
                self._task.cancel()
        elif busy and self.permits.wanted:
            self._task = asyncio.get_running_loop().create_task(self._limiter.acquire())
            self._task.add_done_callback(lambda task: self._fetched(engine, quota, task))

    def _fetched(self, engine: Engine, quota: Quota, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            engine.pump()
        else:
            engine.grant(quota, self.permits)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
