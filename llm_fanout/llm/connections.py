"""The connections of one event loop: aiohttp's pool, with a pace at which it opens, and the order in which it uses again.

How many there may be is not decided here: each belongs to a call that is under way, and the schedule says how many are.
"""

from __future__ import annotations

import asyncio
import select
from math import inf
from time import monotonic
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp.connector import Connection

if TYPE_CHECKING:
    from aiohttp import ClientRequest, ClientTimeout
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.tracing import Trace

KEEP_ALIVE = 15.0  # seconds an idle connection is kept: below the 60 s and more after which servers drop theirs
DNS_TTL = 30  # seconds for which new connections go to the same addresses; as the JVM (networkaddress.cache.ttl)

# A server of asyncio's lets 100 wait to be accepted (create_server's backlog; nginx 511), and drops the next, which is tried
# again after a second (RFC 6298, 2.1). At this pace it has 20 ms to look, and our own loop is not held up either: opening
# takes some 100 us each, so that 1,000 in one step would be 0.1 s.
OPENED_PER_SECOND = 5_000.0
OPENED_AT_ONCE = 50  # before the pace counts


class Connections(aiohttp.TCPConnector):
    """A pool without a bound that opens at a pace, and uses again what was used last.

    So those that are not needed any more are left to grow old, and the server is less likely to have dropped what is taken.
    """

    def __init__(self) -> None:
        super().__init__(limit=0, keepalive_timeout=KEEP_ALIVE, ttl_dns_cache=DNS_TTL)
        self._opened_at: WeakKeyDictionary[object, float] = WeakKeyDictionary()  # the loop's time, by task
        self._next_at = 0.0  # the loop's time at which the next may be opened, were there none at once

    def has_opened(self, since: float) -> bool:
        """Whether the running task has opened a connection since that time of the loop, and not found one here."""
        return self._opened_at.get(asyncio.current_task(), -inf) >= since

    def take(self, key: ConnectionKey) -> Connection | None:
        """The one to that place that was used last; None if none is idle. Those that are of no use any more are closed.

        What a server says unasked on an idle connection (HAProxy a 408, a broken gateway the same answer twice) is kept by
        aiohttp 3.14, which would take it for the answer to the next request.
        """
        idle = self._conns.get(key)
        while idle:
            protocol, since = idle.pop()
            if monotonic() - since <= KEEP_ALIVE and _is_usable(protocol):
                self._acquired.add(protocol)
                return Connection(self, key, protocol, self._loop)
            protocol.close()
        return None

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        """One that is idle, or None when one may be opened: aiohttp asks here first, and opens where there is none."""
        kept = self.take(key)
        if kept is None:
            await self._paced()
            kept = self.take(key)  # one may have come back meanwhile
        return kept

    async def _create_connection(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> ResponseHandler:
        self._opened_at[asyncio.current_task()] = self._loop.time()
        return await super()._create_connection(req, traces, timeout)

    async def _paced(self) -> None:
        """Wait until one more may be opened. Who is cancelled meanwhile leaves a gap, and that is all."""
        now = self._loop.time()
        at = max(self._next_at, now - OPENED_AT_ONCE / OPENED_PER_SECOND)
        self._next_at = at + 1.0 / OPENED_PER_SECOND
        if at > now:
            await asyncio.sleep(at - now)


def _is_usable(protocol: ResponseHandler) -> bool:
    transport = protocol.transport
    return transport is not None and not (transport.is_closing() or protocol.should_close) and _is_quiet(transport)


def _is_quiet(transport: asyncio.Transport) -> bool:
    """Whether nothing has come that the loop has not looked at yet: most likely that is the end of the connection.

    The next request may go out in the step in which the answer to the last one came, and the end may have come with that.
    httpcore 1.0 asks the system as well, before it uses a connection again.
    """
    if not hasattr(select, "poll"):  # Windows
        return True
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return not poll.poll(0)
