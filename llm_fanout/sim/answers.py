"""Answers that say plainly that they are simulated, in the shape of a chat completion."""

from __future__ import annotations

import random
import time
from typing import Any

from ..core.tokens import estimate_tokens

OPENING = "[simulated answer]"
FILLER = "a calm model in a box says plausible words that mean little and cost no money while the client learns to wait"
WORDS = tuple(FILLER.split(" "))


def answer_text(draw: random.Random, tokens: int) -> str:
    """About `tokens` tokens of text that nobody could take for a model's."""
    words = [OPENING]
    while estimate_tokens(" ".join(words)) < tokens:
        words += draw.choices(WORDS, k=8)
    return " ".join(words)


def cut_to(text: str, most: int | None) -> tuple[str, str]:
    """`text` within `most` tokens, and the finish reason that goes with it."""
    if most is None or estimate_tokens(text) <= most:
        return text, "stop"
    words = text.split(" ")
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if estimate_tokens(" ".join(words[:middle])) <= most else (low, middle - 1)
    return " ".join(words[: max(low, 1)]), "length"


def completion(model: str, draw: random.Random, text: str, finish_reason: str | None, prompt_tokens: int) -> dict[str, Any]:
    """A whole `chat.completion` object."""
    completion_tokens = estimate_tokens(text)
    return {
        "id": f"chatcmpl-sim-{draw.getrandbits(48):012x}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": finish_reason,
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "system_fingerprint": "simulated",
    }
