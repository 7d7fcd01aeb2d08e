"""Memory stays flat, however many items there are."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

from llm_fanout import Executor


async def test_many_items_cost_no_memory() -> None:
    """50,000 trivial calls with a long timeout, from a generator, iterated: what is held stays the same."""
    held: list[int] = []

    def numbers() -> Iterator[int]:
        yield from range(50_000)

    async def trivial(number: int) -> int:
        return number

    total = 0
    tracemalloc.start(1)
    async for result in Executor(timeout=600).map(trivial, numbers()):
        total += result.value
        if result.index in (5_000, 49_000):
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()

    assert total == sum(range(50_000))
    assert held[1] - held[0] < 200_000  # bytes
