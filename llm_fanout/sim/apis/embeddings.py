"""OpenAI's Embeddings: unit vectors that the text alone decides."""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Sequence
from math import hypot
from struct import pack, unpack
from typing import Any

from ..asked import VECTORS, Asked, JsonObject, Unreadable, asked
from .api import Reply, Streaming
from .vendors import OPENAI

DIMENSIONS = 64  # unless the request says
MOST_DIMENSIONS = 4_096


class Embeddings:
    """POST /embeddings."""

    paths: Sequence[str] = ("/v1/embeddings",)
    vendor = OPENAI
    streaming: Streaming | None = None

    def read(self, body: JsonObject) -> Asked:
        """What is asked: a text or a list of texts. A text may come as tokens, whose numbers are then its words."""
        inputs, dimensions = _inputs(body), body.get("dimensions", DIMENSIONS)
        if not inputs or not isinstance(dimensions, int) or not 1 <= dimensions <= MOST_DIMENSIONS:
            raise Unreadable(f"'input' must be a text or more, 'dimensions' from 1 to {MOST_DIMENSIONS}.")
        return asked(body, [{"content": each} for each in inputs], most=None, form=VECTORS)

    def whole(self, reply: Reply) -> dict[str, Any]:
        """A list of `embedding` objects, one for each input, in order; none of them if `reply` is blank or has no end."""
        body = reply.asked.body
        given = not reply.blank and reply.said.finish_reason is not None
        vectors = [vector(each, body.get("dimensions", DIMENSIONS)) for each in (_inputs(body) if given else ())]
        as_text = body.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": _packed(each) if as_text else each}
            for index, each in enumerate(vectors)
        ]
        usage = {"prompt_tokens": reply.asked.tokens, "total_tokens": reply.asked.tokens}
        return {"object": "list", "data": data, "model": reply.asked.model, "usage": usage}


def vector(text: str, dimensions: int) -> list[float]:
    """A vector of length 1: the same for the same text, and far from that of any other."""
    noise = random.Random(text.encode(errors="replace")).randbytes(4 * dimensions)
    numbers = [number | 1 for number in unpack(f"<{dimensions}i", noise)]  # odd, so that the length is never zero
    length = hypot(*numbers)
    return [number / length for number in numbers]


def _inputs(body: JsonObject) -> list[str]:
    said = body.get("input")
    is_one = isinstance(said, str) or (isinstance(said, list) and said and isinstance(said[0], int))
    return [str(each) for each in ([said] if is_one else said or ())]


def _packed(numbers: Sequence[float]) -> str:
    """32-bit floats, the least significant byte first."""
    return b64encode(pack(f"<{len(numbers)}f", *numbers)).decode()
