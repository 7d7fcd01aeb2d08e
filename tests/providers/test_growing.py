"""One JSON object that arrives in pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout.providers.growing import Growing, is_idempotent


def grown(*deltas: dict[str, Any]) -> dict[str, Any]:
    growing = Growing()
    for delta in deltas:
        growing.merge(delta)
    return growing.value()


@pytest.mark.parametrize(
    ("deltas", "whole"),
    [
        ([{"text": "he"}, {"text": "llo"}], {"text": "hello"}),
        ([{"text": None}, {"text": "a"}, {"text": None}], {"text": "a"}),
        ([{"text": None}], {"text": None}),
        ([{"id": "a"}, {"id": "a"}, {"id": ""}], {"id": "a"}),
        ([{"id": ""}], {"id": ""}),
        ([{"n": 1}, {"n": 2}], {"n": 2}),
        ([{"at": 1}, {"at": "x"}, {"at": {"y": 1}}], {"at": {"y": 1}}),
        ([{"a": {"b": "x"}}, {"a": {"b": "y", "c": 1}}], {"a": {"b": "xy", "c": 1}}),
        ([{"l": [{"t": 1}]}, {"l": [{"t": 2}, 3]}], {"l": [{"t": 1}, {"t": 2}, 3]}),
        ([{"l": [{"index": 0, "t": "a"}]}, {"l": [{"index": 1, "t": "x"}]}, {"l": [{"index": 0, "t": "b"}]}],
         {"l": [{"t": "ab"}, {"t": "x"}]}),
        ([{"l": [{"index": 0, "t": "a"}, {"index": 0, "t": "b"}]}], {"l": [{"t": "ab"}]}),
        ([{"l": [{"index": "0", "t": "a"}]}], {"l": [{"index": "0", "t": "a"}]}),
    ],
)  # fmt: skip
def test_deltas_are_put_together(deltas: list[dict[str, Any]], whole: dict[str, Any]) -> None:
    """Texts are appended, identities kept, objects joined, lists extended, entries with one index are one."""
    assert grown(*deltas) == whole


def test_a_text_may_be_written_to() -> None:
    """What is written there comes after what was merged, at any depth."""
    growing = Growing()
    growing.merge({"a": "x", "b": {"c": "y"}})

    growing.text_at("a").write("1")
    growing.text_at("b", "c").write("2")
    growing.merge({"a": "z"})

    assert growing.value() == {"a": "x1z", "b": {"c": "y2"}}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from("abc"), JSON), st.dictionaries(st.sampled_from("abc"), JSON))
def test_one_delta_is_itself(delta: dict[str, Any], other: dict[str, Any]) -> None:
    """An object that came at once is as it came, and any two can be joined."""
    assert grown(delta) == delta
    json.dumps(grown(delta, other))


@given(
    st.dictionaries(st.sampled_from(["id", "role", "a", "b"]), JSON),
    st.dictionaries(st.sampled_from(["id", "role", "a", "b"]), JSON),
)
def test_what_is_idempotent_changes_nothing(before: dict[str, Any], delta: dict[str, Any]) -> None:
    """Merged a second time: nulls and texts that come whole."""
    if is_idempotent(delta):
        assert grown(before, delta, delta) == grown(before, delta)


@pytest.mark.parametrize(
    "delta", [{"a": "x"}, {"a": ["x"]}, {"a": {"role": "x"}}, {"a": 1}, {"role": 1}, {"id": None, "a": ""}]
)
def test_what_may_not_be_idempotent(delta: dict[str, Any]) -> None:
    """Any text that is appended, and what nobody needs to look into."""
    assert is_idempotent({"id": "x", "a": None})
    assert not is_idempotent(delta)


def test_depth_does_no_harm() -> None:
    """What is nested as deep as the stack is kept, not walked."""
    deep: Any = 0
    for _ in range(100_000):
        deep = {"a": [deep]}
    growing = Growing()
    growing.merge(deep)
    growing.merge(deep)

    assert growing.value().keys() == {"a"}
