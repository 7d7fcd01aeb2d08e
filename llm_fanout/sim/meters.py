"""How a provider counts: a bucket that is refilled all the time, or windows that are counted anew."""

from __future__ import annotations

from math import inf
from typing import Protocol

from ..core.limits import TokenBucket


class Meter(Protocol):
    """One quota's count. `now` is monotonic seconds.

    Attributes:
        most: The largest amount that can ever pass.
    """

    most: float

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` fits; 0 if it fits now."""

    def take(self, amount: float, now: float) -> None:
        """Charge `amount`."""

    def settle(self, taken: float, used: float, since: float, now: float) -> None:
        """Of what was taken at `since`, `used` was used."""

    def remaining(self, now: float) -> float:
        """Units that fit now; negative while overdrawn."""

    def full_in(self, now: float) -> float:
        """Seconds until as much fits as ever can."""

    def resize(self, quantity: float, burst: float, now: float) -> None:
        """Count against other figures from now on; what is charged stays charged."""


class Bucket:
    """`quantity` units in `seconds`, refilled all the time, at most `burst` at once."""

    __slots__ = ("_bucket", "_seconds", "most")

    def __init__(self, quantity: float, seconds: float, burst: float) -> None:
        self.most = quantity
        self._seconds = seconds
        self._bucket = TokenBucket(quantity / seconds, burst)

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` fits; more than the burst waits for the full bucket and overdraws it."""
        return max(0.0, self._bucket.ready_at(amount, now) - now)

    def take(self, amount: float, now: float) -> None:
        """Charge `amount`."""
        self._bucket.take(amount, now)

    def settle(self, taken: float, used: float, since: float, now: float) -> None:
        """Refund what was not used, whenever it was taken, or book the debt."""
        self._bucket.give(taken, used, now)

    def remaining(self, now: float) -> float:
        """Units that fit now; negative while overdrawn."""
        return self._bucket.available(now)

    def full_in(self, now: float) -> float:
        """Seconds until the bucket is full."""
        return max(0.0, self._bucket.full_at - now)

    def resize(self, quantity: float, burst: float, now: float) -> None:
        """Adopt other figures: as many units as were missing from full are missing still."""
        self.most = quantity
        self._bucket.retune(TokenBucket(quantity / self._seconds, burst), now)


class FixedWindow:
    """`quantity` units in each window of `seconds`, counted from nothing at its turn, as LiteLLM counts calendar minutes.

    Twice the quantity passes within a moment around a turn: that is how such providers are.

    Args:
        quantity: Units in one window.
        seconds: Length of a window; windows begin at its multiples since the epoch.
        epoch: Seconds since the epoch when `now` is 0.
    """

    __slots__ = ("_epoch", "_number", "_seconds", "_used", "most")

    def __init__(self, quantity: float, seconds: float, epoch: float) -> None:
        self.most = quantity
        self._seconds = seconds
        self._epoch = epoch
        self._number = -inf
        self._used = 0.0

    def wait(self, amount: float, now: float) -> float:
        """Seconds until the turn, unless `amount` fits now."""
        return 0.0 if amount <= self.remaining(now) else self._until_turn(now)

    def take(self, amount: float, now: float) -> None:
        """Charge `amount` to the window of `now`."""
        self._turn(now)
        self._used += amount

    def settle(self, taken: float, used: float, since: float, now: float) -> None:
        """Correct the count, if the window in which it was taken lasts still."""
        self._turn(now)
        if self._number_at(since) == self._number:
            self._used += used - taken

    def remaining(self, now: float) -> float:
        """Units that this window has left; negative if it was made smaller than what it had seen."""
        self._turn(now)
        return self.most - self._used

    def full_in(self, now: float) -> float:
        """Seconds until the turn, if anything was charged."""
        self._turn(now)
        return self._until_turn(now) if self._used > 0 else 0.0

    def resize(self, quantity: float, burst: float, now: float) -> None:
        """Another quantity for this window, too; what it has seen stays seen."""
        self.most = quantity

    def _turn(self, now: float) -> None:
        number = self._number_at(now)
        if number != self._number:
            self._number, self._used = number, 0.0

    def _number_at(self, now: float) -> float:
        return (now + self._epoch) // self._seconds

    def _until_turn(self, now: float) -> float:
        return self._seconds - (now + self._epoch) % self._seconds  # never 0: the remainder is less than the divisor
