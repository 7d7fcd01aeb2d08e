"""A file of rows that is written beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

from .results import Result
from .rowfiles.place import Target
from .rowfiles.rowfile import RowFile

T = TypeVar("T")


class Sink:
    """A RowFile whose steps are taken one after the other in a thread of its own (the loop's own threads may all be busy
    with what the calls do). A step that has begun is waited for, however often the task is cancelled that does so; then it
    is its error, if it has one, that is raised: a row that is missing must not go unnoticed.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._rows: RowFile  # once it is open
        self._open = ExitStack()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="llm-fanout-sink")

    async def __aenter__(self) -> Self:
        try:
            await self._do(self._take_place)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        try:
            await self._do(self._open.close)
        finally:
            self._thread.shutdown(wait=False)

    @property
    def is_behind(self) -> bool:
        """Whether there is something to write although nothing comes."""
        return self._rows.is_behind

    async def write(self, results: Iterable[Result[Any]]) -> None:
        """Write results, as far as it is their turn."""
        await self._do(lambda: self._rows.write((result.index, result) for result in results))

    async def put_in_place(self) -> None:
        """Write what is still to be written, and have the file appear."""
        await self._do(self._rows.put_in_place)

    def _take_place(self) -> None:
        self._rows = self._open.enter_context(RowFile(self._target))

    async def _do(self, step: Callable[[], T]) -> T:
        doing = asyncio.get_running_loop().run_in_executor(self._thread, step)
        try:
            return await asyncio.shield(doing)
        except asyncio.CancelledError:
            while not doing.done():
                try:
                    await asyncio.wait([doing])
                except asyncio.CancelledError:
                    pass  # the first of them goes on
            doing.result()
            raise
