"""A simulated provider on its port: it serves, fails, recovers, and is retuned, all in one event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any, TypedDict

from aiohttp import web

from .config import SimConfig
from .listener import HOST, Listener
from .outages import OutageKind, outages_in
from .server import SimServer


class Capacity(TypedDict, total=False):
    """What may change while a provider runs; what is left out stays, and None lifts a limit."""

    rpm: float | None
    tpm: float | None
    itpm: float | None
    otpm: float | None
    rpd: float | None
    burst: float | None
    max_in_flight: int | None
    latency: float


class Service:
    """One provider; its methods belong to the event loop in which it is made."""

    def __init__(self, config: SimConfig) -> None:
        self.config = config
        self._server = SimServer(config)
        self._changing = asyncio.Lock()  # the port is opened or closed by one at a time

    async def run(self, port: int, on_ready: Callable[[str], object], enough: asyncio.Event) -> None:
        """Serve on `port` until `enough` is set; `on_ready` gets the base URL once the port is open."""
        runner = web.AppRunner(self._server.app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        with closing(Listener(runner, port)) as self._listener:
            await runner.setup()
            try:
                await self._listener.open()
                on_ready(f"http://{HOST}:{self._listener.port}/v1")
                async with asyncio.TaskGroup() as group:
                    outages = group.create_task(self._outages())
                    await enough.wait()
                    outages.cancel()
            finally:
                await runner.cleanup()

    async def fail(self, kind: OutageKind) -> None:
        """Be down until `recover`."""
        async with self._changing:
            self._server.fail(kind)
            if kind == "refused":
                await self._listener.refuse()
            else:
                await self._listener.open()

    async def recover(self) -> None:
        """Be up again."""
        async with self._changing:
            self._server.recover()
            await self._listener.open()

    async def retune(self, changes: Capacity) -> SimConfig:
        """Change the capacity, and say what it is now."""
        self.config = replace(self.config, **changes)
        self._server.retune(self.config)
        return self.config

    async def stats(self) -> dict[str, Any]:
        """See `Stats.snapshot`."""
        return self._server.stats.snapshot()

    async def _outages(self) -> None:
        """The outages that the config plans."""
        begun = self._server.stats.begun
        for outage in outages_in(self.config.outage):
            await asyncio.sleep(begun + outage.begin - time.monotonic())
            await self.fail(outage.kind)
            await asyncio.sleep(begun + outage.end - time.monotonic())
            await self.recover()
