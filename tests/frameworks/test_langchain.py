"""LangChain over a client of ours: single calls, batches, streams, tools, and what it does with what we raise."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import InternalServerError

from llm_fanout import FanOut, Limits, Stopped
from llm_fanout.sim import Box
from llm_fanout.transport import Transport


def model(fan: FanOut, box: Box) -> ChatOpenAI:
    """One whose calls are ours, awaited or not."""
    sync = httpx2.Client(transport=Transport(fan), timeout=60)
    key: Any = "sim"  # text is taken, though its types ask for more
    return ChatOpenAI(model="gpt-sim", base_url=box.url, api_key=key, http_async_client=fan.http_client(), http_client=sync)


async def test_calls_and_batches_are_the_clients(box: Box) -> None:
    """`ainvoke`, `abatch` and `invoke` are counted in the scope, and obey the limits of the client."""
    async with FanOut("sim/gpt-sim", base_url=box.url, limits=Limits(max_concurrency=2)) as fan:
        chat = model(fan, box)
        async with fan.scope("chain") as scope:
            one = await chat.ainvoke("[[answer:one]]")
            many = await chat.abatch([f"[[answer:{number}]]" for number in range(10)])
            sync = chat.invoke("[[answer:sync]]")

    assert [one.text, sync.text, *(each.text for each in many)] == ["one", "sync", *map(str, range(10))]
    assert (scope.summary.succeeded, box.stats["peak_in_flight"]) == (12, 2)


async def test_tools_and_streams_work(fan: FanOut, box: Box) -> None:
    """A bound tool is called; a stream comes in pieces, with its usage."""

    @tool
    def look(topic: str) -> str:
        """Look something up."""
        return topic

    chat = model(fan, box)
    answer = await chat.bind_tools([look], tool_choice="look").ainvoke("Go")
    pieces = [piece.text async for piece in chat.astream("[[answer:one two three]]")]

    assert [call["name"] for call in answer.tool_calls] == ["look"]
    assert "".join(pieces) == "one two three"
    assert fan.summary.succeeded == 2


async def test_stopped_comes_out_of_a_chain(fan: FanOut, box: Box) -> None:
    """Unwrapped, of a call and of a batch; with `return_exceptions` it is in the batch's results."""
    chat = model(fan, box)
    with pytest.raises(Stopped):  # noqa: PT012  # of the scope, too: it was raised inside
        async with fan.scope("chain", token_budget=10):
            with pytest.raises(Stopped, match="budget of scope 'chain'"):
                await chat.ainvoke("Go")
            with pytest.raises(Stopped, match="budget of scope 'chain'"):
                await chat.abatch(["Go", "on"])
            kept: list[Any] = await chat.abatch(["Go", "on"], return_exceptions=True)

    assert [type(each) for each in kept] == [Stopped, Stopped]
    assert box.stats["requests"] == 0


async def test_there_is_one_retry_layer(fan: FanOut, box: Box) -> None:
    """A final failure costs one request, and is the SDK's own error."""
    with pytest.raises(InternalServerError):
        await model(fan, box).ainvoke("[[fault:500]]")

    assert box.stats["requests"] == 1
