"""What a user states of an account: figures, checked once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from math import inf, isfinite
from typing import Any, Literal

from ..errors import ConfigError
from .checks import is_number

FIRST_WIDTH = 64  # calls at once where nobody said: enough for the burst of a small account, few enough to be refused kindly
MOST_WIDTH = 1_000  # calls at once that may be learnt; above it one event loop is busy with its sockets

Settle = Literal["used", "reserved"]


def _is_above_0(value: float) -> bool:
    return value > 0


def _is_count(value: float) -> bool:
    return value >= 1 and value == int(value)


def _is_burst(value: float) -> bool:
    return value >= 1


_RATE = ("a number > 0", _is_above_0)
_FIGURES: Mapping[str, tuple[str, Callable[[float], bool]]] = {
    "max_concurrency": ("a whole number >= 1", _is_count),
    "rpm": _RATE,
    "tpm": _RATE,
    "itpm": _RATE,
    "otpm": _RATE,
    "rpd": _RATE,
    "burst": ("a number >= 1 (requests that may start at once)", _is_burst),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a provider allows, per endpoint, credential and model. What is None is learnt, from headers and refusals.

    Args:
        max_concurrency: Calls at once, a whole number >= 1: where it starts, and never more. After refusals there are fewer
            for a while, as many as the provider takes. By default 64 to begin with, and up to 1,000 as they prove useful.
        rpm: Requests a minute, > 0. Starts in any minute never exceed it, retries included.
        tpm: Tokens a minute, input and output together, > 0. A call's tokens are estimated and reserved before it
            starts, and settled with the reported usage when it ends.
        itpm: Input tokens a minute, > 0.
        otpm: Output tokens a minute, > 0.
        rpd: Requests in any 24 hours, > 0.
        burst: Requests that may start at once, >= 1; by default about a second's worth of `rpm`. The token limits'
            bursts are in proportion.
        headroom: Share of every rate, from 0 to below 1, that is left to others who use the account.
        adapt: Whether to learn at all. False takes the figures as they are, and sets no limit where there is none.
        settle: What the provider charges in the end: the tokens "used", or those that were "reserved" (the input and
            `max_tokens`). By default "used".

    Raises:
        ConfigError: A figure is out of its range.
    """

    max_concurrency: int | None = None
    rpm: float | None = None
    tpm: float | None = None
    itpm: float | None = None
    otpm: float | None = None
    rpd: float | None = None
    burst: float | None = None
    headroom: float = 0.0
    adapt: bool = True
    settle: Settle | None = None

    def __post_init__(self) -> None:
        for name, (wanted, fits) in _FIGURES.items():
            value = getattr(self, name)
            if value is not None and not (is_number(value) and isfinite(value) and fits(value)):
                raise ConfigError(f"{name} must be {wanted}, got {value!r}; leave it out for the default")
        if self.burst is not None and self.rpm is None:
            raise ConfigError(f"burst={self.burst!r} needs rpm: it says how many of those requests may start at once")
        if not (is_number(self.headroom) and 0 <= self.headroom < 1):
            raise ConfigError(
                f"headroom must be a share from 0 to below 1, got {self.headroom!r}; 0.3 leaves 30 % to others"
            )
        if not isinstance(self.adapt, bool):
            raise ConfigError(f"adapt must be True or False, got {self.adapt!r}; False takes the figures as they are")
        if self.settle not in (None, "used", "reserved"):
            raise ConfigError(f"settle must be 'used' or 'reserved', got {self.settle!r}")

    @property
    def first_width(self) -> float:
        """Calls at once to begin with."""
        if self.max_concurrency is not None:
            return float(self.max_concurrency)
        return float(FIRST_WIDTH) if self.adapt else inf

    @property
    def most_width(self) -> float:
        """Calls at once at the very most."""
        if self.max_concurrency is not None:
            return float(self.max_concurrency)
        return float(MOST_WIDTH) if self.adapt else inf

    def stated(self) -> dict[str, Any]:
        """The figures that differ from what is there when nobody says anything, by name."""
        return {each.name: said for each in fields(self) if (said := getattr(self, each.name)) != each.default}
