"""Calls that wait until the provider has their common beginning in its cache."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from llm_fanout.warmup import WarmUp


class Call:
    def __init__(self, name: str, work: Any) -> None:
        self.name = name
        self.work = work


def call(name: str, prefix: bytes | None) -> Any:
    """A call on its way."""
    return Call(name, SimpleNamespace(prefix=prefix, is_first=False))


@pytest.fixture
def calls() -> list[Any]:
    """Three of one group, two of another, and one of none."""
    return [call("a1", b"a"), call("a2", b"a"), call("-", None), call("b1", b"b"), call("a3", b"a"), call("b2", b"b")]


def names(calls: list[Any]) -> list[str]:
    return [each.name for each in calls]


def test_the_first_of_each_group_goes(calls: list[Any]) -> None:
    """And whoever has no group; the others wait."""
    gate = WarmUp()

    assert names(gate.sift(calls)) == ["a1", "-", "b1"]
    assert [each.name for each in calls if each.work.is_first] == ["a1", "b1"]
    assert gate.complete() == []


def test_its_answer_lets_its_group_go(calls: list[Any]) -> None:
    """At its beginning, or at its end if that comes first; once, and whoever comes later need not wait."""
    gate = WarmUp()
    gate.sift(calls)

    begun = gate.begun(calls[0])
    over = gate.over(calls[0], None)  # type: ignore[arg-type]  # it does not look
    failed = gate.over(calls[3], None)  # type: ignore[arg-type]  # it does not look

    assert (names(begun), over, names(failed)) == (["a2", "a3"], [], ["b2"])
    assert gate.begun(calls[2]) == []
    assert names(gate.sift([call("a4", b"a")])) == ["a4"]


def test_the_end_lets_all_go(calls: list[Any]) -> None:
    """A run that ends has them back; the first of a group is told of all the same."""
    gate = WarmUp()
    gate.sift(calls)

    assert names(gate.send_away()) == ["a2", "a3", "b2"]
    assert gate.over(calls[0], None) == []  # type: ignore[arg-type]  # it does not look
