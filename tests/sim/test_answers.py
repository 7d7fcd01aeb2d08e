"""Simulated answers."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout.core.tokens import estimate_tokens
from llm_fanout.sim.answers import OPENING, SILENCE, Spoken, answer_to, quoted, spoken
from llm_fanout.sim.asked import TEXT, VECTORS, Asked, Form


def wanted(form: Form, most: int | None = None) -> Asked:
    """A request for such an answer."""
    return Asked("m", "", 1, most, form, (), {})


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


@given(text=st.text(alphabet="ab \n.", max_size=60))
def test_the_pieces_of_a_stream_are_the_text(text: str) -> None:
    """All of it, and no piece is empty."""
    pieces = quoted(text, None).pieces()

    assert "".join(pieces) == text
    assert all(pieces)


def test_a_long_word_is_said_in_bits() -> None:
    """And short ones a few at a time."""
    assert quoted("one two three four", None).pieces() == ["one two three", " four"]
    assert quoted("x" * 60, None).pieces() == ["x" * 48, "x" * 12]


SCHEMA = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}


@pytest.mark.parametrize("form", [Form("schema", SCHEMA), Form("tool", SCHEMA, "pay")])
def test_a_schema_decides_what_is_said(form: Form) -> None:
    """An instance of it, for a text and for the arguments of a call; cut like any text."""
    whole, cut = (answer_to(wanted(form, most), random.Random(1), 50.0) for most in (None, 2))

    assert isinstance(json.loads(whole.text)["number"], int)
    assert (cut.text, cut.tokens, cut.finish_reason) == ('{"', 1, "length")


def test_what_a_prompt_wants_said_is_said() -> None:
    """In whatever form it was asked for, even where that has no instance; but vectors say nothing."""
    told = [answer_to(wanted(form), random.Random(1), 50.0, "yes").text for form in (TEXT, Form("schema", {"type": "?"}))]

    assert told == ["yes", "yes"]
    assert answer_to(wanted(VECTORS), random.Random(1), 50.0, "yes") == SILENCE


def test_a_call_that_need_not_be_made_is_made_up() -> None:
    """What a prompt wants said is its answer, not the arguments of the call before it."""
    said = answer_to(wanted(Form("tool", SCHEMA, "pay", is_free=True)), random.Random(1), 50.0, "yes")

    assert isinstance(json.loads(said.text)["number"], int)


def test_texts_are_as_long_as_the_mean() -> None:
    """From half of it to one and a half."""
    lengths = [answer_to(wanted(TEXT), random.Random(seed), 100.0).tokens for seed in range(200)]

    assert min(lengths) >= 50
    assert max(lengths) <= 170
    assert 95 <= sum(lengths) / 200 <= 115
