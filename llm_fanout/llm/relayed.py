"""What an SDK gets for a call that it has made: the provider's answer, or one that says why there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from weakref import finalize

from ..errors import CallError, Kind, Stopped
from ..providers.reading import encoded
from ..results import Result
from ..run import Run
from .relay import Head, Pipe, Relay
from .runs import Runs
from .sent import HOP, Sent
from .times import Timeouts

# An SDK that is told so does not try again: whether that may help was decided here, with everybody else in view.
NO_OTHER_TRY = "x-should-retry"
NOT_PASSED_ON = HOP | {"content-encoding", NO_OTHER_TRY}  # the body was unpacked by the wire

# What an SDK is told where there is no answer of the provider's; what is not here is our own fault.
INSTEAD: Mapping[Kind, int] = {
    "timeout": 504,
    "connection": 503,
    "server": 503,
    "rate_limited": 503,
    "malformed": 502,
    "truncated": 502,
    "too_large": 413,
}

Headers = list[tuple[bytes, bytes]]


class Answered(NamedTuple):
    """An answer for the SDK: its body is whole, or flows."""

    status: int
    headers: Headers
    body: bytes | Flowing


async def answer_to(runs: Runs, sent: Sent, timeouts: Timeouts) -> Answered:
    """Have `sent` made, as a call of the client whose runs these are.

    Cancelled, it cancels the call, and waits for its clean-up.

    Raises:
        Stopped: It was not, or not fully, made, because of a budget, a deadline, a scope that has ended, or a quota that is
            closed.
        ConfigError: It cannot be made.
        JournalError: Its answer could not be kept.
    """
    relay, run = runs.relayed(sent, timeouts)
    if not sent.request.stream:
        return _settled((await run)[0], relay)
    following = asyncio.ensure_future(_follow(run, relay))
    try:
        await relay.begun.wait()
    except asyncio.CancelledError:
        await run.leave()
        await following
        raise
    if relay.stream is None:
        return _settled(await following, relay)
    head, pipe = relay.stream
    return Answered(head.status, _headers(head), Flowing(pipe, relay, run, following))


class Flowing:
    """The body of a streamed answer. Closed early, or forgotten, it cancels the call at the provider."""

    def __init__(self, pipe: Pipe, relay: Relay, run: Run[Any], following: asyncio.Future[Result[Any]]) -> None:
        self._pipe = pipe
        self._relay = relay
        self._run = run
        self._following = following
        forgotten = finalize(self, _forget, relay, run)
        forgotten.atexit = False

    async def take(self) -> bytes:
        """What has come since the last time, as soon as there is something; b"" at the end.

        Raises the error by which it broke off, unless it says so itself.
        """
        try:
            return await self._pipe.take()
        except Stopped:
            raise
        except CallError:
            if self._relay.is_told:
                return b""
            raise

    async def aclose(self) -> None:
        """Read no more; returns when the call is over, and nothing of it is left."""
        if not self._relay.is_told:
            await self._run.leave()
        await asyncio.wait([self._following])


async def _follow(run: Run[Any], relay: Relay) -> Result[Any]:
    """See `run` to its end. It knows nothing of who reads, who may forget it."""
    error: CallError | None = Stopped("the event loop was shut down")
    try:
        result: Result[Any] = (await run)[0]
        error = result.error
        return result
    finally:
        relay.end(error)


def _forget(relay: Relay, run: Run[Any]) -> None:
    """Nobody reads a stream any more."""
    if not relay.is_told:
        run.cancel("nobody reads the stream any more")


def _settled(result: Result[Any], relay: Relay) -> Answered:
    """The last answer of the provider's; without one, that of a journal, or one that says why there is none."""
    error = result.error
    if isinstance(error, Stopped):
        raise error.with_traceback(None)
    if relay.last is not None:
        head, body = relay.last
        return Answered(head.status, _headers(head), body)
    if error is not None:
        return _instead(error, relay.api)
    assert isinstance(result.reply, bytes)
    return Answered(200, _headers(Head(200, JSON)), result.reply)


JSON = {"content-type": "application/json"}


def _instead(error: CallError, api: str) -> Answered:
    """An answer in the shape of the API's own errors."""
    said: dict[str, Any] = {"message": error.message, "type": error.kind}
    body = {"type": "error", "error": said} if api == "messages" else {"error": {**said, "param": None, "code": error.kind}}
    status = INSTEAD.get(error.kind, 500)
    return Answered(status, _headers(Head(status, JSON)), encoded(body))


def _headers(head: Head) -> Headers:
    """Those of an answer, without what was said of its way, and with the word that it is final."""
    passed = [(name, value) for name, value in _pairs(head.headers) if name.lower() not in NOT_PASSED_ON]
    return [
        (name.encode("latin-1"), value.encode("utf-8", "surrogateescape"))
        for name, value in (*passed, (NO_OTHER_TRY, "false"))
    ]


def _pairs(headers: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    return headers.items()  # of aiohttp's, each of several of one name
