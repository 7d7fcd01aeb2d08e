"""Memory stays flat, however many items there are."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

from llm_fanout import Executor


async def test_a_hundred_thousand_items_cost_no_memory() -> None:
    """100,000 trivial calls from a generator, iterated: what is held at the end is what was held near the beginning."""
    held: list[int] = []

    def numbers() -> Iterator[int]:
        yield from range(100_000)

    async def trivial(number: int) -> int:
        return number

    total = 0
    tracemalloc.start(1)
    async for result in Executor().map(trivial, numbers()):
        total += result.value
        if result.index in (10_000, 99_000):
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()

    assert total == sum(range(100_000))
    assert held[1] - held[0] < 200_000  # bytes
