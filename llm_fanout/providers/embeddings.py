"""OpenAI's Embeddings: one text in, one vector out. Source: openai SDK 3.57, `types/embedding_create_params.py`."""

from __future__ import annotations

from base64 import b64decode
from struct import unpack
from typing import Any

from ..errors import Rejected
from ..spending import Usage
from . import plain, reading
from .format import Assembler, Rule, cannot_take, extras, translated, under
from .reply import ProviderError, Reply
from .request import Request

_RULES: dict[str, Rule] = {name: under(name) for name in ("dimensions", "user")}


class EmbeddingsFormat:
    """Embeddings: the request's one message is the text."""

    name = "embeddings"
    path = "/embeddings"

    def said(self, request: Request) -> dict[str, Any]:
        """The text."""
        contents = [message.get("content") for message in request.messages]
        if len(contents) != 1 or not isinstance(contents[0], str):
            raise Rejected("the embeddings API takes one text a call; hand the texts in one by one", kind="invalid")
        return {"input": contents[0]}

    def frame(self, request: Request) -> dict[str, Any]:
        """The vector is asked for as numbers (the SDK asks for base64, which not all servers know)."""
        if request.schema is not None:
            raise cannot_take(self.name, "response_format")
        if request.stream:
            raise cannot_take(self.name, "stream")
        params = translated(request.params, _RULES, self.name)
        return {"model": request.model, "encoding_format": "float", **params, **extras(request)}

    def read(self, raw: bytes) -> Reply:
        """The first vector. Raises ProviderError for an error, ValueError if there is no vector."""
        return plain.vector(raw) or self._read(raw)

    def _read(self, raw: bytes) -> Reply:
        answer = reading.document(raw)
        if answer.get("error"):
            raise ProviderError(answer["error"])
        first = next(iter(reading.rows(answer.get("data"))), {})
        return Reply(usage=_usage(answer.get("usage")), vector=_vector(first.get("embedding")), raw=raw)

    def assembler(self) -> Assembler:
        """There is none: a vector comes at once. Raises Rejected."""
        raise cannot_take(self.name, "stream")

    def response(self, raw: bytes) -> object:
        """The `openai.types.CreateEmbeddingResponse`."""
        from openai.types import CreateEmbeddingResponse

        return reading.sdk_object(CreateEmbeddingResponse, raw)


def _vector(embedding: object) -> list[float]:
    if isinstance(embedding, str):
        return _unpacked(embedding)
    if not isinstance(embedding, list) or not embedding or not all(type(each) in (float, int) for each in embedding):
        raise ValueError("an embedding is a list of numbers")
    try:
        return list(map(float, embedding))
    except OverflowError as exc:
        raise ValueError("an embedding has a number that is too large") from exc


def _unpacked(embedding: str) -> list[float]:
    """The numbers of a vector in base64, as the SDKs ask for it: 32 bits each. Raises ValueError."""
    packed = b64decode(embedding, validate=True)
    if not packed or len(packed) % 4:
        raise ValueError("an embedding in base64 is 32 bits for each number")
    return list(unpack(f"<{len(packed) // 4}f", packed))


def _usage(usage: object) -> Usage | None:
    return Usage(reading.count(usage.get("prompt_tokens"))) if isinstance(usage, dict) else None
