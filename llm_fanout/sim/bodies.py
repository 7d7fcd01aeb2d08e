"""The body of an answer, every byte with its time; and what faults make of it.

A body is a series of frames: the events of a stream, or the two halves of an answer that comes at once. Faults strike in its
middle.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, count
from math import exp
from typing import Literal

from .apis import Api, Reply, Streaming
from .apis.vendors import FAILED
from .wording import HTML, JSON, ErrorAnswer, nginx_page, openai_error

Frame = tuple[float, bytes]  # seconds after the call has begun, and what comes then
End = Literal["whole", "abort", "open"]

DRIP = 1.0  # seconds between the bytes of a body that drips
KEEPALIVE = 0.25  # seconds between signs of life
EVENTS = {"Content-Type": "text/event-stream; charset=utf-8"}


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast an answer comes.

    Attributes:
        latency: Seconds to its end.
        first: Seconds to the first piece of a stream.
        jitter: Sigma of the lognormal times between its pieces.
    """

    latency: float
    first: float
    jitter: float

    def instants(self, pieces: Sequence[str], draw: random.Random) -> list[float]:
        """When each piece of a stream comes: the first one first, the last at the end, the others by their lengths."""
        weights = [len(piece) * exp(draw.gauss(0.0, self.jitter)) for piece in pieces[1:]]
        unit = (self.latency - self.first) / (sum(weights) or 1.0)
        return [self.first + unit * weight for weight in accumulate(weights, initial=0.0)]


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent, and when.

    Attributes:
        frames: In the order of time; they may have no end. Before the first byte not even the headers are sent.
        headers: Its type.
        end: What comes after the last frame: "whole" ends the answer, "abort" the connection, "open" nothing, for ever.
        length: The Content-Length that is stated; None for a body in chunks.
    """

    frames: Iterable[Frame]
    headers: Mapping[str, str]
    end: End = "whole"
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """An answer that a fault may strike.

    Attributes:
        api: The API, and how it streams if it does here.
        frames: All of it.
        middle: How many of the frames come before a fault.
    """

    api: Api
    streaming: Streaming | None
    reply: Reply
    draw: random.Random
    frames: Sequence[Frame]
    middle: int

    @classmethod
    def of(cls, api: Api, reply: Reply, pace: Pace, draw: random.Random) -> Made:
        """`reply`, at that pace."""
        if api.streaming is None or not reply.asked.streams:
            raw = json.dumps(api.whole(reply)).encode()
            half = len(raw) // 2
            return cls(api, None, reply, draw, [(pace.latency, raw[:half]), (pace.latency, raw[half:])], 1)
        pieces = [] if reply.blank else reply.said.pieces()
        opening = [(0.0, event) for event in api.streaming.opening(reply)]
        deltas = [
            (instant, api.streaming.delta(reply, piece, index))
            for index, (instant, piece) in enumerate(zip(pace.instants(pieces, draw), pieces, strict=False))
        ]
        closing = [(pace.latency, event) for event in api.streaming.closing(reply, len(deltas))]
        middle = len(opening) + (len(deltas) + 1) // 2
        return cls(api, api.streaming, reply, draw, [*opening, *deltas, *closing], middle)

    def body(self, frames: Sequence[Frame], end: End = "whole") -> Body:
        """A body of its kind. If it comes at once, its length is stated; that of all, if it is to be cut."""
        if self.streaming is not None:
            return Body(frames, EVENTS, end)
        return Body(frames, JSON, end, sum(len(data) for _, data in (frames if end == "whole" else self.frames)))


def body_of(api: Api, reply: Reply, pace: Pace, draw: random.Random, fault: str | None) -> Body:
    """The body of `reply`, as `fault` leaves it."""
    if fault == "empty":
        reply = replace(reply, blank=True)
    if fault == "truncated":
        reply = replace(reply, said=replace(reply.said, finish_reason=None))
    made = Made.of(api, reply, pace, draw)
    strike = STRIKES.get(fault or "")
    return made.body(made.frames) if strike is None else strike(made)


def _hang(made: Made) -> Body:
    return Body((), JSON, "open")


def _reset(made: Made) -> Body:
    return Body([(made.frames[-1][0] / 4, b"")], JSON, "abort")  # a refusal comes sooner than an answer


def _cut(made: Made) -> Body:
    return made.body(made.frames[: made.middle], "abort")


def _stall(made: Made) -> Body:
    return made.body(made.frames[: made.middle], "open")


def _drip(made: Made) -> Body:
    raw = b"".join(data for _, data in made.frames)
    return made.body([(index * DRIP, raw[index : index + 1]) for index in range(len(raw))])


def _keepalive(made: Made) -> Body:
    # DeepSeek, api-docs.deepseek.com/quick_start/rate_limit (2026-11): comments in a stream, else empty lines.
    line, headers = (b"\n", JSON) if made.streaming is None else (b": keep-alive\n\n", EVENTS)
    return Body(((index * KEEPALIVE, line) for index in count()), headers)


def _truncated(made: Made) -> Body:
    """Of streams, half say that they are over."""
    over = made.streaming is None or made.draw.random() < 0.5
    return made.body(made.frames if over else made.frames[:-1])


def _malformed(made: Made) -> Body:
    """Of a stream one event is cut, else the whole."""
    before, after = made.frames[: made.middle], made.frames[made.middle :]
    if made.streaming is None:
        return made.body(before)
    instant, event = after[0]
    return made.body([*before, (instant, event[: len(event) // 2] + b"\n\n"), *after[1:]])


def _bad_utf8(made: Made) -> Body:
    before, after = made.frames[: made.middle], made.frames[made.middle :]
    instant, data = after[0]
    half = len(data) // 2
    return made.body([*before, (instant, data[:half] + b"\xff" + data[half:]), *after[1:]])


def _error_event(made: Made) -> Body:
    """A stream says that it has failed."""
    if made.streaming is None:
        return _error200(made)
    before = made.frames[: made.middle]
    event = made.streaming.failure(made.reply, len(before) - len(made.streaming.opening(made.reply)))
    return made.body([*before, (before[-1][0], event)])


def _error200(made: Made) -> Body:
    error = ErrorAnswer(200, JSON, openai_error(FAILED, "server_error", None))
    return _at_the_end(made, made.api.vendor.error(error, f"req_sim_{made.reply.id}"))


def _html200(made: Made) -> Body:
    return _at_the_end(made, ErrorAnswer(200, HTML, nginx_page(200)))


def _at_the_end(made: Made, answer: ErrorAnswer) -> Body:
    return Body([(made.frames[-1][0], answer.body)], answer.headers, length=len(answer.body))


STRIKES: Mapping[str, Callable[[Made], Body]] = {
    "hang": _hang,
    "reset": _reset,
    "cut": _cut,
    "drip": _drip,
    "stall": _stall,
    "keepalive": _keepalive,
    "truncated": _truncated,
    "error_event": _error_event,
    "bad_chunk": _malformed,
    "malformed": _malformed,
    "bad_utf8": _bad_utf8,
    "error200": _error200,
    "html200": _html200,
}
