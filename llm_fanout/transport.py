"""The transport: calls of SDKs and agent frameworks, under the quota, in the scopes, and on the budgets of a FanOut.

A client of an SDK sends over an HTTP client, and that over a transport. With one of these, calls that ask a model (Chat
Completions, Responses, Embeddings, Messages) are calls of the FanOut as `fan.call` makes them: they wait for the same
limits, belong to the scope in which they are made, are paid from its budgets, end with its deadline, are counted in its
summary, and are tried again as often as any. All others (lists of models, files) pass as they are.

    async with FanOut("sim/gpt-5", limits=Limits(rpm=600)) as fan:
        client = fan.openai()  # an AsyncOpenAI with its address and its key
        answer = await client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}])

What comes back is the provider's last answer, so the SDK gives its own objects, errors and streams. It does not try again
(`x-should-retry: false`), whatever its `max_retries`. Where there is no answer it is an error in the API's own shape: 504
for a timeout, 503 for a connection, 413 for what never fits the quota. A spent budget, a deadline, a scope that has ended
and a quota that is closed raise `Stopped`, through the SDK.

Of a call's `timeout=`, `connect` bounds that, and `read` the wait for the next bytes; the wait for our limits never counts.
A stream is tried again until something of the answer has come. It is taken from the wire at once, also for a slow reader; to
close it, or to forget it, cancels the call. A journal keeps answers that are read whole, and gives them again byte for byte;
streamed ones are neither kept nor looked for. A budget counts usage as reported: of Chat Completions that are streamed
without `include_usage`, and of histories that the provider keeps (`previous_response_id`), it knows nothing beforehand.

OpenAI Agents:

    from agents import Agent, OpenAIChatCompletionsModel, Runner
    async with FanOut("sim/gpt-5") as fan:
        agent = Agent(name="a", model=OpenAIChatCompletionsModel("gpt-5", fan.openai()))
        print((await Runner.run(agent, "Hi")).final_output)

Pydantic AI:

    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider
    async with FanOut("sim/gpt-5") as fan:
        agent = Agent(OpenAIChatModel("gpt-5", provider=OpenAIProvider(openai_client=fan.openai())))
        print((await agent.run("Hi")).output)

LangChain:

    from langchain_openai import ChatOpenAI
    async with FanOut("sim/gpt-5") as fan:
        client = fan.openai()
        model = ChatOpenAI(model="gpt-5", base_url=str(client.base_url), api_key="sim", http_async_client=fan.http_client())
        print((await model.ainvoke("Hi")).text)

Anthropic, and code that does not await (any SDK over httpx or httpx2, by its own client):

    from anthropic import Anthropic, AsyncAnthropic
    AsyncAnthropic(http_client=fan.http_client())
    Anthropic(http_client=httpx2.Client(transport=Transport(fan), timeout=600))
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .errors import ConfigError, Stopped
from .llm.background import wait_for
from .llm.library import async_body, body, library_of, response_of, told
from .llm.per_loop import PerLoop
from .llm.proxies import proxy_to
from .llm.relayed import answer_to
from .llm.sent import Sent
from .llm.socks import of_openai
from .llm.times import CONNECT_TIMEOUT, TOTAL_TIMEOUT, Timeouts
from .llm.trust import trust

if TYPE_CHECKING:
    from httpx2 import AsyncBaseTransport, AsyncClient, BaseTransport, Request, Response
    from openai import AsyncOpenAI

    from .llm.client import FanOut
else:
    AsyncBaseTransport = BaseTransport = (
        object  # clients of httpx and httpx2 ask for what a transport does, and not what it is
    )


class AsyncTransport(AsyncBaseTransport):
    """Carries the calls of an `httpx2.AsyncClient` or `httpx.AsyncClient` as calls of a FanOut, in any event loop.

    It does not close the FanOut.

    Args:
        fan: Whose calls they are to be.
    """

    def __init__(self, fan: FanOut) -> None:
        self._runs = fan._runs
        self._others: dict[tuple[str, str | None], PerLoop[Any]] = {}

    async def handle_async_request(self, request: Request) -> Response:
        """The answer to `request`.

        Raises:
            Stopped: Because of a budget, a deadline, a scope that has ended, or a quota that is closed.
            ConfigError: It goes where the wire does not lead, or a budget needs a price that is not known.
            JournalError: Its answer could not be kept.
        """
        await request.aread()
        sent = _sent(request)
        library = library_of(request)
        if sent is None:
            other = await self._other(library, proxy_to(str(request.url))).here()
            passed: Response = await other.handle_async_request(request)
            return passed
        try:
            answered = await answer_to(self._runs, sent, _timeouts(request, sent))
        except Stopped as exc:
            raise told(exc, sent.form.name) from None
        response: Response = response_of(library, answered, sent.form.name, async_body)
        return response

    async def aclose(self) -> None:
        """Close what it has opened on this event loop itself."""
        for other in list(self._others.values()):
            await other.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    def _other(self, library: str, proxy: str | None) -> PerLoop[Any]:
        """What carries calls that are none of ours."""
        if (library, proxy) not in self._others:
            make = partial(sys.modules[library].AsyncHTTPTransport, verify=trust(), proxy=proxy)
            self._others[library, proxy] = PerLoop(make)
        return self._others[library, proxy]


class Transport(BaseTransport):
    """Carries the calls of an `httpx2.Client` or `httpx.Client` as calls of a FanOut, from any thread, also from one with a
    running event loop, which waits meanwhile. They are made on the library's background loop.

    It does not close the FanOut.

    Args:
        fan: Whose calls they are to be.
    """

    def __init__(self, fan: FanOut) -> None:
        self._runs = fan._runs
        self._others: dict[tuple[str, str | None], Any] = {}

    def handle_request(self, request: Request) -> Response:
        """The answer to `request`; raises what `AsyncTransport` does. A KeyboardInterrupt cancels the call."""
        request.read()
        sent = _sent(request)
        library = library_of(request)
        if sent is None:
            passed: Response = self._other(library, proxy_to(str(request.url))).handle_request(request)
            return passed
        try:
            answered = wait_for(answer_to(self._runs, sent, _timeouts(request, sent)))
        except Stopped as exc:
            raise told(exc, sent.form.name) from None
        response: Response = response_of(library, answered, sent.form.name, body)
        return response

    def close(self) -> None:
        """Close what it has opened itself."""
        for other in list(self._others.values()):
            other.close()
        self._others.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.close()

    def _other(self, library: str, proxy: str | None) -> Any:
        if (library, proxy) not in self._others:
            self._others[library, proxy] = sys.modules[library].HTTPTransport(verify=trust(), proxy=proxy)
        return self._others[library, proxy]


def http_client(fan: FanOut) -> AsyncClient:
    """An `httpx2.AsyncClient` whose calls are those of `fan`, with time enough for a model to answer."""
    import httpx2

    timeout = httpx2.Timeout(TOTAL_TIMEOUT, connect=CONNECT_TIMEOUT)
    return httpx2.AsyncClient(transport=AsyncTransport(fan), timeout=timeout)


def openai(fan: FanOut) -> AsyncOpenAI:
    """An `AsyncOpenAI` whose calls are those of `fan`, with the address and the key of its first endpoint.

    Raises:
        ConfigError: That does not speak OpenAI's API.
    """
    from openai import AsyncOpenAI, Omit

    endpoint = fan._runs.routes.own[0]
    if isinstance(endpoint.client, AsyncOpenAI):
        return endpoint.client.with_options(http_client=http_client(fan))
    place = fan._runs.routes.route(endpoint).place
    if endpoint.client is not None or endpoint.provider is not None or place.format().name == "messages":
        raise ConfigError(
            f"{endpoint.model!r} does not speak OpenAI's API; pass fan.http_client() to the SDK that it takes, as "
            "`AsyncAnthropic(http_client=fan.http_client())`, or ask through `fan.call`"
        )
    others: Any = dict.fromkeys(of_openai() if not endpoint.model.startswith("openai/") else (), Omit())
    key = endpoint.api_key if callable(endpoint.api_key) else place.credential.key
    return AsyncOpenAI(api_key=key, base_url=place.base_url, default_headers=others, http_client=http_client(fan))


def _sent(request: Request) -> Sent | None:
    return Sent.of(request.method, str(request.url), request.headers.raw, request.content)


def _timeouts(request: Request, sent: Sent) -> Timeouts:
    """How long a client would wait. It has no bound for the whole: an answer that is read at once may not drip for ever."""
    said: Mapping[str, float | None] = request.extensions.get("timeout", {})
    read = said.get("read")
    whole = float("inf") if sent.request.stream or read is None else max(read, TOTAL_TIMEOUT)
    return Timeouts(said.get("connect") or CONNECT_TIMEOUT, read, whole)
