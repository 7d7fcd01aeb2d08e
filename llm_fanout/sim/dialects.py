"""How a provider speaks of its quotas: in the headers of answers, and in refusals.

openai     x-ratelimit-*; a reset is the time until full, as a Go duration
azure      the same names; the tokens' reset is whole seconds, and what it does not know is -1
anthropic  anthropic-ratelimit-*, input and output apart; a reset is the instant of being full, RFC 3339
groq       OpenAI's names; but the requests are those of a day
none       nothing, as vLLM and many proxies
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from math import ceil

from .account import Quota, Refusal
from .config import Dialect, Hints
from .faults import JSON, ErrorAnswer, error_body, nginx_page

Headers = dict[str, str]
Names = Mapping[str, tuple[str, str, str]]
Announce = Callable[[Iterable[Quota], float, float], Headers]

# From the name of a quota to those of its three headers; a quota that is not here is not announced.
OPENAI: Names = {
    name: (f"x-ratelimit-limit-{name}", f"x-ratelimit-remaining-{name}", f"x-ratelimit-reset-{name}")
    for name in ("requests", "tokens")
}
GROQ: Names = {"requests_day": OPENAI["requests"], "tokens": OPENAI["tokens"]}
ANTHROPIC: Names = {
    name.replace("-", "_"): (
        f"anthropic-ratelimit-{name}-limit",
        f"anthropic-ratelimit-{name}-remaining",
        f"anthropic-ratelimit-{name}-reset",
    )
    for name in ("requests", "tokens", "input-tokens", "output-tokens")
}
KNOW_MILLISECONDS = ("openai", "azure", "none")  # whose refusals have a retry-after-ms beside the retry-after

# What a refusal calls a quota.
UNITS = {
    "requests": "requests per min (RPM)",
    "requests_day": "requests per day (RPD)",
    "tokens": "tokens per min (TPM)",
    "input_tokens": "input tokens per min (ITPM)",
    "output_tokens": "output tokens per min (OTPM)",
}
BARE = ErrorAnswer(429, JSON, b'{"error": "Too Many Requests"}')
PAGE = nginx_page(429)


def announce_openai(quotas: Iterable[Quota], now: float, wall: float) -> Headers:
    """OpenAI's headers."""
    return _durations(OPENAI, quotas, now)


def announce_groq(quotas: Iterable[Quota], now: float, wall: float) -> Headers:
    """Groq's headers."""
    return _durations(GROQ, quotas, now)


def announce_azure(quotas: Iterable[Quota], now: float, wall: float) -> Headers:
    """Azure's headers: it never knows how many requests remain."""
    said: Headers = {}
    for each in quotas:
        if each.name in OPENAI:
            limit, remaining, reset = OPENAI[each.name]
            known = each.name == "tokens"
            said[limit] = f"{each.limit:.0f}"
            said[remaining] = _whole(each.meter.remaining(now)) if known else "-1"
            said[reset] = str(ceil(each.meter.full_in(now))) if known else "-1"
    return said


def announce_anthropic(quotas: Iterable[Quota], now: float, wall: float) -> Headers:
    """Anthropic's headers; `wall` is `now` in seconds since the epoch."""
    said: Headers = {}
    for each in quotas:
        if each.name in ANTHROPIC:
            limit, remaining, reset = ANTHROPIC[each.name]
            said[limit] = f"{each.limit:.0f}"
            said[remaining] = _whole(each.meter.remaining(now))
            said[reset] = rfc3339(wall + each.meter.full_in(now))
    return said


def announce_nothing(quotas: Iterable[Quota], now: float, wall: float) -> Headers:
    """No headers."""
    return {}


ANNOUNCE: Mapping[Dialect, Announce] = {
    "openai": announce_openai,
    "azure": announce_azure,
    "anthropic": announce_anthropic,
    "groq": announce_groq,
    "none": announce_nothing,
}


def refusal_answer(refusal: Refusal, hints: Hints, dialect: Dialect, announced: Callable[[], Headers]) -> ErrorAnswer:
    """How a refusal is said.

    Args:
        refusal: What is used up.
        hints: How much it says of when to come back.
        dialect: Decides whether milliseconds are known.
        announced: Gives the headers that any answer would have now; asked only if they are said.
    """
    if refusal.reason == "too_large":
        message = f"Request too large for the simulated model: Limit {refusal.limit:.0f}, Requested {refusal.requested:.0f}."
        return ErrorAnswer(429, JSON, error_body(message, "tokens", "rate_limit_exceeded"))
    if hints in ("none", "nginx"):
        return BARE if hints == "none" else PAGE
    if refusal.wait is None:
        message = f"Too many calls at once: max_parallel_requests is {refusal.limit:.0f}, this is {refusal.requested:.0f}."
        return ErrorAnswer(429, {**announced(), **JSON}, error_body(message, "max_parallel_requests", "rate_limit_exceeded"))
    message = (
        f"Rate limit reached for the simulated model on {UNITS[refusal.reason]}: "
        f"Limit {refusal.limit:.0f}, Requested {refusal.requested:.0f}."
    )
    told = {"retry-after": str(max(1, ceil(refusal.wait)))}
    if hints == "full":
        message += f" Please try again in {go_duration(refusal.wait)}."
        if dialect in KNOW_MILLISECONDS:
            told["retry-after-ms"] = str(ceil(refusal.wait * 1000))
    return ErrorAnswer(429, {**told, **announced(), **JSON}, error_body(message, refusal.reason, "rate_limit_exceeded"))


def go_duration(seconds: float) -> str:
    """Seconds as OpenAI writes them: "6m0s", "1.5s", "12ms"."""
    if seconds < 1:
        return f"{ceil(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    return f"{minutes:.0f}m{rest:g}s" if minutes else f"{rest:g}s"


def rfc3339(wall: float) -> str:
    """An instant as Anthropic writes it: whole seconds, rounded up, in UTC."""
    return datetime.fromtimestamp(ceil(wall), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _durations(names: Names, quotas: Iterable[Quota], now: float) -> Headers:
    said: Headers = {}
    for each in quotas:
        if each.name in names:
            limit, remaining, reset = names[each.name]
            said[limit] = f"{each.limit:.0f}"
            said[remaining] = _whole(each.meter.remaining(now))
            said[reset] = go_duration(each.meter.full_in(now))
    return said


def _whole(remaining: float) -> str:
    """Whole units, rounded down: nine tenths of a request are none. The sum of many refills is a hair below its due."""
    return str(int(max(0.0, remaining) + 1e-6))
