"""What many calls begin with, where that is long enough for a provider to keep it in its prompt cache."""

from __future__ import annotations

from dataclasses import replace

from ..providers.request import Request
from .digest import Frame

LEAST = 1_024  # tokens; OpenAI, "Prompt caching", and Anthropic's for most models, 2026-11
BEGINNING = 4 * LEAST  # characters of the last message that count as its beginning: some 1,024 tokens of English


def prefix_of(request: Request, frame: Frame) -> bytes | None:
    """What tells the beginning of `request` from others: of all messages but the last, or where these are short of the
    last one's text, too. None if it is too short to be cached.

    Args:
        request: What is asked.
        frame: What its run shares.
    """
    before, last = request.messages[:-1], request.messages[-1].get("content")
    if replace(request, messages=before).input_tokens() >= LEAST:  # with tools and the schema, which come before it all
        return frame.digest_of(list(before))
    if isinstance(last, str) and len(last) > BEGINNING:
        return frame.digest_of([*before, {"role": "user", "content": last[:BEGINNING]}, {}])
    return None
