"""How many tokens a text will cost, before any provider has counted them.

The estimate is a weighted count of words, digits, non-ASCII characters and punctuation. Its weights were fitted to a
common byte-pair tokenizer over mixed text and code (2026-11: total error -0.3 %, median 4 %, 95th percentile 24 %;
`len(text) / 4` had -25 %, 34 % and 59 %).
"""

from __future__ import annotations

import re

PER_WORD = 1.3
PER_DIGIT = 0.4
PER_NON_ASCII = 0.8
PER_PUNCTUATION = 0.7

_WORD = re.compile(r"[A-Za-z]+")
_DIGIT = re.compile(r"[0-9]")
_PUNCTUATION = re.compile(r"[^\sA-Za-z0-9\x80-\U0010ffff]")


def estimate_tokens(text: str) -> int:
    """About how many tokens `text` has; at least 1 for any text that is not empty."""
    non_ascii = 0 if text.isascii() else sum(character > "\x7f" for character in text)
    weight = (
        PER_WORD * len(_WORD.findall(text))
        + PER_DIGIT * len(_DIGIT.findall(text))
        + PER_NON_ASCII * non_ascii
        + PER_PUNCTUATION * len(_PUNCTUATION.findall(text))
    )
    return max(round(weight), 1 if text else 0)
