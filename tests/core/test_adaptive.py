"""The width that follows what the other side can take."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout.core.adaptive import Adaptive
from llm_fanout.core.limits import Slots


def at_work(start: float, ceiling: float = 1_000.0) -> tuple[Slots, Adaptive]:
    """A width all of which is in use."""
    slots = Slots(1)
    adaptive = Adaptive(slots, start, ceiling)
    slots.in_use = int(min(start, ceiling))
    return slots, adaptive


def refuse(slots: Slots, adaptive: Adaptive, times: int, epoch: int | None = None) -> None:
    """So many calls of an epoch (the present one by default) end with a refusal, one after another."""
    epoch = adaptive.epoch if epoch is None else epoch
    for _ in range(times):
        adaptive.refused(epoch)
        slots.in_use -= 1


def succeed(slots: Slots, adaptive: Adaptive, times: int, pace: float | None = None) -> list[float]:
    """So many calls of the present epoch are answered while all slots are in use; the widths after each."""
    widths = []
    for _ in range(times):
        slots.in_use = int(slots.size)
        adaptive.succeeded(adaptive.epoch, pace)
        widths.append(slots.size)
    return widths


def rounds_to(slots: Slots, adaptive: Adaptive, width: float, most: int = 50) -> int:
    """Rounds of successes until it is so wide."""
    for number in range(most):
        if slots.size >= width:
            return number
        succeed(slots, adaptive, int(slots.size))
    return most


def test_it_begins_where_it_is_told() -> None:
    """Its start is the size of the slots; whole, and at least one."""
    slots, _ = at_work(8.0)

    assert slots.size == 8.0


def test_it_doubles_in_a_round_until_something_says_stop() -> None:
    """Each success adds one, up to the ceiling and no further."""
    slots, adaptive = at_work(4.0, 10.0)

    first_round, more = succeed(slots, adaptive, 4), succeed(slots, adaptive, 20)

    assert first_round == [5, 6, 7, 8]
    assert more[-1] == max(more) == 10


def test_no_growth_while_idle() -> None:
    """A width that is not in use is not proven: successes count from four fifths of it on."""
    slots, adaptive = at_work(10.0)
    slots.in_use = 7

    for _ in range(100):
        adaptive.succeeded(adaptive.epoch)
    idle = slots.size
    slots.in_use = 8
    adaptive.succeeded(adaptive.epoch)

    assert (idle, slots.size) == (10, 11)


def test_an_unlimited_width_stays_so() -> None:
    """Where there is no limit, nothing is to be grown."""
    slots = Slots(1)
    adaptive = Adaptive(slots, inf, inf)

    adaptive.succeeded(adaptive.epoch)

    assert (slots.size, adaptive.growth_from) == (inf, inf)


def test_at_the_ceiling_successes_need_not_be_told() -> None:
    """`growth_from` says from how many calls in flight on a success counts: at the ceiling, none does."""
    _, below = at_work(10.0, 20.0)
    _, at = at_work(20.0, 20.0)

    assert (below.growth_from, at.growth_from) == (8.0, inf)


def test_what_was_taken_is_the_new_width() -> None:
    """Of ten calls in flight three are refused: the other side takes seven."""
    slots, adaptive = at_work(10.0)

    refuse(slots, adaptive, 3)

    assert slots.size == 7


def test_one_episode_is_one_piece_of_news() -> None:
    """The first refusal of an epoch is news, the others are not."""
    _, adaptive = at_work(10.0)
    epoch = adaptive.epoch

    news = [adaptive.refused(epoch) for _ in range(4)]

    assert news == [True, False, False, False]
    assert adaptive.epoch == epoch + 1


def test_if_none_was_taken_it_is_cut_to_three_quarters() -> None:
    """A hundred of a hundred refused says nothing about how many are too many."""
    slots, adaptive = at_work(100.0)

    refuse(slots, adaptive, 100)

    assert slots.size == 75


def test_a_cut_starts_from_what_was_in_use() -> None:
    """Of a hundred slots eight were used and all refused: after that there are six."""
    slots, adaptive = at_work(100.0)
    slots.in_use = 8

    refuse(slots, adaptive, 8)

    assert slots.size == 6


def test_more_in_flight_than_the_width_does_not_widen_it() -> None:
    """After it was made narrower, more may be out than it is wide: being spared does not make room for them."""
    slots, adaptive = at_work(4.0)
    slots.in_use = 20

    refuse(slots, adaptive, 1)

    assert slots.size == 4


def test_it_never_goes_below_one() -> None:
    """A single call at a time is refused again and again: one it is."""
    slots, adaptive = at_work(1.0)

    for _ in range(5):
        slots.in_use = 1
        refuse(slots, adaptive, 1)

    assert slots.size == 1


def test_refusals_of_all_calls_from_before_the_cut_count() -> None:
    """They were in flight at that moment, and so were taken for spared, however long they had been out."""
    slots, adaptive = at_work(10.0)
    long_ago = adaptive.epoch
    refuse(slots, adaptive, 1)
    slots.in_use = 9
    refuse(slots, adaptive, 1)
    spared = slots.size

    refuse(slots, adaptive, 2, long_ago)

    assert (spared, slots.size) == (8, 6)


def test_late_refusals_do_not_cut_below_what_was_found() -> None:
    """Once nobody of before the cut is left that counts as spared, such a refusal changes nothing."""
    slots, adaptive = at_work(4.0)
    epoch = adaptive.epoch
    refuse(slots, adaptive, 4)

    for _ in range(10):
        adaptive.refused(epoch)

    assert slots.size == 3


def test_old_successes_give_no_credit() -> None:
    """What was admitted before the cut says nothing about the width after it."""
    slots, adaptive = at_work(40.0)
    epoch = adaptive.epoch
    refuse(slots, adaptive, 1)

    slots.in_use = 39
    for _ in range(500):
        adaptive.succeeded(epoch)

    assert slots.size == 39


@pytest.mark.parametrize("times", range(5))
def test_a_refused_width_is_tried_again_after_longer_and_longer(times: int) -> None:
    """Refused once more just above where it was: after 1, 2, 4 and then every 8 rounds."""
    slots, adaptive = at_work(11.0)
    refuse(slots, adaptive, 1)
    for _ in range(times):
        rounds_to(slots, adaptive, 11)
        slots.in_use = 11
        refuse(slots, adaptive, 1)

    assert slots.size == 10
    assert rounds_to(slots, adaptive, 11) == pytest.approx([1, 2, 4, 8, 8][times], abs=1)
    assert rounds_to(slots, adaptive, 11) == 0


def test_the_hold_is_a_whole_round() -> None:
    """The width that was refused comes back after as many successes as it is wide, not sooner."""
    slots, adaptive = at_work(9.0)
    refuse(slots, adaptive, 1)

    widths = succeed(slots, adaptive, 8)

    assert widths == [8] * 7 + [9]


def test_a_refusal_far_above_is_tried_again_soon() -> None:
    """It had passed what was refused before: the hold begins at one round again."""
    slots, adaptive = at_work(11.0)
    for _ in range(4):
        slots.in_use = 11
        refuse(slots, adaptive, 1)
        rounds_to(slots, adaptive, 11)
    rounds_to(slots, adaptive, 20)
    slots.in_use = int(slots.size)
    width = slots.size
    refuse(slots, adaptive, 1)

    assert rounds_to(slots, adaptive, width) <= 2


def test_at_the_refused_width_it_grows_by_one_in_a_round() -> None:
    """Slowly past it, and by a quarter in a round once it is clearly above: then the other side has changed."""
    slots, adaptive = at_work(41.0)
    refuse(slots, adaptive, 1)
    rounds_to(slots, adaptive, 41)

    slow = succeed(slots, adaptive, 42)
    quick = succeed(slots, adaptive, 42)

    assert (slow[0], slow[-1]) == (41, 42)
    assert quick[-1] == pytest.approx(42 * 1.25, abs=1)


def test_whether_it_was_ever_refused_is_known() -> None:
    """Until then it may be a server that only gets slower."""
    slots, adaptive = at_work(1.0)
    before = adaptive.was_refused

    refuse(slots, adaptive, 1)

    assert (before, adaptive.was_refused) == (False, True)


def test_retuning_begins_anew() -> None:
    """New figures: nothing was refused yet, and growth is as quick as at first."""
    slots, adaptive = at_work(10.0)
    refuse(slots, adaptive, 5)

    adaptive.retune(20.0, 30.0)

    assert (slots.size, adaptive.was_refused) == (20, False)
    assert succeed(slots, adaptive, 2) == [21, 22]
    assert succeed(slots, adaptive, 20)[-1] == 30


def test_calls_from_before_retuning_say_nothing_after_it() -> None:
    """Neither their refusals nor their successes are about the new width."""
    slots, adaptive = at_work(10.0)
    epoch = adaptive.epoch

    adaptive.retune(20.0, 30.0)
    slots.in_use = 20
    adaptive.refused(epoch)
    adaptive.succeeded(epoch)

    assert slots.size == 20


def test_growth_that_brings_more_is_kept() -> None:
    """Time per token does not rise: twice as wide is twice as fast, and so it goes on."""
    slots, adaptive = at_work(4.0, 40.0)

    widths = succeed(slots, adaptive, 500, 0.01)

    assert widths[-1] == 40


def test_a_width_is_kept_while_it_is_measured() -> None:
    """Two rounds: the first still has calls from when it was narrower."""
    slots, adaptive = at_work(4.0)

    widths = succeed(slots, adaptive, 9, 0.01)

    assert widths == [4] * 8 + [5]


def test_growth_that_does_not_pay_is_taken_back() -> None:
    """Time per token doubles with the width: the same tokens a second, only later. It goes back to where it did pay."""
    slots, adaptive = at_work(8.0)
    succeed(slots, adaptive, 16, 0.01)

    widths = succeed(slots, adaptive, 8, 0.01) + succeed(slots, adaptive, 32, 0.02)

    assert widths[7] == 16
    assert widths[-1] == 8


def test_the_first_round_at_a_width_is_not_measured() -> None:
    """Its calls began when it was narrower, and were quick: they do not make the width look good."""
    slots, adaptive = at_work(8.0)
    succeed(slots, adaptive, 24, 0.01)

    succeed(slots, adaptive, 16, 0.001)
    succeed(slots, adaptive, 16, 0.02)

    assert slots.size == 8


def test_a_growth_that_did_not_pay_is_tried_again_after_a_rest() -> None:
    """Fifty rounds later, and not before."""
    slots, adaptive = at_work(8.0)
    succeed(slots, adaptive, 24, 0.01)
    succeed(slots, adaptive, 32, 0.02)

    resting = succeed(slots, adaptive, 50 * 8 - 1, 0.01)
    after = succeed(slots, adaptive, 1, 0.01)

    assert set(resting) == {8}
    assert after == [9]


def test_a_fifth_of_the_growth_has_to_come_back() -> None:
    """Twice the width has to bring at least 20 % more tokens a second."""
    sizes = []
    for gain in (1.19, 1.21):
        slots, adaptive = at_work(8.0)
        succeed(slots, adaptive, 24, 0.01)
        succeed(slots, adaptive, 32, 0.02 / gain)
        sizes.append(slots.size)

    assert sizes == [8, 16]


def test_answers_that_took_no_time_are_no_trouble() -> None:
    """A pace of zero is as fast as can be."""
    slots, adaptive = at_work(4.0)

    assert succeed(slots, adaptive, 100, 0.0)[-1] > 4


@given(
    start=st.integers(1, 60),
    ceiling=st.integers(60, 100),
    events=st.lists(st.tuples(st.sampled_from(["ok", "paced", "refused"]), st.integers(0, 3), st.integers(0, 120))),
)
def test_the_width_stays_within_its_bounds(start: int, ceiling: int, events: list[tuple[str, int, int]]) -> None:
    """Whatever happens to calls of whatever epoch: whole, at least one, at most the ceiling."""
    slots = Slots(1)
    adaptive = Adaptive(slots, float(start), float(ceiling))

    for what, age, in_use in events:
        slots.in_use = max(1, in_use)
        if what == "refused":
            adaptive.refused(adaptive.epoch - age)
        else:
            adaptive.succeeded(adaptive.epoch - age, 0.01 if what == "paced" else None)

        assert 1 <= slots.size <= ceiling
        assert slots.size == int(slots.size)
