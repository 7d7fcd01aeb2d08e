"""The event loops that we make ourselves: of the command line, and of the thread behind `fan_out_sync`.

Code that awaits runs on whatever loop its author chose; nothing here touches that one, nor the policy of asyncio.
"""

import asyncio


def new_event_loop() -> asyncio.AbstractEventLoop:
    """One of uvloop where it is installed, else one of asyncio; the caller closes it."""
    try:
        import uvloop
    except ImportError:  # Windows, PyPy, and wherever there is neither a wheel nor a compiler
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
