"""Sources, pulled as far as there is room."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from support import Simulate

from llm_fanout.feed import Feed, feed_of


class Taker:
    """Takes items while there is room."""

    def __init__(self, room: int) -> None:
        self.free = room
        self.batches: list[list[Any]] = []
        self.ends: list[Exception | None] = []

    def room(self) -> int:
        return self.free

    def take(self, items: list[Any]) -> None:
        self.batches.append(items)
        self.free -= len(items)

    def feed(self, source: Any) -> Feed:
        return feed_of(source, self.room, self.take, self.ends.append)

    @property
    def taken(self) -> list[Any]:
        return [item for batch in self.batches for item in batch]


async def later(items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


@pytest.fixture(params=[iter, later], ids=["iterable", "async"])
def source_of(request: pytest.FixtureRequest) -> Any:
    """Makes a source of either sort."""
    return request.param


def test_no_more_than_there_is_room_for(simulate: Simulate[Any], source_of: Any) -> None:
    """Items are pulled while there is room, again when there is some, and the end is told once."""

    async def main() -> Any:
        taker = Taker(3)
        feed = taker.feed(source_of(range(7)))
        feed.start()
        await asyncio.sleep(1)
        seen = [list(taker.taken)]
        feed.more()
        await asyncio.sleep(1)
        taker.free = 10
        feed.more()
        await asyncio.sleep(1)
        feed.more()
        feed.stop()
        await asyncio.sleep(1)
        return seen, taker.taken, taker.ends

    assert simulate(main) == ([[0, 1, 2]], list(range(7)), [None])


def test_what_a_source_raises_is_told(simulate: Simulate[Any], source_of: Any) -> None:
    """Items before the failure are taken, then the exception is handed over."""

    def broken() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    async def main() -> Any:
        taker = Taker(10)
        taker.feed(source_of(broken())).start()
        await asyncio.sleep(1)
        return taker

    taker = simulate(main)

    assert taker.taken == [1]
    assert [str(end) for end in taker.ends] == ["disk"]


def test_stopping_ends_it_once(simulate: Simulate[Any], source_of: Any) -> None:
    """Stopped with items left, at any time: nothing more is pulled, and the end is told as no failure."""

    async def main() -> Any:
        taker = Taker(2)
        feed = taker.feed(source_of(range(100)))
        feed.start()
        await asyncio.sleep(1)
        feed.stop()
        feed.stop()
        await asyncio.sleep(1)
        return taker.taken, taker.ends

    assert simulate(main) == ([0, 1], [None])


def test_stopping_before_the_first_pull(simulate: Simulate[Any], source_of: Any) -> None:
    """Started and stopped in one breath: no item is touched."""

    async def main() -> Any:
        taker = Taker(2)
        feed = taker.feed(source_of(range(100)))
        feed.start()
        feed.stop()
        await asyncio.sleep(1)
        return taker.taken, taker.ends

    assert simulate(main) == ([], [None])


def test_an_iterable_is_taken_in_steps(simulate: Simulate[Any]) -> None:
    """Each as large as there is room for by then, and without a task of its own."""

    class Careful(Taker):
        def room(self) -> int:
            return min(self.free, 20)

    async def main() -> Any:
        taker = Careful(10_000)
        taker.feed(range(1_050)).start()
        tasks = len(asyncio.all_tasks())
        await asyncio.sleep(1)
        return [len(batch) for batch in taker.batches], tasks

    assert simulate(main) == ([20] * 52 + [10], 1)


def test_a_source_runs_in_the_context_of_its_making(simulate: Simulate[Any], source_of: Any) -> None:
    """Context variables that the source sees are those of the moment in which the feed was made."""
    name = contextvars.ContextVar("name", default="nobody")

    def who() -> Iterator[str]:
        for _ in range(2):
            yield name.get()

    async def main() -> Any:
        taker = Taker(1)
        name.set("me")
        feed = taker.feed(source_of(who()))
        name.set("another")
        feed.start()
        await asyncio.sleep(1)
        taker.free = 5
        feed.more()
        await asyncio.sleep(1)
        return taker.taken

    assert simulate(main) == ["me", "me"]


def test_a_source_that_was_cancelled_from_outside_has_ended(simulate: Simulate[Any]) -> None:
    """An async source that raises CancelledError by itself has no failure to tell."""

    async def quits() -> AsyncIterator[int]:
        yield 1
        raise asyncio.CancelledError

    async def main() -> Any:
        taker = Taker(10)
        taker.feed(quits()).start()
        await asyncio.sleep(1)
        return taker.taken, taker.ends

    assert simulate(main) == ([1], [None])


def test_an_async_iterator_that_cannot_be_closed(simulate: Simulate[Any]) -> None:
    """One that is no generator has nothing to close: it ends like any other."""

    class Three:
        def __init__(self) -> None:
            self._left = 3

        def __aiter__(self) -> Three:
            return self

        async def __anext__(self) -> int:
            self._left -= 1
            if self._left < 0:
                raise StopAsyncIteration
            return self._left

    async def main() -> Any:
        taker = Taker(10)
        taker.feed(Three()).start()
        await asyncio.sleep(1)
        return taker.taken, taker.ends

    assert simulate(main) == ([2, 1, 0], [None])
