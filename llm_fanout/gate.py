"""What holds calls of a run back until something has happened to others of them."""

from __future__ import annotations

from typing import Any, Protocol

from .call import Call
from .results import Result


class Gate(Protocol):
    """Holds calls of one run back; all its steps are on the run's event loop.

    Attributes:
        takes_all: Whether the whole source is taken up before the first call goes on.
    """

    takes_all: bool

    def sift(self, calls: list[Call[Any]]) -> list[Call[Any]]:
        """Those of `calls` that may go on; it keeps the others."""

    def complete(self) -> list[Call[Any]]:
        """All calls of the run are there: those that may go on now. What it raises ends the run."""

    def begun(self, call: Call[Any]) -> list[Call[Any]]:
        """The answer to `call` has begun: those that may go on now."""

    def over(self, call: Call[Any], result: Result[Any]) -> list[Call[Any]]:
        """`call` has ended: those that may go on now. One that never can has `stopped` set, and ends by that.

        It is told of these, too.
        """

    def send_away(self) -> list[Call[Any]]:
        """The run ends: all that it holds."""
