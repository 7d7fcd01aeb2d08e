"""One try at a provider: over HTTP, as a whole or as a stream, or by a function of the user."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, Self

from ..core.job import Cost, Outcome
from ..errors import CallError, Rejected
from ..providers.format import Assembler, Format
from ..providers.reply import ProviderError, Reply
from ..providers.request import Request
from ..providers.sse import Event, SseParser
from ..results import Via
from . import outcomes, signals
from .credential import awaited
from .heard import Heard
from .lanes import Lane
from .times import Timeouts
from .wire import REPLY_LIMIT, Answer, bounded

if TYPE_CHECKING:
    from .endpoint import Function

STREAM_SILENCE = 60.0  # seconds; a stream that says nothing for longer has stalled, unless `timeout` says otherwise
LINGER = 1.0  # seconds in which the end of the connection may follow that of the answer, so that it can be used again


class Provider(Protocol):
    """Whoever answers a request.

    Attributes:
        via: What carries it there, as `Result.via` says it.
        api: How the bytes of its answers are read; empty if they have none.
    """

    via: Via
    api: str

    async def ask(self, request: Request, timeouts: Timeouts, heard: Heard) -> Outcome:
        """Try once: a Reply as the outcome's value, or why there is none. Only CancelledError is raised."""


class HttpProvider:
    """An API over HTTP.

    Args:
        lane: How requests get there.
        form: How answers are read.
    """

    def __init__(self, lane: Lane, form: Format) -> None:
        self._lane = lane
        self._form = form
        self.via: Via = lane.via
        self.api: str = form.name

    async def ask(self, request: Request, timeouts: Timeouts, heard: Heard) -> Outcome:
        """POST once."""
        try:
            answer = await self._lane.post(request, timeouts)
            try:
                if request.stream and is_stream(answer):
                    return await listen(answer, self._form, timeouts.idle or STREAM_SILENCE, heard)
                return outcomes.of_answer(answer.status, answer.headers, await answer.read(), self._form)
            finally:
                await answer.close()
        except CallError as exc:  # a parameter that this API cannot take, or no key to be had: nothing was sent
            outcome = signals.of_error(exc)
            outcome.used = Cost()
            return outcome
        except Exception as exc:  # whatever an HTTP library or an SDK raises: the table knows it, or says so
            return signals.of_exception(exc, partial=heard.text, first=heard.first_try)


class FunctionProvider:
    """A function of the user."""

    via: Via = "function"
    api = ""

    def __init__(self, function: Function) -> None:
        self._function = function

    async def ask(self, request: Request, timeouts: Timeouts, heard: Heard) -> Outcome:
        """Call it once."""
        try:
            answer = await awaited(self._function(request), self._function)
        except CallError as exc:
            return signals.of_error(exc)
        except Exception as exc:  # whatever it raises is the call's failure
            return _of_exception(exc)
        if isinstance(answer, str):
            return outcomes.of_reply(Reply(text=answer))
        if not isinstance(answer, Reply):
            message = f"the provider's function gave {type(answer).__name__}; it must give text or a Reply"
            return Outcome(error=Rejected(message, kind="exception"))
        return outcomes.of_reply(replace(answer, raw=b""))  # it is kept as it is: only we know how our bytes are read


async def listen(
    answer: Answer,
    form: Format,
    silence: float,
    heard: Heard,
    *,
    chunks: AsyncIterator[bytes] | None = None,
    assembler: Assembler | None = None,
) -> Outcome:
    """Read a stream to its end; what was said before a failure is kept.

    Args:
        answer: Whose body it is.
        form: How it is read.
        silence: Seconds without a sign of life after which it has stalled.
        heard: Is told of each piece of text.
        chunks: The body, if somebody else reads it, too.
        assembler: Puts it together, by default as `form` says.
    """
    assembler = assembler or form.assembler()
    try:
        await _follow(chunks or answer.chunks, assembler, silence, heard.hear)
    except _Stalled:
        return signals.stalled(silence, heard.text)
    except ProviderError as exc:
        return signals.of_event(answer.headers, exc.body, heard.text)
    except ValueError as exc:
        why = f"the stream broke off: {exc}"
        return signals.unusable("truncated", why, status=answer.status, partial=heard.text)
    return outcomes.of_answer(answer.status, answer.headers, assembler.whole(), form, streamed=True)


class _Stalled(Exception):
    """A stream said nothing for too long."""


async def _follow(chunks: AsyncIterator[bytes], assembler: Assembler, silence: float, hear: Callable[[str], object]) -> None:
    """Feed `assembler` with a stream until its end; raises _Stalled, ReplyTooLarge, and what the assembler raises."""
    parser, size = SseParser(), 0
    try:
        async with asyncio.timeout(None) as limit:
            with _Watch(limit, silence) as watch:
                async for chunk in chunks:
                    size = bounded(size + len(chunk), REPLY_LIMIT)
                    if assembler.is_over:
                        continue
                    if _feed(assembler, parser.feed(chunk), hear):
                        watch.put_off()
                    if assembler.is_over:
                        watch.end_in(LINGER)
    except Exception as exc:
        if assembler.is_over:
            return  # the answer is there, however its connection ends
        if isinstance(exc, TimeoutError) and limit.expired():
            raise _Stalled from exc
        raise


def _feed(assembler: Assembler, events: Iterable[Event], hear: Callable[[str], object]) -> bool:
    """Whether there was a sign of life among `events`, which go to `assembler` until the answer is over."""
    is_alive = False
    for event in events:
        if assembler.is_over:
            break
        if piece := assembler.feed(event):
            hear(piece)
        is_alive = is_alive or event.name != PING
    return is_alive


class _Watch:
    """Lets `limit` expire after `silence` seconds without a sign of life.

    Its timer is not set anew by each sign: it looks at the last one when it rings.
    """

    def __init__(self, limit: asyncio.Timeout, silence: float) -> None:
        self._limit = limit
        self._silence = silence
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        self._set(self._silence)
        return self

    def __exit__(self, *exc: object) -> None:
        self._timer.cancel()

    def put_off(self) -> None:
        """Wait as long again."""
        self._until = self._loop.time() + self._silence

    def end_in(self, seconds: float) -> None:
        """Wait so long, and no longer."""
        self._timer.cancel()
        self._set(seconds)

    def _set(self, seconds: float) -> None:
        self._until = self._loop.time() + seconds
        self._timer = self._loop.call_at(self._until, self._look)

    def _look(self) -> None:
        if self._loop.time() >= self._until:
            self._limit.reschedule(self._until)
        else:
            self._timer = self._loop.call_at(self._until, self._look)


PING = "ping"  # Anthropic's sign of life; a stream of nothing else is no answer


def is_stream(answer: Answer) -> bool:
    """Whether it came as it was asked for: some servers answer as a whole, and errors always do."""
    return signals.is_success(answer.status) and "text/event-stream" in answer.headers.get("content-type", "").lower()


def _of_exception(exc: Exception) -> Outcome:
    """What follows from an exception of the user's function; that of an SDK or HTTP library says what was answered."""
    response: Any = getattr(exc, "response", exc)
    status = getattr(response, "status_code", getattr(response, "status", None))
    if not isinstance(status, int):
        return signals.of_exception(exc)
    try:
        content = bytes(response.content)
    except Exception:  # nobody has read it, or there is none to be had
        content = str(exc).encode()
    return signals.of_answer(status, getattr(response, "headers", None) or {}, content)
