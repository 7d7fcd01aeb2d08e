"""Where the results of a run lie: until somebody takes them, or for good."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

from .results import Result

T = TypeVar("T")


class Shelf(Generic[T]):
    """Results that are done. One that keeps has them all; else each is gone once it is taken."""

    def __init__(self) -> None:
        self.keeps = False
        self._results: OrderedDict[int, Result[T]] = OrderedDict()
        self._news = asyncio.Event()

    @property
    def untaken(self) -> int:
        """Results that hold their source back, for nobody has taken them; those that are kept do not."""
        return 0 if self.keeps else len(self._results)

    def put(self, result: Result[T]) -> None:
        """One more is done."""
        self._results[result.index] = result
        self._news.set()

    def take(self, index: int | None) -> Result[T] | None:
        """Remove the result at `index`, or with None the oldest; None if it is not there."""
        if index is not None:
            return self._results.pop(index, None)
        return self._results.popitem(last=False)[1] if self._results else None

    def wake(self) -> None:
        """Tell whoever waits that there is something to see."""
        self._news.set()

    async def news(self) -> None:
        """Wait until something was put here since the last time."""
        await self._news.wait()
        self._news.clear()

    def __iter__(self) -> Iterator[Result[T]]:
        """What is there, in input order."""
        return (self._results[index] for index in sorted(self._results))

    def __len__(self) -> int:
        return len(self._results)
