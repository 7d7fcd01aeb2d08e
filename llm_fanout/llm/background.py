"""The synchronous twin: one background thread with one event loop, for scripts and for cells with a running loop."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from ..core.stated import Limits
from ..errors import ConfigError
from ..loops import new_event_loop
from ..results import Report
from ..run import Run
from ..summary import Summary
from .client import fan_out
from .endpoint import Endpoint
from .prompt import RunOptions
from .routes import NO_LIMITS

if TYPE_CHECKING:
    from .client import M, Source

T = TypeVar("T")


@overload
def fan_out_sync(
    prompts: Source,
    *,
    model: str | Endpoint | Sequence[str | Endpoint],
    limits: Limits = NO_LIMITS,
    response_format: None = None,
    **options: Unpack[RunOptions],
) -> Report[str]: ...
@overload
def fan_out_sync(
    prompts: Source,
    *,
    model: str | Endpoint | Sequence[str | Endpoint],
    limits: Limits = NO_LIMITS,
    response_format: type[M],
    **options: Unpack[RunOptions],
) -> Report[M]: ...
def fan_out_sync(
    prompts: Source,
    *,
    model: str | Endpoint | Sequence[str | Endpoint],
    limits: Limits = NO_LIMITS,
    response_format: Any = None,
    **options: Unpack[RunOptions],
) -> Report[Any]:
    """`fan_out` for code that does not await: blocks until the Report is there. Works in a notebook, too, and from any
    number of threads. After Ctrl-C the KeyboardInterrupt carries what was done as its `.report`.

    Args:
        prompts: What to ask: text, lists of message dicts, or Prompts.
        model: Provider and model, "openai/gpt-5-mini", an Endpoint, or a list of these.
        limits: What the account may do; what is not stated is learnt.
        response_format: A pydantic model that every answer has to fit; see `FanOut.map`.
        options: See `llm_fanout.llm.prompt.RunOptions`.
    """
    run: Run[Any] = fan_out(prompts, model=model, limits=limits, response_format=response_format, **options)
    return run_sync(run)


def run_sync(run: Run[T]) -> Report[T]:
    """The Report of `run`, consumed on the background loop; this thread waits for it."""
    future = asyncio.run_coroutine_threadsafe(_report_of(run), _thread().loop)
    try:
        return future.result()
    except KeyboardInterrupt as exc:
        run.cancel()
        with suppress(Exception):  # whatever else there is to say, the interrupt is what is raised
            future.result()
        report = run.report
        exc.report = report  # type: ignore[attr-defined]  # how results survive Ctrl-C
        exc.add_note(_note_of(report.summary))
        raise


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives, done on the background loop in the context of the caller, who waits; an interrupt cancels it.

    Raises:
        ConfigError: The caller is on that loop itself, which would wait for ever.
    """
    thread = _thread()
    if thread.is_here():
        work.close()
        raise ConfigError("this would wait for the event loop that it runs on; use the async client here")
    future = asyncio.run_coroutine_threadsafe(work, thread.loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()  # unless it is over, by what it raised itself
        raise


def _note_of(summary: Summary) -> str:
    """What the traceback of an interrupt says of the run."""
    done = summary.done - summary.not_done
    whole = f"{done:,}" if summary.total is None else f"{done:,} of {summary.total:,}"
    return f"{whole} calls were done; they are in this exception's .report"


async def _report_of(run: Run[T]) -> Report[T]:
    return await run


class _LoopThread:
    """A daemon thread that runs one event loop until the interpreter ends."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        ready: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._main, args=(ready,), name="llm_fanout", daemon=True)
        self._thread.start()
        self.loop = ready.result()

    def is_here(self) -> bool:
        """Whether the code that asks runs on it."""
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        """End the loop in good order: tasks cancelled, connections closed."""
        if self.pid == os.getpid():
            self.loop.call_soon_threadsafe(self._enough.set)
            self._thread.join()

    def _main(self, ready: Future[asyncio.AbstractEventLoop]) -> None:
        # Not asyncio.Runner: that waits for the default executor in a new thread, which an ending interpreter refuses.
        loop = new_event_loop()
        try:
            loop.run_until_complete(self._until_enough(ready))
        finally:
            loop.close()

    async def _until_enough(self, ready: Future[asyncio.AbstractEventLoop]) -> None:
        loop = asyncio.get_running_loop()
        self._enough = asyncio.Event()
        ready.set_result(loop)
        await self._enough.wait()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await loop.shutdown_asyncgens()


_lock = threading.Lock()
_current: _LoopThread | None = None


def _thread() -> _LoopThread:
    global _current
    with _lock:
        if _current is None or _current.pid != os.getpid():  # a fork copies no threads
            _current = _LoopThread()
            atexit.register(_current.stop)
        return _current
