"""What formats have in common."""

from __future__ import annotations

import pytest

from llm_fanout import Rejected
from llm_fanout.providers.format import Rule, add, translated, under

RULES: dict[str, Rule] = {"a": under("a"), "deep": under("x", "y"), "late": lambda value: {"x": {"y": value, "z": 1}}}


def test_parameters_are_translated() -> None:
    """Each by its rule, in the order of the rules; objects are joined, and None was not said."""
    assert translated({"late": 3, "a": 1, "deep": 2}, RULES, "chat") == {"a": 1, "x": {"y": 3, "z": 1}}
    assert translated({"a": None, "extra_body": {"q": 1}, "extra_headers": {}}, RULES, "chat") == {}


def test_what_has_no_rule_is_refused_by_name() -> None:
    """A parameter that would be ignored is a mistake."""
    with pytest.raises(Rejected, match=r"the chat API cannot take seed; .* extra_body=") as caught:
        translated({"a": 1, "seed": 5}, RULES, "chat")

    assert caught.value.kind == "invalid"


def test_the_later_word_is_right() -> None:
    """Fields that are no objects replace each other."""
    body = {"a": {"b": 1}, "c": 1}
    add(body, {"a": 5, "c": {"d": 1}})

    assert body == {"a": 5, "c": {"d": 1}}
