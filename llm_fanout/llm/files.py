"""How many calls may be under way where files are few: each has a connection, and each connection a file descriptor.

The bound is one of the schedule's, not of the pool's: a call that waits for a connection has not begun, so that its timeout
does not run, and priorities and shares hold. Whoever takes what was left to others makes calls fail for want of files; these
are tried again at no cost, with fewer at once (`reactions.NO_ROOM`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from math import inf

from ..core.stated import Limits
from .endpoint import Endpoint

log = logging.getLogger("llm_fanout")

LEFT_TO_OTHERS = 8  # one in so many: for journals, sinks, other clients, and what the user's own code opens
LEAST_LEFT_TO_OTHERS = 16


def calls_at_once(endpoints: Sequence[Endpoint]) -> int | None:
    """How many calls to `endpoints` may be under way together; None if they may be as many as their limits allow.

    Functions of the user's are taken to need no connection.
    """
    limits = [each.limits or Limits() for each in endpoints if each.provider is None]
    most = max((each.most_width for each in limits), default=0.0)
    room = connections_left() if most else inf
    if room >= most:
        return None
    if any(each.max_concurrency is not None and each.max_concurrency > room for each in limits):
        log.warning("at most %d calls at once, for this process may open no more files; raise `ulimit -n`", room)
    return int(room)


def connections_left() -> float:
    """How many may be opened from now on, going by `ulimit -n` and by what is open; `inf` where nothing bounds them."""
    try:
        import resource
    except ImportError:  # Windows, where sockets are no files
        return inf
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return inf
    left = most - _open_files()
    return max(1, left - max(LEAST_LEFT_TO_OTHERS, left // LEFT_TO_OTHERS))


def _open_files() -> int:
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:  # a chroot without it
        return 0
