"""Answers as they are written: one to be read piece by piece, or all of a run to be timed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from support import FakeProvider, Given, Simulate, completion, consume

from llm_fanout import ConfigError, Endpoint, FanOut, Limits, Stopped
from llm_fanout.llm.times import Timeouts
from llm_fanout.providers import Request

SSE = {"content-type": "text/event-stream"}


def event(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "x", "object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"


class Streaming:
    """A lane whose answers have three pieces, a second each, the first after two; some break off after the second.

    Attributes:
        broken: How many answers break off, from the first on; of those, whether they do so before the first piece.
        open: Answers that are under way.
    """

    via = "wire"

    def __init__(self) -> None:
        self.broken = 0
        self.silent = False
        self.asked = 0
        self.running = 0

    async def post(self, request: Request, timeouts: Timeouts) -> Given:
        self.asked += 1
        self.running += 1
        return _Answer(self, self._pieces(breaks=self.asked <= self.broken))

    async def _pieces(self, *, breaks: bool) -> AsyncIterator[bytes]:
        await asyncio.sleep(2)
        if breaks and self.silent:
            raise ConnectionResetError("gone")
        yield event("one ")
        await asyncio.sleep(1)
        yield event("two ")
        if breaks:
            raise ConnectionResetError("gone")
        await asyncio.sleep(1)
        yield event("three", "stop")


class _Answer(Given):
    def __init__(self, lane: Streaming, pieces: AsyncIterator[bytes]) -> None:
        super().__init__(200, SSE, pieces)
        self._lane = lane

    async def close(self) -> None:
        self._lane.running -= 1


@pytest.fixture
def lane(monkeypatch: pytest.MonkeyPatch) -> Streaming:
    """Where the requests of all clients go."""
    lane = Streaming()
    monkeypatch.setattr("llm_fanout.llm.routes.lanes.WireLane", lambda wire, place, form: lane)
    return lane


@pytest.fixture
def fan(lane: Streaming, request: pytest.FixtureRequest) -> Callable[..., FanOut]:
    """Makes clients of an account of this test."""
    return lambda **options: FanOut("sim/x", base_url=f"http://127.0.0.1:1/{request.node.name}", **options)


def test_pieces_come_as_they_are_written(simulate: Simulate[Any], lane: Streaming, fan: Callable[..., FanOut]) -> None:
    """Each at its instant, and in the end the whole Result with its times."""

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        begun, came = loop.time(), []
        async with fan() as client, client.stream("x") as pieces:
            async for piece in pieces:
                came.append((piece, loop.time() - begun))
        return came, pieces.result

    came, result = simulate(main)

    assert came == [("one ", 2), ("two ", 3), ("three", 4)]
    assert (result.value, result.finish_reason, result.ttft, list(result.inter_token)) == (
        "one two three",
        "stop",
        2,
        [1, 1],
    )


def test_leaving_early_frees_the_slot(simulate: Simulate[Any], lane: Streaming, fan: Callable[..., FanOut]) -> None:
    """The call is cancelled, and its clean-up done, when the context is left: the next one starts at once."""

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        async with fan(limits=Limits(max_concurrency=1)) as client:
            async with client.stream("x") as pieces:
                async for _ in pieces:
                    break
            left, running = loop.time(), lane.running
            async with client.stream("y") as pieces:
                first = await anext(pieces)
            return running, first, loop.time() - left, pieces.result.error

    running, first, seconds, error = simulate(main)

    assert (running, first, seconds) == (0, "one ", 2)
    assert isinstance(error, Stopped)


def test_the_result_is_there_at_the_end(simulate: Simulate[Any], lane: Streaming, fan: Callable[..., FanOut]) -> None:
    """Before that, reading it is a mistake that says so."""

    async def main() -> Any:
        async with fan() as client, client.stream("x") as pieces:
            await anext(pieces)
            with pytest.raises(ConfigError, match="still being written"):
                _ = pieces.result

    simulate(main)


def test_a_slow_reader_holds_no_slot(simulate: Simulate[Any], lane: Streaming, fan: Callable[..., FanOut]) -> None:
    """Pieces are taken from the wire as they come, whoever reads them."""

    async def main() -> Any:
        async with fan(limits=Limits(max_concurrency=1)) as client, client.stream("x") as pieces:
            await asyncio.sleep(100)
            return lane.running, [piece async for piece in pieces]

    assert simulate(main) == (0, ["one ", "two ", "three"])


def test_it_is_tried_again_before_the_first_piece_only(
    simulate: Simulate[Any], lane: Streaming, fan: Callable[..., FanOut]
) -> None:
    """Who has seen a part of an answer cannot be given another: that is a failure, with what came."""

    async def main() -> Any:
        async with fan() as client:
            lane.broken, lane.silent = 1, True
            async with client.stream("x") as pieces:
                again = [piece async for piece in pieces]
            lane.broken, lane.silent = 99, False
            read = []
            async with client.stream("y") as pieces:
                read += [await anext(pieces), await anext(pieces)]
                with pytest.raises(Exception, match="gone") as caught:
                    await anext(pieces)
            return again, read, caught.value, lane.asked

    again, read, error, asked = simulate(main)

    assert again == ["one ", "two ", "three"]
    assert (read, error.kind, error.partial, asked) == (["one ", "two "], "connection", "one two ", 3)


def test_a_run_of_streams_is_timed(simulate: Simulate[Any], lane: Streaming, fan: Callable[..., FanOut]) -> None:
    """Nobody has seen the pieces: an answer that broke off is asked for again, and only its last attempt is timed."""

    async def main() -> Any:
        lane.broken = 1
        async with fan() as client:
            return await client.map(["a", "b", "c"], stream=True, progress=False)

    report = simulate(main)

    assert [result.value for result in report] == ["one two three"] * 3
    assert (lane.asked, report.quantile(0.5, "ttft"), report.quantile(1, "inter_token")) == (4, 2, 1)
    assert "first token" in str(report)


def test_a_timeout_keeps_what_came(simulate: Simulate[Any], lane: Streaming, fan: Callable[..., FanOut]) -> None:
    """Of a stream that was cut off, in a run too."""

    async def main() -> Any:
        async with fan(timeout=3.5, max_retries=0) as client:
            report = await client.map(["a"], stream=True, progress=False)
            async with client.stream("x") as pieces:
                with pytest.raises(Exception, match="no answer within") as caught:
                    [piece async for piece in pieces]
            return report[0], caught.value

    result, error = simulate(main)

    assert (result.error.kind, result.text, error.partial) == ("timeout", "one two ", "one two ")


def test_what_comes_whole_is_one_piece(simulate: Simulate[Any], provider: FakeProvider, fan_of: Any) -> None:
    """From a server that does not stream, and from a function; an answer that failed has none."""
    provider.answers = [(200, {}, json.dumps(completion("hello")).encode()), (400, {}, b"")]

    async def mine(request: Request) -> str:
        return "hello"

    async def read(client: FanOut) -> list[str]:
        async with client.stream("x") as pieces:
            return [piece async for piece in pieces]

    async def main() -> Any:
        async with fan_of() as client, FanOut(Endpoint("mine/x", provider=mine)) as own:
            found = [await read(client), await read(own)]
            with pytest.raises(Exception, match="400"):
                await read(client)
            return found

    assert simulate(main) == [["hello"], ["hello"]]


async def test_options_are_checked_at_once(lane: Streaming, fan: Callable[..., FanOut]) -> None:
    """Not only when the context is entered."""
    async with fan() as client:
        with pytest.raises(ConfigError, match="did you mean temperature"):
            client.stream("x", temprature=1)  # type: ignore[call-arg]  # the mistake under test


def test_what_came_is_kept_however_it_ends(simulate: Simulate[Any], lane: Streaming, fan: Callable[..., FanOut]) -> None:
    """A deadline, a cancel, and leaving early: each call has its own text, and a cost that nobody knows."""

    async def main() -> Any:
        async with fan() as client:
            late = await client.map(["a", "b"], stream=True, progress=False, deadline=3.5)
            run = client.map(["c"], stream=True, progress=False)
            task = asyncio.ensure_future(consume(run))
            await asyncio.sleep(2.5)
            run.cancel()
            async with client.stream("x") as pieces:
                await anext(pieces)
            return [*late, *await task, pieces.result]

    results = simulate(main)

    assert [(result.error.kind, result.error.partial) for result in results] == [
        ("deadline", "one two "),
        ("deadline", "one two "),
        ("cancelled", "one "),
        ("cancelled", "one "),
    ]


def test_what_a_timeout_has_cost_is_not_known(simulate: Simulate[Any], lane: Streaming, fan: Callable[..., FanOut]) -> None:
    """It was answered over there, and billed: never 0."""

    async def main() -> Any:
        async with fan(timeout=3.5, max_retries=0) as client:
            return await client.map(["a"], stream=True, progress=False)

    report = simulate(main)

    assert (report[0].cost, report.summary.unpriced, report.summary.cost) == (None, 1, 0.0)
