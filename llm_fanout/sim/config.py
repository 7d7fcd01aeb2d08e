"""What a simulated provider is like: its quota, how fast it answers, what goes wrong, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from math import isfinite
from typing import Any, Literal, get_args

from ..errors import ConfigError
from .faults import FAULTS
from .outages import outages_in

MINUTE, DAY = 60.0, 86_400.0  # seconds
BURST_SECONDS = 10.0  # the default burst: what ten seconds of the rate bring

Window = Literal["bucket", "minute"]
Settle = Literal["used", "reserved"]
Hints = Literal["full", "retry-after", "none", "nginx"]
Dialect = Literal["openai", "azure", "anthropic", "groq", "gemini", "mistral", "openrouter", "litellm", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimConfig:
    """A simulated provider.

    Args:
        rpm: Requests a minute; None for no limit.
        tpm: Tokens a minute, input and output together; None for no limit.
        itpm: Input tokens a minute; None for no limit.
        otpm: Output tokens a minute; None for no limit. A request is charged its `max_tokens` up front.
        rpd: Requests a day; None for no limit. All of them may come at once.
        max_in_flight: Calls that are served at once, >= 1; one more is refused at once. None for no limit.
        window: How a minute is counted. "bucket" is refilled all the time; "minute" counts from nothing at the turn of
            each calendar window, and a day at midnight UTC.
        window_seconds: Length of a calendar window. A shorter one holds its part of the minute: rpm=300 is 10 in 2 s.
        burst: Requests that may come at once, >= 1, in a bucket; by default ten seconds' worth. The tokens' burst is in
            proportion.
        settle: "used" gives back the tokens of `max_tokens` that the answer did not use, "reserved" keeps them.
        hints: What a refusal says of when to come back: "full" the milliseconds, too, where the dialect knows them;
            "retry-after" whole seconds; "none" nothing, in plain JSON and without any rate limit header; "nginx" nothing,
            in a proxy's HTML. Too many calls at once never say when, but for LiteLLM, which says 60 s.
        headers: Whose rate limit headers the answers have, and in whose words and shape refusals are. "openai" (reset is
            the time until full); "azure" (the same names; the tokens' reset is whole seconds, -1 where it says nothing);
            "anthropic" (RFC 3339 resets, input and output tokens apart; no milliseconds); "groq" (OpenAI's names, but
            requests are those of a day, of `rpd` or else 1,440 times `rpm`; no milliseconds); "gemini" (no headers; the
            body of a refusal has it all); "mistral" (its own names, hardly a reset); "openrouter" (headers on refusals
            only, with the instant of the reset); "litellm" (its own names, no reset); "none" (OpenAI's words without its
            headers).
        latency: Mean seconds of an answer, >= 0; of a stream, to its end.
        ttft: Mean seconds to the first piece of a stream, at most `latency`; None for a quarter of that.
        jitter: How much latencies differ: the sigma of their lognormal distribution; 0 makes them all equal.
        answer_tokens: Mean tokens of an answer, where `max_tokens` does not cut it.
        outage: Seconds from the start in which it is down: "10-70" refuses connections and cuts those that are open,
            "10-70:503" answers 503 to every request, "10-70+100-110" is two of them.
        faults: Share of requests, from 0 to 1, by fault; `llm-fanout sim --faults` lists them. A prompt may also ask for
            one: see `Fates`.
        api_key: The only key that is let in; None lets in any.
        seed: The same seed decides the same faults, latencies and answers, request by request (of those that are read:
            one refused for too many at once is not).

    Raises:
        ConfigError: A figure is out of its range, or a word or fault unknown.
    """

    rpm: float | None = None
    tpm: float | None = None
    itpm: float | None = None
    otpm: float | None = None
    rpd: float | None = None
    max_in_flight: int | None = None
    window: Window = "bucket"
    window_seconds: float = MINUTE
    burst: float | None = None
    settle: Settle = "used"
    hints: Hints = "full"
    headers: Dialect = "openai"
    latency: float = 1.0
    ttft: float | None = None
    jitter: float = 0.2
    answer_tokens: int = 60
    outage: str = ""
    faults: Mapping[str, float] = field(default_factory=dict)
    api_key: str | None = field(default=None, repr=False)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and isfinite(value) and value >= least):
                raise ConfigError(f"{name} must be a number >= {least:g}, got {value!r}")
        for name, words in CHOICES.items():
            if getattr(self, name) not in words:
                raise ConfigError(f"{name} must be one of {', '.join(words)}, got {getattr(self, name)!r}")
        if self.window == "minute" and self.rpm is not None and self.rpm * self.window_seconds < MINUTE:
            raise ConfigError(f"a window_seconds of {self.window_seconds:g} holds no whole request of rpm={self.rpm:g}")
        outages_in(self.outage)
        for name, share in self.faults.items():
            _check_fault(name, share)
        if sum(self.faults.values()) > 1:
            raise ConfigError(f"the shares of all faults must not exceed 1 together, got {dict(self.faults)!r}")

    @classmethod
    def parse(cls, text: str) -> SimConfig:
        """The config that "rpm=300,headers=none,500=0.05,outage=10-70" says; a word that is no field is a fault.

        Raises:
            ConfigError: A part is not `name=value`, its name is unknown, or its value is none that it can have.
        """
        said: dict[str, Any] = {}
        faults: dict[str, float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = (word.strip() for word in part.partition("="))
            if name in WORDS:
                said[name] = value
            elif name in NUMBERS:
                said[name] = _number(part, value)
            else:
                faults[name] = _number(part, value)
        whole = {name: int(said[name]) for name in WHOLE if name in said}
        return replace(cls(), **{**said, **whole}, faults=faults)

    @property
    def request_burst(self) -> float:
        """Requests that may come at once."""
        return self.burst if self.burst is not None else max(1.0, (self.rpm or 0.0) / MINUTE * BURST_SECONDS)

    @property
    def burst_seconds(self) -> float:
        """Seconds' worth of tokens that may come at once: as many as of requests."""
        return BURST_SECONDS if self.rpm is None else self.request_burst / self.rpm * MINUTE

    @property
    def day_requests(self) -> float | None:
        """Requests a day; Groq announces some, so there they follow from the minute's, which they never undercut."""
        if self.rpd is None and self.rpm is not None and self.headers == "groq":
            return self.rpm * DAY / MINUTE
        return self.rpd


LEAST = {
    **dict.fromkeys(("rpm", "tpm", "itpm", "otpm", "rpd", "max_in_flight", "burst", "answer_tokens"), 1.0),
    "window_seconds": 0.01,
    "latency": 0.0,
    "ttft": 0.0,
    "jitter": 0.0,
}
CHOICES = {name: get_args(words) for name, words in (("window", Window), ("settle", Settle), ("hints", Hints))}
CHOICES["headers"] = get_args(Dialect)
WORDS = (*CHOICES, "outage")
WHOLE = ("max_in_flight", "answer_tokens", "seed")
NUMBERS = tuple(each.name for each in fields(SimConfig) if each.name not in (*WORDS, "faults", "api_key"))


def _number(part: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError as exc:
        raise ConfigError(f"{part!r} is not name=number; write rpm=300,burst=20,500=0.05") from exc
    if not isfinite(number):
        raise ConfigError(f"{part!r} is not name=number: the number must be finite")
    return number


def _check_fault(name: str, share: float) -> None:
    if name not in FAULTS:
        close = get_close_matches(name, (*NUMBERS, *WORDS, *FAULTS), n=3, cutoff=0.5)
        like = f"known are {', '.join(close)} and others: " if close else ""
        raise ConfigError(f"the simulation knows no {name!r}; {like}`llm-fanout sim --faults` lists the faults")
    if not 0 <= share <= 1:
        raise ConfigError(f"the share of {name!r} must be between 0 and 1, got {share!r}")
