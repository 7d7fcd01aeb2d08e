"""Types and steps that several tests use."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from typing import Any, TypeVar

T = TypeVar("T")
Simulate = Callable[[Callable[[], Coroutine[Any, Any, T]]], T]


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
