"""Who asks a server: the floor, plain aiohttp, the SDK, and this package, each as its documentation shows.

A caller is made for one base URL and so many calls at once. `open` makes its client, `ask` asks all prompts and gives how
many were answered with text, `close` leaves nothing open. Libraries are imported on use, for peers live in environments
that have their own library and not this one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

KEY = "none"
PROMPT = "Write something about the number {}. " + "x" * 160  # some 200 bytes
HEADERS = {"Authorization": f"Bearer {KEY}"}
NEVER_WAITS = {"rpm": 1_000_000_000, "tpm": 1_000_000_000_000}  # all of a quota is asked, taken and settled


class Caller:
    """What all callers have.

    Attributes:
        packages: What its environment needs, the library itself first; none if this one has it.
        least_python: The oldest that it runs on.
        slow: Whether it gets fewer calls, for they take long.
    """

    packages: Sequence[str] = ()
    least_python = (3, 11)
    slow = False

    def __init__(self, url: str, width: int) -> None:
        self.url = url
        self.width = width
        self.closing = AsyncExitStack()

    async def open(self) -> None:
        """Make the client; it opens no connection yet."""

    async def ask(self, prompts: list[str]) -> int:
        """How many of the prompts were answered with text."""
        raise NotImplementedError

    async def close(self) -> None:
        await self.closing.aclose()

    async def ask_each(self, prompts: list[str], ask: Callable[[str], Awaitable[str]]) -> int:
        """How many of the prompts `ask` answers, asked by as many tasks as calls may be in flight: it costs the least."""
        waiting = iter(prompts)

        async def work() -> int:
            return sum([bool(await ask(prompt)) for prompt in waiting])

        return sum(await asyncio.gather(*(work() for _ in range(min(self.width, len(prompts))))))


def body_of(prompt: str) -> dict[str, Any]:
    """A request of Chat Completions, as plain values."""
    return {"model": "x", "messages": [{"role": "user", "content": prompt}]}


def text_of(body: bytes) -> str:
    """The text of an answer of Chat Completions."""
    return str(json.loads(body)["choices"][0]["message"]["content"])


class Floor(Caller):
    """Sockets by hand: no HTTP but what this server sends, no errors, no limits. Nothing in Python costs less."""

    async def ask(self, prompts: list[str]) -> int:
        place = urlsplit(self.url)
        head = (
            f"POST {place.path}/chat/completions HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: Bearer {KEY}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        waiting = iter(prompts)

        async def work() -> int:
            open = asyncio.get_running_loop().create_connection
            transport, connection = await open(_Connection, place.hostname, place.port)
            answered = [
                bool(text_of(await connection.ask(head, json.dumps(body_of(prompt)).encode()))) for prompt in waiting
            ]
            transport.close()
            return sum(answered)

        return sum(await asyncio.gather(*(work() for _ in range(min(self.width, len(prompts))))))


class _Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: Any = transport
        self._received = b""

    def ask(self, head: bytes, body: bytes) -> asyncio.Future[bytes]:
        self._answer: asyncio.Future[bytes] = self._loop.create_future()
        self._transport.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(b"\r\n0\r\n\r\n"):
            body = self._received[self._received.index(b"{") : self._received.rindex(b"}") + 1]
            self._received = b""
            self._answer.set_result(body)


class Aiohttp(Caller):
    async def open(self) -> None:
        from aiohttp import ClientSession, TCPConnector

        self.session = await self.closing.enter_async_context(ClientSession(connector=TCPConnector(limit=0)))

    async def ask(self, prompts: list[str]) -> int:
        return await self.ask_each(prompts, self.one)

    async def one(self, prompt: str) -> str:
        async with self.session.post(f"{self.url}/chat/completions", json=body_of(prompt), headers=HEADERS) as response:
            return text_of(await response.read())


class OpenAI(Caller):
    slow = True

    async def open(self) -> None:
        from openai import AsyncOpenAI

        client = AsyncOpenAI(base_url=self.url, api_key=KEY, max_retries=0, http_client=self.http())
        self.client = await self.closing.enter_async_context(client)

    def http(self) -> Any:
        """What carries its calls; None for the default."""
        return None

    async def ask(self, prompts: list[str]) -> int:
        return await self.ask_each(prompts, self.one)

    async def one(self, prompt: str) -> str:
        answer = await self.client.chat.completions.create(model="x", messages=[{"role": "user", "content": prompt}])
        return answer.choices[0].message.content or ""


class OpenAIOverAiohttp(OpenAI):
    def http(self) -> Any:
        from openai import DefaultAioHttpClient

        return DefaultAioHttpClient()


class DropIn(OpenAI):
    """The SDK's client over our transport; a quota that is stated and never reached."""

    def http(self) -> Any:
        return over_ours(self)


def over_ours(caller: Caller) -> Any:
    """An HTTP client for the SDK, whose calls are those of a client of ours."""
    from llm_fanout import Endpoint, FanOut, Limits

    endpoint = Endpoint("openai/x", base_url=caller.url, api_key=KEY)
    fan = FanOut(endpoint, limits=Limits(max_concurrency=caller.width, **NEVER_WAITS))
    caller.closing.push_async_exit(fan)
    return fan.http_client()


class Ours(Caller):
    """`map`, awaited, the text of every Result read; a quota that is stated and never reached."""

    async def open(self) -> None:
        from llm_fanout import FanOut, Limits

        limits = Limits(max_concurrency=self.width, **NEVER_WAITS)
        self.fan = await self.closing.enter_async_context(FanOut(await self.endpoint(), limits=limits))

    async def endpoint(self) -> Any:
        from llm_fanout import Endpoint

        return Endpoint("openai/x", base_url=self.url, api_key=KEY)

    async def ask(self, prompts: list[str]) -> int:
        return sum(bool(result.text) for result in await self.fan.map(prompts))


class OursIterated(Ours):
    async def ask(self, prompts: list[str]) -> int:
        return sum([bool(result.text) async for result in self.fan.map(prompts)])


class OursResponse(Ours):
    """`map`, iterated over, the SDK's object built of every Result at once."""

    async def ask(self, prompts: list[str]) -> int:
        responses: Any = [result.response async for result in self.fan.map(prompts)]
        return sum(bool(response.choices[0].message.content) for response in responses)


class OursGeneral(Ours):
    """`map` through a ready client of the SDK."""

    slow = True

    async def endpoint(self) -> Any:
        from openai import AsyncOpenAI

        from llm_fanout import Endpoint

        client = AsyncOpenAI(base_url=self.url, api_key=KEY, max_retries=0)
        return Endpoint("openai/x", client=await self.closing.enter_async_context(client))
