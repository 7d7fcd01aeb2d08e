"""Answers that say plainly that they are simulated, in the shape of a chat completion."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..core.tokens import estimate_tokens

OPENING = "[simulated answer]"
FILLER = "a calm model in a box says plausible words that mean little and cost no money while the client learns to wait"
WORDS = tuple(FILLER.split(" "))
SPOKEN_AT_ONCE = 8  # words by which an answer grows until it is long enough


@dataclass(frozen=True, slots=True)
class Spoken:
    """What an answer says: its text, how many tokens that is, and why it ends."""

    text: str
    tokens: int
    finish_reason: str


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
    words = text.split(" ")
    low, high = 1, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if estimate_tokens(" ".join(words[:middle])) <= most else (low, middle - 1)
    cut = " ".join(words[:low])
    return Spoken(cut, estimate_tokens(cut), "length")


def completion(model: str, draw: random.Random, said: Spoken, prompt_tokens: int) -> dict[str, Any]:
    """A whole `chat.completion` object."""
    return {
        "id": f"chatcmpl-sim-{draw.getrandbits(48):012x}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": said.text, "refusal": None},
                "logprobs": None,
                "finish_reason": said.finish_reason,
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": said.tokens,
            "total_tokens": prompt_tokens + said.tokens,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "system_fingerprint": "simulated",
    }


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
