"""What the server says that it saw."""

from __future__ import annotations

import pytest

from llm_fanout.sim import stats as module
from llm_fanout.sim.stats import Stats, key_of

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"


@pytest.fixture
def stats() -> Stats:
    """Of a server that started at 100."""
    return Stats(100.0)


def test_the_busiest_second_and_minute_are_counted_exactly(stats: Stats) -> None:
    """The peaks are the most requests in any second and any 60 seconds, wherever they begin."""
    for second in [0.0, 1.0, 59.9, 60.0, 60.5, 119.0]:
        stats.arrived(100.0 + second, CHAT, None)

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
        stats.arrived(100.0, CHAT, count)
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
    stats.arrived(101.5, CHAT, None)
    stats.arrived(103.0, CHAT, None)
    stats.answered("a", 1, 104.0)
    after = stats.snapshot()

    assert [before[name] for name in ("first_arrival", "last_arrival", "last_answer")] == [None, None, None]
    assert [after[name] for name in ("first_arrival", "last_arrival", "last_answer")] == [1.5, 3.0, 4.0]


def test_every_second_has_its_row(stats: Stats) -> None:
    """Arrivals, answers, refusals, faults and tokens charged, of each second in which something happened."""
    stats.arrived(100.2, CHAT, None)
    stats.admitted(30, 100.3)
    stats.arrived(100.9, CHAT, None)
    stats.refused("tokens", 100.9)
    stats.met("500", 102.0)
    stats.answered("a", 25, 102.1)

    assert stats.snapshot()["series"] == [[0, 2, 0, 1, 0, 30], [2, 0, 1, 0, 1, 0]]


def test_the_series_forgets_its_oldest_seconds(stats: Stats, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it serves, it keeps a bounded number of them."""
    monkeypatch.setattr(module, "LONGEST_SERIES", 3)

    for second in range(10):
        stats.arrived(100.0 + second, CHAT, None)

    assert [row[0] for row in stats.snapshot()["series"]] == [7, 8, 9]


def test_outages_say_what_came_after(stats: Stats) -> None:
    """The first arrival and the first answer after the end count; what came in the middle of it does not."""
    stats.failed("503", 110.0)
    stats.arrived(111.0, CHAT, None)
    stats.answered("under way before", 1, 112.0)
    during = stats.snapshot()["outages"]
    stats.recovered(120.0)
    for second in (121.0, 122.0):
        stats.arrived(second, CHAT, None)
        stats.answered("a", 1, second + 0.5)

    begun = {"kind": "503", "begin": 10.0}
    assert during == [{**begun, "end": None, "first_arrival_after": None, "first_answer_after": None}]
    assert stats.snapshot()["outages"] == [{**begun, "end": 20.0, "first_arrival_after": 21.0, "first_answer_after": 21.5}]


def test_requests_are_told_apart_by_their_api() -> None:
    """And those that want a stream are counted."""
    stats = Stats(100.0)
    for path in (CHAT, CHAT, EMBEDDINGS):
        stats.arrived(100.0, path, None)
    stats.read("a", 100.0, streams=True)
    stats.read("b", 100.0, streams=False)

    assert stats.snapshot()["by_path"] == {CHAT: 2, EMBEDDINGS: 1}
    assert stats.snapshot()["streams"] == 1


def test_answers_are_told_apart_by_their_form(stats: Stats) -> None:
    """Calls and instances of a schema are counted besides."""
    for text, kind in [("a", "text"), ("b", "tool"), ("c", "schema"), ("d", "schema"), ("e", "vectors")]:
        stats.answered(text, 1, 100.0, kind)  # type: ignore[arg-type]  # they are kinds

    seen = stats.snapshot()

    assert (seen["answered"], seen["tool_answers"], seen["schema_answers"]) == (5, 1, 2)


def test_every_text_has_its_arrivals(stats: Stats) -> None:
    """By a key of its text, in seconds from the start: the gaps between them are those between its tries."""
    for text, instant in [("a", 101.0), ("b", 102.0), ("a", 104.5)]:
        stats.read(text, instant, streams=False)

    assert stats.snapshot()["arrivals"] == {key_of("a"): [1.0, 4.5], key_of("b"): [2.0]}


def test_arrivals_forget_the_oldest(stats: Stats, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each text, and of all texts."""
    monkeypatch.setattr(module, "NEWEST_TEXTS", 2)
    monkeypatch.setattr(module, "LATEST_ARRIVALS", 2)
    for text in "abbbc":
        stats.read(text, 101.0, streams=False)

    assert stats.snapshot()["arrivals"] == {key_of("b"): [1.0, 1.0], key_of("c"): [1.0]}


def test_any_text_has_a_key() -> None:
    """Also what is no Unicode; it says nothing of the text."""
    assert key_of("a") != key_of("b")
    assert len(key_of("\ud800")) == 16
