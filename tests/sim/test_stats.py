"""What the server says that it saw."""

from __future__ import annotations

import pytest

from llm_fanout.sim import stats as module
from llm_fanout.sim.stats import Stats


@pytest.fixture
def stats() -> Stats:
    """Of a server that started at 100."""
    return Stats(100.0)


def test_the_busiest_second_and_minute_are_counted_exactly(stats: Stats) -> None:
    """The peaks are the most requests in any second and any 60 seconds, wherever they begin."""
    for second in [0.0, 1.0, 59.9, 60.0, 60.5, 119.0]:
        stats.arrived(100.0 + second, None)

    seen = stats.snapshot()

    assert seen["peak_second"] == 3  # from 59.9 to 60.5
    assert seen["peak_minute"] == 4  # from 1.0 to 60.5


def test_tokens_are_counted_as_they_are_charged(stats: Stats) -> None:
    """All of them, the most in any 60 seconds, and those that became answers."""
    for second, tokens in [(0.0, 50), (59.0, 30), (61.0, 40)]:
        stats.admitted(tokens, 100.0 + second)
    stats.answered("a", 35, 162.0)

    seen = stats.snapshot()

    assert (seen["admitted"], seen["tokens_charged"], seen["tokens_answered"]) == (3, 120, 35)
    assert seen["peak_minute_tokens"] == 80


def test_what_is_answered_twice_is_noticed(stats: Stats) -> None:
    """A text that got two complete answers is counted once."""
    for text in ["a", "b", "a", "a"]:
        stats.answered(text, 1, 100.0)

    assert stats.snapshot()["answered"] == 4
    assert stats.snapshot()["answered_twice"] == 1


def test_retries_of_a_layer_below_are_noticed(stats: Stats) -> None:
    """A request whose SDK had sent it before is counted."""
    for count in [None, "0", "1"]:
        stats.arrived(100.0, count)
        stats.left()

    assert stats.snapshot()["retried_below"] == 1
    assert stats.snapshot()["peak_in_flight"] == 1


def test_refusals_are_told_apart_from_faults(stats: Stats) -> None:
    """A quota's 429 is counted by its reason, an injected one as a fault."""
    stats.refused("requests", 100.0)
    stats.refused("requests", 100.0)
    stats.refused("in_flight", 100.0)
    stats.met("429", 100.0)

    seen = stats.snapshot()

    assert (seen["refused"], seen["refused_by"]) == (3, {"requests": 2, "in_flight": 1})
    assert seen["faults"] == {"429": 1}


def test_instants_are_told_from_the_start(stats: Stats) -> None:
    """The first and the last arrival, and the last answer; None before there is one."""
    before = stats.snapshot()
    stats.arrived(101.5, None)
    stats.arrived(103.0, None)
    stats.answered("a", 1, 104.0)
    after = stats.snapshot()

    assert [before[name] for name in ("first_arrival", "last_arrival", "last_answer")] == [None, None, None]
    assert [after[name] for name in ("first_arrival", "last_arrival", "last_answer")] == [1.5, 3.0, 4.0]


def test_every_second_has_its_row(stats: Stats) -> None:
    """Arrivals, answers, refusals, faults and tokens charged, of each second in which something happened."""
    stats.arrived(100.2, None)
    stats.admitted(30, 100.3)
    stats.arrived(100.9, None)
    stats.refused("tokens", 100.9)
    stats.met("500", 102.0)
    stats.answered("a", 25, 102.1)

    assert stats.snapshot()["series"] == [[0, 2, 0, 1, 0, 30], [2, 0, 1, 0, 1, 0]]


def test_the_series_forgets_its_oldest_seconds(stats: Stats, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it serves, it keeps a bounded number of them."""
    monkeypatch.setattr(module, "LONGEST_SERIES", 3)

    for second in range(10):
        stats.arrived(100.0 + second, None)

    assert [row[0] for row in stats.snapshot()["series"]] == [7, 8, 9]


def test_outages_say_what_came_after(stats: Stats) -> None:
    """The first arrival and the first answer after the end count; what came in the middle of it does not."""
    stats.failed("503", 110.0)
    stats.arrived(111.0, None)
    stats.answered("under way before", 1, 112.0)
    during = stats.snapshot()["outages"]
    stats.recovered(120.0)
    for second in (121.0, 122.0):
        stats.arrived(second, None)
        stats.answered("a", 1, second + 0.5)

    begun = {"kind": "503", "begin": 10.0}
    assert during == [{**begun, "end": None, "first_arrival_after": None, "first_answer_after": None}]
    assert stats.snapshot()["outages"] == [{**begun, "end": 20.0, "first_arrival_after": 21.0, "first_answer_after": 21.5}]
