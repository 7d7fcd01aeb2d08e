"""One unit of work, its attempts, and what is said of them."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from math import inf

import pytest

from llm_fanout.core.job import OVER, Attempt, Cost, Job, Outcome, State, Verdict
from llm_fanout.core.quota import Quota
from llm_fanout.core.retry import Again, Tries


def test_a_cost_counts_input_and_output_together_and_apart() -> None:
    """Both are tokens of the total, and it is one request."""
    cost = Cost.of(30.0, 12.0)

    assert cost == Cost(tokens=42.0, requests=1.0, input=30.0, output=12.0)


def test_a_cost_is_one_request_unless_more_is_said() -> None:
    """Without tokens, an attempt still is a request."""
    assert Cost() == (0.0, 1.0, 0.0, 0.0)


def test_a_new_job_waits_and_has_spent_nothing() -> None:
    """It has no attempt behind it, no failure counted, and no end in sight."""
    job = Job(Quota())

    assert (job.state, job.attempts, job.tries, job.running, job.cancelled) == (State.WAITING, 0, None, None, False)
    assert (job.cost, job.first_start, job.deadline) == (Cost(), inf, inf)


def test_jobs_alike_are_not_the_same() -> None:
    """Two units of work are two, whatever they have in common; each can be a key."""
    quota = Quota()
    one, other = Job(quota, payload="x"), Job(quota, payload="x")

    assert one != other
    assert len({one, other}) == 2


def test_an_attempt_is_not_timed_until_somebody_does() -> None:
    """It knows its job, its lease and its start; its end is open."""
    quota = Quota()
    job, lease = Job(quota), quota.take(Cost(), 5.0)

    attempt = Attempt(job, lease, 5.0)

    assert (attempt.job, attempt.lease, attempt.started_at) == (job, lease, 5.0)
    assert (attempt.ends_at, attempt.left, attempt.late, attempt.task) == (inf, inf, False, None)


def test_an_outcome_is_an_answer_unless_more_is_said() -> None:
    """By default the other side answered, nothing went wrong, and how much was used is not known."""
    outcome = Outcome()

    assert (outcome.error, outcome.again, outcome.heard, outcome.used) == (None, Again.NO, True, None)
    assert [outcome.gate, outcome.shrink, outcome.outage] == [False] * 3


@pytest.mark.parametrize(("verdict", "over"), [(OVER, True), (Verdict(too_long=9.0), True), (Verdict(0.0), False)])
def test_a_job_is_over_unless_it_is_tried_again(verdict: Verdict, over: bool) -> None:
    """Whoever has an instant for another try goes on, be it the instant 0."""
    assert verdict.over is over


def test_a_verdict_does_not_change() -> None:
    """`OVER` is shared by all jobs."""
    with pytest.raises(FrozenInstanceError):
        OVER.retry_at = 5.0  # type: ignore[misc]  # the mistake under test


def test_a_job_may_be_what_another_was() -> None:
    """As urgent, and as long on its way, with the tries that are left; the timer of the other is not its own."""
    job, other = Job(Quota()), Job(Quota(), rank=0, added_at=3.0, first_start=4.0)
    other.tries = Tries(transient=2, until=9.0)

    job.replace(other)
    job.replace(other)

    assert (job.rank, job.added_at, job.first_start) == (0, 3.0, 4.0)
    assert job.tries == Tries(transient=2)
    job.replace(Job(Quota()))
    assert job.tries is None
