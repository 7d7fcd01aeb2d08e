"""The real asyncio shell in a simulated world: the provider of the core's simulation behind real tasks, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from support import Simulate, consume
from world import Call, World, random_world

from llm_fanout import Report, clock
from llm_fanout.core.job import Choice, Outcome
from llm_fanout.core.lanes import DEFAULT, Lane
from llm_fanout.core.quota import Quota
from llm_fanout.core.retry import Again, RetryPolicy
from llm_fanout.engine import Engine
from llm_fanout.errors import Unavailable
from llm_fanout.results import Result
from llm_fanout.run import Run
from llm_fanout.work import Terms, Timing

SEEDS = 50
CHUNK = 5


class Ask:
    """One call of a world, as a flow needs to know it."""

    rank = DEFAULT
    timeout = 10.0
    retry = RetryPolicy()
    hedge = 0.0
    is_first = False

    def __init__(self, call: Call, side: OtherSide) -> None:
        self.choices = (Choice(side.quota, call.reserved),)
        self._call = call
        self._side = side

    async def perform(self, quota: Quota) -> Outcome:
        return await self._side.answer(self._call)

    def late(self) -> Outcome:
        return Outcome(Again.TRANSIENT, outage=True, heard=False, error=Unavailable("too late", kind="timeout"))

    def result(self, index: int, outcome: Outcome, timing: Timing) -> Result[int]:
        error: Any = outcome.error
        if error is not None and not hasattr(error, "kind"):
            error = Unavailable(str(error), kind="server")
        return Result(index=index, id=index, error=error, attempts=timing.attempts, returned=self._call.number)


class OtherSide:
    """A world's provider, reached by tasks that really sleep (in virtual time)."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.quota = Quota(world.limits)
        self.draw = random.Random(world.seed)
        self.at_once = self.peak = 0
        self.starts: list[float] = []
        world.provider.open(clock.now())

    async def answer(self, call: Call) -> Outcome:
        provider = self.world.provider
        self.starts.append(clock.now())
        self.at_once += 1
        self.peak = max(self.peak, self.at_once)
        took, outcome, served = provider.answer(self.draw, call.number, call.reserved, call.used, clock.now())
        provider.busy += served
        try:
            await asyncio.sleep(took)
        finally:
            self.at_once -= 1
            provider.busy -= served
            if served:
                provider.settle(call.reserved, call.used, clock.now())
        return outcome


async def drive(seed: int) -> tuple[Report[int], OtherSide, Engine, bool]:
    """One seed: a random world, a source of a random kind, consumed in a random way, cancelled now and then."""
    world, calls = random_world(seed)
    draw = random.Random(f"shell {seed}")
    side, engine, lane = OtherSide(world), Engine(), Lane()
    engine._schedule._random = side.draw.random
    source: Any = draw.choice([calls, iter(calls), _slowly(calls, draw)])
    terms = Terms(lane=lane, sources=(side.quota,))
    run: Run[int] = Run(source, lambda index, call: Ask(call, side), engine, terms)
    cancelled = draw.random() < 0.2
    if cancelled:
        asyncio.get_running_loop().call_later(draw.uniform(0, 20), run.cancel)
    if draw.random() < 0.2:
        asyncio.get_running_loop().call_later(draw.uniform(0, 5), run.pause)
        asyncio.get_running_loop().call_later(draw.uniform(5, 15), run.resume)
    return await consume(run), side, engine, cancelled


async def _slowly(calls: list[Call], draw: random.Random) -> AsyncIterator[Call]:
    for call in calls:
        await asyncio.sleep(draw.choice([0.0, 0.0, 0.5]))
        yield call


def test_histories_of_the_shell(seeds: range, simulate: Simulate[Any]) -> None:
    """Real tasks, timeouts and timers: every call has one Result, limits hold, no task, slot or timer is left."""
    for seed in seeds:
        report, side, engine, cancelled = simulate(lambda seed=seed: drive(seed))
        limits, provider = side.world.limits, side.world.provider
        numbers = [result.returned for result in report if result.ok]
        assert [result.index for result in report] == list(range(len(report))), f"seed {seed}: order"
        assert max(Counter(numbers).values(), default=1) == 1, f"seed {seed}: answered twice"
        if not cancelled and not (provider.failures or provider.hangs or provider.poison or provider.outages):
            assert report.summary.failed == 0 or provider.spread > 0.5, f"seed {seed}: failed without a reason"
        if limits.max_concurrency is not None:
            assert side.peak <= limits.max_concurrency, f"seed {seed}: {side.peak} at once"
        if limits.rpm is not None:
            assert all(sum(start <= other < start + 60 for other in side.starts) <= limits.rpm for start in side.starts), (
                f"seed {seed}: a minute above rpm"
            )
        assert side.quota.slots.in_use == 0, f"seed {seed}: slots were lost"
        assert side.at_once == 0, f"seed {seed}: a task is left"
        assert not engine._shells, f"seed {seed}: a shell is left"


def test_one_seed_is_one_history_of_the_shell(simulate: Simulate[Any]) -> None:
    """The same seed gives the same starts and the same results."""
    histories = []
    for _ in range(2):
        report, side, _, _ = simulate(lambda: drive(8))
        histories.append((side.starts, [result.ok for result in report]))

    assert histories[0] == histories[1]
