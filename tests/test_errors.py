"""The errors as values."""

from __future__ import annotations

import copy
import pickle
from typing import get_args

import pytest

from llm_fanout.errors import ERROR_OF_KIND, CallError, ConfigError, FanOutError, Kind, RunFailed


def test_every_kind_has_its_class() -> None:
    """Each kind is of one class of reaction."""
    assert set(ERROR_OF_KIND) == set(get_args(Kind))
    assert all(issubclass(error, CallError) for error in ERROR_OF_KIND.values())


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
