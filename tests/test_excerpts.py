"""Many texts in little room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout import excerpts
from llm_fanout.excerpts import FIELDS, Excerpts, share_of
from llm_fanout.rowfiles.lines import json_text

ROOM = 1_000
WHATEVER = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\\x1b\u2028😀'), max_size=2_000)


def read(excerpts: Excerpts, entry: dict[str, object], room: int = ROOM) -> str:
    """The whole of an answer, by all its rests."""
    text = str(entry["answer"])
    while rest := entry.get("rest"):
        following = excerpts.read_on(str(rest), room)
        assert following is not None
        entry = following
        text += str(entry["answer"])
    return text


@pytest.mark.parametrize(
    ("sizes", "room", "share"),
    [([], 10, 0), ([3, 4], 10, 4), ([3, 40], 10, 7), ([40, 3, 40], 13, 5), ([1, 1, 100], 100, 98)],
)
def test_what_short_texts_leave_goes_to_long_ones(sizes: list[int], room: int, share: int) -> None:
    """Those that need less than an equal share are whole, the others share the rest equally."""
    assert share_of(sizes, room) == share


def test_a_short_text_is_whole_and_a_long_one_is_marked() -> None:
    """The entry of one that is cut tells its whole length and how to read on; others have neither."""
    short, long = Excerpts().cut([(0, "short"), (1, "x" * 5_000)], ROOM)

    assert short == {"index": 0, "answer": "short"}
    assert long["characters"] == 5_000
    assert set(str(long["answer"])) == {"x"}
    assert str(long["rest"]).endswith(f"@{len(str(long['answer']))}")


@given(st.lists(WHATEVER, min_size=1, max_size=4))
def test_no_room_is_exceeded_and_nothing_is_lost(texts: list[str]) -> None:
    """As JSON the entries fit, whatever has to be escaped; the rests make each text whole again."""
    kept = Excerpts()

    entries = kept.cut(list(enumerate(texts)), ROOM)

    assert sum(len(json_text(entry)) for entry in entries) <= ROOM
    assert [read(kept, entry) for entry in entries] == texts


def test_reading_on_tells_where() -> None:
    """What follows says where it begins, and fits, too."""
    kept = Excerpts()
    [first] = kept.cut([(7, "x" * 2_000)], ROOM)

    following = kept.read_on(str(first["rest"]), ROOM)

    assert following is not None
    assert following["index"] == 7
    assert following["from"] == len(str(first["answer"]))
    assert len(json_text(following)) <= ROOM


@pytest.mark.parametrize("rest", ["", "1.0", "1.1@5", "2.0@5", "1.0@-1", "1.0@5\n", "../etc@0", "1.0@" + "9" * 99])
def test_what_is_no_rest_gives_nothing(rest: str) -> None:
    """Only the rests that were given are known."""
    kept = Excerpts()
    kept.cut([(0, "x" * 2_000)], ROOM)

    assert kept.read_on(rest, ROOM) is None


def test_beyond_the_end_there_is_nothing_more() -> None:
    """A rest that was made up ends there."""
    kept = Excerpts()
    kept.cut([(0, "x" * 2_000)], ROOM)

    assert kept.read_on("1.0@9999", ROOM) == {"index": 0, "from": 9999, "answer": ""}


def test_old_rests_make_room_for_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many characters are kept, of the newest answers; the newest one always is."""
    monkeypatch.setattr(excerpts, "KEPT", 5_000)
    kept = Excerpts()

    rests = [str(kept.cut([(0, "x" * size)], ROOM)[0]["rest"]) for size in (2_000, 2_000, 2_000, 9_000)]

    assert [kept.read_on(rest, ROOM) is None for rest in rests] == [True, True, True, False]


def test_the_fields_of_an_entry_fit_their_allowance() -> None:
    """An empty answer with the longest numbers takes no more than what is reckoned for it."""
    entry = {"from": 10**12 - 1, "answer": "", "characters": 10**12 - 1, "rest": f"{10**12 - 1}.{10**12 - 1}@{10**12 - 1}"}

    assert len(json_text({"index": 0} | entry)) - len(json_text({"index": 0})) <= FIELDS
