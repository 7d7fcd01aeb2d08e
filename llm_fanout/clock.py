"""The one clock: everything that measures or waits asks here, so that all loops and threads agree."""

from time import monotonic


def now() -> float:
    """Monotonic seconds, the same for every event loop and thread of the process."""
    return monotonic()
