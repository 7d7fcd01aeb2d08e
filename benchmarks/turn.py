"""What a caller is told to do, and what it took: plain values, for they cross to a process that may lack this package."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """So many calls, with a new client that has no connection open.

    Args:
        url: The server's base URL.
        calls: How many prompts.
        width: Calls at once.
        ticks: Whether to look every millisecond how late the event loop is.
    """

    url: str
    calls: int
    width: int
    ticks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a turn took, from the first prompt handed in to the last answer.

    Attributes:
        cpu: Seconds of CPU time, user and system.
        seconds: On the clock.
        waited: Seconds in which it could have run, and the system ran something else on its core: what is measured on the
            clock is worth little where that is much.
        late: The 99th percentile of how late the event loop was, in seconds; 0 if nobody looked.
    """

    cpu: float
    seconds: float
    waited: float = 0.0
    late: float = 0.0
