"""What passes calls of SDKs on: what is tried again, and how a stream flows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx2
import pytest
from support import Given, Simulate, completion

from llm_fanout import FanOut, Stopped
from llm_fanout.llm.relay import has_something, says_something
from llm_fanout.llm.times import Timeouts
from llm_fanout.providers import Event
from llm_fanout.scope import Scope
from llm_fanout.transport import AsyncTransport

SSE = {"content-type": "text/event-stream"}
Body = AsyncIterator[bytes]


class ScriptedWire:
    """Answers with what it is given, one after another, then with a completion; a second passes before each.

    Attributes:
        script: Exceptions to raise, bodies of streams, or (status, headers, body).
        asked: URL, headers and body of each request, and its timeouts.
        open: Answers that are not closed yet.
    """

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.asked: list[tuple[str, Mapping[str, str], bytes, Timeouts]] = []
        self.open = 0

    async def send(
        self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts, proxy: str | None = None
    ) -> Given:
        self.asked.append((url, headers, body, timeouts))
        await asyncio.sleep(1)
        step = self.script.pop(0) if self.script else (200, {}, json.dumps(completion("done")).encode())
        if isinstance(step, Exception):
            raise step
        if not isinstance(step, tuple):
            step = 200, SSE, step()
        self.open += 1
        return _Answer(self, *step)

    async def aclose(self) -> None:
        """There is nothing to close."""


class _Answer(Given):
    def __init__(self, wire: ScriptedWire, status: int, headers: Mapping[str, str], body: bytes | Body) -> None:
        super().__init__(status, headers, _once(body) if isinstance(body, bytes) else body)
        self._wire = wire

    async def close(self) -> None:
        self._wire.open -= 1


async def _once(body: bytes) -> Body:
    yield body


def event(delta: Mapping[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "x", "object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"


def flowing(*steps: bytes | Exception | float) -> Callable[[], Body]:
    """A stream: what it says, the seconds that it waits, or the exception with which it breaks."""

    async def body() -> Body:
        for step in steps:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, bytes):
                yield step
            else:
                await asyncio.sleep(step)

    return body


ROLE = event({"role": "assistant", "content": ""})
WORD = event({"content": "word"})
LAST = event({}, "stop")
DONE = b"data: [DONE]\n\n"


@pytest.fixture
def ask(
    simulate: Simulate[Any], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[..., tuple[Any, ScriptedWire, Any]]:
    """Asks once over a wire that follows a script: what came (or was raised), the wire, and the client's summary."""

    def run(*script: Any, stream: bool = False, options: Mapping[str, Any] | None = None, **extensions: Any) -> Any:
        wire = ScriptedWire(*script)
        monkeypatch.setattr("llm_fanout.llm.runs.AiohttpWire", lambda: wire)

        async def main() -> Any:
            url = f"http://127.0.0.1:1/{request.node.name}"
            async with FanOut("sim/x", base_url=url, **options or {}) as fan:
                body = {"model": "x", "messages": [{"role": "user", "content": "x"}], "stream": stream}
                made = httpx2.Request("POST", f"{url}/chat/completions", json=body, extensions=extensions)
                came: Any
                try:
                    response = await AsyncTransport(fan).handle_async_request(made)
                    came = response, await read(response)
                except Stopped as exc:
                    came = exc, None
                return came, wire, fan.summary

        return simulate(main)

    return run


async def read(response: httpx2.Response) -> list[Any]:
    """What the body of a response says, in its pieces; last the exception with which it breaks, if it does."""
    if response.is_stream_consumed:
        return [response.content]
    pieces: list[Any] = []
    try:
        async for piece in response.aiter_raw():
            pieces.append(piece)
    except (httpx2.HTTPError, Stopped) as exc:
        pieces.append(exc)
    return pieces


@pytest.mark.parametrize(
    ("failure", "status", "kind"),
    [
        (ConnectionRefusedError("nobody"), 503, "connection"),
        (TimeoutError(), 504, "timeout"),
        (RuntimeError("what is this"), 500, "exception"),
    ],
)
def test_no_answer_is_one_of_the_apis_shape(ask: Any, failure: Exception, status: int, kind: str) -> None:
    """Once no try is left: the status says what it is, the body how it came."""
    (response, _), wire, _ = ask(failure, options={"max_retries": 0})

    assert (response.status_code, response.json()["error"]["code"]) == (status, kind)
    assert response.headers["x-should-retry"] == "false"
    assert wire.open == 0


def test_the_last_answer_is_what_is_passed_on(ask: Any) -> None:
    """Of several failures the provider's last one, its headers and its bytes; what is said of trying again is not."""
    last = 503, {"X-Id": "2", "X-Should-Retry": "true", "Content-Encoding": "gzip", "Connection": "close"}, b"<html>"
    (response, _), wire, summary = ask((500, {}, b"one"), last, options={"max_retries": 1})

    assert (response.status_code, response.content, len(wire.asked)) == (503, b"<html>", 2)
    assert dict(response.headers) == {"x-id": "2", "x-should-retry": "false", "content-length": "6"}
    assert summary.attempts == 2


def test_an_answer_that_is_none_is_not_the_last_for_ever(ask: Any) -> None:
    """After it came no answer at all: that is what is said."""
    (response, _), _, _ = ask((500, {}, b"one"), ConnectionRefusedError(), options={"max_retries": 1})

    assert response.status_code == 503


def test_the_sdks_patience_is_kept(ask: Any) -> None:
    """Its `connect` and `read` hold for each attempt; our bound for an answer that is read whole, unless that is less."""
    _, wire, _ = ask(timeout={"connect": 3.0, "read": 700.0, "write": 1.0, "pool": 1.0})
    _, other, _ = ask(timeout={"connect": None, "read": None})
    _, short, _ = ask(timeout={"read": 20.0})
    _, streamed, _ = ask(flowing(WORD, LAST, DONE), stream=True, timeout={"read": 20.0})

    forever = float("inf")
    assert wire.asked[0][3] == Timeouts(3.0, 700.0, 700.0)
    assert other.asked[0][3] == Timeouts(10.0, None, forever)
    assert short.asked[0][3] == Timeouts(10.0, 20.0, 600.0)
    assert streamed.asked[0][3] == Timeouts(10.0, 20.0, forever)


def test_a_stream_flows_as_it_comes(ask: Any) -> None:
    """Byte for byte, preamble and end included."""
    (response, pieces), wire, summary = ask(flowing(ROLE, 1.0, WORD, 1.0, WORD, LAST, DONE), stream=True)

    assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream")
    assert pieces[0] == ROLE + WORD
    assert b"".join(pieces) == ROLE + WORD + WORD + LAST + DONE
    assert (summary.succeeded, wire.open) == (1, 0)


@pytest.mark.parametrize("said", [(), (ROLE,), (b": keep-alive\n\n", ROLE)])
def test_a_stream_is_tried_again_until_it_says_something(ask: Any, said: tuple[bytes, ...]) -> None:
    """What came before that is forgotten with the attempt."""
    broken = flowing(*said, ConnectionResetError("gone"))
    (_, pieces), wire, summary = ask(broken, flowing(WORD, LAST, DONE), stream=True)

    assert (b"".join(pieces), len(wire.asked), summary.succeeded) == (WORD + LAST + DONE, 2, 1)


@pytest.mark.parametrize(
    "said",
    [WORD, event({"tool_calls": [{"index": 0, "function": {"name": "f"}}]}), event({"reasoning_content": "hm"})],
)
def test_a_stream_that_has_said_something_breaks(ask: Any, said: bytes) -> None:
    """It is not asked for anew, be it a word, a part of a call or a thought; who reads it gets the library's own error."""
    (_, pieces), wire, summary = ask(flowing(ROLE, said, 1.0, ConnectionResetError("gone")), stream=True)

    assert pieces[0] == ROLE + said
    assert isinstance(pieces[1], httpx2.RemoteProtocolError)
    assert (len(wire.asked), summary.failed, wire.open) == (1, 1, 0)


def test_a_stream_that_stalls_is_a_timeout(ask: Any) -> None:
    """After the silence that the SDK allows, by default our own: before a word it is tried again, after one it breaks."""
    stalls = flowing(ROLE, 1e6)
    (response, _), wire, _ = ask(stalls, stalls, stream=True, options={"max_retries": 1})
    (_, pieces), _, _ = ask(flowing(WORD, 1e6), stream=True, timeout={"read": 5.0})

    assert (response.status_code, response.json()["error"]["code"], len(wire.asked)) == (504, "timeout", 2)
    assert isinstance(pieces[-1], httpx2.ReadTimeout)


def test_a_stream_without_an_end_breaks(ask: Any) -> None:
    """It came to its end, and never said so: that is no success."""
    (_, pieces), _, summary = ask(flowing(WORD, 1.0), stream=True)

    assert isinstance(pieces[-1], httpx2.RemoteProtocolError)
    assert summary.errors == {"truncated": 1}


def test_a_stream_that_never_says_anything_is_an_error(ask: Any) -> None:
    """An SDK would take it for an empty success."""
    (response, _), wire, _ = ask(flowing(ROLE), flowing(), stream=True, options={"max_retries": 1})

    assert (response.status_code, response.json()["error"]["code"], len(wire.asked)) == (502, "truncated", 2)


def test_an_error_in_a_stream_is_passed_on(ask: Any) -> None:
    """Before a word it is tried again, and then as whole as it came; after one it flows, and ends as it would."""
    error = b'data: {"error": {"message": "overloaded"}}\n\n'
    (response, before), wire, _ = ask(flowing(ROLE, error), flowing(error), stream=True, options={"max_retries": 1})
    (_, after), _, summary = ask(flowing(WORD, error), stream=True)

    assert (response.status_code, before, len(wire.asked)) == (200, [error], 2)
    assert b"".join(after) == WORD + error
    assert summary.failed == 1


def test_an_answer_that_came_whole_instead_is_passed_on(ask: Any) -> None:
    """Some servers do not stream, and errors never do."""
    (response, _), _, summary = ask(stream=True)

    assert (response.status_code, summary.succeeded) == (200, 1)
    assert response.json()["choices"][0]["message"]["content"] == "done"


def test_a_stream_ends_with_its_scope(simulate: Simulate[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads it gets the Stopped, after what came before; the scope that is current there knows of it."""
    wire = ScriptedWire(flowing(WORD, 100.0))
    noted: list[Stopped] = []
    monkeypatch.setattr("llm_fanout.llm.runs.AiohttpWire", lambda: wire)
    monkeypatch.setattr(Scope, "note", lambda scope, error: noted.append(error))

    async def main() -> Any:
        async with FanOut("sim/x", base_url="http://127.0.0.1:1/ends-with-its-scope") as fan, fan.scope("outer"):
            transport = AsyncTransport(fan)
            body = {"model": "x", "messages": [], "stream": True}
            async with fan.scope("inner"):
                url = "http://127.0.0.1:1/ends-with-its-scope/chat/completions"
                response = await transport.handle_async_request(httpx2.Request("POST", url, json=body))
            return await read(response)

    pieces = simulate(main)

    assert pieces[0] == WORD
    assert [type(pieces[1]), noted] == [Stopped, [pieces[1]]]


def test_the_end_of_a_stream_may_be_late(simulate: Simulate[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was closed after its last word has succeeded: it is waited for, and not cancelled, nor when forgotten."""
    monkeypatch.setattr("llm_fanout.llm.runs.AiohttpWire", lambda: wire)
    wire = ScriptedWire(flowing(WORD, LAST, DONE, 100.0), flowing(WORD, LAST, DONE, 100.0))

    async def main() -> Any:
        async with FanOut("sim/x", base_url="http://127.0.0.1:1/late") as fan:
            transport = AsyncTransport(fan)
            body = {"model": "x", "messages": [], "stream": True}
            for _ in range(2):
                made = httpx2.Request("POST", "http://127.0.0.1:1/late/chat/completions", json=body)
                response = await transport.handle_async_request(made)
                while (await anext(aiter(response.stream))).endswith(WORD):  # type: ignore[arg-type]  # it is async
                    pass
                if fan.summary.done == 0:
                    await response.aclose()
                del response
                await asyncio.sleep(10)
            return fan.summary

    assert simulate(main).succeeded == 2


def test_a_loop_that_is_shut_down_ends_its_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """What followed one is cancelled with all tasks, and leaves nothing open."""
    wire = ScriptedWire(flowing(WORD, 100.0))
    monkeypatch.setattr("llm_fanout.llm.runs.AiohttpWire", lambda: wire)

    async def main() -> httpx2.Response:
        fan = FanOut("sim/x", base_url="http://127.0.0.1:1/shut-down")
        made = httpx2.Request("POST", "http://127.0.0.1:1/shut-down/chat/completions", json={"model": "x", "stream": True})
        return await AsyncTransport(fan).handle_async_request(made)

    with asyncio.Runner() as runner:
        response = runner.run(main())

    assert (response.status_code, wire.open) == (200, 0)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"type": "response.created"}, False),
        ({"type": "response.output_item.added"}, False),
        ({"type": "response.function_call_arguments.delta"}, True),
        ({"type": "message_start"}, False),
        ({"type": "content_block_delta"}, True),
        ({"choices": []}, False),
        ({"choices": [{"delta": {"role": "assistant", "content": ""}}]}, False),
        ({"choices": [{"delta": {"refusal": "no"}}]}, True),
    ],
)
def test_what_says_something(data: Any, says: bool) -> None:
    """Of each API's events: what is only there before an answer does not."""
    assert says_something(Event(json.dumps(data))) is says
    assert not says_something(Event("what is this"))


@pytest.mark.parametrize(
    ("answer", "has"),
    [
        ({"choices": [{"message": {"content": None, "audio": {"id": "a"}}}]}, True),
        ({"choices": [{"message": {"content": ""}}]}, False),
        ({"output": [{"type": "image_generation_call"}]}, True),
        ({"output": [{"type": "reasoning"}, {"type": "message", "content": []}]}, False),
        ({"output": [], "status": "queued"}, True),
        ({"content": [{"type": "server_tool_use"}]}, True),
        ({"content": [{"type": "thinking"}]}, False),
    ],
)
def test_what_has_something(answer: Any, has: bool) -> None:
    """Audio, images, searches, and work that goes on are answers, though there are no words."""
    assert has_something(answer) is has


@pytest.mark.parametrize(("more", "attempts"), [({}, 3), ({"audio": {"id": "a", "data": ""}}, 1)])
def test_an_answer_without_words_is_one_if_it_has_something_else(ask: Any, more: Any, attempts: int) -> None:
    """Then it is not asked for again, and counts as a success; an empty one is, and is passed on in the end."""
    empty = completion("")
    empty["choices"][0]["message"] |= more
    answers = [(200, {}, json.dumps(empty).encode())] * 3
    (response, _), wire, summary = ask(*answers)

    assert (response.json(), len(wire.asked), summary.succeeded) == (empty, attempts, attempts == 1)
