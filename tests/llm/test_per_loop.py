"""One of a kind for each event loop."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support import in_thread

from llm_fanout.llm.per_loop import PerLoop


class Kind:
    """Things that are open, and things that were closed."""

    def __init__(self) -> None:
        self.open: list[object] = []
        self.closed: list[object] = []

    @asynccontextmanager
    async def one(self) -> AsyncIterator[object]:
        thing = object()
        self.open.append(thing)
        try:
            yield thing
        finally:
            self.open.remove(thing)
            self.closed.append(thing)


async def test_a_loop_has_one() -> None:
    """Whoever asks on it; after `aclose` a new one."""
    kind = Kind()
    each = PerLoop(kind.one)
    first, second = await each.here(), await each.here()
    await each.aclose()
    await each.aclose()
    third = await each.here()
    left = (list(kind.open), list(kind.closed))
    await each.aclose()

    assert first is second
    assert left == ([third], [first])


async def test_a_child_process_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the parent has open is neither used nor closed by a child."""
    kind = Kind()
    each = PerLoop(kind.one)
    parents = await each.here()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        childs = await each.here()
        await each.aclose()

    assert childs is not parents
    assert kind.open == [parents]
    await each.aclose()


def test_each_ends_with_its_loop() -> None:
    """Three loops in a row, nothing closed by hand: none is left open, and no more than the last is remembered."""
    kind = Kind()
    each = PerLoop(kind.one)
    for _ in range(3):
        in_thread(lambda: asyncio.run(each.here()))
    gc.collect()

    assert (len(kind.open), len(kind.closed)) == (0, 3)
    assert len(each._open) == 1
