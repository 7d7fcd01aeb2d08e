"""An amount that is never exceeded: money, or tokens."""

from __future__ import annotations


class Budget:
    """What may be used up in all: the most that a use can take is reserved before it, and settled once it is known.

    `used` and `reserved` together never exceed `limit`, whatever the uses turn out to take, as long as none takes more than
    was reserved for it.

    Args:
        limit: In whatever unit, >= 0.

    Attributes:
        used: What was settled, or is taken as used.
        reserved: What uses under way may take.
    """

    __slots__ = ("limit", "reserved", "used")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.used = 0.0
        self.reserved = 0.0

    @property
    def room(self) -> float:
        """What may be reserved still."""
        return self.limit - self.used - self.reserved

    def fits(self, amount: float) -> bool:
        """Whether `amount` may be reserved now. What rounding makes of sums is no reason against it."""
        return amount <= self.room + ROUNDING * self.limit

    def fits_ever(self, amount: float) -> bool:
        """Whether `amount` could be reserved, had nothing been used."""
        return amount <= self.limit + ROUNDING * self.limit

    def may_fit_later(self, amount: float) -> bool:
        """Whether `amount` may be reserved once it is settled what is under way."""
        return self.reserved > 0 and amount <= self.limit - self.used

    def reserve(self, amount: float) -> None:
        """Let a use begin that takes at most `amount`, which has to fit."""
        self.reserved += amount

    def settle(self, reserved: float, used: float) -> None:
        """A use has ended for which so much was reserved, and it took so much. The last one leaves nothing to rounding."""
        self.used += used
        self.reserved = max(0.0, self.reserved - reserved)


ROUNDING = 1e-12  # of the limit: a million sums of doubles are that exact
