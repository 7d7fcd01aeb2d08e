"""The provider in a box: the simulated server in a thread of this process, or in the foreground."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from ..errors import ConfigError
from .config import SimConfig
from .outages import OutageKind
from .service import Capacity, Service
from .stats import key_of

T = TypeVar("T")


class Box:
    """A simulated provider on loopback, in a thread of its own: real sockets, and no loop of yours is kept busy.

        with Box(SimConfig(rpm=300, faults={"500": 0.05})) as box:
            fan = FanOut("sim/anything", base_url=box.url)

    All methods may be called from any thread; each returns when it is done.

    Args:
        config: What the provider is like; by default without limits and faults, about a second an answer.
        port: On 127.0.0.1; 0 picks a free one.
    """

    def __init__(self, config: SimConfig | None = None, *, port: int = 0) -> None:
        self.config = config or SimConfig()
        self._port = port
        self._thread: threading.Thread | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """The base URL, "http://127.0.0.1:PORT/v1"; ConfigError before it is started."""
        self._check_started()
        return self._url

    @property
    def stats(self) -> dict[str, Any]:
        """What the server has seen so far: see `Stats.snapshot`."""
        return self._ask(lambda service: service.stats())

    def arrivals(self, text: str) -> list[float]:
        """When prompts came that say `text`, in seconds since the server started: the latest hundred, in their order.

        The text is that of all messages, by lines; the gaps between tries of one prompt are those between its arrivals.
        """
        instants: list[float] = self.stats["arrivals"].get(key_of(text), [])
        return instants

    def fail(self, kind: OutageKind = "refused") -> None:
        """Be down until `recover`.

        Args:
            kind: "refused" closes the port, so that connections are refused, and cuts those that are open; "503" answers
                503 to every request.
        """
        self._ask(lambda service: service.fail(kind))

    def recover(self) -> None:
        """Serve again on the same port, with the same account and stats. Harmless while it is up."""
        self._ask(lambda service: service.recover())

    def retune(self, **changes: Unpack[Capacity]) -> None:
        """Change the capacity from now on; what is left out stays as it is, and None lifts a limit.

        What is charged stays charged: a bucket misses as many units as before, a window has seen as many. Calls beyond a
        smaller `max_in_flight` go on; those under way keep their latency. ConfigError if a figure is out of its range.
        """
        self.config = self._ask(lambda service: service.retune(changes))

    def start(self) -> Self:
        """Start serving; returns when the port is open. Raises OSError if it cannot be had."""
        if self._thread is None:
            ready: Future[str] = Future()
            self._thread = threading.Thread(target=self._main, args=(ready,), name="llm_fanout.sim", daemon=True)
            self._thread.start()
            try:
                self._url = ready.result()
            except OSError:
                self._thread = None
                raise
        return self

    def stop(self) -> None:
        """Stop serving; connections that are open are closed. Stopping twice does no harm."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._enough.set)
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _ask(self, what: Callable[[Service], Coroutine[Any, Any, T]]) -> T:
        """What the service says, asked in its own thread."""
        self._check_started()
        return asyncio.run_coroutine_threadsafe(what(self._service), self._loop).result()

    def _check_started(self) -> None:
        if self._thread is None:
            raise ConfigError("this box is not started; use `with Box(...) as box:`, or start()")

    def _main(self, ready: Future[str]) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._enough = asyncio.Event()
            self._service = Service(self.config)
            try:
                runner.run(self._service.run(self._port, ready.set_result, self._enough))
            except OSError as exc:
                ready.set_exception(exc)


def serve(config: SimConfig, port: int, on_ready: Callable[[str], object]) -> None:
    """Serve in the foreground until Ctrl-C or SIGTERM; `on_ready` gets the base URL once the port is open."""

    async def until_told() -> None:
        enough = asyncio.Event()
        for each in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(each, enough.set)
        await Service(config).run(port, on_ready, enough)

    asyncio.run(until_told())


_lock = threading.Lock()
_embedded: dict[int, Box] = {}


def embedded() -> Box:
    """The box behind `sim/...`: one for each process, started on first use, gone with the process."""
    with _lock:
        if os.getpid() not in _embedded:
            _embedded[os.getpid()] = Box().start()  # a fork copies no threads: the child starts its own
        return _embedded[os.getpid()]
