"""Simulated answers."""

from __future__ import annotations

import random

import pytest

from llm_fanout.core.tokens import estimate_tokens
from llm_fanout.sim.answers import OPENING, answer_text, cut_to


def test_answers_say_that_they_are_simulated() -> None:
    """Nobody can take one for a model's words; it is about as long as asked for."""
    text = answer_text(random.Random(1), 50)

    assert text.startswith(OPENING)
    assert 50 <= estimate_tokens(text) <= 75


@pytest.mark.parametrize("most", range(1, 40, 3))
def test_answers_are_cut_at_max_tokens(most: int) -> None:
    """A longer answer is cut to as many tokens, and says so."""
    text, reason = cut_to("one two three four five six seven eight nine ten eleven twelve " * 3, most)

    assert estimate_tokens(text) <= max(most, 1)
    assert reason == "length"


def test_short_answers_are_whole() -> None:
    """What fits is left as it is."""
    assert cut_to("short", 10) == ("short", "stop")
    assert cut_to("any " * 100, None) == ("any " * 100, "stop")
