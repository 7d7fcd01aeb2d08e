"""Passes on what an SDK has asked, byte for byte, and what was answered: a provider for calls that are not made here.

Theory of operation. Each attempt sends the SDK's bytes over our wire, and judges the answer as any other: what can be tried
again is. What came last is what the SDK gets. A stream is let go as soon as something of the answer has come: from then on
it flows through a pipe at the pace of the wire, whoever reads it, and there is no other try.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple

from ..core.job import Outcome
from ..errors import CallError
from ..providers.format import Assembler
from ..providers.reading import document, mapping, rows, text
from ..providers.reply import ProviderError
from ..providers.request import Request
from ..providers.sse import Event
from ..results import Via
from . import outcomes, signals
from .asking import STREAM_SILENCE, is_stream, listen
from .heard import Heard, Tell
from .sent import Sent
from .times import Timeouts
from .wire import Answer, Wire


class Head(NamedTuple):
    """What comes before the body of an answer: its status, and its headers."""

    status: int
    headers: Mapping[str, str]


class Relay:
    """Passes on one call.

    Args:
        sent: What was asked.
        wire: What carries it.
        timeouts: How long the SDK would wait.
        proxy: The URL of the proxy on its way, if there is one.

    Attributes:
        last: The last answer that came whole; None if the last attempt had none.
        stream: The head of a streamed answer, and its body, once something has come of it.
        begun: Set once there is a `stream`, or there will not be one.
        is_told: Whether a stream says by itself how it ended.
        tell: Gets the text of a stream; None for an answer that is read whole.
    """

    via: Via = "wire"

    def __init__(self, sent: Sent, wire: Wire, timeouts: Timeouts, proxy: str | None) -> None:
        self.sent = sent
        self.timeouts = timeouts
        self.api = sent.form.name
        self.last: tuple[Head, bytes] | None = None
        self.stream: tuple[Head, Pipe] | None = None
        self.begun = asyncio.Event()
        self.is_told = False
        self.tell: Tell | None = _pass if sent.request.stream else None
        self._wire = wire
        self._proxy = proxy

    async def ask(self, request: Request, timeouts: Timeouts, heard: Heard) -> Outcome:
        """POST once."""
        self.last, self.is_told = None, False
        sent = self.sent
        try:
            answer = await self._wire.send(sent.url, sent.headers, sent.body_for(request), timeouts, self._proxy)
            try:
                head = Head(answer.status, answer.headers)
                if request.stream and is_stream(answer):
                    return await self._pass_on(head, answer, timeouts.idle or STREAM_SILENCE, heard)
                body = await answer.read()
                self.last = head, body
                return _judged(outcomes.of_answer(head.status, head.headers, body, sent.form), body)
            finally:
                await answer.close()
        except Exception as exc:  # whatever the HTTP library raises: the table knows it, or says so
            return signals.of_exception(exc, partial=heard.text, first=heard.first_try)

    def end(self, error: CallError | None) -> None:
        """There will be no other attempt."""
        if self.stream is not None:
            self.stream[1].end(error)
        self.begun.set()

    async def _pass_on(self, head: Head, answer: Answer, silence: float, heard: Heard) -> Outcome:
        """Read a stream to its end, while whoever asked reads it, too."""
        pipe = Pipe()

        def begin(piece: str) -> None:
            self.stream = head, pipe
            self.begun.set()
            if not piece:
                heard.hear("")  # what has begun cannot be asked for anew, be it a tool's call without a word

        def tell_end() -> None:
            self.is_told = True

        watched = _Watched(self.sent.form.assembler(), begin, tell_end)
        outcome = await listen(answer, self.sent.form, silence, heard, chunks=pipe.fill(answer.chunks), assembler=watched)
        if self.stream is None and self.is_told:
            self.last = head, pipe.taken()
        return outcome


def _pass(piece: str) -> None:
    """Who reads the stream has the text from there."""


class Pipe:
    """The body of an answer, from the wire to whoever reads it: it takes what comes, and never waits for the reader."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._news = asyncio.Event()
        self._is_over = False
        self._error: CallError | None = None

    async def fill(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """`chunks`, each of which can be taken, too."""
        async for chunk in chunks:
            self._chunks.append(chunk)
            self._news.set()
            yield chunk

    def end(self, error: CallError | None) -> None:
        """Nothing more will come, for that reason if it broke off."""
        self._error = error
        self._is_over = True
        self._news.set()

    def taken(self) -> bytes:
        """All that has come since the last time."""
        body = b"".join(self._chunks)
        self._chunks.clear()
        return body

    async def take(self) -> bytes:
        """The same, as soon as there is something; b"" at the end. Raises the error by which it broke off."""
        while not self._chunks and not self._is_over:
            self._news.clear()
            await self._news.wait()
        if not self._chunks and self._error is not None:
            raise self._error.with_traceback(None)
        return self.taken()


class _Watched:
    """An assembler; calls `begin` with the text when something of the answer has come, and `end` when its end was said."""

    def __init__(self, assembler: Assembler, begin: Callable[[str], None], end: Callable[[], None]) -> None:
        self._assembler = assembler
        self._begin = begin
        self._end = end
        self._has_begun = False

    @property
    def is_over(self) -> bool:
        return self._assembler.is_over

    def feed(self, event: Event) -> str:
        try:
            piece = self._assembler.feed(event)
        except ProviderError:
            self._end()
            raise
        if not self._has_begun and (piece or self.is_over or says_something(event)):
            self._has_begun = True
            self._begin(piece)
        if self.is_over:
            self._end()
        return piece

    def whole(self) -> bytes:
        return self._assembler.whole()


# Events that come before anything is said: an answer of which there are only these can be asked for anew.
PREAMBLE = frozenset(
    {"response.created", "response.queued", "response.in_progress", "response.output_item.added"}
    | {"response.content_part.added", "response.reasoning_summary_part.added"}
    | {"message_start", "content_block_start", "ping"}
)


def says_something(event: Event) -> bool:
    """Whether an event of a stream has something of the answer: a word, a part of a call, a thought."""
    said = document(event.data) if event.data.startswith("{") else {}
    kind = text(said.get("type"))
    if kind:
        return kind not in PREAMBLE
    choices = rows(said.get("choices"))
    return any(value for choice in choices for name, value in mapping(choice.get("delta")).items() if name != "role")


def _judged(outcome: Outcome, body: bytes) -> Outcome:
    """The outcome; an answer that says nothing which we read is no failure if it has something else."""
    error = outcome.error
    if isinstance(error, CallError) and error.kind == "empty" and has_something(document(body)):
        return Outcome(announced=outcome.announced, used=outcome.used, value=outcome.value)
    return outcome


OF_CHAT = ("audio", "images", "function_call")  # what a message of Chat Completions may have instead of words and calls
WORDS = frozenset(
    {"message", "reasoning", "text", "thinking", "redacted_thinking"}
)  # items and blocks that are nothing else


def has_something(answer: Mapping[str, Any]) -> bool:
    """Whether an answer without words and calls has something else: audio, an image, a search, or work that goes on."""
    if answer.get("status") in ("queued", "in_progress"):
        return True
    messages = [mapping(choice.get("message")) for choice in rows(answer.get("choices"))]
    if any(message.get(name) for message in messages for name in OF_CHAT):
        return True
    return any(text(item.get("type")) not in WORDS for name in ("output", "content") for item in rows(answer.get(name)))
