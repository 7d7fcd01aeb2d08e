"""What is kept of one result comes back as it was, or not at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert

from llm_fanout import RateLimited, Result, Stopped
from llm_fanout.errors import ERROR_OF_KIND, CallError, JournalError
from llm_fanout.journal.record import Record, decoded, encoded
from llm_fanout.memory import ANSWER
from llm_fanout.providers import Reply, ToolCall
from llm_fanout.spending import Spending, Usage

KEY = b"k" * 20
NOT_KEPT = {"returned"}  # made anew from the reply


def again(result: Result[Any]) -> Result[Any]:
    """`result` after a stay in the journal, for the same prompt."""
    fields = Record.of(KEY, result).fields()
    return Result(index=result.index, id=result.id, **fields)


def full(**changed: Any) -> Result[Any]:
    """A result with something in every field."""
    fields: dict[str, Any] = {
        "index": 3,
        "id": "row-3",
        "model": "openai/gpt-x",
        "endpoint": "http://127.0.0.1:1/v1",
        "via": "wire",
        "api": "chat",
        "attempts": 2,
        "spending": [
            Spending("openai/gpt-x", 1000, 1, Usage(1200, 30, 5, 7)),
            Spending("b/y", 0, 1, Usage(1, 2), (1.5, 2.0, 0.25)),
        ],
        "queue_time": 0.25,
        "service_time": 1.5,
        "latency": 1.75,
        "ttft": 0.125,
        "inter_token": (0.5, 0.25),
        "reply": b'{"choices": [] }',
    }
    return Result(**{**fields, **changed})


def test_every_field_of_an_answer_comes_back() -> None:
    """But where it comes from: that is the journal now."""
    before = full()
    after = again(before)

    for name in set(ANSWER) - NOT_KEPT - {"source"}:
        found, was = getattr(after, name), getattr(before, name)
        assert (list(found) if isinstance(found, list) else found) == (list(was) if isinstance(was, tuple) else was), name
    assert after.source == "journal"
    assert after.usage == before.usage
    assert after.ok


@pytest.mark.parametrize("kind", ERROR_OF_KIND)
def test_every_error_comes_back(kind: Any) -> None:
    """With its class, kind, status, message, what to wait, and what had arrived."""
    error = ERROR_OF_KIND[kind]("what happened", kind=kind, status=418, retry_after=2.5, partial="so far")
    found = again(full(error=error, reply=b"")).error

    assert type(found) is type(error)
    assert isinstance(found, CallError)
    assert (found.to_dict(), found.partial) == (error.to_dict(), "so far")


def test_an_error_of_the_users_own_class_comes_back_as_what_it_is() -> None:
    """As the class of its kind: what it adds is not ours to make."""

    class Patience(RateLimited):
        def __init__(self) -> None:
            super().__init__("wait", retry_after=1.0)

    found = again(full(error=Patience(), reply=b"")).error

    assert type(found) is RateLimited
    assert (found.message, found.retry_after) == ("wait", 1.0)


@pytest.mark.parametrize(
    "text",
    ["", "plain", "ünïcödé \U0001f600 \0 \u2028", "half of a pair: \ud83d", "\udc00 the other half", '"quoted" \\'],
    ids=ascii,
)
def test_any_text_comes_back(text: str) -> None:
    """What had arrived may have been cut anywhere, also within an emoji."""
    found = again(full(error=Stopped("over", partial=text), reply=b"")).error

    assert found is not None
    assert found.partial == text


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters()),
        lambda s: st.lists(s) | st.dictionaries(st.text(st.characters()), s),
    )
)
def test_json_goes_both_ways(value: Any) -> None:
    """Whatever is in it: numbers of any size, and texts with halves of surrogate pairs."""
    assert decoded(encoded({"value": value})) == {"value": value}


def test_ids_may_have_any_size() -> None:
    """A number of 200 bits is an id, too."""
    said = Record.of(KEY, full(id=2**200)).said()

    assert said["id"] == 2**200


def test_a_reply_that_was_no_bytes_comes_back() -> None:
    """A function's, with all that it said."""
    reply = Reply("text \ud83d", "tool_calls", Usage(1, 2), [ToolCall.of("1", "look", '{"a": [1]}')], None, [0.5, 1.0])
    fields = Record.of(KEY, full(reply=reply)).fields()

    assert convert(fields["reply"], Reply) == reply


def test_an_sdk_object_within_is_written_as_it_dumps() -> None:
    """And what nobody knows as it prints."""

    class Dumps:
        def model_dump(self, *, mode: str) -> dict[str, str]:
            return {"mode": mode}

    assert decoded(encoded({"a": Dumps(), "b": type})) == {"a": {"mode": "json"}, "b": "<class 'type'>"}
    assert json.loads(encoded({"a": Dumps(), "b": "\ud83d"}))["a"] == {"mode": "json"}


def test_it_says_what_was_charged() -> None:
    """USD and tokens, for budgets."""
    assert Record.of(KEY, full(), (0.25, 12.0)).said()["charge"] == [0.25, 12.0]


@pytest.mark.parametrize("field", ["key", "ok", "body", "reply", "check"])
@pytest.mark.parametrize("how", ["changed", "text", "number", "nothing"])
def test_damage_is_seen(field: str, how: str) -> None:
    """Whatever of it was changed, also to another type."""
    whole = Record.of(KEY, full())
    was = getattr(whole, field)
    changed = {"changed": was + 1 if isinstance(was, int) else b"x" + was, "text": "x", "number": 7, "nothing": None}[how]

    with pytest.raises(JournalError, match=r"the journal is damaged: .* not what was written there; name another file"):
        whole._replace(**{field: changed}).fields()
