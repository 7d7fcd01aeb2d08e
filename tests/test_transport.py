"""The transport: real SDKs over it, against the provider in a box."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

import anthropic
import httpx
import httpx2
import openai
import pytest
from aiohttp import web
from support import completion, consume, in_thread, served

from llm_fanout import ConfigError, Endpoint, FanOut, Limits, Stopped
from llm_fanout.llm.background import wait_for
from llm_fanout.providers import Request
from llm_fanout.quotas import quotas
from llm_fanout.sim import Box, SimConfig
from llm_fanout.transport import AsyncTransport, Transport

FAST = SimConfig(latency=0.02, ttft=0.01, jitter=0.0, answer_tokens=10)
LONG = "[[answer:one two three four five six seven eight nine ten eleven twelve]]"
MADE = re.compile(r'"(id|item_id|created|created_at|completed_at)":("[^"]*"|[\d.]+)')


@pytest.fixture
def box() -> Iterator[Box]:
    """A quick provider without limits or faults."""
    with Box(FAST) as box:
        yield box


@pytest.fixture
async def fan(box: Box) -> AsyncIterator[FanOut]:
    """A client of that provider, which does not try again."""
    async with FanOut("sim/gpt-sim", base_url=box.url, max_retries=0) as fan:
        yield fan


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without delay: every draw of the jitter is zero."""
    monkeypatch.setattr(quotas.engine._schedule, "_random", lambda: 0.0)


def said(text: str) -> Any:
    return [{"role": "user", "content": text}]


def told(answer: Any) -> str:
    """What an object of an SDK says, without what each answer has of its own."""
    return MADE.sub("", answer.model_dump_json())


# Each asks an SDK's client once; the same over any transport.


async def chat(client: openai.AsyncOpenAI) -> list[str]:
    return [told(await client.chat.completions.create(model="gpt-sim", messages=said(LONG)))]


async def chat_streamed(client: openai.AsyncOpenAI) -> list[str]:
    stream = await client.chat.completions.create(model="gpt-sim", messages=said(LONG), stream=True)
    return [told(chunk) async for chunk in stream]


async def respond(client: openai.AsyncOpenAI) -> list[str]:
    return [told(await client.responses.create(model="gpt-sim", input=LONG, instructions="Be brief."))]


async def respond_streamed(client: openai.AsyncOpenAI) -> list[str]:
    return [told(event) async for event in await client.responses.create(model="gpt-sim", input=LONG, stream=True)]


async def embed(client: openai.AsyncOpenAI) -> list[str]:
    return [told(await client.embeddings.create(model="embed-sim", input=["a", "b"]))]


async def models(client: openai.AsyncOpenAI) -> list[str]:
    return [told(model) async for model in client.models.list()]


async def refused(client: openai.AsyncOpenAI) -> list[str]:
    with pytest.raises(openai.BadRequestError) as raised:
        await client.chat.completions.create(model="gpt-sim", messages=said("[[fault:400]]"))
    return [str(raised.value), str(raised.value.code), str(raised.value.status_code)]


@pytest.mark.parametrize("ask", [chat, chat_streamed, respond, respond_streamed, embed, models, refused])
async def test_openais_sdk_gets_what_it_gets_without_us(
    fan: FanOut, box: Box, ask: Callable[[openai.AsyncOpenAI], Any]
) -> None:
    """The same objects, events and errors as over its own transport, whole and streamed, be it a call of ours or not."""
    async with openai.AsyncOpenAI(base_url=box.url, api_key="sim") as plain:
        expected = await ask(plain)

    assert await ask(fan.openai()) == expected


async def test_calls_are_those_of_the_client(fan: FanOut) -> None:
    """They are counted in its summary, with their tokens, and in that of the scope in which they are made."""
    client = fan.openai()

    async with fan.scope("a") as scope:
        await chat(client)
        await respond_streamed(client)
    await embed(client)

    assert (scope.summary.succeeded, fan.summary.succeeded) == (2, 3)
    assert scope.summary.usage.output_tokens > 20


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_clients_of_both_libraries_are_served(fan: FanOut, box: Box, library: Any) -> None:
    """With objects of their own, whole and streamed."""
    body = {"model": "gpt-sim", "messages": said(LONG)}
    async with library.AsyncClient(transport=AsyncTransport(fan), base_url=box.url) as client:
        answer = await client.post("/chat/completions", json=body)
        async with client.stream("POST", "/chat/completions", json={**body, "stream": True}) as stream:
            lines = [line async for line in stream.aiter_lines()]
        _, models = await client.get("/models"), await client.get("/models")

    assert isinstance(answer, library.Response)
    assert (answer.status_code, answer.headers["x-should-retry"], models.status_code) == (200, "false", 200)
    assert answer.json()["choices"][0]["message"]["content"].startswith("one two")
    assert lines[-2] == "data: [DONE]"
    assert fan.summary.succeeded == 2


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_clients_that_do_not_await_are_served(fan: FanOut, box: Box, library: Any) -> None:
    """The same, also in a thread whose event loop runs; calls belong to the scope of whoever makes them."""
    body = {"model": "gpt-sim", "messages": said(LONG)}
    with library.Client(transport=Transport(fan), base_url=box.url) as client:
        async with fan.scope("a") as scope:
            answer = client.post("/chat/completions", json=body)
            with client.stream("POST", "/chat/completions", json={**body, "stream": True}) as stream:
                lines = list(stream.iter_lines())
        _, models = client.get("/models"), client.get("/models")

    assert isinstance(answer, library.Response)
    assert answer.json()["choices"][0]["message"]["content"].startswith("one two")
    assert (lines[-2], models.status_code, scope.summary.succeeded) == ("data: [DONE]", 200, 2)


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_the_users_own_client_is_served(fan: FanOut, box: Box, library: Any) -> None:
    """`AsyncOpenAI(http_client=...)` and `OpenAI(http_client=...)`, over either library."""
    http = library.AsyncClient(transport=AsyncTransport(fan), timeout=60)
    async with openai.AsyncOpenAI(base_url=box.url, api_key="sim", http_client=http) as client:
        awaited = await client.chat.completions.create(model="gpt-sim", messages=said(LONG))
    with openai.OpenAI(base_url=box.url, api_key="sim", http_client=library.Client(transport=Transport(fan))) as sync:
        whole = sync.chat.completions.create(model="gpt-sim", messages=said(LONG))
        pieces = [chunk.choices for chunk in sync.chat.completions.create(model="x", messages=said(LONG), stream=True)]

    assert told(awaited) == told(whole)
    assert len(pieces) > 3
    assert fan.summary.succeeded == 3


async def test_anthropics_sdk_is_served(fan: FanOut, box: Box) -> None:
    """Async and sync, whole and streamed, with its own objects; its answers have usage, streamed or not."""
    place = {"base_url": box.url.removesuffix("/v1"), "api_key": "sim"}
    ask: Any = {"model": "claude-sim", "max_tokens": 50, "messages": said(LONG)}
    async with anthropic.AsyncAnthropic(**place) as plain:
        expected = told(await plain.messages.create(**ask))
    async with anthropic.AsyncAnthropic(**place, http_client=fan.http_client()) as client:
        whole = await client.messages.create(**ask)
        async with client.messages.stream(**ask) as stream:
            streamed = await stream.get_final_message()
    with anthropic.Anthropic(**place, http_client=httpx2.Client(transport=Transport(fan), timeout=60)) as sync:
        awaited = sync.messages.create(**ask)
        with sync.messages.stream(**ask) as text_stream:
            text = "".join(text_stream.text_stream)

    assert {told(whole), told(awaited)} == {expected}
    assert text == cast(Any, whole.content[0]).text == cast(Any, streamed.content[0]).text
    assert (fan.summary.succeeded, fan.summary.usage.output_tokens) == (4, 4 * whole.usage.output_tokens)


async def test_there_is_one_retry_layer(fan: FanOut, box: Box) -> None:
    """A failure that is final here is final: one request, where the SDK by itself would have made three."""
    client = fan.openai()

    with pytest.raises(openai.InternalServerError, match="500"):
        await client.chat.completions.create(model="gpt-sim", messages=said("[[fault:500]]"))

    assert client.max_retries == 2
    assert box.stats["requests"] == 1


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("fault", ["500", "reset", "cut", "malformed", "empty", "error200", "truncated"])
async def test_what_may_pass_is_tried_again(box: Box, fault: str) -> None:
    """As of any call: statuses, broken connections, and answers that are none."""
    async with FanOut("sim/gpt-sim", base_url=box.url) as fan:
        prompt = said(f"[[faults:{fault},ok]] [[answer:yes]]")
        answer = await fan.openai().chat.completions.create(model="gpt-sim", messages=prompt)

    assert answer.choices[0].message.content == "yes"
    assert (fan.summary.succeeded, fan.summary.attempts) == (1, 2)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("fault", ["500", "reset"])
async def test_a_stream_is_tried_again_before_it_has_said_anything(box: Box, fault: str) -> None:
    """Whoever reads it knows nothing of that."""
    async with FanOut("sim/gpt-sim", base_url=box.url) as fan:
        prompt = said(f"[[faults:{fault},ok]] [[answer:yes]]")
        stream = await fan.openai().chat.completions.create(model="gpt-sim", messages=prompt, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert (text, fan.summary.attempts) == ("yes", 2)


@pytest.mark.parametrize(
    ("fault", "error"),
    [("cut", openai.APIConnectionError), ("error_event", openai.APIError), ("bad_chunk", json.JSONDecodeError)],
)  # fmt: skip
async def test_a_stream_that_breaks_off_says_so(fan: FanOut, box: Box, fault: str, error: type[Exception]) -> None:
    """What came is kept; then the SDK's own error, as without us. There is no other try."""
    text: list[str] = []
    prompt = said(f"[[fault:{fault}]] {LONG}")
    stream = await fan.openai().chat.completions.create(model="gpt-sim", messages=prompt, stream=True)

    async def read() -> None:
        async for chunk in stream:
            text.append(chunk.choices[0].delta.content or "")

    with pytest.raises(error):
        await read()

    assert "".join(text).startswith("one")
    assert (fan.summary.failed, box.stats["requests"]) == (1, 1)


async def test_a_wait_that_one_is_told_binds_all(box: Box) -> None:
    """A 429 with Retry-After holds up everybody on the quota, a `map` and an SDK, and costs nobody an error."""
    async with FanOut("sim/gpt-sim", base_url=box.url) as fan:
        client = fan.openai()
        refused = asyncio.ensure_future(
            client.chat.completions.create(
                model="gpt-sim", messages=said("[[faults:429-retry-after-ms,ok]] [[wait:0.4]] first")
            )
        )
        while fan.summary.in_flight or not fan.summary.attempts:
            await asyncio.sleep(0.005)
        others = await asyncio.gather(
            client.chat.completions.create(model="gpt-sim", messages=said("second")), fan.call("third"), refused
        )

    first = box.arrivals("[[faults:429-retry-after-ms,ok]] [[wait:0.4]] first")
    assert len(others) == 3
    assert min(first[1], *box.arrivals("second"), *box.arrivals("third")) >= first[0] + 0.4


async def test_a_call_meets_the_quota_of_a_map(box: Box) -> None:
    """The client's own model, by the same address and key, is under its limits; another model has its own quota."""
    async with FanOut("sim/gpt-sim", base_url=box.url, limits=Limits(max_concurrency=1)) as fan:
        client = fan.openai()
        await asyncio.gather(chat(client), chat(client), fan.map(["a", "b"]), chat_streamed(client))
        alone = box.stats["peak_in_flight"]
        await asyncio.gather(*(client.chat.completions.create(model="other", messages=said("x")) for _ in range(3)))

        assert alone == 1
        assert box.stats["peak_in_flight"] > 1
        assert set(fan.limits) == {"sim/gpt-sim", "sim/other"}


async def test_two_clients_with_one_key_meet(box: Box) -> None:
    """Whoever the client belongs to: the key is what the account is known by."""
    limits = Limits(max_concurrency=1)
    one = FanOut("openai/x", base_url=box.url, api_key="k", limits=limits)
    async with one, FanOut("sim/gpt-sim", base_url=box.url) as two:
        own = openai.AsyncOpenAI(base_url=box.url, api_key="k", http_client=two.http_client())
        await asyncio.gather(
            *(own.chat.completions.create(model="x", messages=said("x")) for _ in range(3)), consume(one.map(["y"]))
        )

    assert box.stats["peak_in_flight"] == 1


async def test_a_spent_budget_comes_through_the_sdk(fan: FanOut, box: Box) -> None:
    """`Stopped` itself, at once, of OpenAI's SDK and of Anthropic's, whatever they would try again."""
    claude = anthropic.AsyncAnthropic(
        base_url=box.url.removesuffix("/v1"), api_key="sim", http_client=fan.http_client(), max_retries=5
    )
    with pytest.raises(Stopped):  # noqa: PT012  # of the scope, too: it was raised inside
        async with fan.scope("a", token_budget=10):
            with pytest.raises(Stopped, match="budget of scope 'a'") as of_openai:
                await chat(fan.openai())
            with pytest.raises(Stopped, match="budget of scope 'a'") as of_anthropic:
                await claude.messages.create(model="claude-sim", max_tokens=50, messages=said("x"))

    assert type(of_openai.value) is Stopped
    assert isinstance(of_anthropic.value, anthropic.AnthropicError)
    assert (of_openai.value.kind, of_anthropic.value.kind, box.stats["requests"]) == ("budget", "budget", 0)
    rebuilt, arguments = of_anthropic.value.__reduce__()[:2]  # type: ignore[misc]  # as pickle would
    assert type(rebuilt(*arguments)) is Stopped  # type: ignore[operator]  # the same


async def test_a_spent_budget_of_the_client_comes_through_the_sdk(box: Box) -> None:
    """Where there is no scope, and nobody awaits, whole or streamed."""
    async with FanOut("sim/gpt-sim", base_url=box.url, token_budget=10) as fan:
        client = openai.OpenAI(base_url=box.url, api_key="sim", http_client=httpx2.Client(transport=Transport(fan)))
        for stream in (False, True):
            with pytest.raises(Stopped, match="budget of the client"):
                client.chat.completions.create(model="gpt-sim", messages=said("x"), stream=stream)  # type: ignore[call-overload]  # a bool


def test_a_stream_that_breaks_off_says_so_where_nobody_awaits(box: Box) -> None:
    """With the library's own error, as the SDK knows it."""
    fan = FanOut("sim/gpt-sim", base_url=box.url)
    client = openai.OpenAI(base_url=box.url, api_key="sim", http_client=httpx2.Client(transport=Transport(fan)))
    stream = client.chat.completions.create(model="gpt-sim", messages=said(f"[[fault:cut]] {LONG}"), stream=True)

    with pytest.raises(openai.APIConnectionError):
        list(stream)


async def test_a_scope_that_has_ended_stops_its_calls(fan: FanOut) -> None:
    """One that is under way when it is left, and one that is made afterwards in its context."""
    client = fan.openai()
    async with fan.scope("a"):
        slow = asyncio.ensure_future(
            client.chat.completions.create(model="gpt-sim", messages=said("[[latency:30]]"), stream=True)
        )
        while not fan.summary.in_flight:
            await asyncio.sleep(0.005)
        late = asyncio.ensure_future(after(slow, chat, client))

    for task in (slow, late):
        with pytest.raises(Stopped, match="scope 'a' has ended"):
            await task


async def after(task: asyncio.Future[Any], ask: Callable[[Any], Any], client: Any) -> None:
    await asyncio.wait([task])
    await ask(client)


async def test_a_bad_key_is_the_sdks_own_error(box: Box) -> None:
    """The provider's 401 as it came, and nothing is tried again."""
    with Box(SimConfig(api_key="right")) as closed:
        async with FanOut("sim/gpt-sim", base_url=closed.url, api_key="wrong-key-of-a-test") as fan:
            with pytest.raises(openai.AuthenticationError):
                await chat(fan.openai())

        assert closed.stats["requests"] == 1


async def test_a_call_that_fits_no_minute_is_refused_here(box: Box) -> None:
    """413 in the shape of the API's errors, without a request."""
    async with FanOut("sim/gpt-sim", base_url=box.url, limits=Limits(tpm=100)) as fan:
        with pytest.raises(openai.APIStatusError) as raised:
            await fan.openai().chat.completions.create(model="gpt-sim", messages=said("x"), max_tokens=1_000)

    assert (raised.value.status_code, raised.value.code, box.stats["requests"]) == (413, "too_large", 0)
    assert "more than passes in a minute" in str(raised.value)


async def test_a_timeout_is_an_error_of_the_api(fan: FanOut, box: Box) -> None:
    """504 and what happened, for OpenAI and for Anthropic, once the client's own patience is over; one request each."""
    with pytest.raises(openai.InternalServerError, match="504") as of_openai:
        await fan.openai().chat.completions.create(model="gpt-sim", messages=said("[[fault:hang]]"), timeout=0.1)
    claude = anthropic.AsyncAnthropic(
        base_url=box.url.removesuffix("/v1"), api_key="sim", http_client=fan.http_client(), timeout=0.1
    )
    with pytest.raises(anthropic.InternalServerError) as of_anthropic:
        await claude.messages.create(model="claude-sim", max_tokens=5, messages=said("[[fault:hang]]"))

    body: Any = of_anthropic.value.body
    assert of_openai.value.response.headers["x-should-retry"] == "false"
    assert (of_anthropic.value.status_code, body["type"], body["error"]["type"]) == (504, "error", "timeout")
    assert box.stats["requests"] == 2


async def test_nobody_there_is_an_error_of_the_api() -> None:
    """503 and what happened, where no connection can be had."""
    async with FanOut("sim/gpt-sim", base_url="http://127.0.0.1:9/v1", max_retries=0) as fan:
        with pytest.raises(openai.InternalServerError, match=r"503.*ClientConnectorError"):
            await chat(fan.openai())


@pytest.fixture
def endless() -> Iterator[Box]:
    """A provider whose streams begin at once, and take a long time."""
    with Box(SimConfig(latency=60, ttft=0.01, jitter=0.0)) as box:
        yield box


SHORT = f"[[latency:0.02]] {LONG}"


async def test_a_stream_that_is_closed_early_is_cancelled(endless: Box) -> None:
    """At the provider, and its slot is free at once."""
    async with FanOut("sim/gpt-sim", base_url=endless.url, limits=Limits(max_concurrency=1)) as fan:
        client = fan.openai()
        stream = await client.chat.completions.create(model="gpt-sim", messages=said(LONG), stream=True)
        async for _ in stream:
            break
        await stream.close()
        in_flight = fan.summary.in_flight
        await client.chat.completions.create(model="gpt-sim", messages=said(SHORT))

        assert (in_flight, fan.summary.succeeded, fan.summary.errors) == (0, 1, {"cancelled": 1})
        while endless.stats["in_flight"]:  # it has noticed
            await asyncio.sleep(0.005)


async def collected(fan: FanOut) -> None:
    """What nobody has any more is gone, as soon as the frames that had it are."""
    while fan.summary.in_flight:
        gc.collect()
        await asyncio.sleep(0.005)


async def test_a_stream_that_is_forgotten_is_cancelled(endless: Box) -> None:
    """Nobody has closed it; once it is collected its slot is free. So it is where nobody awaits."""
    async with FanOut("sim/gpt-sim", base_url=endless.url, limits=Limits(max_concurrency=1)) as fan:
        prompt = said(LONG)
        await fan.openai().chat.completions.create(model="gpt-sim", messages=prompt, stream=True)
        await collected(fan)
        sync = openai.OpenAI(base_url=endless.url, api_key="sim", http_client=httpx2.Client(transport=Transport(fan)))
        await asyncio.to_thread(sync.chat.completions.create, model="gpt-sim", messages=prompt, stream=True)
        await collected(fan)
        await fan.openai().chat.completions.create(model="gpt-sim", messages=said(SHORT))

        assert (fan.summary.succeeded, fan.summary.errors) == (1, {"cancelled": 2})


async def test_a_slow_reader_holds_no_slot(box: Box) -> None:
    """A stream that nobody reads is taken from the wire all the same; it can be read later."""
    async with FanOut("sim/gpt-sim", base_url=box.url, limits=Limits(max_concurrency=1)) as fan:
        client = fan.openai()
        stream = await client.chat.completions.create(model="gpt-sim", messages=said(LONG), stream=True)
        await chat(client)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert text.endswith("twelve")


async def test_a_call_that_is_cancelled_leaves_nothing(box: Box) -> None:
    """Neither whole nor streamed: its clean-up is done when the cancellation is."""
    async with FanOut("sim/gpt-sim", base_url=box.url) as fan:
        client = fan.openai()
        for stream in (False, True):
            call = client.chat.completions.create(model="gpt-sim", messages=said("[[latency:30]]"), stream=stream)  # type: ignore[call-overload]  # a bool
            task = asyncio.ensure_future(consume(call))
            while not fan.summary.in_flight:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

            assert fan.summary.in_flight == 0
        assert fan.summary.errors == {"cancelled": 2}


async def test_calls_cancelled_anywhere_leave_nothing(box: Box) -> None:
    """At random points, whole and streamed: no slot, no task and no connection stays behind."""
    draw = random.Random(8)
    before = asyncio.all_tasks()
    async with FanOut("sim/gpt-sim", base_url=box.url, limits=Limits(max_concurrency=8)) as fan:
        client = fan.openai()

        async def once(ask: Callable[[Any], Any]) -> None:
            task = asyncio.ensure_future(ask(client))
            await asyncio.sleep(draw.uniform(0, 0.06))
            task.cancel()
            await asyncio.wait([task])

        await asyncio.gather(*(once(draw.choice([chat, chat_streamed])) for _ in range(120)))
        in_flight = fan.summary.in_flight
        await asyncio.gather(*(chat(client) for _ in range(16)))

    assert (in_flight, fan.summary.in_flight) == (0, 0)
    assert asyncio.all_tasks() == before
    while box.stats["in_flight"]:
        await asyncio.sleep(0.005)


def test_a_client_works_in_any_event_loop(box: Box) -> None:
    """In one loop after another, which each are closed; calls that are none of ours, too."""
    fan = FanOut("sim/gpt-sim", base_url=box.url)
    client = fan.openai()

    async def use() -> int:
        return len(await chat(client) + await models(client))

    assert [in_thread(lambda: asyncio.run(use())) for _ in range(2)] == [2, 2]


def test_an_interrupt_cancels_what_somebody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was under way on the background loop ends."""
    over = threading.Event()

    async def forever() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            over.set()

    def interrupted(future: Any, timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("concurrent.futures.Future.result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            wait_for(forever())

    assert over.wait(10)


def test_the_background_loop_does_not_wait_for_itself() -> None:
    """Whoever would wait for ever on it is told so."""

    async def nested() -> None:
        wait_for(asyncio.sleep(0))

    with pytest.raises(ConfigError, match="use the async client here"):
        wait_for(nested())


async def test_a_journal_gives_answers_again(fan: FanOut, box: Box, tmp_path: Any) -> None:
    """Byte for byte, those that were read whole; a stream is asked again."""
    client = fan.openai()
    answers = []
    for _ in range(2):
        async with fan.scope("a", journal=tmp_path / "a.db"):
            answers.append((await client.chat.completions.create(model="gpt-sim", messages=said("x"))).to_json())
            await chat_streamed(client)

    assert answers[0] == answers[1]
    assert box.stats["requests"] == 3


Bodies = list[dict[str, Any]]


@pytest.fixture
async def echo() -> AsyncIterator[tuple[str, Bodies, list[Any]]]:
    """A server that notes bodies and headers, and answers, compressed and with two cookies, in the words of Chat."""
    bodies: Bodies = []
    headers: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        headers.append(request.headers)
        response = web.json_response(completion("é" * 50), headers={"X-Should-Retry": "true"})
        response.headers.extend({"X-Two": "1"})
        response.headers.add("X-Two", "2")
        response.enable_compression()
        return response

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    async with served(app) as port:
        yield f"http://127.0.0.1:{port}/v1", bodies, headers


async def test_what_is_sent_and_answered_stays_as_it_is(echo: tuple[str, Bodies, list[Any]]) -> None:
    """Body and headers of the SDK go as they are; headers come back, all of one name, without those of the wire."""
    url, bodies, headers = echo
    async with FanOut("openai/gpt-5", base_url=url, api_key="key-of-a-test") as fan:
        client = fan.openai().with_options(default_headers={"X-Own": "own"})
        raw = await client.chat.completions.with_raw_response.create(
            model="gpt-5", messages=said("hé"), extra_body={"odd": [1, {"b": None}]}
        )

    assert bodies == [{"model": "gpt-5", "messages": said("hé"), "odd": [1, {"b": None}]}]
    assert (headers[0]["Authorization"], headers[0]["X-Own"]) == ("Bearer key-of-a-test", "own")
    assert "x-stainless-lang" in headers[0]
    assert raw.headers.get_list("x-two") == ["1", "2"]
    assert raw.headers.get_list("x-should-retry") == ["false"]
    assert raw.parse().choices[0].message.content == "é" * 50


@pytest.mark.parametrize(
    ("model", "field"), [("gpt-5", "max_completion_tokens"), ("gpt-4o", "max_tokens")]
)  # fmt: skip
async def test_a_budget_bounds_answers(echo: tuple[str, Bodies, list[Any]], model: str, field: str) -> None:
    """An SDK that does not say how long one may be asks for as much as the budget allows; one that does, for that."""
    url, bodies, _ = echo
    endpoint = Endpoint(f"openai/{model}", base_url=url, api_key="key-of-a-test")
    async with FanOut(endpoint, token_budget=4_000) as fan:
        client = fan.openai()
        await client.chat.completions.create(model=model, messages=said("x"))
        await client.chat.completions.create(model=model, messages=said("x"), max_tokens=50)

    assert 1_000 < bodies[0][field] < 4_000
    assert bodies[1]["max_tokens"] == 50


async def test_a_budget_in_dollars_needs_a_price(fan: FanOut) -> None:
    """A model without one is a wrong argument, and says so through the SDK."""
    async with fan.scope("a", budget=1.0):
        with pytest.raises(ConfigError, match="no price for 'sim/gpt-sim'"):
            await chat(fan.openai())


async def mine(request: Request) -> str:
    return "yes"


def test_who_speaks_another_api_is_told_so() -> None:
    """Anthropic's, or a function of the user's, is no place for a client of OpenAI's."""
    claude = FanOut("anthropic/claude-haiku-4-5", api_key="k")
    ready = anthropic.AsyncAnthropic(api_key="k")
    for fan in (claude, FanOut(Endpoint("mine/x", provider=mine)), FanOut(Endpoint("anthropic/x", client=ready))):
        with pytest.raises(ConfigError, match=r"pass fan.http_client\(\)"):
            fan.openai()


async def test_a_ready_client_keeps_its_ways(box: Box) -> None:
    """What is set in it (Azure's address, say) holds; its calls and those of the endpoint share a quota."""
    ready = openai.AsyncOpenAI(base_url=box.url, api_key="k", default_query={"api-version": "1"})
    endpoint = Endpoint("openai/gpt-sim", client=ready, limits=Limits(max_concurrency=1))
    async with ready, FanOut(endpoint) as fan:
        client = fan.openai()
        await asyncio.gather(chat(client), chat(client), consume(fan.map(["x"])))

    assert client.default_query == {"api-version": "1"}
    assert box.stats["peak_in_flight"] == 1


async def test_a_key_that_changes_is_asked_for(echo: tuple[str, Bodies, list[Any]]) -> None:
    """By the SDK, before each call; the quota is the endpoint's all the same."""
    url, _, headers = echo
    keys = iter(["first-key", "second-key"])

    async def key() -> str:
        return next(keys)

    endpoint = Endpoint("openai/gpt-5", base_url=url, api_key=key, quota="mine")
    async with FanOut(endpoint) as fan:
        client = fan.openai()
        for _ in range(2):
            await client.chat.completions.create(model="gpt-5", messages=said("x"))

        assert [each["Authorization"] for each in headers] == ["Bearer first-key", "Bearer second-key"]
        assert set(fan.limits) == {"mine"}


async def test_what_is_openais_goes_to_openai_only(
    echo: tuple[str, Bodies, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headers from the environment, which may hold secrets, are not sent to another provider."""
    monkeypatch.setenv("OPENAI_ORG_ID", "org")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: s")
    url, _, headers = echo
    for model in ("gemini/x", "openai/x"):
        async with FanOut(model, base_url=url, api_key="key-of-a-test") as fan:
            await fan.openai().chat.completions.create(model="x", messages=said("x"))

    assert [("OpenAI-Organization" in each, "X-Secret" in each) for each in headers] == [(False, False), (True, True)]


async def test_a_socks_proxy_is_not_for_the_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wire does not speak to one, and the call says so."""
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    async with FanOut("openai/x", base_url="http://example.invalid/v1", api_key="k") as fan:
        with pytest.raises(ConfigError, match="behind a SOCKS proxy"):
            await fan.openai().chat.completions.create(model="x", messages=said("x"))
