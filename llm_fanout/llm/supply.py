"""A run whose prompts follow from its answers: where they are put, and how its results are taken."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar, cast

from ..results import Result
from ..run import Run

T = TypeVar("T")


class Supply(AsyncIterator[Any]):
    """The source of a run that grows while it runs, until it is closed."""

    def __init__(self) -> None:
        self._prompts: deque[Any] = deque()
        self._is_closed = False
        self._news = asyncio.Event()
        self._is_spent = asyncio.Event()
        self._is_spent.set()

    def add(self, prompt: object) -> None:
        """One more; the results of a run have the positions in which its prompts were added."""
        self._prompts.append(prompt)
        self._news.set()
        self._is_spent.clear()

    def close(self) -> None:
        """There will be no more: the run ends when all are done, and nobody waits for `spent`."""
        self._is_closed = True
        self._news.set()
        self._is_spent.set()

    async def spent(self) -> None:
        """Wait until the run has pulled all that there is: what adds no more before holds few of them."""
        await self._is_spent.wait()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        while not self._prompts:
            if self._is_closed:
                raise StopAsyncIteration
            self._is_spent.set()
            self._news.clear()
            await self._news.wait()
        return self._prompts.popleft()


@asynccontextmanager
async def answers(run: Run[T], *, in_order: bool = False) -> AsyncIterator[AsyncIterator[Result[T]]]:
    """The results of `run`, as they are done or in input order. However it is left, the rest is cancelled then, and its
    clean-up is done.
    """
    results = run.ordered() if in_order else aiter(run)
    try:
        yield results
    finally:
        # Else the generator would be closed when it is collected, by a task that nobody waits for.
        await cast("AsyncGenerator[Result[T], None]", results).aclose()
