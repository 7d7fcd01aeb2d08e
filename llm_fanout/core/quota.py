"""One account's limits for one model, taken together or not at all."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from math import inf, isfinite
from typing import Literal, cast

from ..errors import ConfigError
from .adaptive import Adaptive
from .checks import is_number
from .limits import Limit, Permits, Slots, TokenBucket

DEFAULT_CONCURRENCY = 100

Unit = Literal["concurrency", "requests", "tokens", "permits"]
Binding = Literal["concurrency", "requests", "tokens", "permits", "gate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a provider allows, per endpoint, credential and model. What is None is not limited by us.

    Args:
        max_concurrency: Calls at once at the most, a whole number > 0; 100 by default. After refusals there are fewer for
            a while, as many as the provider takes.
        rpm: Requests a minute, > 0. Starts in any minute never exceed it, retries included.
        tpm: Tokens a minute, input and output together, > 0. A call's tokens are estimated and reserved before it
            starts, and settled with the reported usage when it ends.
        burst: Requests that may start at once, >= 1; by default about a second's worth of `rpm`. The token limit's
            burst is in proportion.

    Raises:
        ConfigError: A figure is not a number above zero.
    """

    max_concurrency: int | None = None
    rpm: float | None = None
    tpm: float | None = None
    burst: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and (not is_number(value) or not isfinite(value) or value <= 0):
                raise ConfigError(f"{field.name} must be a number > 0, got {value!r}; leave it out for the default")
        if self.max_concurrency is not None and self.max_concurrency != int(self.max_concurrency):
            raise ConfigError(f"max_concurrency must be a whole number, got {self.max_concurrency!r}")
        if self.burst is not None and self.burst < 1:
            raise ConfigError(f"burst must be >= 1 (requests that may start at once), got {self.burst!r}")
        if self.burst is not None and self.rpm is None:
            raise ConfigError(f"burst={self.burst!r} needs rpm: it says how many of those requests may start at once")

    @property
    def width(self) -> int:
        """Calls at once."""
        return DEFAULT_CONCURRENCY if self.max_concurrency is None else int(self.max_concurrency)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one attempt uses up, besides its slot: one request, and tokens."""

    tokens: float = 0.0
    requests: float = 1.0


@dataclass(slots=True, eq=False)
class Lease:
    """What one attempt holds until it is given back."""

    taken: tuple[tuple[Limit, Unit, float], ...]
    cost: Cost
    epoch: int = 0


class Signal(Enum):
    """What an attempt says of the other side's capacity."""

    OK = "ok"
    NEUTRAL = "neutral"
    PUSHBACK = "pushback"


class Quota:
    """Limits that are asked, taken and given back as one, and a gate that a refusal closes for everybody.

    `held` tells, in seconds and per limit, how long the first call in line had to wait for it: the limit that binds.
    """

    __slots__ = ("_adaptive", "_limits", "_since", "_slots", "_waits_for", "gate", "held")

    def __init__(self, limits: Limits | None = None, *, permits: Permits | None = None) -> None:
        self._limits = _limits_of(limits or Limits())
        self._slots = cast("Slots", self._limits["concurrency"])
        self._adaptive = Adaptive(self._slots)
        if permits is not None:
            self._limits["permits"] = permits
        self.gate = -inf
        self.held: dict[Binding, float] = {}
        self._waits_for: Binding | None = None
        self._since = -inf

    @property
    def width(self) -> int:
        """Calls that may be in flight at once."""
        return int(self._slots.size)

    @property
    def counts_tokens(self) -> bool:
        """Whether the tokens of a cost matter."""
        return "tokens" in self._limits

    def is_unused(self, now: float) -> bool:
        """Whether a fresh quota would admit no more than this one."""
        return self.gate <= now and all(limit.is_unused(now) for limit in self._limits.values())

    def fits_ever(self, cost: Cost) -> bool:
        """Whether `cost` can be granted at all; a call above a whole minute's tokens never is."""
        tokens = self._limits.get("tokens")
        return not isinstance(tokens, TokenBucket) or cost.tokens <= tokens.rate * 60 + tokens.burst

    def ready_at(self, cost: Cost, now: float) -> float:
        """The instant at which every limit and the gate admit `cost`; `inf` if only a `give` can tell."""
        latest, waits_for = self._latest(cost, now)
        self._note(waits_for if latest > now else None, now)
        return latest

    def take(self, cost: Cost, now: float) -> Lease:
        """Take from every limit at once; call it only when `ready_at(cost, now) <= now`."""
        taken = tuple((limit, unit, _amount(cost, unit)) for unit, limit in self._limits.items())
        for limit, _, amount in taken:
            limit.take(amount, now)
        return Lease(taken, cost, self._adaptive.admitted())

    def give(self, lease: Lease, used: Cost | None, now: float, signal: Signal = Signal.NEUTRAL) -> None:
        """Settle a lease with what was really used; None keeps what was reserved.

        A lease settles with the limits that it was taken from, so that a quota can be retuned while calls are out. What
        the attempt says of the other side's capacity makes the number of slots shrink or grow.
        """
        if signal is Signal.PUSHBACK:
            self._adaptive.refused(lease.epoch)
        elif signal is Signal.OK:
            self._adaptive.succeeded(lease.epoch)
        for limit, unit, amount in lease.taken:
            limit.give(amount, _amount(used or lease.cost, unit), now)

    def close_until(self, until: float) -> None:
        """Admit nobody before `until`. A gate that is closed for longer stays so."""
        self.gate = max(self.gate, until)

    def retune(self, limits: Limits, now: float) -> None:
        """From now on obey `limits`; what is in flight and what is owed still count."""
        new = _limits_of(limits)
        for unit, limit in self._limits.items():
            if unit == "permits":
                new[unit] = limit
            elif unit in new:
                limit.retune(new[unit], now)
                new[unit] = limit
        self._limits = new
        self._adaptive.retune()

    def _latest(self, cost: Cost, now: float) -> tuple[float, Binding]:
        latest = self.gate
        waits_for: Binding = "gate"
        for unit, limit in self._limits.items():
            ready = limit.ready_at(_amount(cost, unit), now)
            if ready > latest:
                latest, waits_for = ready, unit
                if ready == inf:
                    break  # the permits come last: they are asked for only when everything else is there
        return latest, waits_for

    def _note(self, waits_for: Binding | None, now: float) -> None:
        if self._waits_for is not None:
            self.held[self._waits_for] = self.held.get(self._waits_for, 0.0) + now - self._since
        self._waits_for, self._since = waits_for, now


def _limits_of(limits: Limits) -> dict[Unit, Limit]:
    found: dict[Unit, Limit] = {"concurrency": Slots(limits.width)}
    if limits.rpm is not None:
        found["requests"] = TokenBucket.per_minute(limits.rpm, limits.burst, unit=1.0)
    if limits.tpm is not None:
        share = None if limits.burst is None or limits.rpm is None else limits.burst / limits.rpm
        found["tokens"] = TokenBucket.per_minute(limits.tpm, share and share * limits.tpm)
    return found


def _amount(cost: Cost, unit: Unit) -> float:
    if unit == "tokens":
        return cost.tokens
    return cost.requests if unit == "requests" else 1.0
