"""The prompt cache: what a prompt has in common with an earlier one, from its beginning.

Source: platform.openai.com/docs/guides/prompt-caching: from 1,024 tokens on, in steps of 128; tools, images and schemas
belong to the prefix; 2026-11.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256

from .asked import Asked

LEAST = 1_024  # tokens
STEP = 128
KEPT = 10_000  # prefixes; of more, the oldest are forgotten


class Prefixes:
    """The long beginnings of the prompts to which an answer has begun, by whole messages."""

    def __init__(self) -> None:
        self._kept: dict[bytes, None] = {}

    def cached(self, asked: Asked) -> int:
        """How many of its tokens an earlier prompt has begun with."""
        known = max((tokens for tokens, key in _long_ones(asked) if key in self._kept), default=0)
        return known // STEP * STEP

    def keep(self, asked: Asked) -> None:
        """Its answer begins: what begins like it is cached from now on."""
        for _, key in _long_ones(asked):
            self._kept[key] = None
            if len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]


def _long_ones(asked: Asked) -> Iterator[tuple[int, bytes]]:
    """Tokens and key of each beginning that is long enough."""
    if asked.tokens < LEAST:
        return
    digest, tokens = sha256(asked.model.encode(errors="replace")), 0
    for part, size in asked.parts:
        digest.update(json.dumps(part, sort_keys=True).encode())
        tokens += size
        if tokens >= LEAST:
            yield tokens, digest.digest()
