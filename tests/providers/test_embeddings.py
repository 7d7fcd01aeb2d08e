"""Embeddings, written and read."""

from __future__ import annotations

import json
from base64 import b64encode
from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse
from pydantic import BaseModel

from llm_fanout import Rejected
from llm_fanout.providers import EmbeddingsFormat, ProviderError, Request, Schema
from llm_fanout.providers.writing import body_of
from llm_fanout.spending import Usage

EMBEDDINGS = EmbeddingsFormat()
ASK = [{"role": "user", "content": "hello"}]
ANSWER = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -1, 0.25]}],
    "model": "text-embedding-3-small",
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}


class City(BaseModel):
    name: str


def test_a_text_is_asked_for_as_numbers() -> None:
    """One text, with the parameters that there are."""
    params = {"dimensions": 3, "user": "u", "extra_headers": {"x": "y"}, "extra_body": {"input_type": "query"}}

    assert body_of(EMBEDDINGS, Request("text-embedding-3-small", ASK, params)) == {
        "model": "text-embedding-3-small",
        "input": "hello",
        "encoding_format": "float",
        "dimensions": 3,
        "user": "u",
        "input_type": "query",
    }


@pytest.mark.parametrize(
    ("request_", "match"),
    [
        (Request("m", ASK, {"temperature": 0}), "embeddings API cannot take temperature"),
        (Request("m", ASK, stream=True), "cannot take stream"),
        (Request("m", ASK, schema=Schema.of(City)), "cannot take response_format"),
        (Request("m", [*ASK, *ASK]), "one text a call"),
        (Request("m", [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]), "one text a call"),
    ],
)
def test_what_it_cannot_take(request_: Request, match: str) -> None:
    """It is refused by name."""
    with pytest.raises(Rejected, match=match) as caught:
        body_of(EMBEDDINGS, request_)

    assert caught.value.kind == "invalid"


def test_a_vector_is_read() -> None:
    """The vector, its usage, and an end that is whole."""
    reply = EMBEDDINGS.read(json.dumps(ANSWER).encode())

    assert (reply.vector, reply.usage, reply.finish_reason, reply.text) == ([0.5, -1, 0.25], Usage(8), "stop", "")
    assert EMBEDDINGS.read(json.dumps(ANSWER | {"usage": None}).encode()).usage is None


def test_an_error_is_the_providers() -> None:
    """A success by its status alone."""
    with pytest.raises(ProviderError, match="overloaded"):
        EMBEDDINGS.read(b'{"error": {"message": "overloaded"}}')


@pytest.mark.parametrize("embedding", [None, [], [True], [1, "2"], {"0": 1}])
def test_what_is_no_vector(embedding: Any) -> None:
    """Numbers, and at least one."""
    with pytest.raises(ValueError, match="list of numbers"):
        EMBEDDINGS.read(json.dumps({"data": [{"embedding": embedding}]}).encode())


def test_a_vector_may_be_packed() -> None:
    """In base64, as the SDKs ask for it."""
    packed = b64encode(pack("<3f", 0.5, -1, 0.25)).decode()

    assert EMBEDDINGS.read(json.dumps({"data": [{"embedding": packed}]}).encode()).vector == [0.5, -1, 0.25]


@pytest.mark.parametrize("embedding", ["", "AAAA", "A", "\u00e9", "not base64!"])
def test_what_is_no_packed_vector(embedding: str) -> None:
    """Numbers of 32 bits, and at least one."""
    with pytest.raises(ValueError, match=r"base64|ASCII|padd"):
        EMBEDDINGS.read(json.dumps({"data": [{"embedding": embedding}]}).encode())


def test_a_number_that_is_too_large() -> None:
    """A whole number beyond what a float can hold is no part of a vector, and breaks nothing but its answer."""
    with pytest.raises(ValueError, match="too large"):
        EMBEDDINGS.read(json.dumps({"data": [{"embedding": [10**400]}]}).encode())


@given(
    st.binary()
    | st.dictionaries(st.sampled_from(["data", "usage"]), st.lists(st.floats())).map(lambda x: json.dumps(x).encode())
)
def test_no_answer_can_break_it(raw: bytes) -> None:
    """Any bytes are a reply or a ValueError."""
    try:
        EMBEDDINGS.read(raw)
    except ValueError:
        pass


def test_vectors_are_not_streamed() -> None:
    """Who asks for that is told."""
    with pytest.raises(Rejected, match="cannot take stream"):
        EMBEDDINGS.assembler()


def test_the_sdks_own_object() -> None:
    """A real CreateEmbeddingResponse."""
    response: Any = EMBEDDINGS.response(json.dumps(ANSWER).encode())

    assert isinstance(response, CreateEmbeddingResponse)
    assert response.data[0].embedding == [0.5, -1, 0.25]
