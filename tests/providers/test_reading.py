"""JSON from outside, read without trust."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse

from llm_fanout.providers import reading

DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", DEEP, b'{"a":' * 100_000, b'{"a": ' + b"9" * 10_000 + b"}"]
)
def test_what_is_no_object_is_a_value_error(raw: bytes) -> None:
    """Nothing else is raised, whatever the bytes are."""
    with pytest.raises(ValueError, match=r"not a JSON object|too deep|Expecting|codec|digits"):
        reading.document(raw)


def test_what_only_python_reads_is_read() -> None:
    """Servers that are written in it send NaN and Infinity, and half a surrogate pair."""
    answer = reading.document(b'{"logprob": NaN, "least": -Infinity, "text": "\\ud83d"}')

    assert repr(answer) == repr({"logprob": float("nan"), "least": float("-inf"), "text": "\ud83d"})


@given(st.binary())
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    """There is no third way."""
    try:
        assert isinstance(reading.document(raw), dict)
    except ValueError:
        pass


def test_what_cannot_be_written_is_a_value_error() -> None:
    """An object as deep as the stack is refused."""
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}

    with pytest.raises(ValueError, match="too deep"):
        reading.encoded(deep)


def test_what_has_the_wrong_type_was_not_said() -> None:
    """Each reader gives what it is for, or an empty one."""
    assert reading.mapping({"a": 1}) == {"a": 1}
    assert reading.mapping([1]) == {}
    assert reading.rows([{"a": 1}, 5, None]) == [{"a": 1}]
    assert reading.rows({"a": 1}) == []
    assert (reading.text("a"), reading.text(5), reading.text(None)) == ("a", "", "")
    assert [reading.count(each) for each in (7, -1, 1.5, "7", None, 10**30)] == [7, 0, 0, 0, 0, 0]


def test_the_text_of_a_content() -> None:
    """A text is itself; of parts, those with text in them count."""
    assert reading.text_of("a") == "a"
    assert reading.text_of([{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}, {"type": "image"}]) == "ab"
    assert reading.text_of(None) == ""


def test_an_object_that_the_sdks_types_refuse() -> None:
    """It is built all the same, with what it has."""
    odd: Any = reading.sdk_object(CreateEmbeddingResponse, b'{"data": 5, "extra": 1}')

    assert isinstance(odd, CreateEmbeddingResponse)
    assert (odd.data, odd.extra) == (5, 1)
