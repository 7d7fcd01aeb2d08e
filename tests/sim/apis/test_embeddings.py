"""Embeddings, judged by the official SDK."""

from __future__ import annotations

from math import hypot, isclose
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError

from llm_fanout.sim import Box
from llm_fanout.sim.apis.embeddings import vector


async def vectors_of(client: AsyncOpenAI, said: Any, **options: Any) -> list[list[float]]:
    answer = await client.embeddings.create(model="embed-sim", input=said, **options)
    return [each.embedding for each in answer.data]


async def test_each_input_has_its_vector(openai: AsyncOpenAI, box: Box) -> None:
    """In order, of length one, and the same for the same text; usage counts the inputs alone."""
    answer = await openai.embeddings.create(model="embed-sim", input=["hello", "world", "hello"])

    first, second, third = (each.embedding for each in answer.data)
    assert first == third != second
    assert isclose(hypot(*first), 1.0, rel_tol=1e-6)
    assert len(first) == 64
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 3
    assert box.stats["answered"] == 1


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_vectors_come_as_numbers_or_packed(openai: AsyncOpenAI, encoding: Any) -> None:
    """By default the SDK asks for them packed, and unpacks them: 32-bit floats."""
    unpacked = await vectors_of(openai, "hello", dimensions=8)
    answer = await vectors_of(openai, "hello", dimensions=8, encoding_format=encoding)

    assert unpacked[0] == pytest.approx(vector("hello", 8), rel=1e-6)
    assert isinstance(answer[0], str) == (encoding == "base64")


@pytest.mark.parametrize(("said", "number"), [("hello", 1), ([1, 2, 3], 1), ([[1, 2], [3]], 2)])
async def test_inputs_are_texts_or_tokens(openai: AsyncOpenAI, said: Any, number: int) -> None:
    """One or many of either."""
    assert len(await vectors_of(openai, said)) == number


@pytest.mark.parametrize("options", [{"said": []}, {"said": "x", "dimensions": 0}, {"said": "x", "dimensions": 10**6}])
async def test_what_cannot_be_embedded_is_refused(openai: AsyncOpenAI, options: dict[str, Any]) -> None:
    """No input, and no number that a vector could have."""
    with pytest.raises(BadRequestError, match="dimensions"):
        await vectors_of(openai, **options)


@pytest.mark.parametrize("fault", ["empty", "truncated"])
async def test_faults_leave_nothing(openai: AsyncOpenAI, fault: str) -> None:
    """A list without vectors, at which the SDK itself takes offence."""
    with pytest.raises(ValueError, match="No embedding data"):
        await vectors_of(openai, f"[[fault:{fault}]]")


async def test_there_is_no_stream_of_vectors(openai: AsyncOpenAI, box: Box) -> None:
    """Whoever asks for one gets the whole."""
    assert len(await vectors_of(openai, "hello", extra_body={"stream": True})) == 1
    assert box.stats["streams"] == 0


def test_any_text_has_a_vector() -> None:
    """Also what is no Unicode."""
    assert len(vector("\ud800", 4)) == 4
