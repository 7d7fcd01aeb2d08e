"""What an answer says: words that are plainly simulated, an instance of a schema, or what the prompt asked for."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from ..core.tokens import estimate_tokens
from .asked import Asked
from .instances import instance_of

Finish = Literal["stop", "length"]

OPENING = "[simulated answer]"
FILLER = "a calm model in a box says plausible words that mean little and cost no money while the client learns to wait"
WORDS = tuple(FILLER.split(" "))
SPOKEN_AT_ONCE = 8  # words by which an answer grows until it is long enough

_PIECE = re.compile(r"(?:\s*\S{1,16}){1,3}|\s+")  # what a stream says at a time: a few words, or a bit of a long one


@dataclass(frozen=True, slots=True)
class Spoken:
    """What an answer says: its text (or the arguments of its call), how many tokens that is, and why it ends.

    A `finish_reason` of None says nothing of why.
    """

    text: str
    tokens: int
    finish_reason: Finish | None

    def pieces(self) -> list[str]:
        """The text, as a stream says it: a few words at a time."""
        return _PIECE.findall(self.text)


SILENCE = Spoken("", 0, "stop")


def answer_to(asked: Asked, draw: random.Random, mean: float, told: str | None = None) -> Spoken:
    """What is said to `asked`.

    Args:
        asked: The request, whose form is kept.
        draw: Decides everything.
        mean: Tokens of a text, on the average.
        told: What is said in any case, but by the arguments of a call that need not be made: those are made up.

    Raises:
        ValueError: Its schema has no instance.
    """
    if asked.form.kind == "vectors":
        return SILENCE
    if told is not None and not asked.form.is_free:
        return quoted(told, asked.most)
    if asked.form.schema is not None:
        return quoted(json.dumps(instance_of(asked.form.schema, draw)), asked.most)
    return spoken(draw, max(1, round(mean * draw.uniform(0.5, 1.5))), asked.most)


def spoken(draw: random.Random, tokens: int, most: int | None) -> Spoken:
    """About `tokens` tokens of text that nobody could take for a model's, but at most `most`."""
    words = _words_for(tokens)
    return quoted(" ".join([OPENING, *draw.choices(WORDS, k=words)]), most, _tokens_of(words))


def quoted(text: str, most: int | None, tokens: int | None = None) -> Spoken:
    """`text` within `most` tokens; `tokens` is how many it has, where that is known."""
    if tokens is None:
        tokens = estimate_tokens(text)
    if most is None or tokens <= most:
        return Spoken(text, tokens, "stop")
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if estimate_tokens(text[:middle]) <= most else (low, middle - 1)
    cut = text[:low]
    return Spoken(cut, estimate_tokens(cut), "length")


# An estimate costs as much as the rest of an answer. All the words count alike, so their number decides it.


@lru_cache(maxsize=4096)
def _words_for(tokens: int) -> int:
    words = 0
    while _tokens_of(words) < tokens:
        words += SPOKEN_AT_ONCE
    return words


@lru_cache(maxsize=4096)
def _tokens_of(words: int) -> int:
    return estimate_tokens(" ".join([OPENING, *[WORDS[0]] * words]))
