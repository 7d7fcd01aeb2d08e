"""One try at a provider: whole answers, streams, functions; in virtual time where time matters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from support import Given, Simulate, answer_of, completion

from llm_fanout import BadReply, CallError, Endpoint, FanOut, RateLimited, Rejected, Unavailable
from llm_fanout.core.job import Cost, Outcome
from llm_fanout.core.retry import Again
from llm_fanout.llm import asking
from llm_fanout.llm.asking import LINGER, STREAM_SILENCE, FunctionProvider, HttpProvider
from llm_fanout.llm.endpoint import place_of
from llm_fanout.llm.heard import Heard
from llm_fanout.llm.lanes import WireLane
from llm_fanout.llm.times import Timeouts
from llm_fanout.providers import FORMATS, Reply, Request

REQUEST = Request("gpt-x", [{"role": "user", "content": "hello"}], stream=True)
SSE = {"content-type": "text/event-stream; charset=utf-8"}


def chunk(text: str = "", finish: str | None = None, **more: Any) -> bytes:
    """One event of a streamed chat completion."""
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    event = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
HELLO = [chunk("hel"), chunk("lo"), chunk(finish="stop"), DONE]


class FakeLane:
    """Gives one answer, and notes what was sent."""

    via = "wire"

    def __init__(self, answer: Given) -> None:
        self.answer = answer
        self.sent: list[Request] = []

    async def post(self, request: Request, timeouts: Timeouts) -> Given:
        self.sent.append(request)
        return self.answer


class Unused:
    """A wire that nothing is to be sent over."""

    async def send(self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts) -> Given:
        raise AssertionError("something was sent")


async def ask(answer: Given, heard: Heard | None = None, request: Request = REQUEST, **timeouts: Any) -> Outcome:
    provider = HttpProvider(FakeLane(answer), FORMATS["chat"])
    return await provider.ask(request, Timeouts(**timeouts), heard or Heard())


def kind_of(outcome: Outcome) -> str:
    return getattr(outcome.error, "kind", "")


def partial_of(outcome: Outcome) -> str:
    return getattr(outcome.error, "partial", "")


async def slowly(*steps: bytes | float) -> AsyncIterator[bytes]:
    """Chunks, and the seconds between them."""
    for step in steps:
        if isinstance(step, bytes):
            yield step
        else:
            await asyncio.sleep(step)


async def test_a_request_is_one_post() -> None:
    """It is sent once, as it is; the answer is read in the format's words, and its connection given back."""
    lane = FakeLane(answer_of(200, {}, json.dumps(completion("hi")).encode()))
    request = Request("gpt-x", [{"role": "user", "content": "hello"}], {"seed": 3})

    outcome = await HttpProvider(lane, FORMATS["chat"]).ask(request, Timeouts(), Heard())

    assert isinstance(outcome.value, Reply)
    assert (lane.sent, lane.answer.is_closed, outcome.value.text) == ([request], True, "hi")


async def test_what_an_api_cannot_take_is_not_sent() -> None:
    """It costs the call, and names the parameter."""
    form = FORMATS["messages"]
    lane = WireLane(Unused(), place_of(Endpoint("sim/x", base_url="http://127.0.0.1:1")), form)
    request = Request("m", [{"role": "user", "content": "x"}], {"seed": 1})

    outcome = await HttpProvider(lane, form).ask(request, Timeouts(), Heard())

    assert (kind_of(outcome), outcome.used) == ("invalid", Cost())
    assert "seed" in str(outcome.error)


async def test_a_stream_is_put_together() -> None:
    """Pieces as they come; in the end a Reply like that of a whole answer, with the SDK's own object behind it."""
    pieces: list[str] = []

    outcome = await ask(answer_of(200, SSE, *HELLO), Heard(pieces.append))

    assert pieces == ["hel", "lo"]
    assert isinstance(outcome.value, Reply)
    assert (outcome.error, outcome.value.text, outcome.value.finish_reason) == (None, "hello", "stop")
    assert FORMATS["chat"].response(outcome.value.raw).choices[0].message.content == "hello"  # type: ignore[attr-defined]


async def test_a_stream_may_be_named_in_capitals() -> None:
    """A media type is the same in whatever case (RFC 9110, 8.3.1)."""
    outcome = await ask(answer_of(200, {"content-type": "Text/Event-Stream"}, *HELLO))

    assert isinstance(outcome.value, Reply)
    assert outcome.value.text == "hello"


async def test_a_server_may_answer_as_a_whole() -> None:
    """Asked for a stream, some do not: the answer is as good, and nothing is known of when it came."""
    heard = Heard()

    outcome = await ask(answer_of(200, {"content-type": "application/json"}, json.dumps(completion("hi")).encode()), heard)

    assert (outcome.error, heard.first) == (None, None)


@pytest.mark.parametrize(
    ("chunks", "kind", "again", "partial"),
    [
        ([chunk("hel")], "truncated", Again.BAD_REPLY, "hel"),
        ([chunk("hel"), DONE], "truncated", Again.BAD_REPLY, "hel"),
        ([DONE], "truncated", Again.BAD_REPLY, ""),
        ([], "truncated", Again.BAD_REPLY, ""),
        ([b": keep-alive\n\n"], "truncated", Again.BAD_REPLY, ""),
        ([chunk("hel"), b"data: {no json\n\n"], "truncated", Again.BAD_REPLY, "hel"),
        ([chunk("hel"), b"data: \xff\n\n"], "truncated", Again.BAD_REPLY, "hel"),
        ([chunk("hel"), b'data: {"error": {"message": "broken"}}\n\n'], "truncated", Again.BAD_REPLY, "hel"),
        ([b'data: {"error": {"code": "insufficient_quota"}}\n\n'], "credit", Again.NO, ""),
        ([chunk("hel"), chunk(finish="content_filter"), DONE], "filtered", Again.NO, "hel"),
    ],
)
async def test_a_stream_that_does_not_end_well(chunks: list[bytes], kind: str, again: Again, partial: str) -> None:
    """Only a finish reason makes it a success; what had come is kept."""
    outcome = await ask(answer_of(200, SSE, *chunks))

    assert (kind_of(outcome), outcome.again, partial_of(outcome)) == (kind, again, partial)


async def test_the_end_need_not_be_said_twice() -> None:
    """A finish reason is enough where a server leaves [DONE] out; what follows [DONE] is not read."""
    without = await ask(answer_of(200, SSE, *HELLO[:-1]))
    beyond = await ask(answer_of(200, SSE, *HELLO, b"data: {no json\n\n"))
    at_once = await ask(answer_of(200, SSE, b"".join([*HELLO, b"data: {no json\n\n"])))

    assert (without.error, beyond.error, at_once.error) == (None, None, None)


async def test_an_error_answer_to_a_stream_is_read_as_one() -> None:
    """Its status counts, whatever it calls its body."""
    outcome = await ask(answer_of(503, SSE, b'{"error": {"message": "down"}}'))

    assert kind_of(outcome) == "server"


def test_a_stream_that_stalls_ends(simulate: Simulate[Any]) -> None:
    """After a minute without a piece, or what the caller said; comments and pings do not count as life."""

    async def main() -> Any:
        loop, found = asyncio.get_running_loop(), []
        ping = [b": keep-alive\n\n", 20.0, b"event: ping\ndata: {}\n\n", 20.0] * 10
        for chunks, idle in (((chunk("hel"), 1e6), None), ((chunk("hel"), 1e6), 5.0), ((chunk("hel"), *ping), None)):
            begun = loop.time()
            outcome = await ask(Given(200, SSE, slowly(*chunks)), idle=idle)
            found.append((kind_of(outcome), outcome.shrink, partial_of(outcome), loop.time() - begun))
        return found

    assert simulate(main) == [
        ("timeout", True, "hel", STREAM_SILENCE),
        ("timeout", True, "hel", 5.0),
        ("timeout", True, "hel", STREAM_SILENCE),
    ]


def test_a_slow_stream_is_no_stalled_one(simulate: Simulate[Any]) -> None:
    """It may take for ever, as long as something comes once in a while."""

    async def main() -> Any:
        steps = [step for piece in HELLO for step in (50.0, piece)]
        heard = Heard()
        outcome = await ask(Given(200, SSE, slowly(*steps)), heard)
        return outcome.error, heard.first, list(heard.gaps)

    assert simulate(main) == (None, 50.0, [50.0])


def test_the_connection_may_end_a_little_later(simulate: Simulate[Any]) -> None:
    """The answer is there; its slot is held for a second more at the most, so that the connection can be used again."""

    async def main() -> Any:
        begun = asyncio.get_running_loop().time()
        outcome = await ask(Given(200, SSE, slowly(*HELLO, 1e6)))
        return outcome.error, asyncio.get_running_loop().time() - begun

    assert simulate(main) == (None, LINGER)


async def test_a_cut_connection_keeps_what_came() -> None:
    """Whatever the HTTP library raises in the middle."""

    async def chunks() -> AsyncIterator[bytes]:
        yield chunk("hel")
        raise ConnectionResetError("gone")

    outcome = await ask(Given(200, SSE, chunks()))

    assert (kind_of(outcome), partial_of(outcome)) == ("connection", "hel")


async def test_an_answer_that_ended_is_there_however_its_connection_ends() -> None:
    """It was paid for: a reset after [DONE] takes nothing away."""

    async def chunks() -> AsyncIterator[bytes]:
        for each in HELLO:
            yield each
        raise ConnectionResetError("gone")

    outcome = await ask(Given(200, SSE, chunks()))

    assert isinstance(outcome.value, Reply)
    assert (outcome.error, outcome.value.text) == (None, "hello")


async def test_a_stream_is_counted_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that never ends costs so many bytes, and keeps what came."""
    monkeypatch.setattr(asking, "REPLY_LIMIT", 10_000)
    taken = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield chunk("x" * 1000)

    outcome = await ask(Given(200, SSE, chunks()))

    assert "more than 10000 bytes" in str(outcome.error)
    assert (partial_of(outcome), taken) == ("x" * 8000, 9)


async def test_a_foreign_timeout_is_not_taken_for_a_stall() -> None:
    """The library's own is the table's to read."""

    async def chunks() -> AsyncIterator[bytes]:
        yield chunk("hel")
        raise TimeoutError("sock_read")

    outcome = await ask(Given(200, SSE, chunks()))

    assert "stalled" not in str(outcome.error)
    assert kind_of(outcome) == "timeout"


async def test_a_function_gives_text_or_a_reply() -> None:
    """Either is an answer; nothing and other things are not."""

    async def outcome_of(answer: Any) -> Outcome:
        async def function(request: Request) -> Any:
            return answer

        return await FunctionProvider(function).ask(REQUEST, Timeouts(), Heard())

    assert (await outcome_of("hi")).value == Reply("hi")
    assert (await outcome_of(Reply("hi", "length"))).value == Reply("hi", "length")
    assert kind_of(await outcome_of("")) == "empty"
    assert str((await outcome_of(42)).error).startswith("the provider's function gave int")


@pytest.mark.parametrize(
    ("raised", "kind", "again", "told"),
    [
        (RateLimited("slow", retry_after=3.0), "rate_limited", Again.PUSHBACK, 3.0),
        (Unavailable("down", kind="server"), "server", Again.TRANSIENT, None),
        (BadReply("odd", kind="malformed"), "malformed", Again.BAD_REPLY, None),
        (Rejected("no", kind="invalid"), "invalid", Again.NO, None),
        (TimeoutError("slow"), "timeout", Again.TRANSIENT, None),
        (ConnectionRefusedError("no"), "connection", Again.TRANSIENT, None),
        (ValueError("a fault of the code"), "exception", Again.NO, None),
    ],
)
async def test_what_a_function_raises_is_the_failure(raised: Exception, kind: str, again: Again, told: float | None) -> None:
    """An error of ours as it is, others by the table."""

    async def function(request: Request) -> str:
        raise raised

    outcome = await FunctionProvider(function).ask(REQUEST, Timeouts(), Heard())

    assert (kind_of(outcome), outcome.again, outcome.told) == (kind, again, told)
    assert not isinstance(raised, CallError) or outcome.error is raised


async def test_an_sdks_exception_says_what_was_answered() -> None:
    """A function may use an SDK: its status errors are read like answers."""

    class RateLimitError(Exception):
        response = SimpleNamespace(status_code=429, headers={"retry-after": "2"}, content=b"{}")

    async def function(request: Request) -> str:
        raise RateLimitError

    outcome = await FunctionProvider(function).ask(REQUEST, Timeouts(), Heard())

    assert (kind_of(outcome), outcome.told) == ("rate_limited", 2.0)


async def test_a_functions_reply_is_kept_as_it_is() -> None:
    """It may have bytes of whatever API it came from: nobody here knows how to read them."""

    async def function(request: Request) -> Reply:
        return FORMATS["chat"].read(json.dumps(completion("hi")).encode())

    async with FanOut(Endpoint("mine/x", provider=function)) as fan:
        result = await fan.call("x")

    assert (result.value, result.finish_reason, result.response) == ("hi", "stop", None)
    assert result.via == "function"


@pytest.mark.parametrize(
    ("function", "said"),
    [(lambda request: "text", "is not async: it returned str"), (lambda request: iter(["text"]), "is not async")],
)
async def test_a_function_has_to_be_async(function: Any, said: str) -> None:
    """What to do is said."""
    outcome = await FunctionProvider(function).ask(REQUEST, Timeouts(), Heard())

    assert said in str(outcome.error)
    assert "async def" in str(outcome.error)


async def test_an_http_librarys_exception_says_what_was_answered() -> None:
    """By its own status, or by a response that nobody has read."""

    class ClientResponseError(OSError):
        status, headers = 400, {"retry-after": "1"}

    class Unread:
        status_code, headers = 503, None

        @property
        def content(self) -> bytes:
            raise RuntimeError("not read")

    class HTTPStatusError(Exception):
        response = Unread()

    for raised, kind in ((ClientResponseError("bad request"), "invalid"), (HTTPStatusError("down"), "server")):

        async def function(request: Request, raised: Exception = raised) -> str:
            raise raised

        assert kind_of(await FunctionProvider(function).ask(REQUEST, Timeouts(), Heard())) == kind


@pytest.mark.parametrize(
    ("key", "kind", "said"),
    [
        (lambda: "sk-0123456789", "exception", "is not async"),
        (lambda: fetched(None), "exception", "gave NoneType; it must give the key as text"),
        (lambda: fetched(Unavailable("the vault is down", kind="server")), "server", "the vault is down"),
    ],
)
async def test_a_key_that_cannot_be_had(key: Any, kind: str, said: str) -> None:
    """The call fails by what was wrong with it, and is tried again if that may pass; nothing was sent, or billed."""
    endpoint = Endpoint("openai/x", base_url="http://127.0.0.1:1/v1", api_key=key, quota="pool")
    async with FanOut(endpoint, max_retries=0) as fan:
        result = await fan.call("x")

    assert (result.error and result.error.kind, list(result.spending)) == (kind, [])
    assert said in str(result.error)


async def fetched(key: Any) -> Any:
    if isinstance(key, Exception):
        raise key
    return key
