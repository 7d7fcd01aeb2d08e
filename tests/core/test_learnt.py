"""Rates that nobody stated: read from headers, or found out by being refused."""

from __future__ import annotations

from itertools import pairwise
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout.core.announced import Announced, Dimension, Window
from llm_fanout.core.job import Cost
from llm_fanout.core.learnt import GROWTH, LATELY, LONGEST_HOLD, RECENT, SLOWEST, LearntRates, Pace
from llm_fanout.core.limits import DAY, MINUTE, TokenBucket
from llm_fanout.core.stated import Limits

STARTS = st.sampled_from([0.0, 1e5, 1.75e9])
NOTHING = Cost(0.0, 0.0, 0.0, 0.0)


def hear(rates: LearntRates, window: Window, now: float = 100.0, *, granted: float = 0.0, headroom: float = 0.0) -> bool:
    """An answer announces `window` for requests, of which so many were granted since its call began."""
    return rates.hear({"requests": window}, NOTHING._replace(requests=granted), Limits(headroom=headroom), now)


def rate_of(window: Window, headroom: float = 0.0) -> float:
    """Requests a second that are learnt from one announcement."""
    rates = LearntRates()
    hear(rates, window, headroom=headroom)
    return rates.buckets["requests"].rate


def test_what_is_announced_becomes_a_bucket() -> None:
    """As much is there as is said to remain, less what was granted since; more comes at the announced rate."""
    rates = LearntRates()

    new = hear(rates, Window(600.0, 40.0, 56.0), granted=3.0)

    bucket = rates.buckets["requests"]
    assert new
    assert bucket.rate == 10.0
    assert bucket.available(100.0) == pytest.approx(37.0)
    assert bucket.available(1_000.0) == 40.0


def test_where_nothing_remains_the_next_call_waits_for_one() -> None:
    """A bucket holds one at least, or it would be full at once."""
    rates = LearntRates()

    hear(rates, Window(60.0, 0.0, 60.0))

    assert rates.buckets["requests"].ready_at(1.0, 100.0) == pytest.approx(101.0)


def test_more_may_have_been_granted_than_remained() -> None:
    """Nobody has less than nothing: some of it must have come back meanwhile, and the next call waits for one, no longer."""
    rates = LearntRates()

    hear(rates, Window(60.0, 2.0, 58.0), granted=5.0)
    first = rates.buckets["requests"].ready_at(1.0, 100.0)
    rates.buckets["requests"].set_available(-100.0, 100.0)
    hear(rates, Window(60.0, 2.0, 58.0), granted=5.0)

    assert first == pytest.approx(101.0)
    assert rates.buckets["requests"].ready_at(1.0, 100.0) == pytest.approx(101.0)


def test_the_answer_to_a_call_that_took_long_is_no_debt() -> None:
    """Thousands were granted since it began, and most of the quota is there: the next call does not wait for minutes."""
    rates = LearntRates()

    hear(rates, Window(600.0, 550.0, 5.0), granted=2_900.0)

    assert rates.buckets["requests"].ready_at(1.0, 100.0) <= 100.1


@pytest.mark.parametrize(
    ("dimension", "cost", "figure"),
    [
        ("tokens", Cost(7.0, 0.0, 0.0, 0.0), "tpm"),
        ("requests", Cost(0.0, 7.0, 0.0, 0.0), "rpm"),
        ("input", Cost(0.0, 0.0, 7.0, 0.0), "itpm"),
        ("output", Cost(0.0, 0.0, 0.0, 7.0), "otpm"),
    ],
)
def test_each_dimension_is_its_own(dimension: Dimension, cost: Cost, figure: str) -> None:
    """Each counts its own part of what was granted, and is not learnt where it is stated."""
    announced: Announced = {dimension: Window(600.0, 100.0, 50.0)}
    rates, other = LearntRates(), LearntRates()

    rates.hear(announced, cost, Limits(), 100.0)
    told = other.hear(announced, cost, Limits(**{figure: 60.0}), 100.0)  # type: ignore[arg-type]  # the name is a figure's

    assert rates.buckets[dimension].available(100.0) == pytest.approx(93.0)
    assert rates.per_second() == {figure: 10.0}
    assert not told
    assert other.buckets == {}


@pytest.mark.parametrize("window", [Window(), Window(limit=60.0), Window(remaining=5.0, reset=1.0)])
def test_half_of_it_says_nothing(window: Window) -> None:
    """Without the limit and what remains of it, nothing is learnt."""
    rates = LearntRates()

    assert not hear(rates, window)
    assert rates.buckets == {}


@pytest.mark.parametrize(("granted", "available"), [(0.0, 30.0), (8.0, 25.0), (3.0, 27.0), (5.0, 25.0)])
def test_the_mirror_is_moved_into_the_range_and_no_further(granted: float, available: float) -> None:
    """25 are there as far as is known; 30 are said to remain, less what may be missing in that."""
    rates = LearntRates()
    hear(rates, Window(60.0, 50.0, 10.0))
    rates.buckets["requests"].set_available(25.0, 100.0)

    hear(rates, Window(60.0, 30.0, 30.0), granted=granted)

    assert rates.buckets["requests"].available(100.0) == pytest.approx(available)


def test_never_more_than_is_said_to_remain() -> None:
    """Whoever else uses the account is seen in it."""
    rates = LearntRates()
    hear(rates, Window(60.0, 50.0, 10.0))

    hear(rates, Window(60.0, 12.0, 48.0), granted=0.0)

    assert rates.buckets["requests"].available(100.0) == pytest.approx(12.0)


def test_the_bucket_holds_the_most_that_was_seen_to_remain() -> None:
    """What an idle account saves up is not lost."""
    rates = LearntRates()
    hear(rates, Window(60.0, 10.0, 50.0))

    hear(rates, Window(60.0, 40.0, 20.0))
    hear(rates, Window(60.0, 5.0, 55.0))

    assert rates.buckets["requests"].burst == 40.0


def test_only_another_rate_is_news() -> None:
    """What remains changes with every answer; that alone is no reason to look at the whole quota again."""
    rates = LearntRates()
    hear(rates, Window(60.0, 10.0, 50.0))

    same = hear(rates, Window(60.0, 5.0, 55.0))
    rounded = hear(rates, Window(60.3, 5.3, 55.0))
    other = hear(rates, Window(120.0, 60.0, 30.0))

    assert (same, rounded, other) == (False, False, True)
    assert rates.buckets["requests"].rate == 2.0


@pytest.mark.parametrize(
    ("window", "span"),
    [
        (Window(600.0, 590.0, 1.0), MINUTE),
        (Window(600.0, 590.0, 60.0), 3_600.0),
        (Window(14_400.0, 14_370.0, 180.0), DAY),
        (Window(14_400.0, 14_370.0, 180.0, per=MINUTE), MINUTE),
        (Window(600.0, 590.0, 1.0, per=DAY), DAY),
        (Window(600.0, 590.0), MINUTE),
        (Window(600.0, 600.0, 0.0), MINUTE),
        (Window(600.0, 300.0, 7.0), MINUTE),  # a window that begins on the minute
        (Window(30_000.0, 29_990.0, 0.034), MINUTE),  # 14 ms too much: rounded
        (Window(600.0, 300.0, 32.9), MINUTE),
    ],
)
def test_the_length_of_a_window_is_found_out(window: Window, span: float) -> None:
    """Told, or the one in which the missing part takes as long as is announced to come back; else a minute."""
    assert rate_of(window) == pytest.approx((window.limit or 0.0) / span)


@pytest.mark.parametrize(
    "later", [Window(14_400.0, 14_400.0, 0.0), Window(14_400.0, 14_390.0), Window(1e6, 999_999.9, 0.006)]
)
def test_a_days_window_stays_one(later: Window) -> None:
    """An answer from which nothing can be told does not turn a day's limit into a minute's."""
    rates = LearntRates()
    hear(rates, Window(14_400.0, 14_370.0, 180.0))

    hear(rates, later)

    assert rates.buckets["requests"].rate == pytest.approx((later.limit or 0.0) / DAY)


def test_a_window_that_was_misread_is_read_again() -> None:
    """A calendar minute may by chance look like an hour, once."""
    rates = LearntRates()
    hear(rates, Window(1_000.0, 995.0, 18.0))
    misread = rates.buckets["requests"].rate

    hear(rates, Window(1_000.0, 900.0, 17.0))

    assert misread == pytest.approx(1_000.0 / 3_600.0)
    assert rates.buckets["requests"].rate == pytest.approx(1_000.0 / 60.0)


def test_headroom_leaves_a_share_of_a_learnt_rate() -> None:
    """Three tenths are for others."""
    assert rate_of(Window(600.0, 590.0, 1.0), headroom=0.3) == pytest.approx(7.0)


@given(
    start=STARTS,
    limit=st.integers(1, 500),
    on_admission=st.booleans(),
    steps=st.lists(st.tuples(st.booleans(), st.floats(0, 2), st.integers(0, 50)), max_size=120),
)
def test_the_mirror_follows_the_providers_bucket(
    start: float, limit: int, on_admission: bool, steps: list[tuple[bool, float, int]]
) -> None:
    """Calls start whenever the mirror has room for them, answers come in any order: when one is heard, no more is there
    than the provider has left, but for what was granted since; and never less than that without it."""
    provider = TokenBucket(limit / MINUTE, float(limit))
    provider.set_available(float(limit), start)
    rates, now, granted = LearntRates(), start, 0
    out: list[tuple[int, Window]] = []  # granted when it began, what was said on admission

    def said() -> Window:
        return Window(float(limit), max(0.0, floor(provider.available(now))), max(0.0, provider.full_at - now), MINUTE)

    for starts, pause, which in steps:
        now += pause
        mirror = rates.buckets.get("requests")
        if starts and (mirror is None or mirror.ready_at(1.0, now) <= now):
            if mirror is not None:
                mirror.take(1.0, now)
            provider.take(1.0, now)
            granted += 1
            out.append((granted, said()))
        elif out:
            before, admitted = out.pop(which % len(out))
            window, since = admitted if on_admission else said(), granted - before
            hear(rates, window, now, granted=float(since))
            left = max(0.0, provider.available(now)) + (since if on_admission else 0)
            available = rates.buckets["requests"].available(now)

            assert available <= left + 1e-3
            assert available >= (window.remaining or 0.0) - since - 1e-3


def paced(rate: float = 10.0, now: float = 100.0) -> Pace:
    """A pace that has just begun, after RECENT answers at `rate` a second."""
    pace = Pace()
    for number in range(RECENT + 1):
        pace.succeeded(now - (RECENT - number) / rate)
    pace.refused(now)
    return pace


def speed(pace: Pace) -> float:
    """Calls a second."""
    assert pace.bucket is not None
    return pace.bucket.rate


def answer(pace: Pace, now: float, *, in_use: bool = True) -> float:
    """A call is answered while others wait for the pace (or do not); the rate after that."""
    assert pace.bucket is not None
    pace.bucket.set_available(0.0 if in_use else 1.0, now)
    pace.succeeded(now)
    return speed(pace)


@pytest.mark.parametrize("answers", [0, 1])
def test_without_answers_there_is_no_rate_to_take(answers: int) -> None:
    """A refusal before anything got through spaces nothing."""
    pace = Pace()
    for number in range(answers):
        pace.succeeded(99.0 + number)

    assert not pace.refused(100.0)
    assert pace.bucket is None


def test_the_rate_is_what_got_through_lately() -> None:
    """Ten a second were answered: ten are sent, one after the other."""
    pace = paced(10.0)

    assert speed(pace) == pytest.approx(10.0, rel=0.06)
    assert pace.bucket is not None
    assert pace.bucket.burst == 1.0


def test_the_first_refusal_is_told_apart() -> None:
    """Only then is there a bucket that was not there."""
    pace = Pace()
    pace.succeeded(99.0)
    pace.succeeded(99.5)

    assert [pace.refused(100.0), pace.refused(101.0)] == [True, False]


def test_only_the_last_answers_count() -> None:
    """It was slow, and then quick: quick is what it is now."""
    pace = Pace()
    for number in range(20):
        pace.succeeded(60.0 + number)
    for number in range(RECENT + 1):
        pace.succeeded(98.0 + number * 0.1)
    pace.refused(100.0)

    assert speed(pace) == pytest.approx(10.0, rel=0.06)


def test_answers_from_before_a_pause_do_not_count() -> None:
    """After a quiet hour the rate is taken from what gets through now, not from the hour."""
    pace = Pace()
    for number in range(10):
        pace.succeeded(number * 0.1)
    for number in range(5):
        pace.succeeded(3_600.0 + number * 0.1)
    pace.refused(3_600.5)

    assert speed(pace) == pytest.approx(10.0)


def test_nothing_got_through_for_long() -> None:
    """Answers that are older than a minute are no rate of now."""
    pace = Pace()
    pace.succeeded(0.0)
    pace.succeeded(1.0)

    assert not pace.refused(1.1 + LATELY)
    assert pace.bucket is None


def test_a_refusal_never_makes_it_quicker() -> None:
    """Even if more got through lately than was to be sent."""
    pace = paced(10.0)
    for number in range(RECENT):
        pace.succeeded(100.0 + number * 0.01)
    before = speed(pace)

    pace.refused(100.3)

    assert speed(pace) == before


def test_a_further_refusal_cuts_to_what_got_through() -> None:
    """But never to less than half at once."""
    pace, much = paced(10.0), paced(10.0)
    before = speed(pace)

    pace.refused(101.2)  # 20 answers in 3.2 seconds
    much.refused(130.0)

    assert speed(pace) == pytest.approx(20 / 3.1, rel=0.06)
    assert speed(much) == pytest.approx(before / 2)


def test_a_cut_counts_what_was_already_owed() -> None:
    """Slower from now on, the call in hand included."""
    pace = paced(10.0)
    assert pace.bucket is not None
    pace.bucket.take(1.0, 100.0)

    pace.refused(100.0)

    assert pace.bucket.ready_at(1.0, 100.0) == pytest.approx(100.0 + 1.0 / speed(pace))


def refuse(pace: Pace, times: int, now: float) -> None:
    """So many episodes, one a second, in which nothing is answered."""
    for number in range(times):
        pace.refused(now + number)


def test_refusals_alone_cut_to_a_call_every_few_seconds() -> None:
    """However long nothing gets through, it is looked whether anything does."""
    pace = paced(10.0)

    refuse(pace, 3_600, 101.0)

    assert speed(pace) == pytest.approx(SLOWEST)
    assert SLOWEST == 1 / 3.5


def test_a_slower_rate_that_gets_through_is_kept() -> None:
    """Answers show that less is taken: refusals between them do not make it quicker than that."""
    pace = paced(0.1, now=1_000.0)
    slow = speed(pace)

    pace.refused(1_001.0)
    pace.refused(1_002.0)

    assert slow < SLOWEST
    assert 0.8 * slow <= speed(pace) <= slow


def test_answers_may_show_less_than_refusals_alone_may_cut_to() -> None:
    """One got through every forty seconds, and everything else was refused."""
    pace = paced(1.0)

    for number in range(20):
        pace.succeeded(200.0 + 40.0 * number)
        pace.refused(239.0 + 40.0 * number)

    assert speed(pace) == pytest.approx(1 / 40, rel=0.2)


def test_the_first_answer_after_a_long_spell_brings_back_the_rate_of_before() -> None:
    """An hour in which nothing is taken says nothing of how much is when anything is."""
    pace = paced(10.0)
    pace.succeeded(100.1)
    pace.refused(100.2)
    before = speed(pace)
    refuse(pace, 3_600, 101.0)

    pace.succeeded(3_701.0)

    assert speed(pace) == before


def test_a_spell_that_begins_with_the_first_refusal_is_forgotten_as_well() -> None:
    """The rate of before is the one that was taken when the pace began."""
    pace = paced(10.0)
    before = speed(pace)
    refuse(pace, 100, 101.0)

    pace.succeeded(201.0)

    assert speed(pace) == before


def test_after_a_long_spell_it_grows_as_at_first() -> None:
    """A second later by 5 %, then by 10 %: the long hold of the spell is over."""
    pace = paced(10.0)
    refuse(pace, 3_600, 101.0)
    pace.succeeded(3_701.0)
    rates = [speed(pace)]

    for now in (3_701.9, 3_702.0, 3_703.0):
        rates.append(answer(pace, now))

    assert [later / earlier - 1 for earlier, later in pairwise(rates)] == pytest.approx([0.0, GROWTH, 2 * GROWTH])


def test_after_a_short_spell_it_grows_from_where_it_is() -> None:
    """Half a minute of refusals may well be the rate."""
    pace = paced(10.0)
    refuse(pace, 30, 101.0)
    low = speed(pace)

    pace.succeeded(131.0)

    assert speed(pace) == low < 1.0


def test_a_quiet_hour_does_not_bring_back_less() -> None:
    """It has grown since the last cut: the first answer after a pause does not undo that."""
    pace = paced(10.0)
    for number in range(5):
        answer(pace, 101.0 + number)
    grown = speed(pace)

    answer(pace, 3_700.0, in_use=False)

    assert speed(pace) == grown


def test_it_grows_once_a_second_and_faster_and_faster() -> None:
    """After a first second without refusal: 5 %, 10 %, 20 % ... until it doubles each second."""
    pace = paced(10.0)
    rates = [speed(pace)]

    for number in range(7):
        answer(pace, 100.9 + number)
        rates.append(answer(pace, 101.0 + number))

    assert [later / earlier - 1 for earlier, later in pairwise(rates)] == pytest.approx(
        [GROWTH, 2 * GROWTH, 4 * GROWTH, 8 * GROWTH, 16 * GROWTH, 1.0, 1.0]
    )


def test_it_does_not_grow_while_nobody_waits_for_it() -> None:
    """A quiet hour proves nothing about a greater rate."""
    pace = paced(10.0)
    before = speed(pace)

    for number in range(3_600):
        answer(pace, 101.0 + number, in_use=False)

    assert speed(pace) == before


def test_a_refused_rate_is_tried_again_later_and_later() -> None:
    """After 2, 4, 8 seconds, and in the end every 30."""
    pace, now, holds = paced(10.0), 100.0, []

    for _ in range(6):
        now += 0.01
        pace.refused(now)
        began, rate = now, speed(pace)
        while answer(pace, now) == rate:
            now += 0.5
        holds.append(now - began)

    assert holds == pytest.approx([2.0, 4.0, 8.0, 16.0, LONGEST_HOLD, LONGEST_HOLD])


def test_once_it_takes_more_the_hold_is_short_again() -> None:
    """It grew twice in a row: the other side has changed, and the next refusal holds it for two seconds only."""
    pace = paced(10.0)
    for _ in range(4):
        pace.refused(100.0)
    for number in range(3):
        answer(pace, 120.0 + number)
    pace.refused(123.0)
    rate = speed(pace)

    assert answer(pace, 124.9) == rate
    assert answer(pace, 125.0) == pytest.approx(rate * (1 + GROWTH))
