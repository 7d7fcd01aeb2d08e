"""How a command ends: its exit code, and what Ctrl-C and SIGTERM do to it.

The first signal lets the calls under way end and starts no others, the second cancels them, and a third does nothing: what
is done is written, and that must not be cut off. Before anything was sent the first one simply ends the command.

The signals are caught by `signal.signal`, not by the event loop: a loop gives them back when it closes, and rows and report
come after that. What a signal asks for is done by a step of the loop, for it may come in the middle of a `write` to the same
standard error; a loop that waits is woken, as asyncio.Runner does for Ctrl-C.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..errors import ConfigError, RunFailed
from ..loops import new_event_loop
from .saying import say

if TYPE_CHECKING:
    from ..run import Run
    from ..summary import Summary

OK, SOME_FAILED, BAD_INPUT, BOUND = 0, 1, 2, 3
BY_SIGNAL = 128  # and its number, as shells have it: 130 for SIGINT, 143 for SIGTERM
HEARD = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def hearing(hear: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Within this context `hear` gets the signals that end a command, but for those that were ignored before: whoever
    started us does not want them heard.
    """
    before = {number: each for number in HEARD if (each := signal.getsignal(number)) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, hear)
    try:
        yield
    finally:
        for number, each in before.items():
            signal.signal(number, each)


class Ending:
    """What a command does at its end; signals are heard between entering and leaving the `with` block.

    Attributes:
        signal: The first signal that was heard; 0 if none was.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._run: Run[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hearing = hearing(self._hear)

    def __enter__(self) -> Self:
        self._hearing.__enter__()
        return self

    def __exit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self._hearing.__exit__(t, e, tb)

    def of(self, run: Run[Any], take: Callable[[], Coroutine[Any, Any, object]]) -> int:
        """Have `run` taken, come what may. The exit code says how it ended."""
        failure = None
        self._run = run
        try:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                self._loop = runner.get_loop()
                runner.run(take())
        except RunFailed as exc:
            failure = exc
            say(f"error: {_reason_of(exc)}")
        return BY_SIGNAL + self.signal if self.signal else _code_of(run.summary, failure)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._loop is None:
            raise SystemExit(BY_SIGNAL + number)
        step = self._cancel if self.signal else self._wind_down
        self.signal = self.signal or number
        try:
            self._loop.call_soon_threadsafe(step)
        except RuntimeError:
            pass  # the loop is closed: there is nothing left to stop

    def _wind_down(self) -> None:
        assert self._run is not None
        under_way = self._run.summary.in_flight
        waits = f", {under_way:,} under way may end; again to cancel them" if under_way else ""
        say(f"stopping: no more calls are started{waits}")
        self._run.wind_down(_WHY[self.signal])

    def _cancel(self) -> None:
        assert self._run is not None
        self._run.cancel(_WHY[self.signal])


_WHY: dict[int, str] = {signal.SIGINT: "the command was interrupted", signal.SIGTERM: "the command was told to end"}


def _code_of(summary: Summary, failure: RunFailed | None) -> int:
    if failure is not None:
        is_input = isinstance(failure.__cause__, ConfigError) or not summary.attempts
        return BAD_INPUT if is_input else SOME_FAILED
    if summary.stopped is not None and summary.stopped.kind in ("budget", "deadline"):
        return BOUND
    return SOME_FAILED if summary.failed else OK


def _reason_of(failure: RunFailed) -> str:
    """What broke a run, for somebody who has no report."""
    cause = failure.__cause__
    return str(cause) if isinstance(cause, ConfigError) else str(failure).removesuffix("; .report has what was done")
