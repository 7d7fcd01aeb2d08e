"""The event loops that are ours to make."""

from __future__ import annotations

import asyncio

from support import in_thread

from llm_fanout.loops import new_event_loop


def test_a_loop_is_of_uvloop_where_that_is_installed(our_loops: str) -> None:
    """And one of asyncio where it is not."""
    loop = new_event_loop()
    loop.close()

    assert type(loop).__module__.partition(".")[0] == our_loops


def test_others_keep_the_loops_that_they_had() -> None:
    """Making one sets no policy: `asyncio.run` of somebody else goes on as before."""

    async def where() -> str:
        return type(asyncio.get_running_loop()).__module__

    new_event_loop().close()

    assert in_thread(lambda: asyncio.run(where())).startswith("asyncio.")
