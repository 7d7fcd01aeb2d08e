"""One timer for each job and line."""

from __future__ import annotations

from math import inf

from llm_fanout.core.job import Job, State
from llm_fanout.core.line import Line
from llm_fanout.core.quota import Quota
from llm_fanout.core.timers import Timers, tries_of


def a_job() -> Job:
    """A job that is parked."""
    return Job(Quota(), state=State.PARKED)


def test_they_come_in_their_order_and_once() -> None:
    """Those whose instant has come, equals in the order in which they were set."""
    timers, jobs = Timers(), [a_job() for _ in range(4)]
    for job, at in zip(jobs, (3.0, 1.0, 1.0, 9.0), strict=True):
        timers.set(job, at)

    early = list(timers.due(0.9))
    due = list(timers.due(3.0))

    assert early == []
    assert due == [jobs[1], jobs[2], jobs[0]]
    assert len(timers) == 1


def test_a_job_has_one() -> None:
    """The latest that was set counts, be it earlier or later than the one before."""
    timers, job = Timers(), a_job()

    timers.set(job, 5.0)
    timers.set(job, 8.0)
    timers.set(job, 7.0)

    assert list(timers.due(6.0)) == []
    assert list(timers.due(7.0)) == [job]
    assert list(timers.due(9.0)) == []


def test_never_is_no_timer() -> None:
    """Nothing is set for it, and what was set counts no more."""
    timers, job, line = Timers(), a_job(), Line(Quota())
    timers.set(job, 1.0)

    timers.set(job, inf)
    timers.wake(line, inf)

    assert list(timers.due(1e12)) == []


def test_a_line_keeps_the_earliest() -> None:
    """It is looked at then, and sets another if that is too early."""
    timers, line = Timers(), Line(Quota())

    timers.wake(line, 5.0)
    timers.wake(line, 8.0)
    timers.wake(line, 3.0)

    assert list(timers.due(4.0)) == [line]
    assert list(timers.due(9.0)) == []


def test_what_was_forgotten_does_not_ring() -> None:
    """Forgetting again, or what has none, does no harm."""
    timers, jobs = Timers(), [a_job() for _ in range(5)]
    for job in jobs:
        timers.set(job, 1.0)

    timers.forget(jobs[0])
    timers.forget(jobs[0])
    timers.forget(a_job())
    timers.forget(Job(Quota(), tries=tries_of(a_job())))

    assert list(timers.due(1.0)) == jobs[1:]


def test_those_that_count_no_more_do_not_pile_up() -> None:
    """Once they are the greater part they are swept, be they an hour away."""
    timers, jobs, line = Timers(), [a_job() for _ in range(100)], Line(Quota())
    timers.wake(line, 3_600.0)
    for job in jobs:
        timers.set(job, 3_600.0)

    for job in jobs[1:]:
        timers.forget(job)

    assert len(timers) <= 4
    assert list(timers.due(3_600.0)) == [line, jobs[0]]


def test_the_parked_are_known() -> None:
    """Not those that wait in a line and have a timer all the same, nor those that count no more."""
    timers, parked, waiting, gone = Timers(), a_job(), a_job(), a_job()
    waiting.state = State.WAITING
    for job in (parked, waiting, gone, parked):
        timers.set(job, 5.0 if job is not parked else 6.0)
    timers.wake(Line(Quota()), 1.0)
    timers.set(gone, inf)

    assert set(timers.parked()) == {parked}
