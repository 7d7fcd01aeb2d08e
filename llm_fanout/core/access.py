"""Whether an account is let in at all: a wrong key or an empty purse closes it, and a call that gets through opens it.

Theory of operation. Some answers say that no call of this quota will ever be taken as things are. Where that is certain (no
credit) the first such answer closes the quota; else (a key that is refused) one does that is the first answer of all, or the
last of several in a row, for a single call may be at fault itself. Calls under way go on to their own ends; calls that wait
are turned away, see `Schedule`. What is handed in later sends one call to see: while that probe is out the others wait, and
its answer lets everybody in or turns them away again. Answers to calls that began before the closing open nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from .quota import Lease

Reach = Literal["quota", "credential", "endpoint"]
ROW = 3  # such answers in a row; two calls that are at fault themselves may well meet


class Closure(NamedTuple):
    """That nobody is let in: since which instant, and by which error."""

    at: float
    by: Exception | None


class Access:
    """Open until an answer closes it; then one call at a time may look.

    Attributes:
        closure: Since when and why nobody is let in; None while it is open.
        calm: Whether an answer is no news.
        met: Whether anything was ever answered that did not close it.
        probe: What the call holds that looks whether it is open again, while that is out.
    """

    __slots__ = ("_row", "calm", "closure", "met", "probe")

    def __init__(self) -> None:
        self.closure: Closure | None = None
        self.calm = False
        self.met = False
        self.probe: Lease | None = None
        self._row = 0

    def refused(self, lease: Lease, error: Exception | None, now: float, *, at_once: bool) -> bool:
        """The call of `lease` was answered that nothing will be taken. True if that closes it, or keeps it closed."""
        self.calm = False
        self._row += 1
        if self.closure is not None and lease is not self.probe:
            return False  # it was under way when another's answer closed it
        closes = at_once or not self.met or self._row >= ROW or self.closure is not None
        if closes:
            self.close(error, now)
        return closes

    def close(self, error: Exception | None, now: float) -> None:
        """Let nobody in from now on but one that looks."""
        self.closure = Closure(now, error)
        self.calm = False
        self.probe = None

    def answered(self, lease: Lease) -> None:
        """The call of `lease` was answered in any other way."""
        self.met = True
        if self.closure is None or lease is self.probe:
            self.closure = self.probe = None
            self.calm = True
            self._row = 0

    def released(self, lease: Lease) -> None:
        """The call of `lease` ended without an answer: if it was the one that looked, the next is."""
        if lease is self.probe:
            self.probe = None
