"""Whose turn it is: shares by weight, order within a lane, caps, priorities, bounded waits."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout import ConfigError
from llm_fanout.core.job import Attempt, Cost, Job, Outcome
from llm_fanout.core.lanes import BACKGROUND, DEFAULT, INTERACTIVE, Lane, rank_of
from llm_fanout.core.quota import Quota
from llm_fanout.core.schedule import Schedule
from llm_fanout.core.stated import Limits

DONE = Outcome()


class Line:
    """One quota of one slot, whose calls take no time: what starts, and in which order."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.schedule = Schedule(random.Random(1).random)
        self.quota = Quota(limits or Limits(max_concurrency=1))
        self.now = 0.0

    def add(self, lane: Lane | None, number: int = 1, *, rank: float = DEFAULT, cost: Cost | None = None) -> list[Job]:
        """So many calls of `lane` wait from now on."""
        jobs = [Job(self.quota, cost or Cost(), lane=lane, rank=rank, payload=lane) for _ in range(number)]
        for job in jobs:
            self.schedule.add(job, self.now)
        return jobs

    def next(self) -> Job:
        """The call that goes next, ended at once."""
        attempt = self.begin()
        self.schedule.finish(attempt, DONE, self.now)
        return attempt.job

    def begin(self) -> Attempt:
        """The call that goes next, as soon as it may."""
        while (attempt := self.schedule.start(self.now)) is None:
            timer = self.schedule.next_timer()
            assert timer is not None, "nothing waits"
            self.now = timer
        return attempt

    def lanes(self, number: int) -> list[Any]:
        """The lanes of the next so many calls."""
        return [self.next().lane for _ in range(number)]


@pytest.mark.parametrize("weight", [0, -1, float("inf"), float("nan"), True, "2"])
def test_weights_are_numbers_above_zero(weight: Any) -> None:
    """A share that is none is refused, with the value."""
    with pytest.raises(ConfigError, match="weight must be a number > 0"):
        Lane(weight=weight)


@pytest.mark.parametrize("most", [0, -3, 1.5, float("inf"), float("nan"), True])
def test_bounds_are_whole_numbers(most: Any) -> None:
    """A bound that is none is refused, with the value."""
    with pytest.raises(ConfigError, match="max_concurrency must be a whole number >= 1"):
        Lane(max_concurrency=most)


def test_priorities_by_name() -> None:
    """Three names, in order; any other is refused."""
    assert rank_of("interactive") < rank_of("default") < rank_of("background")
    with pytest.raises(ConfigError, match="'urgent'"):
        rank_of("urgent")


def test_a_lane_is_served_in_order() -> None:
    """First handed in, first served, with neighbours as without."""
    line, mine, other = Line(), Lane(), Lane()
    jobs = line.add(mine, 20)
    line.add(other, 20)

    served = [line.next() for _ in range(40)]

    assert [job for job in served if job.lane is mine] == jobs


def test_shares_follow_weights() -> None:
    """Lanes of weight 1, 2 and 5 get 1, 2 and 5 of eight starts, however many calls each has."""
    line = Line()
    lanes = {weight: Lane(weight=weight) for weight in (1, 2, 5)}
    for weight, number in ((1, 5_000), (2, 1_000), (5, 600)):
        line.add(lanes[weight], number)

    served = Counter(lane.weight for lane in line.lanes(800))

    assert {weight: pytest.approx(100 * weight, abs=2) for weight in (1, 2, 5)} == served


def test_tokens_count_where_they_are_scarcer() -> None:
    """One lane's calls have ten times the tokens of the other's: it gets a tenth of the starts."""
    line = Line(Limits(max_concurrency=1, rpm=60_000, tpm=60_000))
    large, small = Lane(), Lane()
    line.add(large, 200, cost=Cost(1_000))
    line.add(small, 2_000, cost=Cost(100))

    tokens = Counter({large: 0.0, small: 0.0})
    for _ in range(550):
        job = line.next()
        tokens[job.lane] += job.cost.tokens

    assert tokens[large] == pytest.approx(tokens[small], rel=0.05)


def test_a_share_is_of_the_scarcest_resource_of_each() -> None:
    """One lane is bound by requests, the other by tokens: each gets half of what it needs most (dominant shares)."""
    line = Line(Limits(max_concurrency=1, rpm=6_000, tpm=600_000, burst=1))
    many, heavy = Lane(), Lane()
    line.add(many, 3_000, cost=Cost(1))
    line.add(heavy, 3_000, cost=Cost(1_000))

    served = Counter(line.lanes(1_100))

    assert served[many] == pytest.approx(10 * served[heavy], rel=0.05)


def test_unused_tokens_count_for_the_lane() -> None:
    """A lane that reserves ten times what it uses is charged what it used: it gets its share of real tokens."""
    line = Line(Limits(max_concurrency=1, rpm=600_000, tpm=600_000))
    cautious, exact = Lane(), Lane()
    line.add(cautious, 3_000, cost=Cost(1_000))
    line.add(exact, 3_000, cost=Cost(100))

    served: Counter[Any] = Counter()
    for _ in range(2_000):
        attempt = line.begin()
        line.schedule.finish(attempt, Outcome(used=Cost(100)), line.now)
        served[attempt.job.lane] += 1

    assert served[cautious] == pytest.approx(served[exact], rel=0.05)


def test_unused_tokens_count_for_a_lane_with_a_bound() -> None:
    """Of three that reserve ten times what they use, one may have a call at a time: it has one nearly all the time."""
    line = Line(Limits(max_concurrency=8, rpm=600_000, tpm=600_000_000, adapt=False))
    bounded, others = Lane(max_concurrency=1), (Lane(), Lane())
    for lane in (bounded, *others):
        line.add(lane, 1_000, cost=Cost(100_000))

    served: Counter[Any] = Counter()
    under_way = [line.begin() for _ in range(8)]
    for _ in range(800):
        ended = under_way.pop(0)  # each takes as long as eight starts
        line.schedule.finish(ended, Outcome(used=Cost(10_000)), line.now)
        served[ended.job.lane] += 1
        under_way.append(line.begin())

    assert served[bounded] >= 75


@pytest.mark.parametrize("above", [None, Lane(max_concurrency=100)], ids=["alone", "nested"])
def test_unused_tokens_of_a_lane_that_was_alone_keep_nobody_waiting(above: Lane | None) -> None:
    """It has paid nothing, so nothing is given back when its calls end: who comes then has every other start."""
    line = Line(Limits(max_concurrency=50, rpm=600_000, tpm=600_000_000, adapt=False))
    early, late = Lane(above, max_concurrency=100), Lane()
    line.add(early, 150, cost=Cost(100_000))
    under_way = [line.begin() for _ in range(50)]
    line.add(late, 150, cost=Cost(100_000))

    lanes = []
    for ended in under_way:
        line.schedule.finish(ended, Outcome(used=Cost(1_000)), line.now)
        lanes.append(line.begin().job.lane)

    assert lanes.count(late) == pytest.approx(25, abs=1)


def test_nested_lanes_share_their_parents_share() -> None:
    """Two lanes of weight 1; one has three below it: together they get half, each a sixth."""
    line, left, right = Line(), Lane(), Lane()
    below = [Lane(left) for _ in range(3)]
    line.add(right, 1_000)
    for lane in below:
        line.add(lane, 1_000)

    served = Counter(line.lanes(600))

    assert served[right] == pytest.approx(300, abs=3)
    assert [served[lane] for lane in below] == [pytest.approx(100, abs=3)] * 3


def test_idling_earns_nothing() -> None:
    """A lane that comes late gets its share from then on, and nothing for the time before."""
    line, early, late = Line(), Lane(), Lane()
    line.add(early, 1_000)
    line.lanes(500)

    line.add(late, 400)
    served = Counter(line.lanes(400))

    assert served[early] == pytest.approx(200, abs=2)


def test_a_lane_that_comes_late_has_no_arrears() -> None:
    """Where two have shared for long, a third that joins gets a third from then on, no more."""
    line, late = Line(), Lane()
    for lane in (Lane(), Lane()):
        line.add(lane, 1_000)
    line.lanes(500)

    line.add(late, 1_000)
    served = Counter(line.lanes(300))

    assert served[late] == pytest.approx(100, abs=2)


def test_newcomers_do_not_pass_a_head_that_waits_for_its_turn_of_tokens() -> None:
    """A head of a lane that has been served much waits for its tokens; a lane that has had nothing yet comes after it."""
    line, much, other = Line(Limits(tpm=600, max_concurrency=10)), Lane(), Lane()
    line.add(much, 6, cost=Cost(5))
    line.add(other, 5, cost=Cost(5))
    line.lanes(10)
    assert line.schedule.start(line.now) is None

    line.add(Lane(), 1, cost=Cost(5))

    assert line.next().lane is much


def test_being_alone_costs_nothing() -> None:
    """What a lane got while nobody else wanted anything is not held against it later, nor are its unused tokens saved up."""
    line = Line(Limits(max_concurrency=1, rpm=600_000, tpm=600_000))
    early, late = Lane(), Lane()
    line.add(early, 2_000, cost=Cost(100))
    for _ in range(1_000):
        line.schedule.finish(line.begin(), Outcome(used=Cost(1)), line.now)

    line.add(late, 1_000, cost=Cost(100))
    served = Counter(line.lanes(400))

    assert served[early] == pytest.approx(served[late], abs=3)


def test_coming_and_going_gains_nothing() -> None:
    """A lane that hands in one call at a time, always again, gets no more than its share."""
    line, steady, nervous = Line(), Lane(weight=3), Lane()
    line.add(steady, 1_000)
    line.add(nervous)

    served: Counter[Any] = Counter()
    for _ in range(400):
        lane = line.next().lane
        served[lane] += 1
        if lane is nervous:
            line.add(nervous)

    assert served[nervous] == pytest.approx(100, abs=2)


def test_a_large_head_is_not_starved_by_newcomers() -> None:
    """While the head waits for its tokens new lanes keep coming with small calls: none of them goes first."""
    line = Line(Limits(tpm=600, max_concurrency=10))
    big = Lane()
    line.add(Lane(), 1, cost=Cost(10))
    large = line.add(big, 1, cost=Cost(300))[0]
    assert line.next() is not large
    assert line.schedule.start(line.now) is None
    for _ in range(50):
        line.add(Lane(), 1, cost=Cost(1))

    assert line.next() is large


def test_a_lane_within_its_bound() -> None:
    """A lane of at most two at once has two under way at most; others pass it, and it goes on when one of its calls ends."""
    line = Line(Limits(max_concurrency=10))
    narrow, free = Lane(max_concurrency=2), Lane()
    line.add(narrow, 5)
    line.add(free, 5)

    running = [line.begin() for _ in range(7)]
    more = line.schedule.start(0.0)
    mine = next(attempt for attempt in running if attempt.job.lane is narrow)
    line.schedule.finish(mine, DONE, 0.0)
    following = line.begin()

    assert Counter(attempt.job.lane for attempt in running) == {narrow: 2, free: 5}
    assert more is None
    assert following.job.lane is narrow


@pytest.mark.parametrize("own_last", [True, False], ids=["ends last", "ends first"])
def test_a_lane_within_its_bound_loses_no_turn(own_last: bool) -> None:
    """On four slots, all of whose calls end together, a lane of at most one that waits has one of them in every round: what
    others start while it is full counts against them, so that it owes nobody anything when it is not."""
    line = Line(Limits(max_concurrency=4))
    narrow, wide = Lane(max_concurrency=1), Lane()
    line.add(wide, 40)
    line.add(narrow, 10)

    running = [line.begin() for _ in range(4)]
    shares = []
    for _ in range(8):
        running.sort(key=lambda attempt: (attempt.job.lane is narrow) is own_last)
        following = []
        for attempt in running:
            line.schedule.finish(attempt, DONE, 0.0)
            following.append(line.begin())
        running = following
        shares.append(sum(attempt.job.lane is narrow for attempt in running))

    assert shares == [1] * 8


def test_a_bound_holds_for_everything_below_and_on_every_quota() -> None:
    """Calls of lanes below it count, on whatever quota; the slot that one quota's call gives back lets another's start."""
    line, other = Line(Limits(max_concurrency=10)), Quota(Limits(max_concurrency=10))
    top = Lane(max_concurrency=1)
    left, right = Lane(top), Lane(top)
    line.add(left, 1)
    elsewhere = Job(other, lane=right)
    line.schedule.add(elsewhere, 0.0)

    first = line.begin()
    blocked = line.schedule.start(0.0)
    line.schedule.finish(first, DONE, 0.0)

    assert first.job.lane is left
    assert blocked is None
    assert line.begin().job is elsewhere


def test_calls_are_counted_only_where_a_bound_asks_for_it() -> None:
    """A lane without a bound above one that has one counts none of its calls, neither when they start nor when they end."""
    line = Line(Limits(max_concurrency=10))
    top = Lane()
    narrow = Lane(top, max_concurrency=1)
    line.add(Lane(narrow), 1)

    attempt = line.begin()
    during = top.running, narrow.running
    line.schedule.finish(attempt, DONE, 0.0)

    assert during == (0, 1)
    assert (top.running, narrow.running) == (0, 0)


def test_a_cancelled_call_frees_its_place_in_a_bounded_lane() -> None:
    """However a call ends, the bound of its lane counts it no more."""
    line, lane = Line(Limits(max_concurrency=10)), Lane(max_concurrency=1)
    first, second = line.add(lane, 2)

    attempt = line.begin()
    line.schedule.cancel(first)
    line.schedule.finish(attempt, Outcome(heard=False), 0.0)

    assert line.begin().job is second


def test_a_paused_lane_waits() -> None:
    """Nothing of it starts, nor of those below it, alone or not; on resuming it goes on in order."""
    line, lane, other = Line(), Lane(), Lane()
    below = Lane(lane)
    jobs = line.add(below, 3)
    assert line.next() is jobs[0]

    line.schedule.pause(lane)
    paused = line.schedule.start(0.0)
    line.add(other, 1)
    line.add(below, 1)
    passing = line.next().lane
    still = line.schedule.start(0.0)
    line.schedule.resume(lane)

    assert (paused, still) == (None, None)
    assert passing is other
    assert line.next() is jobs[1]


def test_a_resumed_lane_is_not_forgotten_beside_one_that_was_alone() -> None:
    """A lane comes back while another, alone until then, waits for the quota: both are served."""
    line, paused, alone = Line(Limits(max_concurrency=1, rpm=60, burst=1)), Lane(Lane()), Lane()
    line.add(alone, 2)
    line.add(paused, 1)
    line.schedule.pause(paused)
    line.next()
    assert line.schedule.start(line.now) is None

    line.schedule.resume(paused)

    assert Counter(line.lanes(2)) == {alone: 1, paused: 1}


def test_resuming_what_was_never_passed_changes_nothing() -> None:
    """Pausing and resuming between two looks is as if nothing had happened."""
    line, lane = Line(), Lane()
    line.add(lane, 1)

    line.schedule.pause(lane)
    line.schedule.resume(lane)

    assert line.next().lane is lane


def test_interactive_calls_go_first_within_their_lane() -> None:
    """In one lane the urgent ones overtake; the others keep their order."""
    line, lane = Line(), Lane()
    plain = line.add(lane, 3)
    urgent = line.add(lane, 2, rank=INTERACTIVE)

    assert [line.next() for _ in range(5)] == [*urgent, *plain]


def test_interactive_calls_of_a_scope_go_before_its_other_runs() -> None:
    """A scope's own urgent call is before its runs and the scopes inside it, with a lane that was alone until then, too."""
    line, scope = Line(), Lane()
    run, inner, calls = Lane(scope), Lane(scope), Lane(scope)
    line.add(run, 5)
    assert line.next().lane is run
    line.add(Lane(inner), 5)
    urgent = line.add(calls, 1, rank=INTERACTIVE)[0]

    assert line.next() is urgent


def test_urgency_takes_nothing_of_another_agents_share() -> None:
    """An agent whose calls are all urgent gets no more than its weight says, against one whose calls are not."""
    line, pushy, calm = Line(), Lane(), Lane()
    line.add(Lane(pushy), 500, rank=INTERACTIVE)
    line.add(Lane(calm), 500)

    served = Counter(lane.parent for lane in line.lanes(200))

    assert served[pushy] == pytest.approx(served[calm], abs=2)


def test_background_work_waits_for_everybody() -> None:
    """It starts when nobody else on the quota wants to, whatever its lane's weight; among itself it shares by weight."""
    line, patient, other, normal = Line(), Lane(weight=3), Lane(), Lane()
    line.add(patient, 300, rank=BACKGROUND)
    line.add(Lane(other), 300, rank=BACKGROUND)
    line.add(normal, 10)

    first = line.lanes(10)
    then = Counter(line.lanes(200))

    assert first == [normal] * 10
    assert then[patient] == pytest.approx(150, abs=2)


def test_background_work_goes_on_while_others_are_bounded() -> None:
    """Calls that their own lane's bound keeps back do not keep background work back."""
    line, narrow, patient = Line(Limits(max_concurrency=5)), Lane(max_concurrency=1), Lane()
    line.add(narrow, 3)
    line.add(patient, 1, rank=BACKGROUND)

    assert [line.begin().job.lane for _ in range(2)] == [narrow, patient]


@pytest.mark.parametrize("urgency", [DEFAULT, DEFAULT - 1, DEFAULT - 3])
def test_a_fraction_of_a_rank_is_the_lanes_own(urgency: float) -> None:
    """It orders the calls of a lane, and gives no turn to another, whatever their class."""
    line = Line()
    one, other = Lane(), Lane()
    late = line.add(one, 4, rank=urgency + 0.75)
    soon = line.add(one, 4, rank=urgency + 0.25)
    line.add(other, 8, rank=urgency)

    order = [line.next() for _ in range(16)]

    assert [job for job in order if job.lane is one] == [*soon, *late]
    assert Counter(job.lane for job in order[:8]) == {one: 4, other: 4}


def test_cancelled_calls_leave_their_rank() -> None:
    """When a lane's urgent call is cancelled while it waits, the lane has its ordinary turn again."""
    line, hurried, other = Line(), Lane(), Lane()
    line.add(other, 2)
    line.add(hurried, 2)
    urgent = line.add(hurried, 1, rank=INTERACTIVE)[0]

    line.schedule.cancel(urgent)

    assert line.lanes(4) == [other, hurried, other, hurried]
    assert line.schedule.start(0.0) is None


def test_lanes_whose_calls_were_all_cancelled_are_passed() -> None:
    """A lane, and one above it, with nothing left that is wanted is out of the way; new calls of it are served."""
    line, lane, other = Line(), Lane(Lane()), Lane()
    for job in line.add(lane, 3):
        line.schedule.cancel(job)
    line.add(other, 2)

    served = line.lanes(2)
    line.add(lane, 1)

    assert served == [other, other]
    assert line.next().lane is lane


@given(
    weights=st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.0, 10.0]), min_size=2, max_size=6),
    sizes=st.lists(st.sampled_from([10.0, 100.0, 1_000.0]), min_size=6, max_size=6),
    seed=st.integers(0, 1_000),
)
def test_backlogged_lanes_get_their_share_and_wait_no_longer_than_promised(
    weights: list[float], sizes: list[float], seed: int
) -> None:
    """Whatever weights and sizes: shares to within 5 % and the largest calls, and the promised bound between two starts."""
    draw = random.Random(seed)
    line = Line(Limits(max_concurrency=1, rpm=1e9, tpm=1e9, burst=1e8))
    lanes = [Lane(weight=weight) for weight in weights]
    largest = dict.fromkeys(lanes, 0.0)
    for lane, size in zip(lanes, sizes, strict=False):
        for _ in range(60):
            cost = Cost(size * draw.uniform(0.5, 1.5))
            largest[lane] = max(largest[lane], line.quota.share_of(cost))
            line.add(lane, cost=cost)
    served, left = dict.fromkeys(lanes, 0.0), dict.fromkeys(lanes, 60)
    since: dict[Lane, tuple[float, dict[Lane, float]]] = {}

    while all(left.values()):
        job = line.next()
        lane, cost_ = job.lane, line.quota.share_of(job.cost)
        assert lane is not None
        if lane in since:
            own, before = since[lane]
            for other in lanes:
                if other is not lane:
                    assert served[other] - before[other] <= own * other.weight / lane.weight + largest[other] + 1e-6
        served[lane] += cost_
        left[lane] -= 1
        since[lane] = cost_, dict(served)

    due = [served[lane] / lane.weight for lane in lanes]
    slack = max(largest[lane] / lane.weight for lane in lanes)
    assert max(due) - min(due) <= 0.05 * max(due) + 2 * slack
