"""How a provider announces its quotas: the headers of its answers.

openai      x-ratelimit-*; a reset is the time until full, as a Go duration
azure       the same names; the tokens' reset is whole seconds, and what it does not know is -1
anthropic   anthropic-ratelimit-*, input and output apart; a reset is the instant of being full, RFC 3339
groq        OpenAI's names; but the requests are those of a day
mistral     x-ratelimit-*-minute, without a reset but for the older names of the tokens
litellm     x-ratelimit-api_key-*, without a reset
gemini, openrouter, none
            nothing; OpenRouter has some in its refusals

Sources, read 2026-11: each provider's guide to rate limits; Mistral's headers are in mistralai/client-ts#169, LiteLLM's in
its parallel_request_limiter_v3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import ceil

from .account import Quota
from .config import Dialect
from .wording import go_duration, rfc3339

Headers = dict[str, str]
Announce = Callable[[Iterable[Quota], float, float], Headers]
Named = tuple[str, str, str, str | None]  # a quota, and its headers: limit, remaining, and reset where there is one
Reset = Callable[[float, float], str]  # writes the seconds until a quota is full; then comes now, seconds since the epoch


@dataclass(frozen=True, slots=True)
class Family:
    """The headers in which a provider announces its quotas.

    Attributes:
        names: By quota; one that is not here is not announced.
        reset: How a reset is written.
        unknown: Quotas of which it says -1.
    """

    names: tuple[Named, ...] = ()
    reset: Reset = lambda seconds, wall: go_duration(seconds)
    unknown: tuple[str, ...] = ()

    def announce(self, quotas: Iterable[Quota], now: float, wall: float) -> Headers:
        """The headers of an answer; `wall` is `now` in seconds since the epoch."""
        said: Headers = {}
        by_name = {each.name: each for each in quotas}
        for name, limit, remaining, reset in self.names:
            if (quota := by_name.get(name)) is not None:
                known = name not in self.unknown
                said[limit] = f"{quota.limit:.0f}"
                said[remaining] = _whole(quota.meter.remaining(now)) if known else "-1"
                if reset is not None:
                    said[reset] = self.reset(quota.meter.full_in(now), wall) if known else "-1"
        return said


def _named(unit: str, pattern: str) -> Named:
    limit, remaining, reset = (pattern.format(what) for what in ("limit", "remaining", "reset"))
    return unit, limit, remaining, reset


def _whole_seconds(seconds: float, wall: float) -> str:
    return str(ceil(seconds))


REQUESTS, TOKENS = "x-ratelimit-{}-requests", "x-ratelimit-{}-tokens"
FAMILIES: Mapping[Dialect, Family] = {
    "openai": Family((_named("requests", REQUESTS), _named("tokens", TOKENS))),
    "azure": Family((_named("requests", REQUESTS), _named("tokens", TOKENS)), _whole_seconds, unknown=("requests",)),
    "anthropic": Family(
        (
            _named("requests", "anthropic-ratelimit-requests-{}"),
            _named("tokens", "anthropic-ratelimit-tokens-{}"),
            _named("input_tokens", "anthropic-ratelimit-input-tokens-{}"),
            _named("output_tokens", "anthropic-ratelimit-output-tokens-{}"),
        ),
        lambda seconds, wall: rfc3339(wall + seconds),
    ),
    "groq": Family((_named("requests_day", REQUESTS), _named("tokens", TOKENS))),
    "gemini": Family(),
    "mistral": Family(
        (
            ("requests", "x-ratelimit-limit-req-minute", "x-ratelimit-remaining-req-minute", None),
            ("tokens", "x-ratelimit-limit-tokens-minute", "x-ratelimit-remaining-tokens-minute", None),
            ("tokens", "x-ratelimitbysize-limit-minute", "x-ratelimitbysize-remaining-minute", "ratelimitbysize-reset"),
        ),
        _whole_seconds,
    ),
    "openrouter": Family(),
    "litellm": Family(
        (
            ("requests", "x-ratelimit-api_key-limit-requests", "x-ratelimit-api_key-remaining-requests", None),
            ("tokens", "x-ratelimit-api_key-limit-tokens", "x-ratelimit-api_key-remaining-tokens", None),
        )
    ),
    "none": Family(),
}
ANNOUNCE: Mapping[Dialect, Announce] = {dialect: family.announce for dialect, family in FAMILIES.items()}


def _whole(remaining: float) -> str:
    """Whole units, rounded down: nine tenths of a request are none. The sum of many refills is a hair below its due."""
    return str(int(max(0.0, remaining) + 1e-6))
