"""The errors as values."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any, get_args

import pytest

from llm_fanout.errors import ERROR_OF_KIND, CallError, ConfigError, FanOutError, Kind, RateLimited, Rejected, RunFailed


def test_every_kind_has_its_class() -> None:
    """Each kind is of one class of reaction."""
    assert set(ERROR_OF_KIND) == set(get_args(Kind))
    assert all(issubclass(error, CallError) for error in ERROR_OF_KIND.values())


@pytest.mark.parametrize("error", sorted({CallError, *ERROR_OF_KIND.values()}, key=lambda error: error.__name__))
def test_every_class_has_a_kind_of_its_own(error: type[CallError]) -> None:
    """Who raises one need not name its kind: that of the class is a kind of that class."""
    raised = error("slow", retry_after=1)

    assert issubclass(ERROR_OF_KIND[raised.kind], error)
    assert (raised.message, raised.retry_after) == ("slow", 1)
    assert pickle.loads(pickle.dumps(raised)).kind == raised.kind


@pytest.mark.parametrize("kind", ["quota", "", [], 429])
def test_a_kind_that_is_none_is_refused(kind: Any) -> None:
    """A word that no report knows is refused where it is said, with those that there are."""
    said = re.escape(repr(kind))
    with pytest.raises(ConfigError, match=f"^kind must be one of 'rate_limited', 'timeout', .*; got {said}$"):
        RateLimited("slow", kind=kind)


def test_a_subclass_must_have_a_kind_that_there_is() -> None:
    """One that brings a default of its own is checked like one that is said."""

    class Broke(Rejected):
        kind: Any = "broke"

    with pytest.raises(ConfigError, match="got 'broke'"):
        Broke("no money")


@pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy])
def test_a_copy_has_the_facts_and_not_the_cause(again: object) -> None:
    """A pickled or copied error keeps kind, status, wait and partial text; its cause, which may hold a key, stays behind."""
    error = ERROR_OF_KIND["server"]("down", kind="server", status=503, retry_after=2.5, partial="half an ans")
    error.__cause__ = RuntimeError("holds a request")

    other = again(error)  # type: ignore[operator]  # a callable

    assert type(other) is type(error)
    assert (other.message, other.to_dict(), other.partial) == ("down", error.to_dict(), "half an ans")
    assert other.__cause__ is None


def test_the_tree() -> None:
    """One root; a ConfigError is a ValueError, too; RunFailed has the report."""
    assert issubclass(ConfigError, ValueError)
    assert issubclass(ConfigError, FanOutError)
    assert RunFailed("broken", [1, 2]).report == [1, 2]


def test_an_error_with_a_constructor_of_its_own_can_be_said_in_other_words() -> None:
    """A user's subclass may take other arguments: it is still copied, kept apart, and pickled."""

    class Busy(RateLimited):
        def __init__(self, queue: int) -> None:
            super().__init__(f"{queue} before you", retry_after=float(queue))

    error = Busy(3).reading("too many").keeping("half")

    assert (type(error), str(error), error.retry_after, error.partial) == (Busy, "too many", 3.0, "half")
    assert error.keeping("more") is error
