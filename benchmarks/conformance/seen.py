"""What was seen of one contender at one probe: by the witness, and by the contender's own process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .witness import Arrival


@dataclass(slots=True)
class Seen:
    """Arrivals at the witness and events of the contender's process; instants are monotonic seconds."""

    arrivals: list[Arrival]
    events: list[dict[str, Any]] = field(default_factory=list)

    def of(self, event: str) -> list[dict[str, Any]]:
        """The events of that name, in order."""
        return [each for each in self.events if each["event"] == event]

    @property
    def first(self) -> float:
        """When the first request came; now, if none did."""
        return self.arrivals[0].at if self.arrivals else time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the first request."""
        return time.monotonic() - self.first

    @property
    def watched(self) -> float:
        """Seconds from the start of the work, as the contender's process tells it."""
        return time.monotonic() - self.events[0]["at"] if self.events else 0.0

    @property
    def failed(self) -> int:
        """Prompts that the contender gave up."""
        return sum(each["failed"] for each in self.of("asked"))

    @property
    def peak(self) -> int:
        """The most requests that were in flight at once."""
        return max((each.in_flight for each in self.arrivals), default=0)

    def served(self, which: Callable[[Arrival], bool] = lambda each: True) -> set[int]:
        """The items that were answered well."""
        return {each.item for each in self.arrivals if each.served and which(each)}

    def served_in(self, which: Callable[[Arrival], bool] = lambda each: True) -> float:
        """Seconds from the first request to the last good answer."""
        return max((each.left for each in self.arrivals if each.served and which(each)), default=self.first) - self.first

    def between(self, start: float, end: float) -> list[Arrival]:
        """Requests from `start` to `end`, in seconds after the first."""
        return [each for each in self.arrivals if start <= each.at - self.first < end]

    def rate(self, start: float, end: float) -> float:
        """Requests a second from `start` to `end`, in seconds after the first."""
        return len(self.between(start, end)) / (end - start)
