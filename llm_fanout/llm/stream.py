"""One answer as it is written: pieces of text to iterate, and the Result at the end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Generic, Self, TypeVar

from ..errors import ConfigError
from ..results import Result
from ..run import Run

T_co = TypeVar("T_co", covariant=True)


class Stream(AsyncIterator[str], Generic[T_co]):
    """What `fan.stream(prompt)` gives: its pieces of text, in order, as soon as they are there.

    They are taken from the wire as they come, whoever reads them: a slow reader holds no slot. If the call fails, iterating
    raises its error, after the pieces that came before; `error.partial` has their text.
    """

    def __init__(self) -> None:
        self._pieces: deque[str] = deque()
        self._news = asyncio.Event()
        self._result: Result[T_co] | None = None

    @property
    def result(self) -> Result[T_co]:
        """How the call ended; there once the last piece was taken.

        Raises:
            ConfigError: It has not ended yet.
        """
        if self._result is None:
            raise ConfigError("the answer is still being written; read `result` after the last piece")
        return self._result

    def hear(self, piece: str) -> None:
        """One more piece has come."""
        self._pieces.append(piece)
        self._news.set()

    async def follow(self, run: Run[T_co]) -> None:
        """See `run`, which has one call, to its end."""
        try:
            self._result = (await run)[0]
        finally:
            self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while not self._pieces:
            if self._result is not None:
                if self._result.error is not None:
                    raise self._result.error
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._pieces.popleft()
