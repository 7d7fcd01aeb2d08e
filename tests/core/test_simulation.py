"""A provider's world in virtual time: the schedule against quotas, failures, refusals and outages, seed by seed.

One seed is one history. A failing seed is named in the assertion; `uv run pytest tests/core/test_simulation.py --seed N`
replays it, and `--seeds N` runs the first N (1,000 by default).
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from math import inf

import pytest
from world import Call, Provider, World, many, random_world

from llm_fanout.core.job import Attempt, Cost
from llm_fanout.core.lanes import Lane
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


def counts(world: World) -> Counter[str]:
    """How the calls ended."""
    return Counter(what for _, _, what in world.history if what != "again")


def asked(world: World) -> Counter[int]:
    """How many requests each provider got."""
    return Counter(which for _, _, which in world.sent)


KEYS = {
    "requests": (Limits(rpm=600), Provider(rpm=600, burst=20), Limits(rpm=1_800), Provider(rpm=1_800, burst=60), 40.0),
    "tokens": (Limits(tpm=60_000), Provider(tpm=60_000), Limits(tpm=180_000), Provider(tpm=180_000), 40.0),
    "slots": (Limits(max_concurrency=10), Provider(cap=10), Limits(max_concurrency=30), Provider(cap=30), 40.0),
    "mixed": (Limits(max_concurrency=10), Provider(cap=10), Limits(rpm=1_800), Provider(rpm=1_800, burst=60), 40.0),
}


@pytest.mark.parametrize("what", KEYS)
def test_two_keys_are_used_up_together(what: str) -> None:
    """Whatever each of them is short of: all is done within 3 % of what both could do at best."""
    limits, provider, other_limits, other, per_second = KEYS[what]
    world = World(1, limits, provider, others=((other_limits, other),))

    elapsed = world.run(many(3_000, reserved=Cost.of(50.0, 50.0), used=Cost.of(50.0, 50.0)))

    assert elapsed <= 1.03 * (3_000 / per_second + provider.latency)
    assert counts(world) == {"answered": 3_000}


def test_two_unknown_keys_are_found_out_together() -> None:
    """Nothing stated of either: both are found out, and used within 1.3 times the bound."""
    others = ((Limits(), Provider(rpm=1_800, burst=60, hints=True)),)
    world = World(2, Limits(), Provider(rpm=600, burst=20, hints=True), others=others)

    elapsed = world.run(3_000)

    assert elapsed <= 1.3 * (3_000 / 40 + 1)
    assert counts(world) == {"answered": 3_000}


FOREVER = ((0.0, inf),)


@pytest.mark.parametrize("calls", [3, 1_000])
@pytest.mark.parametrize("dead", [Provider(outages=FOREVER), Provider(closed=FOREVER), Provider(hangs=1.0)])
def test_a_member_that_never_answered_costs_nobody(dead: Provider, calls: int) -> None:
    """One key of three is dead from the beginning: all calls are answered, however few, and few requests go there."""
    alive = tuple((Limits(max_concurrency=10), Provider()) for _ in range(2))
    world = World(3, Limits(max_concurrency=10), dead, timeout=2.0, others=alive)

    elapsed = world.run(calls)

    assert counts(world) == {"answered": calls}
    assert asked(world)[0] <= 10 + elapsed / 3.5 + 6
    assert elapsed <= 1.1 * max(calls / 20, 1.0) + 4.0


def test_a_member_that_dies_and_comes_back_is_used_again() -> None:
    """Half a minute without it: nothing is lost, few requests go there meanwhile, and then it has its share again."""
    dying = Provider(outages=((10.0, 40.0),))
    world = World(4, Limits(max_concurrency=10), dying, others=((Limits(max_concurrency=10), Provider()),))

    elapsed = world.run(1_200)

    meanwhile = [at for at, _, which in world.sent if which == 0 and 11.0 <= at < 40.0]
    assert counts(world) == {"answered": 1_200}
    assert len(meanwhile) <= 15
    assert elapsed <= 1.1 * (10 + 30 * 2 + (1_200 - 200 - 300 - 200) / 20)


def test_refusals_of_one_member_bind_only_that() -> None:
    """A key of which others have taken the rate is told to wait again and again: the other is used all the same."""
    world = World(5, Limits(), Provider(rpm=60, burst=1, hints=True), others=((Limits(max_concurrency=10), Provider()),))

    elapsed = world.run(600)

    assert counts(world) == {"answered": 600}
    assert elapsed <= 1.05 * 600 / 11


@pytest.mark.parametrize("policy", [RetryPolicy(), RetryPolicy(max_retries=0), RetryPolicy(retry_for=30.0)])
def test_fallbacks_take_over_and_give_back(policy: RetryPolicy) -> None:
    """A provider dies half-way: 400 of 400 are answered, none twice; when it is back, calls go there again."""
    dying, spare = Provider(outages=((10.0, 30.0),)), Provider(latency=2.0)
    world = World(6, Limits(max_concurrency=10), dying, others=((Limits(max_concurrency=10), spare),), fallbacks=True)
    world.policy, world.window = policy, 20

    world.run(400)

    by = {when: [which for at, _, which in world.sent if when[0] <= at < when[1]] for when in ((0, 10), (12, 30), (36, 999))}
    assert counts(world) == {"answered": 400}
    assert set(by[0, 10]) == {0}
    assert by[12, 30].count(0) <= 10
    assert set(by[36, 999]) == {0}


def test_a_fallback_is_not_overrun() -> None:
    """It has limits of its own, which hold."""
    spare = Limits(max_concurrency=3, rpm=120), Provider(rpm=120, burst=3, cap=3, hints=True)
    world = World(7, Limits(max_concurrency=50), Provider(outages=((5.0, inf),)), others=(spare,), fallbacks=True)
    world.window = 100

    world.run(400)

    ended = counts(world)
    assert ended["answered"] == 400
    assert _busiest_minute([at for at, _, which in world.sent if which == 1]) <= 120


@pytest.mark.parametrize("closed", [(0.0, inf), (3.0, inf)])
def test_a_closed_account_is_asked_no_more(closed: tuple[float, float]) -> None:
    """200 calls, 32 at once: those under way meet it, at most 32, and the others are handed back unsent."""
    world = World(8, Limits(max_concurrency=32), Provider(closed=(closed,), spread=0.3))

    world.run(200)

    late = [at for at, _, _ in world.sent if at >= closed[0]]
    ended = counts(world)
    assert len(late) <= 32
    assert ended["failed"] == len(late)
    assert ended["evicted"] == 200 - len(world.sent)


def test_one_closed_account_of_two_is_left_alone() -> None:
    """Calls that met it are answered by the other; nobody is lost, nobody asks again."""
    others = ((Limits(max_concurrency=10), Provider()),)
    world = World(9, Limits(max_concurrency=10), Provider(closed=((5.0, inf),)), others=others)

    world.run(400)

    assert counts(world) == {"answered": 400}
    assert sum(which == 0 and at >= 5.0 for at, _, which in world.sent) <= 10


def test_a_closed_provider_hands_over_to_its_fallback() -> None:
    """The same where the other is a fallback, for all that wait."""
    others = ((Limits(max_concurrency=10), Provider()),)
    world = World(10, Limits(max_concurrency=10), Provider(closed=((5.0, inf),)), others=others, fallbacks=True)

    world.run(400)

    assert counts(world) == {"answered": 400}
    assert sum(which == 0 and at >= 5.0 for at, _, which in world.sent) <= 10


def test_lanes_share_a_pool_by_weight() -> None:
    """Two agents with work enough on two keys of different size: the shares are right to within 5 %, at any time."""
    heavy, light = Lane(weight=3.0), Lane()
    calls = [Call(number, lane=heavy if number % 2 else light) for number in range(4_000)]
    others = ((Limits(max_concurrency=30), Provider(cap=30)),)
    world = World(11, Limits(rpm=600), Provider(rpm=600), others=others)

    world.run(calls)

    for until in (500, 1_000, 2_000):
        served = sum(number % 2 for _, number, _ in world.sent[:until])
        assert served == pytest.approx(0.75 * until, rel=0.05)
