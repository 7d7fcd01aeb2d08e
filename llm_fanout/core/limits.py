"""What can run out, one small object each: slots, buckets of requests or tokens, a day's requests, permits.

A rate answers one question, `ready_at`: from which instant does this amount fit? It changes only by `take` and `give`.
Nothing here reads a clock: `now` is monotonic seconds and comes in from outside, so the same code runs in a simulation.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Protocol

MINUTE = 60.0
DAY = 86_400.0


class Limit(Protocol):
    """A rate: what was used up comes back with time."""

    def ready_at(self, amount: float, now: float) -> float:
        """The instant from which `amount` fits: <= `now` if it fits already."""

    def take(self, amount: float, now: float) -> None:
        """Use up `amount`; call it only when `ready_at(amount, now) <= now`."""

    def give(self, taken: float, used: float, now: float) -> None:
        """Settle what was taken: of `taken`, `used` was really used. May be more (a debt) or less (a refund)."""

    def left(self, now: float) -> float:
        """The share of it that could be used up at once: 1 if it is as good as new, 0 or less if nothing could."""

    def is_unused(self, now: float) -> bool:
        """Whether it is as good as new: a fresh one would admit no more."""


class Slots:
    """At most `size` calls at once, of which `in_use` are under way. A slot comes back whole, whatever was done with it.

    Args:
        size: Slots, > 0; `inf` for no limit.
    """

    __slots__ = ("in_use", "size")

    def __init__(self, size: float) -> None:
        self.size = size
        self.in_use = 0


class TokenBucket:
    """`rate` units a second, after a pause at most `burst` at once.

    GCRA, the virtual scheduling algorithm of ITU-T I.371 annex A: the whole state is one instant, the one at which the
    bucket is full again. A level that is refilled in steps drifts, and spins on clock values where adding a small step
    changes nothing; one instant does neither. It is kept as seconds owed since the bucket was last full: summed up as an
    instant, 100,000 steps on a clock that shows 1.75e9 would be rounded to 12 ms too early.

    In any window of w seconds at most max(burst, largest amount) + rate * w are taken (less what was given back).

    Args:
        rate: Units a second, > 0.
        burst: Units that may go at once, > 0. A larger amount waits for the full bucket and overdraws it.
        stretches: Whether the burst becomes as large as the largest amount that was taken. The bound above stays; but
            reservations that are mostly given back later do not keep others waiting that would fit beside them.
    """

    __slots__ = ("_owed", "_since", "burst", "rate", "stretches")

    def __init__(self, rate: float, burst: float, *, stretches: bool = False) -> None:
        self.rate = rate
        self.burst = burst
        self.stretches = stretches
        self._since = -inf
        self._owed = 0.0

    @classmethod
    def per_minute(cls, quantity: float, burst: float | None = None, *, unit: float = 0.0) -> TokenBucket:
        """A bucket that lets at most `quantity` pass in any half-open minute, whatever its burst.

        Where single amounts are larger than the burst, it is the largest of them more.

        Args:
            quantity: Units a minute, > 0.
            burst: Units that may go at once; by default a second's worth, at least one `unit`. As much of it counts as
                leaves something for the rest of the minute.
            unit: The size of an indivisible step (1 for requests, 0 where amounts vary).
        """
        if unit and quantity >= unit:
            quantity -= quantity % unit  # 1.9 requests a minute: two would be too many in the minute that holds both
        least = min(unit, quantity) or quantity / MINUTE  # what has to come back in a minute, or nothing ever would
        # A half-open minute that opens with a full burst sees burst + rate * 60 units, less the step that would fall
        # exactly on its open end. Solving for rate keeps the sum at `quantity`.
        burst = max(unit, quantity / MINUTE) if burst is None else min(burst, quantity + unit - least)
        return cls((quantity + unit - burst) / MINUTE, burst, stretches=not unit)

    def ready_at(self, amount: float, now: float) -> float:
        """The instant at which `amount` fits. Does not depend on `now`, so a timer set to it fires once."""
        if amount >= self.burst:
            return self._since + self._owed
        return self._since + (self._owed - (self.burst - amount) / self.rate)

    def take(self, amount: float, now: float) -> None:
        """Use up `amount`; what was not used before the bucket was full is lost."""
        if now > self._since + self._owed:
            self._since, self._owed = now, 0.0
        self._owed += amount / self.rate
        if amount > self.burst and self.stretches:
            self.burst = amount

    def give(self, taken: float, used: float, now: float) -> None:
        """Refund what was not used, or book the debt."""
        if used > taken:
            burst = self.burst
            self.take(used - taken, now)
            self.burst = burst  # nobody was admitted with a debt
        elif used < taken:
            self._owed -= (taken - used) / self.rate

    @property
    def full_at(self) -> float:
        """The instant at which the bucket is full."""
        return self._since + self._owed

    def available(self, now: float) -> float:
        """Units that could go at once at `now`; negative while overdrawn."""
        return min(self.burst, self.burst - (self.full_at - now) * self.rate)

    def left(self, now: float) -> float:
        """The share of the burst that could go at once; negative while overdrawn."""
        return self.available(now) / self.burst

    def set_available(self, amount: float, now: float) -> None:
        """Let just `amount` units (at most the burst) be there at `now`."""
        self._since, self._owed = now, max(0.0, self.burst - amount) / self.rate

    def retune(self, other: TokenBucket, now: float) -> None:
        """Adopt the figures of `other`; as many units as were missing from full are missing still."""
        missing = max(0.0, self.full_at - now) * self.rate
        self.rate, self.burst = other.rate, max(other.burst, self.burst if self.stretches else 0.0)
        self._since, self._owed = now, missing / self.rate

    def is_unused(self, now: float) -> bool:
        """Whether the bucket is full."""
        return self.full_at <= now


class RollingWindow:
    """At most `quantity` units in any window of `span` seconds, all of them at once if need be: a day's requests.

    Remembers slices of the span instead of single units, so it is a little late (1/1440: a minute of a day), never early.

    Args:
        quantity: Units, > 0.
        span: Seconds, > 0.
    """

    __slots__ = ("_slices", "_used", "quantity", "span")

    SLICES = 1_440

    def __init__(self, quantity: float, span: float = DAY) -> None:
        self.quantity = quantity
        self.span = span
        self._used = 0.0
        self._slices: deque[list[float]] = deque()  # [the instant at which the slice leaves the window, units], oldest first

    def ready_at(self, amount: float, now: float) -> float:
        """The instant at which enough of what was used has left the window."""
        excess = self._used + min(amount, self.quantity) - self.quantity
        ready = -inf
        for leaves_at, units in self._slices:
            if excess <= 0:
                break
            ready = leaves_at
            excess -= units
        return ready

    def take(self, amount: float, now: float) -> None:
        """Use up `amount`."""
        while self._slices and self._slices[0][0] <= now:
            self._used -= self._slices.popleft()[1]
        slice_ = self.span / self.SLICES
        if not self._slices or self._slices[-1][0] - self.span <= now:
            self._slices.append([now + slice_ + self.span, 0.0])
        self._slices[-1][1] += amount
        self._used += amount

    def give(self, taken: float, used: float, now: float) -> None:
        """Nothing comes back: a request that was sent was sent."""

    def retune(self, other: RollingWindow, now: float) -> None:
        """Adopt the size of `other`; what was used stays so."""
        self.quantity = other.quantity

    def left(self, now: float) -> float:
        """The share of the quantity that is not used in the window."""
        gone = sum(units for leaves_at, units in self._slices if leaves_at <= now)
        return 1.0 - (self._used - gone) / self.quantity

    def is_unused(self, now: float) -> bool:
        """Whether nothing is left in the window."""
        return not self._slices or self._slices[-1][0] <= now


class Permits:
    """Capacity that arrives from outside: whoever owns it calls `grant`. A permit once used is used.

    `wanted` turns true when somebody asked and none was there, so that the owner fetches permits only on demand.
    """

    __slots__ = ("free", "wanted")

    def __init__(self) -> None:
        self.free = 0.0
        self.wanted = False

    def grant(self) -> None:
        """One more permit has arrived."""
        self.free += 1.0
        self.wanted = False

    def ready_at(self, amount: float, now: float) -> float:
        """`now` if enough permits are there, else `inf`; asking in vain sets `wanted`."""
        if self.free >= amount:
            return now
        self.wanted = True
        return inf

    def take(self, amount: float, now: float) -> None:
        """Use up `amount` permits."""
        self.free -= amount
