"""What a simulated provider is like: its quota, how fast it answers, what goes wrong, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from math import isfinite

from ..errors import ConfigError
from .faults import FAULTS

BURST_SECONDS = 10.0  # the default burst: what ten seconds of the rate bring


@dataclass(frozen=True, slots=True, kw_only=True)
class SimConfig:
    """A simulated provider.

    Args:
        rpm: Requests a minute; None for no limit.
        tpm: Tokens a minute, input and output together; None for no limit.
        burst: Requests that may come at once, >= 1; by default ten seconds' worth. The tokens' burst is in proportion.
        latency: Mean seconds of an answer, >= 0.
        jitter: How much latencies differ: the sigma of their lognormal distribution; 0 makes them all equal.
        answer_tokens: Mean tokens of an answer, where `max_tokens` does not cut it.
        faults: Share of requests, from 0 to 1, by fault: see `FAULTS`.
        api_key: The only key that is let in; None lets in any.
        seed: The same seed decides the same faults, latencies and answers, request by request.

    Raises:
        ConfigError: A figure is out of its range, or a fault unknown.
    """

    rpm: float | None = None
    tpm: float | None = None
    burst: float | None = None
    latency: float = 1.0
    jitter: float = 0.2
    answer_tokens: int = 60
    faults: Mapping[str, float] = field(default_factory=dict)
    api_key: str | None = field(default=None, repr=False)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("rpm", 1.0),
            ("tpm", 1.0),
            ("burst", 1.0),
            ("latency", 0.0),
            ("jitter", 0.0),
            ("answer_tokens", 1.0),
        ):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and isfinite(value) and value >= least):
                raise ConfigError(f"{name} must be a number >= {least:g}, got {value!r}")
        for name, share in self.faults.items():
            _check_fault(name, share)
        if sum(self.faults.values()) > 1:
            raise ConfigError(f"the shares of all faults must not exceed 1 together, got {dict(self.faults)!r}")

    @classmethod
    def parse(cls, text: str) -> SimConfig:
        """The config that "rpm=300,burst=20,500=0.05,hang=0.02" says; a word that is no field is a fault.

        Raises:
            ConfigError: A part is not `name=number`, or its name is unknown.
        """
        said: dict[str, float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = part.partition("=")
            try:
                said[name.strip()] = float(value)
            except ValueError as exc:
                raise ConfigError(f"{part!r} is not name=number; write rpm=300,burst=20,500=0.05") from exc
        known = {name: value for name, value in said.items() if name in NUMBERS}
        whole = {name: int(known.pop(name)) for name in ("seed", "answer_tokens") if name in known}
        faults = {name: value for name, value in said.items() if name not in NUMBERS}
        return replace(cls(), **known, **whole, faults=faults)  # type: ignore[arg-type]  # checked by the constructor

    @property
    def request_burst(self) -> float:
        """Requests that may come at once."""
        return self.burst if self.burst is not None else max(1.0, (self.rpm or 0.0) / 60 * BURST_SECONDS)

    @property
    def token_burst(self) -> float:
        """Tokens that may come at once: as many seconds' worth as of requests."""
        seconds = BURST_SECONDS if self.rpm is None else self.request_burst / self.rpm * 60
        return max(1.0, (self.tpm or 0.0) / 60 * seconds)


NUMBERS = tuple(each.name for each in fields(SimConfig) if each.name not in ("faults", "api_key"))


def _check_fault(name: str, share: float) -> None:
    if name not in FAULTS:
        known = ", ".join((*NUMBERS, *FAULTS))
        raise ConfigError(f"the simulation knows no {name!r}; known are {known}")
    if not 0 <= share <= 1:
        raise ConfigError(f"the share of {name!r} must be between 0 and 1, got {share!r}")
