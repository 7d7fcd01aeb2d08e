"""Tasks: what they take, and what they refuse."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from llm_fanout import ConfigError, Task


def test_a_task_prints_its_function() -> None:
    """The name of the function, and of the task if it has one."""
    assert repr(Task(asyncio.sleep, 1)) == "<Task sleep>"
    assert repr(Task(asyncio.sleep, 1, id="nap")) == "<Task 'nap': sleep>"
    assert repr(Task(functools.partial(asyncio.sleep, 1))).startswith("<Task functools.partial(")


def test_generator_functions_are_refused() -> None:
    """A function that yields is no call with one answer."""

    def generator(_: int) -> Iterator[int]:
        yield 1

    async def async_generator(_: int) -> AsyncIterator[int]:
        yield 1

    for wrong in (generator, async_generator, 3):
        with pytest.raises(ConfigError, match="async function"):
            Task(wrong, 1)  # type: ignore[call-overload]  # the mistake under test


@pytest.mark.parametrize("after", [None, 3, [3], Task(asyncio.sleep, 1), (each for each in ())])
def test_after_must_be_a_list_of_tasks(after: Any) -> None:
    """A single task, what is no task, and what is good for one pass only are refused where they are handed in."""
    with pytest.raises(ConfigError, match="after must be a list of tasks"):
        Task(asyncio.sleep, 1, after=after)


def test_after_is_the_tasks_own() -> None:
    """What is done to the list that was handed in changes nothing; what is done to the task's own does."""
    first = Task(asyncio.sleep, 1)
    before = [first]
    second = Task(asyncio.sleep, 2, after=before)
    before.append(second)

    assert second.after == [first]
