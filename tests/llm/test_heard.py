"""What a stream has said, and when."""

from __future__ import annotations

import pytest

from llm_fanout import clock
from llm_fanout.llm.heard import Heard


def test_it_notes_when_pieces_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first from the start of the attempt, every other one from the one before it; the text is all of them."""
    now = [100.0]
    monkeypatch.setattr(clock, "now", lambda: now[0])
    heard = Heard()

    before = heard.first
    for seconds, piece in ((0.5, "a"), (0.25, "b"), (1.0, "c")):
        now[0] += seconds
        heard.hear(piece)
    now[0] += 1.0

    assert (before, heard.first, list(heard.gaps), heard.text) == (None, 0.5, [0.25, 1.0], "abc")
    assert heard.seconds == 2.75


def test_it_tells_who_wants_to_know() -> None:
    """Each piece as it comes; from then on the answer cannot be asked for anew."""
    told: list[str] = []
    heard, silent = Heard(told.append), Heard()

    before = heard.was_told
    heard.hear("a")
    silent.hear("a")

    assert (before, heard.was_told, silent.was_told) == (False, True, False)
    assert told == ["a"]
