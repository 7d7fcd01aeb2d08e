"""The event loops that we make ourselves, of the command line and of the thread behind `fan_out_sync`; and what there is one
of for each loop.

Code that awaits runs on whatever loop its author chose; nothing here touches that one, nor the policy of asyncio.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


def new_event_loop() -> asyncio.AbstractEventLoop:
    """One of uvloop where it is installed, else one of asyncio; the caller closes it."""
    try:
        import uvloop
    except ImportError:  # Windows, PyPy, and wherever there is neither a wheel nor a compiler
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class Here(Generic[T]):
    """One of something for each event loop, made where it is first asked for.

    Args:
        make: Makes one, on the running loop.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: WeakKeyDictionary[asyncio.AbstractEventLoop, T] = WeakKeyDictionary()

    def here(self) -> T:
        """That of the running loop."""
        loop = asyncio.get_running_loop()
        made = self._made.get(loop)
        if made is None:
            for each in [each for each in self._made if each.is_closed()]:
                del self._made[each]  # what was under way there keeps it alive
            made = self._made[loop] = self._make()
        return made
