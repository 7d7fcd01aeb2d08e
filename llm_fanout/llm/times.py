"""How long things may take: one attempt, and a whole run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf

from ..clock import in_words
from ..core.checks import check_seconds
from ..errors import ConfigError

CONNECT_TIMEOUT = 10.0  # seconds; a server that does not even accept is not worth an attempt's whole timeout
TOTAL_TIMEOUT = 600.0  # seconds; openai SDK 3.54: DEFAULT_TIMEOUT


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds of one attempt: to connect, between two pieces of an answer (None: no bound of its own), and in all.

    The whole is bounded by whoever makes the attempt; the wire bounds the other two.
    """

    connect: float = CONNECT_TIMEOUT
    idle: float | None = None
    total: float = TOTAL_TIMEOUT


def timeouts_of(timeout: object) -> Timeouts:
    """What `timeout=` says: seconds for an attempt, or a Timeout of httpx2 (or httpx) that sets its parts apart.

    Raises:
        ConfigError: It is neither, or a figure is out of its range.
    """
    if timeout is None:
        return Timeouts()
    if not hasattr(timeout, "connect"):
        check_seconds("timeout", timeout)  # type: ignore[arg-type]  # it is checked
        return Timeouts(total=float(timeout))  # type: ignore[arg-type]  # it was checked
    connect, idle = getattr(timeout, "connect", None), getattr(timeout, "read", None)
    check_seconds("timeout's connect", connect)
    check_seconds("timeout's read", idle)
    return Timeouts(connect=connect or CONNECT_TIMEOUT, idle=idle)


def seconds_until(deadline: object) -> float:
    """Seconds that are left until `deadline`: itself, or those until an aware datetime; `inf` for None.

    Raises:
        ConfigError: It is neither, or is over already.
    """
    if deadline is None:
        return inf
    if isinstance(deadline, datetime):
        if deadline.tzinfo is None:
            raise ConfigError(f"deadline {deadline} has no time zone; use `.astimezone()` to say that it is local time")
        left = _seconds_to(deadline)
        if left <= 0:
            raise ConfigError(f"the deadline {deadline} has passed {in_words(-left)} ago; name one in the future")
        return left
    check_seconds("deadline", deadline)  # type: ignore[arg-type]  # it is checked
    return float(deadline)  # type: ignore[arg-type]  # it was checked


def seconds_left(deadline: object) -> float:
    """Seconds that are left until a (checked) deadline as of now; 0 if it is over."""
    if isinstance(deadline, datetime):
        return max(0.0, _seconds_to(deadline))
    return seconds_until(deadline)


def _seconds_to(instant: datetime) -> float:
    return (instant - datetime.now(UTC)).total_seconds()
