"""All patterns over real sockets, cancelled at instants all over their lives: nothing of them is left anywhere."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from scripted import quota_of

from llm_fanout import Executor, FanOut, Limits, Run, Task
from llm_fanout.sim import Box, SimConfig

POINTS = int(os.environ.get("CANCEL_POINTS", "63"))  # of all patterns together; by hand 500 and more
AT_ONCE = 2.0  # seconds: a generous slack for a machine that does other things, too
STEPS = 12  # of the event loop that pass after the instant, at the most
RULES = "One of the rules that hold for all of these questions is written here. " * 90  # some 1,300 tokens
SLOW = "[[latency:0.12]]"
FAILS = "[[fault:500]]"  # and waits to be tried again

Kept = list[Any]  # what a pattern has in its hands already: texts, or its run
EXECUTOR = Executor(max_concurrency=6, max_retries=0)


def seen(kept: Kept, what: str) -> str:
    """`what`, which is kept."""
    kept.append(what)
    return what


async def race(fan: FanOut, kept: Kept) -> None:
    """Some fail and wait, the twelfth that is seen is good enough."""
    prompts = [f"Which {number}? {FAILS if number % 5 == 0 else ''}" for number in range(24)]
    await fan.race(prompts, accept=lambda result: bool(seen(kept, result.text)) and len(kept) == 12)


async def vote(fan: FanOut, kept: Kept) -> None:
    await fan.vote("Which?", votes=24, key=lambda text: seen(kept, text)[:1])


async def reduce(fan: FanOut, kept: Kept) -> None:
    pages = fan.map(f"page {number}" for number in range(24))
    await fan.reduce(pages, lambda values: seen(kept, "Merge " + " ".join(values)), context=150)


async def graph(fan: FanOut, kept: Kept) -> None:
    """Tasks that call, and need each other."""

    async def ask(*said: str) -> str:
        return (await fan.call(f"Go on: {said}")).value

    async def all_of(said: Sequence[str]) -> str:
        return await ask(*said)

    first = [Task(ask, str(number)) for number in range(10)]
    second = [Task(ask, each, after=first[:3]) for each in first]
    run = EXECUTOR.run([*first, *second, Task(all_of, second)])
    kept.append(run)
    await run


async def hedge(fan: FanOut, kept: Kept) -> None:
    """Slow ones are copied."""
    run = fan.map([f"Say {number} {SLOW if number % 8 == 7 else ''}" for number in range(24)], hedge=0.2)
    kept.append(run)
    await run


async def warm_first(fan: FanOut, kept: Kept) -> None:
    run = fan.map([f"Question {number}" for number in range(24)], instructions=RULES, warm_first=True)
    kept.append(run)
    await run


async def streams(fan: FanOut, kept: Kept) -> None:
    """Several at once, of the client for SDKs and frameworks."""
    client = fan.openai()

    async def one(number: int) -> None:
        messages: Any = [{"role": "user", "content": f"Tell {number}"}]
        async for chunk in await client.chat.completions.create(model="gpt-sim", messages=messages, stream=True):
            kept.append(chunk)

    async with asyncio.TaskGroup() as group:  # it waits for all of them, when it is cancelled, too
        for number in range(12):
            group.create_task(one(number))


PATTERNS = [race, vote, reduce, graph, hedge, warm_first, streams]


@pytest.fixture
def box() -> Iterator[Box]:
    """A provider whose answers take their time, each another."""
    with Box(SimConfig(latency=0.02, ttft=0.005, jitter=0.5, answer_tokens=20)) as box:
        yield box


async def settled(found: Callable[[], Any], wanted: Any) -> Any:
    """What is found, as soon as it is what is wanted; else after some seconds."""
    for _ in range(int(AT_ONCE / 0.005)):
        if found() == wanted:
            break
        await asyncio.sleep(0.005)
    return found()


def results_in(kept: Kept) -> int:
    return sum(len(each.report.successes) if isinstance(each, Run) else 1 for each in kept)


async def life_of(pattern: Callable[[FanOut, Kept], Awaitable[None]], fan: FanOut) -> float:
    """Seconds that it takes if nobody disturbs it."""
    began = asyncio.get_running_loop().time()
    await pattern(fan, [])
    return asyncio.get_running_loop().time() - began


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.__name__)
async def test_cancelled_anywhere_over_sockets_it_leaves_nothing(box: Box, pattern: Any) -> None:
    """It returns at once, its run keeps what it has had, and no task, slot, reservation or request is left; nor a connection
    when the client is closed."""
    draw, loop, number = random.Random(pattern.__name__), asyncio.get_running_loop(), POINTS // len(PATTERNS)
    limits = Limits(max_concurrency=8, adapt=False)
    async with FanOut("sim/gpt-sim", base_url=box.url, limits=limits, token_budget=10**9, max_tokens=50) as fan:
        life = min([await life_of(pattern, fan) for _ in range(3)])  # the first has to import and to connect
        alone, ended_by_us = {asyncio.current_task()}, 0
        for point in range(number):
            instant, kept = life * (point + draw.random()) / number, []
            task = asyncio.ensure_future(pattern(fan, kept))
            await asyncio.sleep(instant)
            for _ in range(draw.randrange(STEPS)):
                await asyncio.sleep(0)
            had, began = results_in(kept), loop.time()
            task.cancel()
            await asyncio.wait([task])
            took, quota, (purse,) = loop.time() - began, quota_of(fan), fan._runs._purses

            assert took < AT_ONCE, instant
            if pattern is streams:  # the SDK leaves generators of its own to the loop, which ends them in a turn
                await settled(asyncio.all_tasks, alone)
            assert asyncio.all_tasks() == alone, instant
            assert (fan.summary.in_flight, quota.slots.in_use, EXECUTOR._quota.slots.in_use) == (0, 0, 0), instant
            assert (purse.budget.reserved, purse._waiting) == (0.0, {}), instant
            assert results_in(kept) >= had, instant
            assert await settled(lambda: box.stats["in_flight"], 0) == 0, instant
            ended_by_us += task.cancelled()
        assert (await fan.call("And now?")).ok
    assert await settled(lambda: len(box._service._listener._runner.server.connections), 0) == 0
    assert ended_by_us >= number // 3  # the machine may have been slow when the lives were measured


@pytest.mark.parametrize(
    "pattern", PATTERNS[1:-1], ids=lambda pattern: pattern.__name__
)  # a race ends before it has them all
async def test_answers_before_a_cancellation_are_not_asked_for_again(box: Box, pattern: Any, tmp_path: Path) -> None:
    """With a journal, a second life begins with all the answers that the first one had."""
    async with FanOut("sim/gpt-sim", base_url=box.url, limits=Limits(max_concurrency=8, adapt=False), max_tokens=50) as fan:
        life = min([await life_of(pattern, fan) for _ in range(3)])  # the first has to import and to connect
        for share in (0.4, 0.8):
            async with fan.scope("first", journal=tmp_path / f"{share}.db") as first:
                task = asyncio.ensure_future(pattern(fan, []))
                await asyncio.sleep(life * share)
                had = first.summary.succeeded
                task.cancel()
                await asyncio.wait([task])
            async with fan.scope("second", journal=tmp_path / f"{share}.db") as second:
                await pattern(fan, [])

            assert second.summary.replayed >= had
