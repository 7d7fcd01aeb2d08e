"""What the server saw: the witness against which a client is judged."""

from __future__ import annotations

from collections import Counter, deque
from hashlib import sha256
from typing import Any

MINUTE = 60.0


class Stats:
    """Counts what passes. Every figure is of the server's own seeing, and none is the client's word."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._answers: Counter[bytes] = Counter()
        self._starts: deque[float] = deque()
        self._peaks: Counter[str] = Counter()
        self.in_flight = 0

    def arrived(self, now: float, retry_count: str | None) -> None:
        """A request has come; `retry_count` is what its `x-stainless-retry-count` says."""
        self._counts["requests"] += 1
        self._counts["retried_below"] += retry_count not in (None, "0")
        self.in_flight += 1
        self._peaks["in_flight"] = max(self._peaks["in_flight"], self.in_flight)
        self._starts.append(now)
        while self._starts[0] <= now - MINUTE:
            self._starts.popleft()
        self._peaks["starts_in_a_minute"] = max(self._peaks["starts_in_a_minute"], len(self._starts))

    def left(self) -> None:
        """A request is over, however."""
        self.in_flight -= 1

    def refused(self) -> None:
        """The quota refused a request."""
        self._counts["refused"] += 1

    def gone(self) -> None:
        """A client hung up before its answer."""
        self._counts["disconnected"] += 1

    def met(self, fault: str) -> None:
        """A request met `fault`."""
        self._faults[fault] += 1

    def answered(self, text: str) -> None:
        """A complete answer was given to a request that says `text`."""
        self._counts["answered"] += 1
        self._answers[sha256(text.encode(errors="replace")).digest()[:8]] += 1

    def snapshot(self) -> dict[str, Any]:
        """All figures.

        Keys: requests, answered (complete 200s), refused (429 of the quota), disconnected, retried_below (requests that
        some layer under the client had sent before), faults by name, in_flight, peak_in_flight, peak_minute (most
        requests in any 60 s), answered_twice (texts that got more than one complete answer).
        """
        names = ("requests", "answered", "refused", "disconnected", "retried_below")
        return {
            **{name: self._counts[name] for name in names},
            "faults": dict(self._faults),
            "in_flight": self.in_flight,
            "peak_in_flight": self._peaks["in_flight"],
            "peak_minute": self._peaks["starts_in_a_minute"],
            "answered_twice": sum(count > 1 for count in self._answers.values()),
        }
