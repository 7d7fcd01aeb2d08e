"""The running numbers."""

from __future__ import annotations

import pytest

from llm_fanout import Result, Usage, clock
from llm_fanout.core.quota import Quota
from llm_fanout.spending import Spending
from llm_fanout.tally import Tally


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that shows what the test says."""
    now = [100.0]
    monkeypatch.setattr(clock, "now", lambda: now[0])
    return now


def test_time_runs_from_begin_to_end(now: list[float]) -> None:
    """Nothing before the run starts, and no more once it has ended."""
    tally = Tally(total=4)

    before = tally.summary().elapsed
    tally.begin()
    now[0] = 110.0
    tally.count(Result(index=0, id=0))
    during = tally.summary()
    tally.end()
    now[0] = 999.0

    assert (before, during.elapsed, tally.summary().elapsed) == (0.0, 10.0, 10.0)
    assert during.eta == 30.0


def test_usage_is_kept_by_model_and_size() -> None:
    """Calls of one model are added up by thousands of input tokens, so that steps in its price are seen."""
    tally = Tally()

    for size in (10, 20, 2_500):
        tally.count(Result(index=0, id=0, spending=[Spending.of("m/x", Usage(size, 1))]))

    assert [(each.request_size, each.calls, each.usage.input_tokens) for each in tally.summary().spending] == [
        (0, 2, 30),
        (2_000, 1, 2_500),
    ]


def test_what_held_the_quota_up_before_is_not_this_runs(now: list[float]) -> None:
    """Only waits since the run first needed a quota count for what binds it."""
    quota = Quota()
    quota.waits.turn_to("requests", now[0])
    now[0] += 500
    tally = Tally()

    tally.waits_for(quota)
    tally.waits_for(quota)
    before = tally.summary().binding
    quota.waits.turn_to("concurrency", now[0])
    now[0] += 2

    assert before == "provider"
    assert tally.summary().binding == "concurrency"


def ends(tally: Tally, count: int) -> None:
    """So many calls end now."""
    for _ in range(count):
        tally.count(Result(index=0, id=0))
    tally.summary()  # as a bar looks, again and again


def test_a_burst_at_the_start_does_not_promise_too_much(now: list[float]) -> None:
    """100 calls at once, then one a second: after ten seconds the time left is that of one a second, not of eleven."""
    tally = Tally(total=1_000)
    tally.begin()
    now[0] += 0.5
    ends(tally, 100)
    for _ in range(10):
        now[0] += 1
        ends(tally, 1)

    assert tally.summary().eta == pytest.approx(890, rel=0.25)


def test_the_pace_is_that_of_late(now: list[float]) -> None:
    """A run that goes ten times as fast since half a minute is as good as its new pace, and the other way round."""
    tally = Tally(total=100_000)
    tally.begin()
    for _ in range(600):
        now[0] += 0.1
        ends(tally, 1)
    slow = tally.summary().eta
    for _ in range(300):
        now[0] += 0.1
        ends(tally, 10)
    fast = tally.summary().eta
    for _ in range(150):
        now[0] += 0.2
        ends(tally, 1)

    assert slow == pytest.approx((100_000 - 600) / 10, rel=0.1)
    assert fast == pytest.approx((100_000 - 3_600) / 100, rel=0.1)
    assert tally.summary().eta == pytest.approx((100_000 - 3_750) / 5, rel=0.15)


def test_waves_are_seen_as_a_whole(now: list[float]) -> None:
    """Twenty calls at once that take half a minute each end in waves: between two of them the time left stays sane."""
    tally = Tally(total=200, in_flight=20)
    tally.begin()
    left = []
    for wave in range(1, 5):
        now[0] += 29
        left.append((tally.summary().eta, 30 * (11 - wave)))
        now[0] += 1
        ends(tally, 20)

    assert left[0][0] is None
    assert all(true / 2 <= eta <= true * 2 for eta, true in left[1:] if eta is not None)


def test_no_eta_without_a_total_or_a_start(now: list[float]) -> None:
    """Where the source does not say how much will come, or nothing has begun or ended, no time left is told."""
    without, waiting, started = Tally(), Tally(total=5), Tally(total=5)
    ends(without, 2)
    ends(waiting, 2)
    started.begin()

    assert [tally.summary().eta for tally in (without, waiting, started)] == [None, None, None]


def test_a_slow_run_after_a_fast_one_is_noticed(now: list[float]) -> None:
    """After thousands a second, one a minute is soon seen as that."""
    tally = Tally(total=20_000)
    tally.begin()
    for _ in range(100):
        now[0] += 0.01
        ends(tally, 100)
    for _ in range(3):
        now[0] += 60
        ends(tally, 1)

    assert tally.summary().eta == pytest.approx((20_000 - 10_003) * 60, rel=0.2)


def test_the_pace_of_a_long_run_is_kept_in_little(now: list[float]) -> None:
    """However long it takes, the last ten seconds or so are all that is remembered."""
    tally = Tally(total=100_000)
    tally.begin()
    for _ in range(2_000):
        now[0] += 1.0
        ends(tally, 1)

    assert tally.summary().eta == pytest.approx(98_000, rel=0.1)
