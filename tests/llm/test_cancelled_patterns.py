"""All patterns, cancelled wherever they are: they return at once, and nothing of them is left."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from scripted import Scripted, quota_of
from support import Simulate, consume

from llm_fanout import Executor, FanOut, Limits, Rejected, Task
from llm_fanout.sim import Box, SimConfig

INSTANTS = 84  # for each pattern: 504 in all
STEPS = 12  # of the event loop that pass after the instant, at the most: each await is met


class World:
    """Answers of some length, each after some time; some come together, and one in forty fails. Every life is the same."""

    def __init__(self) -> None:
        self.provider = Scripted(self.answer)

    def begin(self) -> None:
        """A life begins."""
        self._draw = random.Random(1)

    async def answer(self, text: str) -> str:
        draw = self._draw
        if text.startswith("Slow"):
            await asyncio.sleep(5.0)
        seconds, fails, said = draw.choice([0.5, 1.0, 1.0, 1.5, 2.25]), draw.random() < 1 / 40, draw.randrange(3)
        await asyncio.sleep(seconds)
        if fails and text.startswith("Which"):
            raise Rejected("not this one", kind="refusal")
        return f"{said}" + " word" * 8


async def race(fan: FanOut) -> object:
    return await fan.race([f"Which {number}?" for number in range(20)], accept=lambda result: "3" in result.text)


async def vote(fan: FanOut) -> object:
    return await fan.vote("Which?", votes=25, key=lambda text: text[0])


async def reduce(fan: FanOut) -> object:
    pages = fan.map(f"page {number}" for number in range(40))
    return await fan.reduce(pages, lambda values: "Merge " + " ".join(values), context=80)


async def hedge(fan: FanOut) -> object:
    """Some calls take long, and are copied; the copies take as long."""
    report = await fan.map([f"Slow {number}" if number in (3, 7) else f"Say {number}" for number in range(30)], hedge=0.1)
    assert report.summary.attempts > 30
    return report


async def warm_first(fan: FanOut) -> object:
    """One of them goes ahead, for they begin alike."""
    return await fan.map([f"Question {number}" for number in range(30)], instructions=RULES, warm_first=True)


async def graph(fan: FanOut) -> object:
    """Tasks that call, and need each other."""

    async def ask(*said: str) -> str:
        return (await fan.call(f"Go on: {said}")).value

    async def all_of(said: Sequence[str]) -> str:
        return (await fan.call("Sum up: " + " ".join(said))).value

    first = [Task(ask, str(number)) for number in range(10)]
    second = [Task(ask, one, other) for one, other in pairwise(first)]
    report = await EXECUTOR.run([*first, *second, Task(all_of, second)])
    assert report[-1].ok
    return report


RULES = "One of the rules that hold for all of these questions is written here. " * 90  # some 1,300 tokens
EXECUTOR = Executor(max_concurrency=8, max_retries=0)
PATTERNS: dict[str, Callable[[FanOut], Awaitable[object]]] = {
    "race": race,
    "vote": vote,
    "reduce": reduce,
    "hedge": hedge,
    "warm_first": warm_first,
    "graph": graph,
}


async def cancelled(running: Awaitable[object], instant: float, steps: int) -> tuple[bool, float]:
    """Whether it was cancelled after so many seconds and steps (or had ended), and how long that took."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(running)
    await asyncio.sleep(instant)
    for _ in range(steps):
        await asyncio.sleep(0)
    began = loop.time()
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled(), loop.time() - began


@pytest.mark.parametrize("name", PATTERNS)
def test_cancelled_anywhere_it_leaves_nothing(simulate: Simulate[Any], name: str, caplog: pytest.LogCaptureFixture) -> None:
    """At 84 instants of its life, each with some steps of the loop after it: no time passes, no task, slot, call or
    reservation is left, and the next one on the same quota has all of it."""
    world = World()
    pattern = PATTERNS[name]

    async def main() -> tuple[int, float, float]:
        loop, draw, ended_by_us = asyncio.get_running_loop(), random.Random(name), 0
        async with world.provider.fan(Limits(max_concurrency=6, adapt=False), token_budget=10**9, max_tokens=20) as fan:

            async def life() -> float:
                began = loop.time()
                world.begin()
                await pattern(fan)
                return loop.time() - began

            undisturbed = await life()
            for number in range(INSTANTS):
                instant = undisturbed * number / INSTANTS
                world.begin()
                was_cancelled, took = await cancelled(pattern(fan), instant, draw.randrange(STEPS))
                quota, (purse,) = quota_of(fan), fan._runs._purses

                assert took == 0.0, instant
                assert len(asyncio.all_tasks()) == 1, (instant, asyncio.all_tasks())
                assert (world.provider.running, quota.slots.in_use, EXECUTOR._quota.slots.in_use) == (0, 0, 0), instant
                assert (purse.budget.reserved, purse._waiting) == (0.0, {}), instant
                ended_by_us += was_cancelled
            return ended_by_us, undisturbed, await life()

    ended_by_us, undisturbed, last = simulate(main)

    assert ended_by_us == INSTANTS
    assert (undisturbed > 3, last) == (True, undisturbed)
    assert world.provider.most == 6
    assert caplog.records == []


@pytest.mark.parametrize("name", ["race", "vote", "reduce"])
@pytest.mark.parametrize("steps", [1, 2, 3])
async def test_cancelled_over_sockets_it_leaves_nothing(name: str, steps: int) -> None:
    """Cancelled from within, at the first answers that it sees: no task is left, and the next call is answered."""
    consumer: asyncio.Task[object]
    seen = 0

    def see(value: object) -> str:
        nonlocal seen
        seen += 1
        if seen == steps:
            consumer.cancel()
        return f"Merge {value}"

    with Box(SimConfig(latency=0.02, answer_tokens=10)) as box:
        async with FanOut("sim/x", base_url=box.url, limits=Limits(max_concurrency=10, adapt=False)) as fan:
            before = len(asyncio.all_tasks())
            runs: dict[str, Callable[[], Awaitable[object]]] = {
                "race": lambda: fan.race(
                    [f"Which {number}?" for number in range(30)], accept=lambda result: not see(result)
                ),
                "vote": lambda: fan.vote("Which?", votes=40, key=see),
                "reduce": lambda: fan.reduce(fan.map(f"page {number}" for number in range(60)), see, context=10_000),
            }
            consumer = asyncio.ensure_future(consume(runs[name]()))
            await asyncio.wait([consumer])
            left = len(asyncio.all_tasks()) - before
            in_use = quota_of(fan).slots.in_use
            after = await fan.call("And now?")

    assert consumer.cancelled()
    assert (left, in_use, after.ok) == (0, 0, True)
