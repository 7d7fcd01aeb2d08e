"""The witness: a server on loopback that answers by a script and writes down what arrives, and when.

It reads no more of a request than its model and the mark of its item, so that every peer's way of asking will do.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from aiohttp import web

ITEM = re.compile(rb"item-(\d+)")
MODEL = re.compile(rb'"model":\s*"([^"]*)"')
BACKLOG = 4096  # connections that may wait to be accepted


def prompt(item: int, characters: int = 60) -> str:
    """A prompt of about `characters`, by which the witness knows `item` again."""
    return f"item-{item:05} ".ljust(characters, "x")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request gets: a status, after so many seconds, with these headers."""

    status: int = 200
    seconds: float = 0.02
    headers: dict[str, str] = field(default_factory=dict)


OK = Answer()


@dataclass(slots=True)
class Arrival:
    """One request: when (monotonic seconds), of which item, the how-manieth, how many were in flight with it."""

    at: float
    order: int
    item: int
    nth: int
    in_flight: int
    model: str
    status: int = 0
    left: float = 0.0

    @property
    def served(self) -> bool:
        """Whether it was answered, and well."""
        return self.status == 200


Script = Callable[[Arrival], Answer]


class Witness:
    """A server that answers by `script`; `arrivals` is what it saw, in order of arrival."""

    def __init__(self, script: Script) -> None:
        self.arrivals: list[Arrival] = []
        self.url = ""
        self._script = script
        self._in_flight = 0
        self._asked: Counter[int] = Counter()
        app = web.Application()
        app.router.add_post("/{path:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=BACKLOG).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        arrival = self._note(await request.read())
        try:
            answer = self._script(arrival)
            await asyncio.sleep(answer.seconds)
            arrival.status = answer.status
            return _response(arrival.model, answer)
        finally:
            arrival.left = time.monotonic()
            self._in_flight -= 1

    def _note(self, body: bytes) -> Arrival:
        mark, model = ITEM.search(body), MODEL.search(body)
        item = int(mark[1]) if mark else -1
        self._asked[item] += 1
        self._in_flight += 1
        name = model[1].decode() if model else ""
        arrival = Arrival(time.monotonic(), len(self.arrivals) + 1, item, self._asked[item], self._in_flight, name)
        self.arrivals.append(arrival)
        return arrival


def _response(model: str, answer: Answer) -> web.Response:
    if answer.status != 200:
        error = {"message": f"scripted {answer.status}", "type": "scripted", "param": None, "code": None}
        return web.json_response({"error": error}, status=answer.status, headers=answer.headers)
    message = {"role": "assistant", "content": f"answer of {model}"}
    usage = {"prompt_tokens": 15, "completion_tokens": 5, "total_tokens": 20}
    choices = [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}]
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": choices,
        "usage": usage,
    }
    return web.json_response(body, headers=answer.headers)
