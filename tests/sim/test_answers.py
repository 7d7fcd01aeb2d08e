"""Simulated answers."""

from __future__ import annotations

import random

import pytest

from llm_fanout.core.tokens import estimate_tokens
from llm_fanout.sim.answers import OPENING, Spoken, quoted, spoken


def test_answers_say_that_they_are_simulated() -> None:
    """Nobody can take one for a model's words; it is about as long as asked for."""
    said = spoken(random.Random(1), 50, None)

    assert said.text.startswith(OPENING)
    assert 50 <= said.tokens <= 75
    assert said.finish_reason == "stop"


@pytest.mark.parametrize("tokens", range(1, 200, 13))
def test_the_length_that_is_said_is_the_length(tokens: int) -> None:
    """Counting words instead of text gives what the estimate gives."""
    said = spoken(random.Random(tokens), tokens, None)

    assert said.tokens == estimate_tokens(said.text)


@pytest.mark.parametrize("most", range(1, 40, 3))
def test_answers_are_cut_at_max_tokens(most: int) -> None:
    """A longer answer is cut to as many tokens, and says so."""
    said = quoted("one two three four five six seven eight nine ten eleven twelve " * 3, most)

    assert said.tokens == estimate_tokens(said.text) <= max(most, 1)
    assert said.finish_reason == "length"


def test_short_answers_are_whole() -> None:
    """What fits is left as it is."""
    assert quoted("short", 10) == Spoken("short", 1, "stop")
    assert quoted("any " * 100, None).text == "any " * 100
