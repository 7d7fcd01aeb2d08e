"""What must hold in every history: a schedule driven by chance, checked at every step."""

from __future__ import annotations

import random
from math import inf
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llm_fanout.core.job import Attempt, Cost, Job, Outcome, State, Verdict
from llm_fanout.core.quota import Quota
from llm_fanout.core.retry import Again, RetryPolicy
from llm_fanout.core.schedule import Schedule
from llm_fanout.core.stated import Limits

SLOTS, RPM, TPM = 3, 120.0, 1_200.0


class Histories(RuleBasedStateMachine):
    """Jobs come, start, fail, are cancelled; gates close; time passes, also a little too little."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule = Schedule(random.Random(1).random)
        self.quotas = [Quota(Limits(max_concurrency=SLOTS, rpm=RPM, tpm=TPM, burst=2)), Quota(Limits(max_concurrency=1))]
        self.now = 0.0
        self.running: list[Attempt] = []
        self.jobs: list[Job] = []
        self.ends: dict[Job, int] = {}
        self.not_before: dict[Job, float] = {}
        self.gates = dict.fromkeys(self.quotas, -inf)
        self.starts: list[float] = []

    @initialize(start=st.sampled_from([0.0, 1e5, 1.75e9]))
    def begin(self, start: float) -> None:
        self.now = start

    @rule(which=st.integers(0, 1), tokens=st.floats(0, 200), retries=st.integers(0, 3))
    def add(self, which: int, tokens: float, retries: int) -> None:
        job = Job(self.quotas[which], Cost(tokens), RetryPolicy(max_retries=retries, retry_for=300))
        self.jobs.append(job)
        self.schedule.add(job, self.now)
        self.pump()

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        timer = self.schedule.next_timer()
        before = min(self.now + seconds, timer if timer is not None else inf)
        assert before <= self.now or self.schedule.start(self.now + (before - self.now) * 0.999) is None
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
    @rule(
        data=st.data(),
        outcome=st.builds(
            Outcome,
            again=st.sampled_from(Again),
            told=st.one_of(st.none(), st.floats(0, 40)),
            gate=st.booleans(),
            used=st.one_of(st.none(), st.builds(Cost, tokens=st.floats(0, 300))),
        ),
    )
    def finish(self, data: Any, outcome: Outcome) -> None:
        attempt = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        verdict = self.schedule.finish(attempt, outcome, self.now)
        self.note(attempt.job, outcome, verdict)
        self.pump()

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
            self.running.remove(attempt)
            assert self.schedule.finish(attempt, Outcome(), self.now).over
            self.ends[job] = self.ends.get(job, 0) + 1
        self.pump()

    @rule(which=st.integers(0, 1), seconds=st.floats(0, 60))
    def gate(self, which: int, seconds: float) -> None:
        quota = self.quotas[which]
        self.gates[quota] = max(self.gates[quota], self.now + seconds)
        self.schedule.gate(quota, self.now + seconds)

    def note(self, job: Job, outcome: Outcome, verdict: Verdict) -> None:
        if verdict.over:
            self.ends[job] = self.ends.get(job, 0) + 1
            return
        assert verdict.retry_at is not None
        if outcome.told is not None:
            assert verdict.retry_at - self.now - outcome.told + 1e-6 >= 0
            assert verdict.retry_at - self.now - outcome.told <= min(outcome.told * 0.05, 0.25) + 1e-6
        assert verdict.retry_at <= job.first_start + job.retry.retry_for
        self.not_before[job] = verdict.retry_at
        if outcome.gate and outcome.told is not None:
            self.gates[job.quota] = max(self.gates[job.quota], verdict.retry_at)

    def pump(self) -> None:
        while (attempt := self.schedule.start(self.now)) is not None:
            job = attempt.job
            ahead = [other for other in self.jobs if other.quota is job.quota and other.place < job.place]
            assert all(other.state is not State.WAITING for other in ahead), "the head of a line was overtaken"
            assert self.now >= self.not_before.get(job, -inf), "a retry started before its time"
            assert self.now >= self.gates[job.quota], "a start while the gate was closed"
            self.running.append(attempt)
            if job.quota is self.quotas[0]:
                self.starts.append(self.now)

    @invariant()
    def slots_are_kept(self) -> None:
        for quota, slots in zip(self.quotas, (SLOTS, 1), strict=True):
            assert sum(attempt.job.quota is quota for attempt in self.running) <= slots

    @invariant()
    def no_minute_holds_more_than_rpm(self) -> None:
        assert sum(start > self.now - 60 + 1e-6 for start in self.starts) <= RPM

    @invariant()
    def every_job_ends_once(self) -> None:
        for job in self.jobs:
            assert self.ends.get(job, 0) == (job.state is State.OVER)

    @invariant()
    def there_is_always_something_to_wait_for(self) -> None:
        waiting = [job for job in self.jobs if job.state in (State.WAITING, State.PARKED)]
        if waiting and self.schedule.start(self.now) is None:
            timer = self.schedule.next_timer()
            assert self.running or (timer is not None and timer < inf)

    @invariant()
    def tries_are_bounded(self) -> None:
        for job in self.jobs:
            assert job.tries.transient <= job.retry.max_retries + 1

    def teardown(self) -> None:
        for attempt in self.running:
            self.schedule.finish(attempt, Outcome(), self.now)
        for job in self.jobs:
            if job.state is not State.OVER:
                self.schedule.cancel(job)
        assert all(quota._slots.in_use == 0 for quota in self.quotas), "capacity was lost"


Histories.TestCase.settings = settings(max_examples=150, stateful_step_count=60)
TestHistories = Histories.TestCase
