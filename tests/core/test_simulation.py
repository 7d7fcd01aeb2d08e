"""A provider's world in virtual time: the schedule against quotas, failures and refusals, seed by seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

import pytest

from llm_fanout.core.job import Attempt, Cost, Job, Outcome
from llm_fanout.core.limits import TokenBucket
from llm_fanout.core.quota import Quota
from llm_fanout.core.retry import Again, RetryPolicy
from llm_fanout.core.schedule import Schedule
from llm_fanout.core.stated import Limits


@dataclass
class World:
    """A provider with its own buckets, that fails now and then; one seed is one history."""

    seed: int
    limits: Limits
    server_burst: float = 25.0
    failures: float = 0.0
    poison: int | None = None
    history: list[tuple[float, int, str]] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    peak: int = 0
    refused: int = 0

    def run(self, jobs: int, begin: float = 0.0) -> float:
        """Send `jobs` calls; the virtual seconds that they took."""
        draw = random.Random(self.seed)
        schedule, quota = Schedule(draw.random), Quota(self.limits)
        server = TokenBucket((self.limits.rpm or 1e9) / 60, self.server_burst)
        server.take(0, begin)
        events: list[tuple[float, int, Attempt, Outcome]] = []
        tie, now, in_flight, over = count(), begin, 0, 0
        for number in range(jobs):
            schedule.add(Job(quota, Cost(100), RetryPolicy(max_retries=50 if number != self.poison else 3), number), now)
        while over < jobs:
            while (attempt := schedule.start(now)) is not None:
                in_flight += 1
                self.peak = max(self.peak, in_flight)
                self.starts.append(now)
                outcome = self._answer(draw, server, attempt, now)
                heappush(events, (now + draw.lognormvariate(0, 0.4), next(tie), attempt, outcome))
            timer = schedule.next_timer()
            if not events or (timer is not None and timer < events[0][0]):
                assert timer is not None, "nothing in flight and no timer"
                assert timer > now, "a timer that does not move"
                now = timer
                continue
            now, _, attempt, outcome = heappop(events)
            in_flight -= 1
            verdict = schedule.finish(attempt, outcome, now)
            over += verdict.over
            self.history.append((now, int(str(attempt.job.payload)), "over" if verdict.over else "again"))
        return now - begin

    def _answer(self, draw: random.Random, server: TokenBucket, attempt: Attempt, now: float) -> Outcome:
        if server.ready_at(1, now) > now:
            self.refused += 1
            return Outcome(Again.PUSHBACK, told=server.ready_at(1, now) - now, gate=True)
        server.take(1, now)
        if attempt.job.payload == self.poison or draw.random() < self.failures:
            return Outcome(Again.TRANSIENT)
        return Outcome(used=Cost(draw.uniform(20, 100)))


@pytest.mark.parametrize("seed", range(40))
def test_every_call_ends_and_the_quota_is_kept(seed: int) -> None:
    """With one call in ten failing: everything ends once, no refusal, no slot too many, no minute above rpm."""
    world = World(seed, Limits(max_concurrency=20, rpm=600, burst=10), failures=0.1)

    seconds = world.run(400, begin=[0.0, 1e5, 1.75e9][seed % 3])

    ended = [number for _, number, what in world.history if what == "over"]
    assert sorted(ended) == list(range(400))
    assert world.refused == 0
    assert world.peak <= 20
    assert _busiest_minute(world.starts) <= 600
    assert len(world.starts) / (10 * seconds) >= 0.9


def test_utilisation_of_a_told_quota() -> None:
    """600 requests a minute, 3,000 calls, slots enough: at least 97 % of the quota is used, and nothing is refused."""
    world = World(1, Limits(max_concurrency=200, rpm=600))

    world.run(3_000)

    span = world.starts[-1] - world.starts[0]
    assert len(world.starts) / (10 * span) >= 0.97
    assert world.refused == 0


def test_one_seed_is_one_history() -> None:
    """The same seed gives the same history to the last bit, another seed another one."""
    histories = []
    for seed in (5, 5, 6):
        world = World(seed, Limits(max_concurrency=7, rpm=6_000), failures=0.3)
        world.run(200)
        histories.append(world.history)

    assert histories[0] == histories[1] != histories[2]


def test_a_poison_call_delays_nobody() -> None:
    """One call that always fails: the others take as long as they would without it."""
    limits = Limits(max_concurrency=1, rpm=60_000)
    healthy, poisoned = World(3, limits, server_burst=1e6), World(3, limits, server_burst=1e6, poison=0)

    alone = healthy.run(100)
    poisoned.run(100)

    last = max(when for when, number, _ in poisoned.history if number != 0)
    assert last <= alone * 1.25


def test_a_server_that_takes_four_at_once() -> None:
    """Refused above four at once, fifty wide, without a hint: everything ends, with few refusals, near the bound."""
    draw = random.Random(4)
    schedule, quota = Schedule(draw.random), Quota(Limits(max_concurrency=50))
    for number in range(400):
        schedule.add(Job(quota, payload=number), 0.0)
    events: list[tuple[float, int, Attempt, Outcome]] = []
    tie, now, busy, over, refused = count(), 0.0, 0, 0, 0
    while over < 400:
        while (attempt := schedule.start(now)) is not None:
            if busy < 4:
                busy += 1
                heappush(events, (now + 1.0, next(tie), attempt, Outcome()))
            else:
                refused += 1
                error = RuntimeError("busy")
                heappush(events, (now + 0.05, next(tie), attempt, Outcome(Again.PUSHBACK, shrink=True, error=error)))
        timer = schedule.next_timer()
        if timer is not None and (not events or timer < events[0][0]):
            now = timer
            continue
        now, _, attempt, outcome = heappop(events)
        busy -= outcome.error is None
        over += schedule.finish(attempt, outcome, now).over

    assert now <= 1.5 * 400 / 4
    assert refused <= 400


def test_refusals_of_a_smaller_server_are_survived() -> None:
    """Told twice the server's quota, nothing is lost: refusals say when, and everybody waits."""
    world = World(9, Limits(max_concurrency=50, rpm=1_200, burst=40), server_burst=10)

    world.run(300)

    assert world.refused > 0
    assert {number for _, number, what in world.history if what == "over"} == set(range(300))


def _busiest_minute(starts: list[float]) -> int:
    most = first = 0
    for last, instant in enumerate(starts):
        while starts[first] <= instant - 60 + 1e-6:
            first += 1
        most = max(most, last - first + 1)
    return most
