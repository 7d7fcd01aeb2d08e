"""The running numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from support import FakeProvider, consume, in_thread

from llm_fanout import FanOut, Rejected, Result, Summary, Usage, clock
from llm_fanout.core.quota import Quota
from llm_fanout.spending import Spending
from llm_fanout.tally import Tally, Totals


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


def run_of(totals: Totals, *errors: Rejected | None) -> Tally:
    """A run that has begun, with one ended call of the model m/x and ten input tokens for each of `errors`."""
    run = Tally(total=100)
    run.begin()
    totals.begin(run)
    for error in errors:
        run.attempts += 1
        run.count(Result(index=0, id=0, error=error, spending=[Spending.of("m/x", Usage(10))]))
    return run


def figures(summary: Summary) -> tuple[int, int, int, int, int, dict[str, int]]:
    """What adds up."""
    tokens = summary.usage.input_tokens
    return summary.done, summary.failed, summary.in_flight, summary.attempts, tokens, dict(summary.errors)


def test_totals_are_of_what_runs_and_of_what_has_ended() -> None:
    """Seen from another thread, each run counts once, before its end and after."""
    totals, bad = Totals(), Rejected("no", kind="invalid")
    ended, running = run_of(totals, None, bad), run_of(totals, None, bad, None)
    running.in_flight = 2
    running.attempts += 2

    before = figures(in_thread(totals.summary))
    totals.end(ended)
    after = figures(in_thread(totals.summary))

    assert before == after == (5, 2, 2, 7, 50, {"invalid": 2})


def test_totals_follow_a_run_as_it_goes() -> None:
    """What a run has counted is seen at the next look, and what was seen before stays as it was."""
    totals = Totals()
    run = run_of(totals, None)

    first = totals.summary()
    run.count(Result(index=1, id=1, error=Rejected("no", kind="invalid"), spending=[Spending.of("m/x", Usage(10))]))
    second = totals.summary()

    assert (figures(first)[:2], figures(second)[:2]) == ((1, 0), (2, 1))
    assert [each.calls for summary in (first, second) for each in summary.spending] == [1, 2]


def test_totals_promise_no_end() -> None:
    """However many calls the runs have, more may come: there is no total, and no time left."""
    totals = Totals()
    run_of(totals, None, None)

    assert (totals.summary().total, totals.summary().eta) == (None, None)


def test_the_time_of_totals_begins_with_the_first_run(now: list[float]) -> None:
    """Not before, and not anew with the second; it goes on when both have ended."""
    totals = Totals()
    now[0] = 200.0
    before = totals.summary().elapsed
    first = run_of(totals)
    now[0] = 210.0
    second = run_of(totals)
    totals.end(first)
    totals.end(second)
    now[0] = 215.0

    assert (before, totals.summary().elapsed) == (0.0, 15.0)


def test_the_time_of_totals_that_are_opened_and_closed(now: list[float]) -> None:
    """It goes from the one to the other, whatever runs begin meanwhile; what those count later counts still."""
    totals = Totals()
    totals.open()
    now[0] = 105.0
    run = run_of(totals, None)
    now[0] = 120.0
    totals.close()
    now[0] = 500.0
    run.count(Result(index=1, id=1))

    assert (totals.summary().elapsed, totals.summary().done) == (20.0, 2)


def test_what_totals_wait_for(now: list[float]) -> None:
    """What held up the quotas since one of the runs first needed them."""
    quota, totals = Quota(), Totals()
    quota.waits.turn_to("requests", now[0])
    now[0] += 500

    totals.waits_for(quota)
    before = totals.summary().binding
    quota.waits.turn_to("tokens", now[0])
    now[0] += 2

    assert (before, totals.summary().binding) == ("provider", "tokens")


def test_a_run_whose_loop_was_closed_counts_as_it_stood(provider: FakeProvider, fan_of: Callable[..., FanOut]) -> None:
    """What had been answered by then stays in the numbers of its client, beside that of later runs."""
    fan = fan_of()

    def abandon() -> None:
        loop = asyncio.new_event_loop()
        provider.seconds = 0.0
        loop.run_until_complete(consume(fan.map(["one", "two"])))
        provider.seconds = 100.0
        run = fan.map(["three"])
        task = loop.create_task(consume(run))
        while not run.summary.in_flight:
            loop.run_until_complete(asyncio.sleep(0))
        for each in {task, *asyncio.all_tasks(loop)}:
            each._log_destroy_pending = False  # type: ignore[attr-defined]  # they are abandoned on purpose
        loop.close()

    in_thread(abandon)
    stood = fan.summary
    provider.seconds = 0.0
    in_thread(lambda: asyncio.run(consume(fan.map(["four"]))))

    assert (stood.done, stood.attempts) == (2, 3)
    assert (fan.summary.done, fan.summary.attempts) == (3, 4)
