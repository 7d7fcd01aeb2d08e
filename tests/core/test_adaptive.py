"""The width that follows what the other side can take."""

from __future__ import annotations

import pytest

from llm_fanout.core.adaptive import Adaptive
from llm_fanout.core.job import Cost, Job, Outcome
from llm_fanout.core.limits import Slots
from llm_fanout.core.quota import Lease, Quota, Signal
from llm_fanout.core.retry import Again
from llm_fanout.core.schedule import Schedule
from llm_fanout.core.stated import Limits


def filled(size: int) -> tuple[Quota, list[Lease]]:
    """A quota all of whose slots are taken."""
    quota = Quota(Limits(max_concurrency=size))
    return quota, [quota.take(Cost(), 0.0) for _ in range(size)]


def test_a_burst_of_refusals_cuts_once() -> None:
    """All calls that were admitted under one width and refused together are one piece of news."""
    quota, leases = filled(100)

    for lease in leases:
        quota.give(lease, None, 0.0, Signal.PUSHBACK)

    assert quota.width == 75


def test_the_next_episode_cuts_again() -> None:
    """A refusal of a call that was admitted after the cut is news; it never cuts below one."""
    quota = Quota(Limits(max_concurrency=4))

    widths = []
    for _ in range(5):
        leases = [quota.take(Cost(), 0.0) for _ in range(quota.width)]
        for lease in leases:
            quota.give(lease, None, 0.0, Signal.PUSHBACK)
        widths.append(quota.width)

    assert widths == [3, 2, 1, 1, 1]


def test_a_cut_starts_from_what_was_in_use() -> None:
    """Of a hundred slots eight were used: after a refusal there are six."""
    quota = Quota(Limits(max_concurrency=100))
    leases = [quota.take(Cost(), 0.0) for _ in range(8)]

    quota.give(leases[0], None, 0.0, Signal.PUSHBACK)

    assert quota.width == 6


def test_old_successes_give_no_credit() -> None:
    """What was admitted before the cut says nothing about the width after it."""
    quota, leases = filled(40)
    quota.give(leases.pop(), None, 0.0, Signal.PUSHBACK)

    for lease in leases:
        quota.give(lease, None, 0.0, Signal.OK)

    assert quota.width == 30


def test_growth_is_one_per_round_up_to_the_ceiling() -> None:
    """With all slots in use, about as many successes as there are slots give one more, until all are back."""
    quota, leases = filled(8)
    for lease in leases:
        quota.give(lease, None, 0.0, Signal.PUSHBACK)
    running = [quota.take(Cost(), 0.0) for _ in range(quota.width)]

    widths = [quota.width]
    for _ in range(60):
        quota.give(running.pop(0), None, 0.0, Signal.OK)
        while len(running) < quota.width:
            running.append(quota.take(Cost(), 0.0))
        widths.append(quota.width)

    assert widths[0] == 6
    assert widths[8] == 7
    assert widths[-1] == 8 == max(widths)


def test_no_growth_while_idle() -> None:
    """Successes of a few calls at a time prove nothing about a greater width."""
    quota, leases = filled(40)
    for lease in leases:
        quota.give(lease, None, 0.0, Signal.PUSHBACK)

    for _ in range(500):
        quota.give(quota.take(Cost(), 0.0), None, 0.0, Signal.OK)

    assert quota.width == 30


def test_neutral_ends_change_nothing() -> None:
    """A timeout or a bad request says nothing about capacity."""
    quota, leases = filled(10)

    for lease in leases:
        quota.give(lease, None, 0.0)

    assert quota.width == 10


def test_retuning_starts_afresh() -> None:
    """A stated width is the new ceiling, and where it starts."""
    slots = Slots(10)
    adaptive = Adaptive(slots)
    slots.take(1, 0.0)
    adaptive.refused(adaptive.admitted())

    slots.retune(Slots(20), 0.0)
    adaptive.retune()

    assert slots.size == 20


@pytest.mark.parametrize(
    ("outcome", "width"),
    [
        (Outcome(Again.PUSHBACK, shrink=True, error=RuntimeError()), 3),
        (Outcome(Again.PUSHBACK, told=1.0, error=RuntimeError()), 4),
        (Outcome(Again.TRANSIENT, error=RuntimeError()), 4),
        (Outcome(), 4),
    ],
)
def test_outcomes_say_what_they_say(outcome: Outcome, width: int) -> None:
    """Only an outcome that says so shrinks the width."""
    quota, schedule = Quota(Limits(max_concurrency=4)), Schedule(lambda: 0.5)
    for _ in range(4):
        schedule.add(Job(quota), 0.0)
    attempts = [schedule.start(0.0) for _ in range(4)]

    assert attempts[0] is not None
    schedule.finish(attempts[0], outcome, 1.0)

    assert quota.width == width
