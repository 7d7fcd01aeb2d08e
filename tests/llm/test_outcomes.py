"""What follows from answers that came."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from llm_fanout.core.announced import Window
from llm_fanout.core.job import Cost
from llm_fanout.core.retry import Again
from llm_fanout.errors import CallError
from llm_fanout.llm.outcomes import of_answer, of_reply
from llm_fanout.providers import FORMATS, Reply, ToolCall
from llm_fanout.spending import Usage


def completion(**changes: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "hello"} | changes.pop("message", {})
    choice = {"index": 0, "finish_reason": "stop", "message": message} | changes.pop("choice", {})
    usage = {
        "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18,
        "prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 2},
    }  # fmt: skip
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    } | changes


CHAT = FORMATS["chat"]


def outcome(**changes: Any) -> Any:
    return of_answer(200, {}, json.dumps(completion(**changes)).encode(), CHAT)


def test_a_whole_answer_is_a_success() -> None:
    """Text, reason and usage are read, and what was used is what is settled."""
    result = outcome()

    assert (result.error, result.again, result.used) == (None, Again.NO, Cost.of(11, 7))
    assert (result.value.text, result.value.finish_reason, result.value.usage) == ("hello", "stop", Usage(11, 7, 3, 2))


def test_a_cut_answer_is_a_success_that_says_so() -> None:
    """`length` is how an answer ends at its max_tokens, even before its first visible word."""
    assert outcome(choice={"finish_reason": "length"}).error is None
    assert outcome(choice={"finish_reason": "length"}, message={"content": None}).error is None


@pytest.mark.parametrize(
    ("changes", "kind", "again", "partial"),
    [
        ({"message": {"refusal": "I cannot"}}, "refusal", Again.NO, "hello"),
        ({"choice": {"finish_reason": "content_filter"}}, "filtered", Again.NO, "hello"),
        ({"choices": []}, "empty", Again.BAD_REPLY, ""),
        ({"choices": None}, "empty", Again.BAD_REPLY, ""),
        ({"message": {"content": ""}}, "empty", Again.BAD_REPLY, ""),
        ({"choice": {"finish_reason": None}}, "truncated", Again.BAD_REPLY, "hello"),
        ({"error": {"message": "overloaded", "code": "x"}}, "malformed", Again.BAD_REPLY, ""),
        ({"error": {"message": "no money", "code": "insufficient_quota"}}, "credit", Again.NO, ""),
    ],
)
def test_what_is_no_success(changes: dict[str, Any], kind: str, again: Again, partial: str) -> None:
    """A 200 that has no answer in it, or half of one, is a failure of its own kind."""
    result = outcome(**changes)

    assert (result.error.kind, result.again, result.error.partial) == (kind, again, partial)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"choices": [5]}', b'{"choices": {"a": 1}}']
)
def test_what_is_no_completion_is_malformed_or_empty(content: bytes) -> None:
    """Bytes that cannot be read as an answer are tried again, and say how they began."""
    error = of_answer(200, {}, content, CHAT).error

    assert isinstance(error, CallError)
    assert error.kind in ("malformed", "empty")


def test_other_statuses_are_the_tables_business() -> None:
    """Everything but a success goes to the signals."""
    error = of_answer(404, {}, b"", CHAT).error

    assert isinstance(error, CallError)
    assert error.status == 404


@pytest.mark.parametrize(("usage", "used"), [(None, None), ({"prompt_tokens": 3, "completion_tokens": 4}, Cost.of(3, 4))])
def test_reported_usage_is_settled(usage: Any, used: Cost | None) -> None:
    """Of an answer with a flaw, too; without any, the reservation stands."""
    assert outcome(usage=usage).used == used
    assert outcome(usage=usage, choices=[]).used == used
    assert outcome(usage=usage, choices=[]).value.text == ""


def test_a_stream_in_which_nothing_came_broke_off() -> None:
    """What is empty as a whole answer is, put together from a stream, one that ended too soon."""
    nothing = json.dumps(completion(choices=[])).encode()

    assert getattr(of_answer(200, {}, nothing, CHAT).error, "kind", "") == "empty"
    assert getattr(of_answer(200, {}, nothing, CHAT, streamed=True).error, "kind", "") == "truncated"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply("", "tool_calls", tool_calls=[ToolCall.of("1", "f", "{}")]), None),
        (Reply("", "tool_calls", tool_calls=[ToolCall.of("1", "f", "")]), None),
        (Reply("", "tool_calls", tool_calls=[ToolCall.of("1", "f", '{"a": 1')]), "malformed"),
        (Reply("", "length", tool_calls=[ToolCall.of("1", "f", '{"a": 1')]), None),
        (Reply("", vector=[0.5]), None),
        (Reply(""), "empty"),
        (Reply("hello"), None),
    ],
)
def test_what_there_has_to_be_in_a_reply(reply: Reply, kind: str | None) -> None:
    """Text, tool calls that can be carried out, or a vector; one that was cut where it was told to be may lack them."""
    error = of_reply(reply).error

    assert (None if error is None else getattr(error, "kind", "")) == kind


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(completion()).encode(),
        json.dumps(completion(choices=[])).encode(),
        json.dumps(completion(message={"refusal": "no"})).encode(),
        json.dumps({"error": {"message": "x"}}).encode(),
        b"{",
    ],
)
def test_every_answer_announces(content: bytes) -> None:
    """What the headers say of the quota is passed on, from an answer that can be used and from one that cannot."""
    headers = CIMultiDict({"X-RateLimit-Limit-Requests": "60", "X-RateLimit-Remaining-Requests": "59"})

    assert of_answer(200, headers, content, CHAT).announced == {"requests": Window(60, 59)}
    assert of_answer(200, {}, content, CHAT).announced is None


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
)


@given(
    st.one_of(
        st.binary(),
        JSON.map(lambda x: json.dumps(x).encode()),
        st.dictionaries(st.sampled_from(["choices", "usage", "error"]), JSON).map(lambda x: json.dumps(x).encode()),
    )
)
def test_no_answer_can_break_it(content: bytes) -> None:
    """Any bytes give an outcome."""
    result = of_answer(200, {}, content, CHAT)

    assert result.error is not None or isinstance(result.value, Reply)
