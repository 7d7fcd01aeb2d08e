"""A provider's world in virtual time: the schedule against quotas, failures, refusals and outages, seed by seed.

One seed is one history. A failing seed is named in the assertion; `uv run pytest tests/core/test_simulation.py --seed N`
replays it, and `--seeds N` runs the first N (1,000 by default).
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from world import Call, Provider, World, many, random_world

from llm_fanout.core.job import Attempt, Cost
from llm_fanout.core.retry import RetryPolicy
from llm_fanout.core.stated import Limits

SEEDS = 1_000
CHUNK = 25  # seeds in one test: one alone would be lost in the overhead


def check(world: World, calls: list[Call], begin: float) -> None:
    """What must be true of every history."""
    seed, provider = world.seed, world.provider
    world.run(calls, begin)
    ends = Counter(number for _, number, what in world.history if what != "again")
    lost = [number for _, number, what in world.history if what == "failed"]
    assert ends == dict.fromkeys(range(len(calls)), 1), f"seed {seed}: a call did not end just once"
    if world.limits.max_concurrency is not None:
        assert world.peak <= world.limits.max_concurrency, f"seed {seed}: {world.peak} at once"
    if world.limits.rpm is not None:
        assert _busiest_minute(world.starts) <= world.limits.rpm, f"seed {seed}: a minute above rpm"
    if not (provider.failures or provider.hangs or provider.poison or provider.outages or provider.spread > 0.5):
        assert not lost, f"seed {seed}: {lost} failed without a reason"
    assert world.quota.slots.in_use == 0, f"seed {seed}: slots were lost"
    assert world.schedule.next_timer() is None or world.schedule.start(1e12) is None, f"seed {seed}: something is left"


def test_histories(seeds: range) -> None:
    """Whatever the provider does: every call ends once, limits hold, nothing is lost without a reason or left behind."""
    for seed in seeds:
        world, calls = random_world(seed)
        check(world, calls, begin=random.Random(seed).choice([0.0, 1e5, 1.75e9]))


@pytest.mark.parametrize("seed", [3, 77, 512])
def test_one_seed_is_one_history(seed: int) -> None:
    """The same seed gives the same history to the last bit, another seed another one."""
    histories = []
    for number in (seed, seed, seed + 1):
        world, calls = random_world(number)
        world.run(calls)
        histories.append(world.history)

    assert histories[0] == histories[1] != histories[2]


def test_a_told_quota_is_used() -> None:
    """600 requests a minute, 3,000 calls, slots enough: at least 98 % of the quota is used, and nothing is refused."""
    world = World(1, Limits(max_concurrency=200, rpm=600), Provider(rpm=600, burst=20))

    world.run(3_000)

    span = world.starts[-1] - world.starts[0]
    assert len(world.starts) / (10 * span) >= 0.98
    assert world.refused == 0


@pytest.mark.parametrize("refunds", [True, False])
def test_told_tokens_are_used(refunds: bool) -> None:
    """Sizes from 100 to 8,000 tokens, `max_tokens` four times the real output: >= 95 % of the true rate where unused tokens
    are refunded, and no refusal where they are not."""
    draw = random.Random(5)
    world = World(2, Limits(tpm=200_000), Provider(tpm=200_000, burst=20, refunds=refunds, hints=True))
    calls = []
    for number in range(600):
        size = draw.uniform(100, 8_000)
        calls.append(Call(number, Cost.of(size / 2, 2 * size), Cost.of(size / 2, size / 2)))

    elapsed = world.run(calls)

    used = sum(call.used.tokens if refunds else call.reserved.tokens for call in calls)
    assert used / (200_000 / 60) / elapsed >= 0.95
    assert world.refused <= (0 if not refunds else 6)


def test_announced_limits_are_learnt() -> None:
    """Nothing stated, headers speak: hardly a refusal, and all done within 1.1 times the bound."""
    world = World(3, Limits(), Provider(rpm=6_000, burst=1_000, headers=True, hints=True, spread=0.3))

    elapsed = world.run(3_000)

    assert world.refused <= 0.02 * 3_000
    assert elapsed <= 1.1 * (2_000 / 100 + 1)


@pytest.mark.parametrize("latency", [0.05, 0.2, 1.0, 5.0])
def test_untold_limits_are_found_out(latency: float) -> None:
    """Nothing stated and nothing said but "no": at most 0.3 refusals per answer, within 1.4 times the bound."""
    world = World(4, Limits(), Provider(rpm=600, burst=20, latency=latency, spread=0.3))

    elapsed = world.run(1_000)

    assert world.refused <= 0.3 * 1_000
    assert elapsed <= 1.4 * (980 / 10 + latency)


@pytest.mark.parametrize(("burst", "bound"), [(2.0, 3.0), (5.0, 1.3)])
def test_a_server_that_admits_hardly_any_burst(burst: float, bound: float) -> None:
    """Calls that start together refuse each other there: they are spaced, and the rate is used all the same."""
    world = World(4, Limits(), Provider(rpm=600, burst=burst, spread=0.3))

    elapsed = world.run(400)

    assert elapsed <= bound * (400 / 10 + 1)
    assert world.refused <= 0.3 * 400


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_a_server_that_takes_four_at_once(spread: float) -> None:
    """Beginning with 64 at once: at most 25 refusals in 100 calls, within 1.2 times the bound."""
    world = World(5, Limits(), Provider(cap=4, spread=spread))

    elapsed = world.run(1_000)

    assert world.refused <= 250
    assert elapsed <= 1.2 * 250


def test_capacity_that_comes_back_is_noticed() -> None:
    """Ten times the capacity: five times the width within 30 round trips."""
    world = World(6, Limits(), Provider(cap=4, changes=((100.0, 10.0),)))

    world.run(2_000)

    regrown = next(when for when, width in world.widths if when >= 100 and width >= 20)
    assert regrown <= 100 + 30


def test_an_outage_costs_little_and_loses_nothing() -> None:
    """A minute without anybody there, 32 at once: at most 50 extra requests, and work goes on within five seconds."""
    for seed in range(20):
        world = World(seed, Limits(max_concurrency=32), Provider(outages=((10.0, 70.0),), spread=0.3))

        world.run(1_000)

        answers = [when for when, _, what in world.history if what == "answered"]
        assert len(answers) == 1_000
        assert len(world.starts) - 1_000 <= 50
        assert min(when for when in answers if when > 70) <= 75.0 + 2.0  # and the answer itself takes its time


def test_random_faults_cost_what_they_must() -> None:
    """5 % of calls fail: all are answered, and there are at most 8 % more requests than calls."""
    for seed in range(20):
        world = World(seed, Limits(max_concurrency=50), Provider(failures=0.05, spread=0.3))

        world.run(1_000)

        assert Counter(what for _, _, what in world.history)["answered"] == 1_000
        assert len(world.starts) <= 1_080


def test_a_poison_call_delays_nobody() -> None:
    """One call that always fails: the others take as long as they would without it."""
    limits, provider = Limits(max_concurrency=1, rpm=60_000), Provider(latency=0.5)
    healthy, poisoned = World(7, limits, provider), World(7, limits, replace(provider, poison=frozenset({0})))

    alone = healthy.run(100)
    poisoned.run(100)

    last = max(when for when, number, _ in poisoned.history if number != 0)
    assert last <= alone * 1.1


def test_many_poison_calls_end() -> None:
    """Nothing left but calls that always fail: they fail when their retries are used up, for it is no outage."""
    world = World(8, Limits(max_concurrency=20), Provider(poison=frozenset(range(0, 200, 10))))

    world.run(200)

    ends = Counter(what for _, _, what in world.history if what != "again")
    assert ends == {"answered": 180, "failed": 20}


def test_a_server_that_only_gets_slower_is_not_flooded() -> None:
    """A server with four places that never refuses: growing brings no more tokens a second, so the width stays."""
    world = World(9, Limits(), Provider(batching=4.0, spread=0.2))

    world.run(1_000)

    assert world.peak <= 128


def test_a_server_that_works_in_batches_is_filled() -> None:
    """One that gets more done the more it has at once is given more."""
    world = World(10, Limits(), Provider(batching=400.0, spread=0.2))

    world.run(3_000)

    assert world.peak >= 250


def test_retries_of_one_call_stay_within_its_policy() -> None:
    """No call is tried more often than its policy says, 5xx and timeouts together."""
    world = World(11, Limits(max_concurrency=20), Provider(failures=0.3, hangs=0.1), timeout=5.0)
    world.policy = RetryPolicy(max_retries=2)
    tries: Counter[int] = Counter()
    world.on_start = lambda attempt, now: tries.update([_number(attempt)])  # type: ignore[method-assign]  # to look on

    world.run(many(300))

    assert max(tries.values()) <= 3


def test_an_hour_of_refusals_is_over_when_it_is_over() -> None:
    """Twenty a second are taken, then for an hour as good as none: soon after it all goes on, and few were sent then."""
    spell = 60.0, 3_660.0
    provider = Provider(rpm=1_200.0, burst=20.0, latency=0.2, changes=((spell[0], 1e-9), (spell[1], 1.0)))
    world = World(1, provider=provider)

    seconds = world.run(1_500)

    meanwhile = [at for at in world.starts if spell[0] + 60.0 <= at < spell[1]]
    later = [at for at, _, what in world.history if what == "answered" and at > spell[1]]
    assert len(later) >= 200
    assert later[199] <= spell[1] + 60.0
    assert seconds <= spell[1] + 120.0
    assert len(meanwhile) <= 3_600 / 3.5 + 10


def _number(attempt: Attempt) -> int:
    number: int = attempt.job.payload.number
    return number


def _busiest_minute(starts: list[float]) -> int:
    most = first = 0
    for last, instant in enumerate(starts):
        while starts[first] <= instant - 60 + 1e-6:
            first += 1
        most = max(most, last - first + 1)
    return most
