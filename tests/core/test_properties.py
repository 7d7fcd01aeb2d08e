"""What must hold in every history: a schedule driven by chance, checked at every step."""

from __future__ import annotations

import random
from math import inf
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llm_fanout.core.announced import Window
from llm_fanout.core.job import Attempt, Choice, Cost, Job, Outcome, State, Verdict
from llm_fanout.core.lanes import BACKGROUND, DEFAULT, INTERACTIVE, Lane
from llm_fanout.core.pool import Pool
from llm_fanout.core.quota import Quota
from llm_fanout.core.retry import Again, RetryPolicy
from llm_fanout.core.schedule import Schedule
from llm_fanout.core.source import Source
from llm_fanout.core.stated import Limits

SLOTS, RPM, TPM = 3, 120.0, 1_200.0
STATED = Limits(max_concurrency=SLOTS, rpm=RPM, tpm=TPM, burst=2)
RATE, BURST = TPM / 60, 2 / RPM * TPM

outcomes = st.builds(
    Outcome,
    again=st.sampled_from(Again),
    told=st.one_of(st.none(), st.floats(0, 40)),
    gate=st.booleans(),
    shrink=st.booleans(),
    outage=st.booleans(),
    heard=st.booleans(),
    announced=st.one_of(
        st.none(),
        st.fixed_dictionaries(
            {"requests": st.builds(Window, limit=st.floats(1, 600), remaining=st.floats(0, 600), reset=st.floats(0, 60))}
        ),
    ),
    used=st.one_of(st.none(), st.floats(0, 300).map(Cost)),
    elsewhere=st.booleans(),
    pace=st.one_of(st.none(), st.floats(0.001, 1)),
    error=st.one_of(st.none(), st.just(RuntimeError("failed"))),
)
closings = st.builds(
    Outcome,
    elsewhere=st.booleans(),
    closes=st.sampled_from(["quota", "credential"]),
    closes_at_once=st.booleans(),
    error=st.just(RuntimeError("closed")),
)


class Histories(RuleBasedStateMachine):
    """Jobs come, start, fail, move on, are cancelled, lend their slots; gates and accounts close, lanes pause; time passes.

    The first quota is stated, the others learn; the second and the third make a pool, and share a credential.
    """

    def __init__(self) -> None:
        super().__init__()
        self.schedule = Schedule(random.Random(1).random)
        self.quotas = [Quota(STATED), Quota(), Quota(Limits(max_concurrency=2), kin=lambda _: self.quotas[1:2])]
        self.sources: list[Source] = [*self.quotas, Pool(self.quotas[1:])]
        top = Lane()
        self.lanes = [Lane(), Lane(weight=3), Lane(top), Lane(top, max_concurrency=2)]
        self.now = 0.0
        self.running: list[Attempt] = []
        self.lent: list[Attempt] = []
        self.returning: list[Attempt] = []
        self.jobs: list[Job] = []
        self.ends: dict[Job, int] = {}
        self.not_before: dict[tuple[Job, Source], float] = {}  # of a job where it is, by quota if it was told there
        self.gates = dict.fromkeys(self.quotas, -inf)
        self.starts: list[float] = []
        self.reserved: list[tuple[float, float]] = []  # instants and tokens, of the first quota
        self.largest = self.given_back = 0.0

    @initialize(start=st.sampled_from([0.0, 1e5, 1.75e9]))
    def begin(self, start: float) -> None:
        self.now = start

    @rule(
        which=st.permutations(range(4)),
        choices=st.integers(1, 3),
        tokens=st.floats(0, 200),
        retries=st.integers(0, 3),
        lane=st.integers(0, 3),
        rank=st.sampled_from([INTERACTIVE, DEFAULT, DEFAULT, BACKGROUND]),
    )
    def add(self, which: list[int], choices: int, tokens: float, retries: int, lane: int, rank: int) -> None:
        policy = RetryPolicy(max_retries=retries, retry_for=300)
        source, *others = [self.sources[each] for each in which[:choices]]
        fallbacks = tuple(Choice(other, Cost(tokens)) for other in others)
        job = Job(source, Cost(tokens), policy, lane=self.lanes[lane], rank=rank, fallbacks=fallbacks)
        self.jobs.append(job)
        self.schedule.add(job, self.now)
        self.pump()

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        timer = self.schedule.next_timer()
        before = min(self.now + seconds, timer if timer is not None else inf)
        early = self.now + (before - self.now) * 0.999
        assert early >= before or self.schedule.start(early) is None, "it could have started before its timer"
        self.now += seconds
        self.pump()

    @precondition(lambda self: self.schedule.next_timer() is not None)
    @rule(early=st.sampled_from([0.0, 0.0004]))
    def ring(self, early: float) -> None:
        timer = self.schedule.next_timer()
        assert timer is not None
        self.now = max(self.now, timer - early)
        self.pump()
        self.now = max(self.now, timer)
        self.pump()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=outcomes)
    def finish(self, data: Any, outcome: Outcome) -> None:
        self.finish_one(data, outcome)

    def finish_one(self, data: Any, outcome: Outcome) -> None:
        attempt = self.running[data.draw(st.integers(0, len(self.running) - 1))]
        self.end(attempt, outcome)
        self.pump()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=closings)
    def refuse(self, data: Any, outcome: Outcome) -> None:
        self.finish_one(data, outcome)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        job = self.jobs[data.draw(st.integers(0, len(self.jobs) - 1))]
        if job.state is State.OVER:
            return
        attempts = self.schedule.cancel(job)
        if not attempts:
            self.ends[job] = self.ends.get(job, 0) + 1
        for attempt in attempts:
            assert self.end(attempt, Outcome(Again.TRANSIENT, heard=False)).over
        self.pump()

    @precondition(lambda self: set(self.running) - set(self.lent))
    @rule(data=st.data())
    def lend(self, data: Any) -> None:
        holding = [attempt for attempt in self.running if attempt not in self.lent]
        attempt = holding[data.draw(st.integers(0, len(holding) - 1))]
        self.lent.append(attempt)
        self.schedule.lend(attempt)
        self.pump()

    @precondition(lambda self: set(self.lent) - set(self.returning))
    @rule()
    def reclaim(self) -> None:
        attempt = next(attempt for attempt in self.lent if attempt not in self.returning)
        self.returning.append(attempt)
        self.schedule.reclaim(attempt)
        self.pump()

    @rule(which=st.integers(0, 2), seconds=st.floats(0, 60))
    def gate(self, which: int, seconds: float) -> None:
        quota = self.quotas[which]
        self.gates[quota] = max(self.gates[quota], self.now + seconds)
        self.schedule.gate(quota, self.now + seconds)

    @rule(lane=st.integers(0, 3))
    def pause_or_resume(self, lane: int) -> None:
        if self.lanes[lane].paused:
            self.schedule.resume(self.lanes[lane])
        else:
            self.schedule.pause(self.lanes[lane])
        self.pump()

    def end(self, attempt: Attempt, outcome: Outcome) -> Verdict:
        job = attempt.job
        for attempts in (self.running, self.lent, self.returning):
            if attempt in attempts:
                attempts.remove(attempt)
        quota, source = attempt.lease.quota, job.source
        if quota is self.quotas[0] and outcome.used is not None:
            self.given_back += max(0.0, attempt.lease.cost.tokens - outcome.used.tokens)
        verdict = self.schedule.finish(attempt, outcome, self.now)
        for evicted in verdict.evicted:
            self.ends[evicted] = self.ends.get(evicted, 0) + 1
        told = outcome.told if outcome.again is not Again.NO else None
        if told is not None and outcome.gate:
            self.gates[quota] = max(self.gates[quota], self.now + told if quota.gate >= self.now + told else -inf)
        if verdict.over:
            self.ends[job] = self.ends.get(job, 0) + 1
            return verdict
        assert verdict.retry_at is not None
        if job.source is not source:
            return verdict
        assert verdict.retry_at <= job.first_start + job.retry.retry_for
        self.not_before[job, source] = verdict.retry_at
        if told is not None:
            self.not_before[job, quota] = self.now + told
        if told is not None and quota is source:
            assert verdict.retry_at - self.now - told + 1e-6 >= 0
            assert verdict.retry_at - self.now - told <= min(told * 0.05, 0.25) + 1e-6
        return verdict

    def pump(self) -> None:
        while (attempt := self.schedule.start(self.now)) is not None:
            if attempt in self.running:
                self.lent.remove(attempt)
                self.returning.remove(attempt)
                continue
            self.started(attempt)

    def started(self, attempt: Attempt) -> None:
        job = attempt.job
        lane = job.lane
        assert lane is not None
        assert not lane.paused, "a start in a paused lane"
        quota = attempt.lease.quota
        alike = [other for other in self.jobs if (other.branch, other.rank) == (job.branch, job.rank)]
        ahead = [other for other in alike if other.place < job.place]
        assert quota in job.source.members
        assert all(other.state is not State.WAITING for other in ahead), "the head of a line was overtaken"
        assert self.now >= self.not_before.get((job, job.source), -inf), "a retry started before its time"
        assert self.now >= self.not_before.get((job, quota), -inf), "a retry started before it was told to"
        assert self.now >= self.gates[quota], "a start while the gate was closed"
        assert quota.closure is None or quota.access.probe is attempt.lease, "a start where it is closed"
        assert not any(other.lease.quota is quota for other in self.returning), "a start before a slot was returned"
        self.running.append(attempt)
        if quota is self.quotas[0]:
            self.starts.append(self.now)
            self.reserved.append((self.now, job.cost.tokens))
            self.largest = max(self.largest, job.cost.tokens)

    @invariant()
    def slots_are_kept(self) -> None:
        for quota in self.quotas:
            holding = [each for each in self.running if each.lease.quota is quota and each not in self.lent]
            assert len(holding) == quota.slots.in_use
        assert self.quotas[0].slots.in_use <= SLOTS + len(self.lent)

    @invariant()
    def lanes_keep_their_bounds(self) -> None:
        bounded = self.lanes[3]
        assert bounded.running == sum(attempt.job.lane is bounded for attempt in self.running) <= 2

    @invariant()
    def no_minute_holds_more_than_rpm(self) -> None:
        assert sum(start > self.now - 60 + 1e-6 for start in self.starts) <= RPM

    @invariant()
    def no_window_holds_more_than_the_rate(self) -> None:
        """Tokens reserved in any window that ends now are bounded by burst, rate, and what was given back in all."""
        taken = 0.0
        for when, tokens in reversed(self.reserved):
            taken += tokens
            bound = max(BURST, self.largest) + RATE * (self.now - when) + self.given_back
            assert taken <= bound + 1e-3

    @invariant()
    def every_job_ends_once(self) -> None:
        for job in self.jobs:
            assert self.ends.get(job, 0) == (job.state is State.OVER)

    @invariant()
    def there_is_always_something_to_wait_for(self) -> None:
        waiting = [job for job in self.jobs if job.state in (State.WAITING, State.PARKED)]
        free = [job for job in waiting if job.lane is not None and not job.lane.paused]
        if free and self.schedule.start(self.now) is None:
            timer = self.schedule.next_timer()
            assert self.running or (timer is not None and timer < inf)

    @invariant()
    def tries_are_bounded(self) -> None:
        for job in self.jobs:
            assert job.tries is None or job.tries.transient <= job.retry.max_retries + 1

    def teardown(self) -> None:
        for attempt in list(self.running):
            self.schedule.finish(attempt, Outcome(), self.now)
        for job in self.jobs:
            if job.state is not State.OVER:
                self.schedule.cancel(job)
        assert all(quota.slots.in_use == 0 for quota in self.quotas), "capacity was lost"
        assert self.lanes[3].running == 0, "a lane counts calls that have ended"


Histories.TestCase.settings = settings(
    max_examples=150, stateful_step_count=60, phases=(Phase.explicit, Phase.generate, Phase.shrink)
)
TestHistories = Histories.TestCase
