"""The client against the provider in a box: real sockets, real bytes."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import re
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import httpx
import httpx2
import pytest
import respx
from openai import AsyncOpenAI
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion
from support import completion, consume, in_thread

from llm_fanout import (
    ConfigError,
    Endpoint,
    FanOut,
    Limits,
    Prompt,
    Rejected,
    Result,
    Summary,
    Unavailable,
    fan_out,
    fan_out_sync,
)
from llm_fanout.quotas import quotas
from llm_fanout.sim import Box, SimConfig

FAST = SimConfig(latency=0.01, jitter=0.0, answer_tokens=10)


@pytest.fixture
def box() -> Iterator[Box]:
    """A quick provider without limits or faults."""
    with Box(FAST) as box:
        yield box


@pytest.fixture
async def fan(box: Box) -> AsyncIterator[FanOut]:
    """A client of that provider."""
    async with FanOut("sim/gpt-sim", base_url=box.url) as fan:
        yield fan


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without delay: every draw of the jitter is zero."""
    monkeypatch.setattr(quotas.engine._schedule, "_random", lambda: 0.0)


async def test_every_prompt_gets_its_answer_in_order(fan: FanOut, box: Box) -> None:
    """A hundred prompts and more: one Result each, in input order, each asked once."""
    prompts = [f"[[answer:number {number}]]" for number in range(150)]

    report = await fan.map(prompts)

    assert report.values == [f"number {number}" for number in range(150)]
    assert box.stats["requests"] == 150
    assert report.summary.usage.output_tokens > 0
    assert fan.summary.succeeded == 150


async def test_a_result_knows_its_reply(fan: FanOut, box: Box) -> None:
    """Model, endpoint, usage, finish reason, the SDK's own object, tag and prompt: all from one Result."""
    prompt = Prompt("[[answer:yes]]", id="q1", tag={"any": "thing"})

    result = (await fan.map([prompt]))[0]

    assert (result.id, result.tag, result.prompt) == ("q1", {"any": "thing"}, prompt)
    assert (result.model, result.endpoint, result.attempts) == ("sim/gpt-sim", box.url, 1)
    assert result.finish_reason == "stop"
    assert isinstance(result.response, ChatCompletion)
    assert result.response.choices[0].message.content == result.text == result.value == "yes"
    assert result.cost is None
    assert result.latency >= result.service_time > 0


async def test_call_asks_once(fan: FanOut) -> None:
    """`call` is one prompt, one Result; messages are a prompt, too."""
    result = await fan.call([{"role": "user", "content": "[[answer:hello]]"}])

    assert result.value == "hello"


async def test_instructions_and_parameters_are_sent(box: Box) -> None:
    """`instructions` come first as a system message; parameters of client, run and prompt add up, the nearest wins."""
    seen: list[Any] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        import json

        seen.append(json.loads(request.content))
        return httpx2.Response(200, json=completion("ok"))

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as http:
        client = AsyncOpenAI(api_key="sk-test-key", base_url="https://mock.example/v1", http_client=http)
        fan = FanOut(Endpoint("openai/gpt-x", client=client), instructions="Be brief.", temperature=0.1, seed=1)
        await fan.map(["one", Prompt("two", temperature=0.9)], seed=2, max_tokens=50)

    seen.sort(key=lambda body: body["messages"][1]["content"])
    assert [body["messages"][0] for body in seen] == [{"role": "system", "content": "Be brief."}] * 2
    assert [(body["temperature"], body["seed"], body["max_tokens"]) for body in seen] == [(0.1, 2, 50), (0.9, 2, 50)]
    assert {body["model"] for body in seen} == {"gpt-x"}


@respx.mock
async def test_a_ready_client_over_httpx() -> None:
    """A client that is passed in over an httpx.AsyncClient works, its own retries are off, ours are on."""
    route = respx.post("https://mock.example/v1/chat/completions")
    route.side_effect = [
        httpx.Response(500, json={"error": {"message": "oops"}}),
        httpx.Response(
            429, headers={"retry-after-ms": "1"}, json={"error": {"message": "slow", "code": "rate_limit_exceeded"}}
        ),
        httpx.Response(200, json=completion("third time")),
    ]

    async with httpx.AsyncClient() as http:
        client = AsyncOpenAI(api_key="sk-test-key", base_url="https://mock.example/v1", http_client=cast("Any", http))
        async with FanOut(Endpoint("openai/gpt-x", client=client)) as fan:
            result = await fan.call("hi")

    assert result.value == "third time"
    assert result.attempts == 3
    assert {call.request.headers["x-stainless-retry-count"] for call in route.calls} == {"0"}


@pytest.mark.parametrize(
    ("fault", "kind", "error", "attempts"),
    [
        ("400", "invalid", Rejected, 1),
        ("401", "auth", Rejected, 1),
        ("404", "invalid", Rejected, 1),
        ("insufficient_quota", "credit", Rejected, 1),
        ("500", "server", Unavailable, 3),
        ("502", "server", Unavailable, 3),
        ("hang", "timeout", Unavailable, 3),
        ("reset", "connection", Unavailable, 3),
    ],
)
async def test_kinds_survive_as_data(
    box: Box, monkeypatch: pytest.MonkeyPatch, fault: str, kind: str, error: type[Exception], attempts: int
) -> None:
    """Each fault ends as its kind after as many attempts as it deserves; the others of the run are not touched."""
    quick(monkeypatch)

    async with FanOut("sim/x", base_url=box.url, timeout=0.3, max_retries=2) as fan:
        report = await fan.map([f"[[fault:{fault}]]", "fine"])

    assert isinstance(report[0].error, error)
    assert report[0].error.kind == kind
    assert report[0].attempts == attempts
    assert report[1].ok


@pytest.mark.parametrize("fault", ["malformed", "empty", "truncated", "error200"])
async def test_answers_that_cannot_be_used_are_never_a_success(
    box: Box, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """A 200 with a cut body, no choices, no finish reason or an error object is tried again, and then a BadReply."""
    quick(monkeypatch)

    async with FanOut("sim/x", base_url=box.url) as fan:
        result = await fan.call(f"[[fault:{fault}]]")

    assert result.error is not None
    assert result.error.kind == ("malformed" if fault == "error200" else fault)
    assert result.attempts == 3
    assert bool(result.text) is (fault == "truncated")


async def test_quota_is_obeyed_and_used() -> None:
    """Told the provider's rpm with a smaller burst, it is never refused, and at least 95 % of the quota is used."""
    with Box(SimConfig(rpm=1_200, burst=30, latency=0.2, jitter=0)) as box:
        async with FanOut("sim/x", base_url=box.url, limits=Limits(rpm=1_200, burst=20)) as fan:
            summary = (await fan.map([f"prompt {number}" for number in range(120)])).summary

        assert box.stats["refused"] == 0
        assert box.stats["requests"] == 120
    assert (120 - 20) / 20 / (summary.elapsed - 0.2) >= 0.95
    assert summary.binding == "requests"


async def test_tokens_are_reserved_and_settled() -> None:
    """Told the provider's tpm, with `max_tokens` four times the answers, it is not refused, and gets refunds in time."""
    with Box(SimConfig(tpm=240_000, latency=0.2, jitter=0, answer_tokens=50)) as box:
        async with FanOut("sim/x", base_url=box.url, limits=Limits(tpm=240_000), max_tokens=200) as fan:
            prompts = ["some words to read " * (10 + number % 40) for number in range(100)]
            summary = (await fan.map(prompts)).summary

        assert box.stats["refused"] == 0
    used = summary.usage.input_tokens + summary.usage.output_tokens
    assert summary.succeeded == 100
    assert used / 4_000 / summary.elapsed >= 0.80  # of the true rate; reserved without refunds it would be about a third
    assert summary.binding == "tokens"


async def test_a_call_above_the_whole_quota_fails_at_once(box: Box) -> None:
    """More tokens than pass in a minute can never start: that call is told, the others go on."""
    async with FanOut("sim/too-large", base_url=box.url, limits=Limits(tpm=1_000)) as fan:
        report = await fan.map(["word " * 2_000, "fine"], max_tokens=20)

    assert isinstance(report[0].error, Rejected)
    assert report[0].error.kind == "too_large"
    assert report[0].attempts == 0
    assert report[1].ok


async def test_a_refusal_holds_everybody_of_that_quota() -> None:
    """One refusal that names a wait: until it is over nobody on the quota asks, retries included, and nothing is lost."""
    asked: list[float] = []

    def refuse_the_third(request: httpx2.Request) -> httpx2.Response:
        asked.append(time.monotonic())
        if len(asked) == 3:
            return httpx2.Response(429, headers={"retry-after-ms": "400"}, json={"error": {"message": "slow down"}})
        return httpx2.Response(200, json=completion("ok"))

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(refuse_the_third)) as http:
        client = AsyncOpenAI(api_key="sk-gate-test", base_url="https://mock.example/v1", http_client=http)
        endpoint = Endpoint("openai/gpt-gate", client=client, limits=Limits(max_concurrency=1))
        async with FanOut(endpoint) as fan:
            report = await fan.map([f"prompt {number}" for number in range(8)])

    assert report.summary.succeeded == 8
    assert len(asked) == 9
    assert asked[3] - asked[2] >= 0.4
    assert report.summary.binding == "gate"


async def test_untold_limits_are_survived() -> None:
    """A quota that nobody told us: refusals say when to come back, fewer go at once, every answer comes exactly once."""
    with Box(SimConfig(rpm=1_200, burst=10, latency=0.2, jitter=0)) as box:
        async with FanOut("sim/untold", base_url=box.url) as fan:
            report = await fan.map([f"prompt {number}" for number in range(120)])

        stats = box.stats
    assert report.summary.succeeded == stats["answered"] == 120
    assert stats["answered_twice"] == 0
    assert stats["refused"] <= 4 * 120  # released together after each refusal, a hundred callers cost fifty times as much


async def test_prompts_may_name_other_models(box: Box) -> None:
    """A prompt's model goes its own way, and a run's model does for all of it."""
    other = Endpoint("sim/other", base_url=box.url)

    async with FanOut("sim/one", base_url=box.url) as fan:
        mixed = await fan.map(["a", Prompt("b", model=other)])
        moved = await fan.map(["a"], model=other)

    assert [result.model for result in mixed] == ["sim/one", "sim/other"]
    assert moved[0].model == "sim/other"


async def test_cancelled_calls_leave_no_socket_slot_or_task(box: Box) -> None:
    """10,000 calls cancelled at random moments leave nothing: the server is left, and the next ten calls succeed."""
    draw = random.Random(11)
    cancelled = 0
    async with FanOut("sim/x", base_url=box.url, limits=Limits(max_concurrency=30)) as fan:
        while cancelled < 10_000:
            run = fan.map(["[[latency:30]]", "quick"] * 100)
            task = asyncio.ensure_future(consume(run))
            await asyncio.sleep(draw.random() * 0.05)
            task.cancel()
            await asyncio.wait([task])
            cancelled += run.report.summary.errors["cancelled"]
        before = len(asyncio.all_tasks())
        report = await fan.map([f"[[answer:{number}]]" for number in range(10)])
        assert report.summary.succeeded == 10
    async with asyncio.timeout(30):
        while box.stats["in_flight"]:
            await asyncio.sleep(0.01)

    assert before == 1
    assert fan._runs.wire._sessions._open == {}


def test_three_event_loops_in_a_row_and_no_warning(box: Box) -> None:
    """One client in three `asyncio.run` calls, never closed: everything succeeds and nothing is left open."""

    def use() -> list[str]:
        fan = FanOut("sim/x", base_url=box.url)

        async def once(name: str) -> str:
            return (await fan.map([f"[[answer:{name}]]"]))[0].value

        return [asyncio.run(once(name)) for name in "abc"]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = in_thread(use)
        gc.collect()

    assert values == ["a", "b", "c"]


def test_two_threads_obey_one_quota() -> None:
    """One client used from two threads at once: together they keep to its limits."""
    with Box(SimConfig(rpm=1_200, burst=15, latency=0.02, jitter=0)) as box:
        fan = FanOut("sim/x", base_url=box.url, limits=Limits(rpm=1_200, burst=10, max_concurrency=3))

        async def many(name: str) -> int:
            report = await fan.map([f"{name} {number}" for number in range(30)])
            return report.summary.succeeded

        done: list[int] = []
        threads = [threading.Thread(target=lambda name=name: done.append(asyncio.run(many(name)))) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stats = box.stats

    assert done == [30, 30]
    assert stats["refused"] == 0
    assert stats["peak_in_flight"] <= 3


async def test_sync_inside_a_running_loop(box: Box) -> None:
    """`fan_out_sync` works in a cell whose loop is running, again and again, and from several threads."""
    endpoint = Endpoint("sim/x", base_url=box.url)

    first = fan_out_sync(["[[answer:1]]"], model=endpoint)
    second = fan_out_sync(["[[answer:2]]"], model=endpoint)
    third = await asyncio.gather(*(asyncio.to_thread(fan_out_sync, [f"[[answer:{n}]]"], model=endpoint) for n in range(5)))

    assert first.values + second.values == ["1", "2"]
    assert [report.values for report in third] == [["0"], ["1"], ["2"], ["3"], ["4"]]


async def test_the_embedded_provider_starts_by_itself() -> None:
    """`sim/...` needs no server, no key and no network, and says that it is simulated."""
    report = await fan_out(["Are you real? [[latency:0]]"], model="sim/demo", max_tokens=30)

    assert report.values[0].startswith("[simulated answer]")


async def test_fan_out_closes_its_client(box: Box) -> None:
    """The client behind `fan_out` is closed when its run has ended, awaited or iterated."""
    endpoint = Endpoint("sim/closing", base_url=box.url)

    await fan_out(["a"], model=endpoint)
    async for _ in fan_out(["a"], model=endpoint):
        pass
    gc.collect()

    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_closing_the_client_cancels_its_runs(box: Box) -> None:
    """Leaving `async with` ends what is under way; a closed client may be used again."""
    async with FanOut("sim/x", base_url=box.url) as fan:
        task = asyncio.ensure_future(consume(fan.map(["[[latency:60]]"] * 3)))
        await asyncio.sleep(0.05)
    report = await task
    again = await fan.call("[[answer:again]]")
    await fan.aclose()

    assert [result.error.kind for result in report if result.error] == ["cancelled"] * 3
    assert again.value == "again"


async def test_closing_here_leaves_other_loops_alone(box: Box) -> None:
    """What runs on another event loop is that loop's business."""
    fan = FanOut("sim/x", base_url=box.url)

    async def elsewhere() -> str:
        return (await fan.map(["[[answer:untouched]] [[latency:0.3]]"]))[0].value

    other = asyncio.ensure_future(asyncio.to_thread(lambda: asyncio.run(elsewhere())))
    while not box.stats["in_flight"]:
        await asyncio.sleep(0.005)
    await fan.aclose()

    assert await other == "untouched"


async def test_a_client_that_is_collected_closes_its_connections(box: Box) -> None:
    """In a notebook a client is often just replaced: its connections are closed then, without a warning."""
    fan = FanOut("sim/x", base_url=box.url)
    await fan.call("hello")
    connector = (await fan._runs.wire._sessions.here()).pool

    del fan
    gc.collect()
    async with asyncio.timeout(30):
        while not connector.closed:
            await asyncio.sleep(0)

    assert connector.closed


def test_progress_and_total_reach_the_run(box: Box) -> None:
    """`progress` is told of every stage, with the total that the caller knows."""
    told: list[Summary] = []

    report = fan_out_sync(iter(["a", "b"]), model=Endpoint("sim/x", base_url=box.url), progress=told.append, total=2)

    assert len(report) == 2
    assert {summary.total for summary in told} == {2}


async def test_bad_rows_of_a_generator_cost_themselves(fan: FanOut) -> None:
    """In a source without a length, a row that is no prompt and an id that was there fail; the others are answered."""
    rows: Iterator[Any] = iter(["fine", 42, Prompt("a", id="x"), Prompt("b", id="x"), [], [{"content": "no role"}]])

    report = await fan.map(rows)

    assert [result.ok for result in report] == [True, False, True, False, False, False]
    assert {result.error.kind for result in report if result.error} == {"invalid"}
    assert report[3].id == "x"


@pytest.mark.parametrize(
    ("prompts", "match"),
    [
        ("one prompt", "fan.call"),
        (Prompt("one prompt"), "fan.call"),
        (42, "list"),
        ({"a": "b"}, "dict"),
        ([{"role": "user", "content": "x"}], "one message"),
        (["fine", 42], "prompt 1"),
        ([Prompt("a", id=1), Prompt("b", id=1)], "the id 1 is there twice"),
    ],
)
def test_mistaken_sources_are_refused_before_anything_is_sent(box: Box, prompts: Any, match: str) -> None:
    """What is surely a mistake is a ConfigError of the `map` call itself."""
    fan = FanOut("sim/x", base_url=box.url)

    with pytest.raises(ConfigError, match=match):
        fan.map(prompts)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"model": "gpt-5"}, "names no provider"),
        ({"model": "acme/gpt"}, "not known"),
        ({"model": 5}, "must be"),
        ({"model": "sim/x", "limits": 100}, "limits must be"),
        ({"model": "sim/x", "temprature": 0}, "did you mean temperature"),
        ({"model": "sim/x", "timeout": -1}, "timeout"),
        ({"model": "sim/x", "n": 3}, "ask once per answer"),
        ({"model": Endpoint("sim/x"), "base_url": "http://127.0.0.1:1"}, "say them there"),
    ],
)
def test_mistaken_clients_are_refused(arguments: dict[str, Any], match: str) -> None:
    """A client that cannot work says why when it is made."""
    with pytest.raises(ConfigError, match=match):
        FanOut(**arguments)


async def test_the_key_appears_nowhere(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A server that quotes the key in its refusal: it is in no message, repr, row, pickle or log."""
    import logging
    import pickle

    key = "sk-canary-1234567890"

    def quote(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(401, json={"error": {"message": f"bad key {request.headers['authorization']}"}})

    caplog.set_level(logging.DEBUG)
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(quote)) as http:
        client = AsyncOpenAI(api_key=key, base_url="https://mock.example/v1", http_client=http)
        endpoint = Endpoint("openai/gpt-x", client=client)
        report = await FanOut(endpoint).map(["hi"])
    result: Result[str] = report[0]
    everything = [repr(endpoint), repr(result), str(result.to_dict()), str(report), report._repr_html_(), caplog.text]

    assert result.error is not None
    assert "bad key Bearer ***" in result.error.message
    assert not [text for text in everything if key in text]
    assert key.encode() not in pickle.dumps(result.error)
    assert result.error.__cause__ is None


async def test_a_dead_server_is_a_connection_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens: Unavailable of kind connection, tried again as often as asked."""
    quick(monkeypatch)
    with Box(FAST) as box:
        url = box.url

    async with FanOut("sim/x", base_url=url, max_retries=1) as fan:
        result = await fan.call("hello?")

    assert result.error is not None
    assert (result.error.kind, result.attempts) == ("connection", 2)


async def test_a_call_gives_up_after_its_patience(box: Box) -> None:
    """`retry_for` bounds how long a call keeps trying, 429s included."""
    async with FanOut("sim/x", base_url=box.url, retry_for=0.2) as fan:
        begun = time.monotonic()
        result = await fan.call("[[fault:429]]")

    assert result.error is not None
    assert result.error.kind == "rate_limited"
    assert time.monotonic() - begun < 30


async def test_a_client_prints_its_model(fan: FanOut) -> None:
    """The model, and nothing that is secret."""
    assert repr(fan) == "<FanOut 'sim/gpt-sim'>"


async def test_vectors(box: Box) -> None:
    """One for every text, in order, as the SDK's object, too; what the client says of prompts is not for them."""
    async with FanOut("sim/embed", base_url=box.url, instructions="Be brief.", temperature=0.5, max_tokens=9) as fan:
        report = await fan.embed(["one", "two", "one"], extra_body={"dimensions": 8}, progress=False)

    assert [len(vector) for vector in report.values] == [8, 8, 8]
    assert report[0].value == report[2].value != report[1].value
    assert isinstance(report[0].response, CreateEmbeddingResponse)
    assert (report[0].text, report[0].usage.input_tokens > 0) == ("", True)
    assert report.to_dicts()[0]["value"] == report[0].value


async def test_what_has_no_vectors_says_so(box: Box) -> None:
    """Before anything is sent."""
    async with FanOut("anthropic/x", base_url=box.url, api_key="none") as fan:
        with pytest.raises(ConfigError, match="has no embeddings"):
            fan.embed(["one"])


async def test_a_model_is_a_name_or_an_endpoint(fan: FanOut) -> None:
    """Anything else is refused, or costs its row."""
    with pytest.raises(ConfigError, match="model must be"):
        fan.map(["a"], model=5)  # type: ignore[call-overload]  # the mistake under test
    report = await fan.map([Prompt("a", model=5), "b"], progress=False)  # type: ignore[arg-type]  # the mistake under test

    assert [result.error and result.error.kind for result in report] == ["invalid", None]


async def test_a_conversation_with_tools(box: Box) -> None:
    """A call, its result, an answer: by the SDK's own objects, and by dicts, over each API."""
    tools: Any = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
    for endpoint in (
        Endpoint("openai/x", base_url=box.url, api_key="none"),
        Endpoint("openai/x", base_url=box.url, api_key="none", api="responses"),
        Endpoint("anthropic/x", base_url=box.url.removesuffix("/v1"), api_key="none"),
    ):
        async with FanOut(endpoint) as fan:
            ask: list[Any] = [{"role": "user", "content": "What is 2 and 2?"}]
            asked = await fan.call(ask, tools=tools, tool_choice="required")
            (call,) = asked.tool_calls
            function = {"name": call.name, "arguments": call.raw}
            said = {"role": "assistant", "tool_calls": [{"id": call.id, "type": "function", "function": function}]}
            if endpoint.model == "openai/x" and endpoint.api == "chat":
                said = cast("ChatCompletion", asked.response).choices[0].message  # type: ignore[assignment]  # as it came
            result = {"role": "tool", "tool_call_id": call.id, "content": "4"}
            answer = await fan.call([*ask, said, result], tools=tools)

        assert (asked.finish_reason, call.name, answer.ok) == ("tool_calls", "add", True), answer


async def test_a_server_that_drops_kept_connections() -> None:
    """It closes each one after an answer, without saying so: whoever uses it next is asked again at once, none is lost."""
    met: set[bytes] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head.lower())[1])  # type: ignore[index]  # the client says it
        body = await reader.readexactly(length)
        if body in met or len(met) % 2:  # every other call meets a connection that is closed under it
            answer = json.dumps(completion("fine")).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
            await writer.drain()
        met.add(body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, FanOut("openai/x", base_url=f"http://{host}:{port}/v1", api_key="none") as fan:
        report = await fan.map([f"Number {number}" for number in range(200)], progress=False)

    assert report.summary.succeeded == 200
    assert max(result.attempts for result in report) <= 4
