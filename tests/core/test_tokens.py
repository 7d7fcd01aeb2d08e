"""The estimate of tokens."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout.core.tokens import PER_DIGIT, PER_NON_ASCII, PER_PUNCTUATION, PER_WORD, estimate_tokens, most_tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        (" ", 1),
        ("hello", 1),
        ("hello world, how are you", 7),
        ("1234567890", 4),
        ("def f(x):\n    return x + 1", 10),
        ("日本語", 2),
        ("naïve café", 6),
    ],
)
def test_estimates(text: str, tokens: int) -> None:
    """Words, digits, other scripts and punctuation each have their weight."""
    assert estimate_tokens(text) == tokens


@given(st.text(min_size=1))
def test_any_text_has_tokens(text: str) -> None:
    """Whatever the text, the estimate is at least 1, and bounded by its bytes and words."""
    assert 1 <= estimate_tokens(text) <= 2 * len(text.encode(errors="surrogatepass")) + 1


@given(st.text(st.characters(exclude_categories=())) | st.text(st.characters(max_codepoint=0x7F)))
def test_the_count_is_that_of_its_classes(text: str) -> None:
    """Runs of ASCII letters, digits, characters beyond ASCII, and what else is no white space: as patterns find them."""
    weight = (
        PER_WORD * len(re.findall(r"[A-Za-z]+", text))
        + PER_DIGIT * len(re.findall(r"[0-9]", text))
        + PER_NON_ASCII * len(re.findall(r"[^\x00-\x7f]", text))
        + PER_PUNCTUATION * len(re.findall(r"[^\sA-Za-z0-9\x80-\U0010ffff]", text))
    )

    assert estimate_tokens(text) == max(round(weight), min(1, len(text)))


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("hello", 5), ("日本", 6), ("\ud800", 3)])
def test_a_token_has_a_byte_at_least(text: str, tokens: int) -> None:
    """The most that there may be are the bytes of UTF-8, also of what cannot be encoded."""
    assert most_tokens(text) == tokens


@given(st.text(), st.text())
def test_longer_texts_do_not_have_less(one: str, two: str) -> None:
    """Two texts with a space between have about as many tokens as both together."""
    together = estimate_tokens(f"{one} {two}")

    assert abs(together - estimate_tokens(one) - estimate_tokens(two)) <= 2
