"""What becomes of calls: their pace, and what they are charged."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from openai import AsyncOpenAI

from llm_fanout.sim import Box, SimConfig


async def first_piece(client: AsyncOpenAI, text: str) -> str | None:
    """The first piece of a stream that has text; then the client leaves."""
    messages: Any = [{"role": "user", "content": text}]
    async with await client.chat.completions.create(model="m", messages=messages, stream=True) as chunks:
        async for chunk in chunks:
            if chunk.choices[0].delta.content:
                return chunk.choices[0].delta.content
    return None


async def test_the_first_piece_has_its_own_time() -> None:
    """However long the answer takes, `ttft` says when it begins; by default it is a share of the whole."""
    with Box(SimConfig(latency=3_600, ttft=0, jitter=0)) as quick, Box(SimConfig(latency=3_600, jitter=0)) as slow:
        async with AsyncOpenAI(base_url=quick.url, api_key="x", max_retries=0) as client:
            piece = await asyncio.wait_for(first_piece(client, "hello"), 30)
        async with AsyncOpenAI(base_url=slow.url, api_key="x", max_retries=0) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(first_piece(client, "hello"), 0.5)

    assert piece is not None
    assert piece.startswith("[simulated answer]")


async def test_a_provider_without_latency_streams_at_once() -> None:
    """Whatever the time to its first piece: it is at most the latency."""
    with Box(SimConfig(latency=0, ttft=600)) as box:
        async with AsyncOpenAI(base_url=box.url, api_key="x", max_retries=0) as client:
            piece = await asyncio.wait_for(first_piece(client, "hello"), 30)

    assert piece is not None


async def test_streams_are_charged_like_answers() -> None:
    """Up front what they may have, in the end what they had."""
    with Box(SimConfig(latency=0, otpm=600)) as box:  # a burst of 100
        async with AsyncOpenAI(base_url=box.url, api_key="x", max_retries=0) as client:
            for text in ("[[answer:a]]", "[[answer:b]]"):
                messages: Any = [{"role": "user", "content": text}]
                create = client.chat.completions.create
                chunks = await create(model="m", messages=messages, stream=True, max_tokens=90)
                assert [chunk async for chunk in chunks]
        stats = box.stats

    assert (stats["answered"], stats["streams"], stats["refused"]) == (2, 2, 0)


async def test_the_same_seed_says_the_same() -> None:
    """Request by request: the same answers, piece by piece, whatever the API."""

    async def said() -> list[Any]:
        with Box(SimConfig(latency=0, seed=7, faults={"truncated": 0.5})) as box:
            async with AsyncOpenAI(base_url=box.url, api_key="x", max_retries=0) as client:
                pieces: list[Any] = []
                for _ in range(6):
                    messages: Any = [{"role": "user", "content": "hello"}]
                    chunks = await client.chat.completions.create(model="m", messages=messages, stream=True)
                    pieces += [chunk.choices async for chunk in chunks]
                return [*pieces, (await client.responses.create(model="m", input="x")).output_text, box.stats["faults"]]

    assert await said() == await said()
