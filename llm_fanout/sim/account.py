"""The provider's side of a quota: requests, tokens and calls at once, counted and refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .config import DAY, MINUTE, SimConfig
from .meters import Bucket, FixedWindow, Meter


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not served.

    Attributes:
        reason: The quota that is used up, by its name in `Account.quotas`; "in_flight" for too many calls at once, or
            "too_large" for what can never fit.
        limit: The quota's figure.
        requested: What was asked of it.
        wait: Seconds until it would fit; None if nobody can tell.
    """

    reason: str
    limit: float
    requested: float
    wait: float | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """One thing that is counted.

    Attributes:
        name: "requests" or "requests_day", "tokens" (input and output together), "input_tokens" or "output_tokens".
        limit: Units a minute, or a day.
        meter: Its count.
    """

    name: str
    limit: float
    meter: Meter


@dataclass(frozen=True, slots=True)
class Charge:
    """What an admitted request was charged, and where; for `Account.settle`."""

    quotas: tuple[Quota, ...]
    at: float
    tokens_in: float
    tokens_out: float


class Account:
    """All quotas, charged together or not at all; a refused request costs nothing.

    Args:
        config: The limits.
        now: Monotonic seconds at which nothing has been used.
        epoch: Seconds since the epoch when `now` is 0, for windows that turn with the calendar.
    """

    def __init__(self, config: SimConfig, now: float, epoch: float = 0.0) -> None:
        self.quotas: tuple[Quota, ...] = ()
        self._epoch = epoch
        self._in_flight = 0
        self.retune(config, now)

    def enter(self) -> Refusal | None:
        """Occupy one of the calls at once until `leave`; None if there is one, else the refusal."""
        most = self._config.max_in_flight
        if most is not None and self._in_flight >= most:
            return Refusal("in_flight", most, self._in_flight + 1)
        self._in_flight += 1
        return None

    def leave(self) -> None:
        """A call that had entered is over."""
        self._in_flight -= 1

    def admit(self, tokens_in: float, tokens_out: float, now: float) -> Charge | Refusal:
        """Charge one request of that many tokens, or say why not."""
        amounts = _amounts(tokens_in, tokens_out)
        for each in self.quotas:
            amount = amounts[each.name]
            if amount > each.meter.most:
                return Refusal("too_large", each.meter.most, amount)
            wait = each.meter.wait(amount, now)
            if wait > 0:
                return Refusal(each.name, each.limit, amount, wait)
        for each in self.quotas:
            each.meter.take(amounts[each.name], now)
        return Charge(self.quotas, now, tokens_in, tokens_out)

    def settle(self, charge: Charge, used_out: float, now: float) -> None:
        """The answer has `used_out` tokens: the rest comes back, unless this provider keeps what was reserved."""
        if self._config.settle == "reserved" or used_out == charge.tokens_out:
            return
        taken, used = _amounts(charge.tokens_in, charge.tokens_out), _amounts(charge.tokens_in, used_out)
        for each in charge.quotas:
            each.meter.settle(taken[each.name], used[each.name], charge.at, now)

    def retune(self, config: SimConfig, now: float) -> None:
        """Count against other limits from now on.

        What is charged stays charged, and calls under way stay so. A limit that is new starts unused.
        """
        self._config = config
        meters = {each.name: each.meter for each in self.quotas}
        self.quotas = tuple(self._quotas(meters, now))

    def _quotas(self, meters: Mapping[str, Meter], now: float) -> Iterator[Quota]:
        """Today's quotas, on their old meters where there are some."""
        config = self._config
        seconds = config.burst_seconds
        for name, limit, period, burst in (
            ("requests", config.rpm, MINUTE, config.request_burst),
            ("requests_day", config.day_requests, DAY, config.day_requests or 0.0),
            ("tokens", config.tpm, MINUTE, max(1.0, (config.tpm or 0.0) / MINUTE * seconds)),
            ("input_tokens", config.itpm, MINUTE, max(1.0, (config.itpm or 0.0) / MINUTE * seconds)),
            ("output_tokens", config.otpm, MINUTE, max(1.0, (config.otpm or 0.0) / MINUTE * seconds)),
        ):
            if limit is None:
                continue
            window = config.window_seconds if period == MINUTE and config.window == "minute" else period
            quantity = limit * window / period
            meter = meters.get(name)
            if meter is not None:
                meter.resize(quantity, burst, now)
            elif config.window == "minute":
                meter = FixedWindow(quantity, window, self._epoch)
            else:
                meter = Bucket(quantity, window, burst)
            yield Quota(name, limit, meter)


def _amounts(tokens_in: float, tokens_out: float) -> dict[str, float]:
    """What a request asks of each quota."""
    return {
        "requests": 1.0,
        "requests_day": 1.0,
        "tokens": tokens_in + tokens_out,
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
    }
