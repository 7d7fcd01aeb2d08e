"""A simulated world of providers in virtual time: buckets, windows, caps, faults, outages, closed accounts; one seed is one
history.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Any

from llm_fanout.core.announced import Announced, Window
from llm_fanout.core.job import Attempt, Choice, Cost, Job, Outcome
from llm_fanout.core.lanes import Lane
from llm_fanout.core.limits import MINUTE, TokenBucket
from llm_fanout.core.pool import Pool
from llm_fanout.core.quota import Quota
from llm_fanout.core.retry import Again, RetryPolicy
from llm_fanout.core.schedule import Schedule
from llm_fanout.core.stated import Limits

REFUSED_AFTER = 0.03  # seconds: a refusal is quick
FAILED_AFTER = 0.01  # so is a refused connection


class Trouble(Exception):
    """What a failed call is given as its error."""


@dataclass
class Provider:
    """The other side. Rates are a minute's; None is no limit.

    Args:
        rpm, tpm: Continuous buckets of these, with `burst` requests (tokens in proportion) at once.
        calendar: Requests in each calendar window instead.
        window: Its seconds.
        cap: Calls at once.
        headers: Whether answers say limit, remaining and reset.
        hints: Whether refusals say when to come back.
        refunds: Whether unused tokens come back.
        latency, spread: Seconds of an answer, and the sigma of their lognormal distribution.
        failures: Share of calls that end in a 5xx.
        hangs: Share of calls that never end (the attempt's timeout ends them).
        outages: From, to: nobody is there.
        closed: From, to: the account is closed, as all answers say.
        changes: (instant, factor): from then on, that many times the rates and the cap.
        poison: Calls that always fail.
        batching: Slows down by in-flight calls, as a GPU server does: at `batching` calls a token takes twice as long.
    """

    rpm: float | None = None
    tpm: float | None = None
    burst: float = 20.0
    calendar: int | None = None
    window: float = MINUTE
    cap: float = inf
    headers: bool = False
    hints: bool = False
    refunds: bool = True
    latency: float = 1.0
    spread: float = 0.0
    failures: float = 0.0
    hangs: float = 0.0
    outages: tuple[tuple[float, float], ...] = ()
    closed: tuple[tuple[float, float], ...] = ()
    changes: tuple[tuple[float, float], ...] = ()
    poison: frozenset[int] = frozenset()
    batching: float | None = None
    busy: int = 0
    begun: float = 0.0
    _factor: float = 1.0

    def open(self, now: float) -> None:
        """Let it begin, with full buckets."""
        self.begun = now
        self._left = float(self.calendar or 0)
        self._window = 0
        self._requests = self._bucket(self.rpm, self.burst, now)
        share = self.burst / self.rpm if self.rpm else 1 / 6
        self._tokens = self._bucket(self.tpm, share * (self.tpm or 0), now)

    def answer(self, draw: random.Random, number: int, cost: Cost, used: Cost, now: float) -> tuple[float, Outcome, bool]:
        """A call arrives: seconds until it ends, how, and whether it is served (and occupies the server)."""
        at = now - self.begun
        self._change(at, now)
        if any(begin <= at < end for begin, end in self.outages):
            return (
                FAILED_AFTER,
                Outcome(Again.TRANSIENT, outage=True, heard=False, elsewhere=True, used=Cost(), error=Trouble("down")),
                False,
            )
        if any(begin <= at < end for begin, end in self.closed):
            error = Trouble("no credit")
            return REFUSED_AFTER, Outcome(closes="credential", closes_at_once=True, used=Cost(), error=error), False
        if self.busy >= self.cap * self._factor:
            busy = Outcome(Again.PUSHBACK, shrink=True, gate=True, elsewhere=True, used=Cost(), error=Trouble("busy"))
            return REFUSED_AFTER, busy, False
        wait = self._wait(cost, now)
        if wait > 0:
            refusal = Outcome(
                Again.PUSHBACK,
                told=wait if self.hints else None,
                gate=True,
                elsewhere=True,
                shrink=not self.hints,
                announced=self._said(now),
                used=Cost(),
                error=Trouble("rate"),
            )
            return REFUSED_AFTER, refusal, False
        self._charge(cost, now)
        if number in self.poison or draw.random() < self.failures:
            failed = Outcome(Again.TRANSIENT, outage=True, elsewhere=True, used=Cost(), error=Trouble("500"))
            return self.latency / 2, failed, True
        if draw.random() < self.hangs:
            return 60.0, Outcome(Again.TRANSIENT, outage=True, heard=False, elsewhere=True, error=Trouble("hang")), True
        took = self.latency * draw.lognormvariate(-(self.spread**2) / 2, self.spread)
        if self.batching:
            took *= 1 + (self.busy + 1) / self.batching
        pace = took / max(used.output, 1.0)
        return took, Outcome(announced=self._said(now), used=used if self.refunds else cost, pace=pace), True

    def settle(self, cost: Cost, used: Cost, now: float) -> None:
        """A call that was served has ended."""
        if self.refunds and self._tokens is not None:
            self._tokens.give(cost.tokens, used.tokens, now)

    def _bucket(self, rate: float | None, burst: float, now: float) -> TokenBucket | None:
        if rate is None:
            return None
        bucket = TokenBucket(rate / MINUTE, burst)
        bucket.take(0.0, now)
        return bucket

    def _change(self, at: float, now: float) -> None:
        factor = 1.0
        for when, what in self.changes:
            factor = what if at >= when else factor
        if factor != self._factor:
            for bucket in filter(None, (self._requests, self._tokens)):
                bucket.retune(TokenBucket(bucket.rate * factor / self._factor, bucket.burst), now)
            self._factor = factor

    def _wait(self, cost: Cost, now: float) -> float:
        waits = [0.0]
        if self._requests is not None:
            waits.append(self._requests.ready_at(1.0, now) - now)
        if self._tokens is not None:
            waits.append(self._tokens.ready_at(cost.tokens, now) - now)
        if self.calendar is not None:
            window = int(now / self.window)
            if window != self._window:
                self._window, self._left = window, float(self.calendar)
            if self._left < 1:
                waits.append((window + 1) * self.window - now)
        return max(waits) if max(waits) > 1e-9 else 0.0

    def _charge(self, cost: Cost, now: float) -> None:
        self._left -= 1
        if self._requests is not None:
            self._requests.take(1.0, now)
        if self._tokens is not None:
            self._tokens.take(cost.tokens, now)

    def _said(self, now: float) -> Announced | None:
        if not self.headers:
            return None
        said: dict[str, Window] = {}
        if self.calendar is not None:
            until = (int(now / self.window) + 1) * self.window - now
            said["requests"] = Window(self.calendar, max(0.0, self._left), until)
        if self._requests is not None:
            said["requests"] = _window(self.rpm or 0, self._requests, now)
        if self._tokens is not None:
            said["tokens"] = _window(self.tpm or 0, self._tokens, now)
        return said  # type: ignore[return-value]  # its keys are dimensions


def _window(limit: float, bucket: TokenBucket, now: float) -> Window:
    # Providers say when all of the limit is back: as if the bucket held a minute's worth, of which this much is missing.
    missing = limit - min(limit, bucket.available(now) + limit - bucket.burst)
    return Window(limit, max(0.0, int(bucket.available(now))), missing / bucket.rate)


RESERVED, USED = Cost.of(50.0, 50.0), Cost.of(50.0, 25.0)


@dataclass
class Call:
    """One call of a world: what it reserves, what it uses, whose it is."""

    number: int
    reserved: Cost = RESERVED
    used: Cost = USED
    lane: object = None


@dataclass
class World:
    """A schedule against a provider, or several, in virtual time.

    `others` are what there is besides: members of one pool, or its `fallbacks`. `history` has (instant, number, what) of
    everything, `sent` (instant, number, which provider) of every request; the counts are the world's own, not the schedule's
    word.
    """

    seed: int
    limits: Limits = field(default_factory=Limits)
    provider: Provider = field(default_factory=Provider)
    timeout: float = inf
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    window: int | None = None
    early: float = 0.0  # seconds by which timers fire too early
    others: tuple[tuple[Limits, Provider], ...] = ()
    fallbacks: bool = False
    history: list[tuple[float, int, str]] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    sent: list[tuple[float, int, int]] = field(default_factory=list)
    widths: list[tuple[float, float]] = field(default_factory=list)
    refused: int = 0
    failed: int = 0
    peak: int = 0
    first_answer: dict[int, float] = field(default_factory=dict)

    def run(self, calls: Iterable[Call] | int, begin: float = 0.0) -> float:
        """Make the calls; the virtual seconds until the last has ended."""
        source = iter(calls if not isinstance(calls, int) else (Call(number) for number in range(calls)))
        self.draw = draw = random.Random(self.seed)
        self.schedule, self.quota = Schedule(draw.random), Quota(self.limits)
        self.providers = {self.quota: self.provider, **{Quota(limits): provider for limits, provider in self.others}}
        self.source = self.quota if self.fallbacks or not self.others else Pool(self.providers)
        for provider in self.providers.values():
            provider.open(begin)
        events: list[tuple[float, int, Attempt, Outcome, bool]] = []
        tie, now, in_flight, open_calls = count(), begin, 0, 0
        more = True
        while True:
            while more and (self.window is None or open_calls < self.window):
                call = next(source, None)
                if call is None:
                    more = False
                    break
                self.schedule.add(self.job(call), now)
                open_calls += 1
            while (attempt := self.schedule.start(now)) is not None:
                in_flight += 1
                self.peak = max(self.peak, in_flight)
                self.starts.append(now)
                self.on_start(attempt, now)
                event = self._send(attempt, now)
                heappush(events, (event[0], next(tie), attempt, event[1], event[2]))
            if not open_calls and not more:
                return now - begin
            timer = self.schedule.next_timer()
            if not events or (timer is not None and timer < events[0][0]):
                assert timer is not None, "nothing in flight and no timer"
                assert timer > now, "a timer that does not move"
                if self.early and timer - self.early > now:
                    assert self.schedule.start(timer - self.early) is None, "it could have started before its timer"
                now = timer
                continue
            now, _, attempt, outcome, served = heappop(events)
            in_flight -= 1
            open_calls -= self._end(attempt, outcome, served, now)

    def job(self, call: Call) -> Job:
        """The job of a call."""
        fallbacks = tuple(
            Choice(quota, call.reserved) for quota in self.providers if self.fallbacks and quota is not self.quota
        )
        lane: Any = call.lane
        return Job(self.source, call.reserved, self.policy, call, lane=lane, fallbacks=fallbacks)

    def on_start(self, attempt: Attempt, now: float) -> None:
        """For whoever wants to look."""

    def _send(self, attempt: Attempt, now: float) -> tuple[float, Outcome, bool]:
        call = attempt.job.payload
        assert isinstance(call, Call)
        quota = attempt.lease.quota
        self.sent.append((now, call.number, list(self.providers).index(quota)))
        took, outcome, served = self.providers[quota].answer(self.draw, call.number, call.reserved, call.used, now)
        self.providers[quota].busy += served
        self.refused += outcome.again is Again.PUSHBACK
        self.failed += outcome.outage
        if took > self.timeout:
            took = self.timeout
            outcome = Outcome(Again.TRANSIENT, outage=True, heard=False, elsewhere=True, error=Trouble("timeout"))
        return now + took, outcome, served

    def _end(self, attempt: Attempt, outcome: Outcome, served: bool, now: float) -> int:
        """How many calls are over by it."""
        call = attempt.job.payload
        assert isinstance(call, Call)
        provider = self.providers[attempt.lease.quota]
        provider.busy -= served
        if served:
            provider.settle(call.reserved, call.used, now)
        verdict = self.schedule.finish(attempt, outcome, now)
        self.widths.append((now, self.quota.width))
        what = "again" if not verdict.over else "answered" if outcome.error is None else "failed"
        self.history.append((now, call.number, what))
        self.history += [(now, job.payload.number, "evicted") for job in verdict.evicted]
        return verdict.over + len(verdict.evicted)


def many(number: int, **given: Cost) -> Iterator[Call]:
    """So many calls, all alike."""
    return (Call(each, **given) for each in range(number))


def random_world(seed: int) -> tuple[World, list[Call]]:
    """Some provider, some limits, some calls: all that the simulation knows, by chance."""
    draw = random.Random(f"world {seed}")
    rpm = draw.choice([None, 60.0, 300.0, 1_200.0, 6_000.0])
    told = rpm is not None and draw.random() < 0.4
    provider = Provider(
        rpm=rpm,
        tpm=draw.choice([None, None, 30_000.0, 120_000.0]),
        burst=draw.choice([5.0, 20.0, 60.0]),
        calendar=draw.choice([None, None, None, 40]) if not told else None,
        window=20.0,
        cap=draw.choice([float("inf"), float("inf"), 3, 12]),
        headers=draw.random() < 0.5,
        hints=draw.random() < 0.5,
        refunds=draw.random() < 0.7,
        latency=draw.choice([0.05, 0.5, 2.0]),
        spread=draw.choice([0.0, 0.3, 1.0]),
        failures=draw.choice([0.0, 0.0, 0.03, 0.15]),
        hangs=draw.choice([0.0, 0.0, 0.02]),
        outages=draw.choice([(), (), ((3.0, 15.0),), ((2.0, 4.0), (6.0, 30.0))]),
        changes=draw.choice([(), (), ((4.0, 0.3), (20.0, 3.0))]),
        poison=frozenset(draw.sample(range(100), draw.choice([0, 0, 2]))),
        batching=draw.choice([None, None, 10.0]),
    )
    limits = Limits(
        max_concurrency=draw.choice([None, 1, 10, 100]),
        rpm=provider.rpm if told else None,
        burst=max(1.0, 0.8 * provider.burst) if told else None,
        tpm=provider.tpm if told else None,
        adapt=draw.random() < 0.9 if told else True,
    )
    lanes = [Lane(weight=draw.choice([1.0, 3.0])) for _ in range(draw.choice([1, 3]))]
    calls = []
    for number in range(draw.choice([20, 60, 150])):
        size, output = draw.uniform(10, 300), draw.uniform(10, 200)
        reserved = Cost.of(size, output * draw.choice([1.0, 4.0]))
        calls.append(Call(number, reserved, Cost.of(size, output), draw.choice(lanes)))
    world = World(seed, limits, provider, timeout=10.0, window=draw.choice([None, 30]), early=draw.choice([0.0, 0.0004]))
    return world, calls
