"""Types and steps that several tests use."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from http.client import HTTPConnection
from math import inf
from typing import Any, TypeVar

from aiohttp import web

from llm_fanout import clock
from llm_fanout.core.job import Attempt, Job, Outcome, Verdict
from llm_fanout.core.quota import Quota
from llm_fanout.core.source import Source
from llm_fanout.errors import Unavailable
from llm_fanout.llm.times import Timeouts
from llm_fanout.llm.wire import read_all
from llm_fanout.providers import FORMATS, Request
from llm_fanout.providers.writing import body_of

T = TypeVar("T")
Simulate = Callable[[Callable[[], Coroutine[Any, Any, T]]], T]


class Step:
    """The payload of a job for the engine; it notes what happens to it."""

    def __init__(self, perform: Callable[[], Coroutine[Any, Any, Outcome]], timeout: float | None = None) -> None:
        self.shell: Any = None
        self.steps = perform
        self.timeout = timeout
        self.attempt: Attempt | None = None
        self.begun = 0
        self.ended_at: list[float] = []
        self.outcomes: list[Outcome] = []
        self.quotas: list[Quota] = []
        self.evictions: list[Exception | None] = []
        self.told_in = 0

    def perform(self, quota: Quota) -> Coroutine[Any, Any, Outcome]:
        self.quotas.append(quota)
        return self.steps()

    def late(self) -> Outcome:
        return Outcome(error=Unavailable(f"late after {self.timeout} s", kind="timeout"))

    def started(self, attempt: Attempt) -> contextvars.Context:
        self.attempt = attempt
        self.begun += 1
        return contextvars.copy_context()

    def ended(self, attempt: Attempt, outcome: Outcome, verdict: Verdict, now: float) -> None:
        self.ended_at.append(now)
        self.outcomes.append(outcome)

    def evicted(self, job: Job, error: Exception | None, now: float) -> None:
        self.ended_at.append(now)
        self.evictions.append(error)
        self.told_in = threading.get_ident()

    @property
    def errors(self) -> list[str]:
        """What its attempts ended with."""
        return [str(outcome.error) for outcome in self.outcomes]


async def nothing() -> Outcome:
    """An attempt that succeeds at once."""
    return Outcome()


async def forever() -> Outcome:
    """An attempt that takes an hour."""
    await asyncio.sleep(3600)
    return Outcome()


def job(
    source: Source, perform: Callable[[], Coroutine[Any, Any, Outcome]], timeout: float | None = None
) -> tuple[Job, Step]:
    """A job of the engine, and its payload."""
    step = Step(perform, timeout)
    return Job(source, payload=step), step


def completion(text: str) -> dict[str, Any]:
    """A chat completion that says `text`."""
    message = {"role": "assistant", "content": text}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-x",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


class FakeProvider:
    """What stands for every lane: it answers each prompt with itself after `seconds`, and notes what happens.

    Attributes:
        asked: Instant and prompt of each request, as they came.
        answers: (status, headers, body) to give first, in their order.
    """

    via = "wire"

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.asked: list[tuple[float, str]] = []
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.timeouts: list[Timeouts] = []
        self.bodies: list[Mapping[str, Any]] = []
        self.running = 0
        self.most = 0

    async def post(self, request: Request, timeouts: Timeouts) -> Given:
        body = body_of(FORMATS["chat"], request)
        text = body["messages"][-1]["content"]
        self.bodies.append(body)
        self.asked.append((clock.now(), text))
        self.timeouts.append(timeouts)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.running -= 1
        answer = self.answers.pop(0) if self.answers else (200, {}, json.dumps(completion(text)).encode())
        return answer_of(*answer)

    def count(self, name: str, until: float = inf) -> int:
        """How many prompts that begin with `name` were asked before the instant `until`."""
        return sum(text.startswith(name) for at, text in self.asked if at < until)


@asynccontextmanager
async def served(app: web.Application, *, backlog: int = 128) -> AsyncIterator[int]:
    """The port of 127.0.0.1 on which `app` answers; a handler is cancelled when its client hangs up."""
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=backlog).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


class Given:
    """An answer made by hand."""

    def __init__(self, status: int, headers: Mapping[str, str], chunks: AsyncIterator[bytes]) -> None:
        self.status = status
        self.headers = headers
        self.chunks = chunks
        self.is_closed = False

    async def read(self) -> bytes:
        return await read_all(self.chunks)

    async def close(self) -> None:
        self.is_closed = True


def answer_of(status: int, headers: Mapping[str, str], *chunks: bytes) -> Given:
    """An answer as a lane gives it, its body in these chunks."""

    async def each() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return Given(status, headers, each())


async def consume(run: Awaitable[T]) -> T:
    """Await `run`: for `asyncio.ensure_future`, which gives a task to cancel."""
    return await run


def in_thread(step: Callable[[], T]) -> T:
    """What `step` gives, run in a new thread: there `asyncio.run` meets no loop that a test plugin has set."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(step).result()


def post_chat(url: str, text: str, **fields: object) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (names in lower case) and body of the answer to one prompt, over a connection of its own.

    Raises OSError if there is no connection, or if it is cut before the answer.
    """
    host = url.removeprefix("http://").split("/")[0]
    body = json.dumps({"model": "x", "messages": [{"role": "user", "content": text}], **fields})
    with closing(HTTPConnection(host)) as connection:
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
