"""Where items come from: pulled as far as there is room, from an iterable at once, from an async iterable by a task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextvars import copy_context
from typing import Any, Protocol

Room = Callable[[], int]
Take = Callable[[list[Any]], None]
Ended = Callable[[Exception | None], None]


class Feed(Protocol):
    """Pulls a source; everything happens on the event loop that `start` was called on."""

    def start(self) -> None:
        """Begin to pull, in the context in which the feed was made."""

    def more(self) -> None:
        """There may be room again."""

    def stop(self) -> None:
        """Pull nothing more; `ended` is called as soon as nothing is under way. Stopping what has ended does nothing."""


def feed_of(source: Iterable[Any] | AsyncIterable[Any], room: Room, take: Take, ended: Ended) -> Feed:
    """A feed of `source`.

    Args:
        source: The items.
        room: How many items there is room for in one step, as of now.
        take: Gets the next items, in order.
        ended: Called once, with what the source raised, or with None if it ended or was stopped.
    """
    if isinstance(source, AsyncIterable):
        return _AsyncFeed(aiter(source), room, take, ended)
    return _Feed(iter(source), room, take, ended)


class _Feed:
    """Pulls an iterable in steps of the event loop, without a task of its own."""

    def __init__(self, items: Iterator[Any], room: Room, take: Take, ended: Ended) -> None:
        self._items = items
        self._room = room
        self._take = take
        self._ended: Ended | None = ended
        self._context = copy_context()
        self._coming = False

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.more()

    def more(self) -> None:
        if not self._coming and self._ended is not None and self._room() > 0:
            self._coming = True
            self._loop.call_soon(self._pull, context=self._context)

    def stop(self) -> None:
        self._end(None)

    def _pull(self) -> None:
        self._coming = False
        if self._ended is None:
            return  # stopped meanwhile
        items: list[Any] = []
        failure: Exception | None = None
        over = False
        room = self._room()
        try:
            while len(items) < room:
                items.append(next(self._items))
        except StopIteration:
            over = True
        except Exception as exc:  # the user's own generator: what it raised ends the run
            over, failure = True, exc
        self._take(items)
        if over:
            self._end(failure)
        else:
            self.more()

    def _end(self, failure: Exception | None) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            del self._room, self._take  # they refer to whoever has this feed: a circle, which only a collection would break
            ended(failure)


class _AsyncFeed:
    """Pulls an async iterable in a task."""

    def __init__(self, items: AsyncIterator[Any], room: Room, take: Take, ended: Ended) -> None:
        self._items = items
        self._room = room
        self._take = take
        self._ended: Ended = ended
        self._context = copy_context()
        self._space = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._pull(), context=self._context)
        # A callback, not a `finally`: a task that is cancelled before its first step never enters its coroutine.
        self._task.add_done_callback(self._end)

    def more(self) -> None:
        if self._task is not None and self._room() > 0:
            self._space.set()

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _pull(self) -> None:
        try:
            async for item in self._items:
                self._take([item])
                while self._room() <= 0:
                    self._space.clear()
                    await self._space.wait()
        finally:
            close = getattr(self._items, "aclose", None)  # a generator that was left half-way has something to tidy up
            if close is not None:
                await close()

    def _end(self, task: asyncio.Task[None]) -> None:
        self._task = None
        failure = None if task.cancelled() else task.exception()
        ended = self._ended
        del self._room, self._take, self._ended  # as above
        ended(failure if isinstance(failure, Exception) else None)
