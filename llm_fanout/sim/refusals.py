"""How a provider refuses what is above a quota: status, headers and body, in its own words.

Sources, read 2026-11: each provider's guide to errors and rate limits; Azure's words are in icereed/paperless-gpt#814,
Mistral's in cline/cline#9085, OpenRouter's in Gitlawb/openclaude#936, LiteLLM's in its parallel_request_limiter_v3.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil

from .account import Refusal
from .catalogue import ROWS
from .config import Dialect, Hints
from .dialects import Headers
from .wording import (
    JSON,
    ErrorAnswer,
    anthropic_error,
    azure_error,
    go_duration,
    google_error,
    litellm_error,
    mistral_error,
    openai_error,
    openrouter_error,
    quota_failure,
    retry_info,
)


@dataclass(frozen=True, slots=True)
class Voice:
    """How a provider refuses. The words may have {limit} and {requested}, and of a rate its {reason},
    {thing}, {sort}, {per} and {short}.

    Attributes:
        rate: Of a rate that is used up.
        wait: What is added to that where it may say when, with {seconds} or {duration}.
        at_once: Of too many calls at once.
        error: Puts the words into a body; also gets the refusal, and the wait that it may name, in seconds.
        told: The headers of a refusal that says when.
        too_large: The status of what can never fit.
    """

    rate: str
    wait: str
    at_once: str
    error: Callable[[Refusal, str, float | None], bytes]
    told: Callable[[Refusal], Headers]
    too_large: int = 429

    def body(self, refusal: Refusal, wait: float | None) -> bytes:
        """What is said of `refusal`, with the wait, in seconds, if that is not None."""
        figures = {"limit": f"{refusal.limit:.0f}", "requested": f"{refusal.requested:.0f}", "reason": refusal.reason}
        if refusal.reason == "too_large":
            return self.error(refusal, TOO_LARGE.format_map(figures), None)
        if refusal.wait is None:
            return self.error(refusal, self.at_once.format_map(figures), None)
        words = self.rate.format_map(figures | UNITS[refusal.reason])
        if wait is not None:
            words += self.wait.format(seconds=ceil(wait), duration=go_duration(wait))
        return self.error(refusal, words, wait)


# Said by all, however silent they are otherwise: waiting would not help.
TOO_LARGE = "Request too large for the simulated model: Limit {limit}, Requested {requested}."
UNITS: dict[str, dict[str, str]] = {
    "requests": {"thing": "requests", "sort": "call", "per": "min", "short": "RPM"},
    "requests_day": {"thing": "requests", "sort": "call", "per": "day", "short": "RPD"},
    "tokens": {"thing": "tokens", "sort": "token", "per": "min", "short": "TPM"},
    "input_tokens": {"thing": "input tokens", "sort": "token", "per": "min", "short": "ITPM"},
    "output_tokens": {"thing": "output tokens", "sort": "token", "per": "min", "short": "OTPM"},
}
GEMINI_QUOTAS = {
    "requests": "GenerateRequestsPerMinutePerProjectPerModel",
    "requests_day": "GenerateRequestsPerDayPerProjectPerModel",
    "tokens": "GenerateContentTokensPerModelPerMinute",
    "input_tokens": "GenerateContentInputTokensPerModelPerMinute",
    "output_tokens": "GenerateContentOutputTokensPerModelPerMinute",
}
LITELLM_WINDOW = "60"  # seconds; of too many at once it names its whole window, although a place is free when a call ends
SILENT = {"none": "429-bare", "nginx": "429-nginx"}  # the row of the catalogue that a refusal without hints is


def refusal_answer(refusal: Refusal, hints: Hints, dialect: Dialect, announced: Callable[[], Headers]) -> ErrorAnswer:
    """How a refusal is said.

    Args:
        refusal: What is used up.
        hints: How much it says of when to come back.
        dialect: In whose words.
        announced: Gives the headers that any answer would have now; asked only if they are said.
    """
    voice = VOICES[dialect]
    if refusal.reason == "too_large":
        return ErrorAnswer(voice.too_large, JSON, voice.body(refusal, None))
    if hints == "full":
        return ErrorAnswer(429, {**voice.told(refusal), **announced(), **JSON}, voice.body(refusal, refusal.wait))
    if hints == "retry-after":
        return ErrorAnswer(429, {**_told_seconds(refusal), **announced(), **JSON}, voice.body(refusal, None))
    row = ROWS[SILENT[hints]]
    return ErrorAnswer(row.status, {**JSON, **row.headers}, row.body)


def _told_nothing(refusal: Refusal) -> Headers:
    return {}


def _told_seconds(refusal: Refusal) -> Headers:
    return {} if refusal.wait is None else {"retry-after": str(max(1, ceil(refusal.wait)))}


def _told_milliseconds(refusal: Refusal) -> Headers:
    return {} if refusal.wait is None else {**_told_seconds(refusal), "retry-after-ms": str(ceil(refusal.wait * 1000))}


def _told_by_openrouter(refusal: Refusal) -> Headers:
    if refusal.wait is None:
        return {}
    reset = str(ceil((time.time() + refusal.wait) * 1000))
    said = {"X-RateLimit-Limit": f"{refusal.limit:.0f}", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
    return {**_told_seconds(refusal), **said}


def _told_by_litellm(refusal: Refusal) -> Headers:
    return {"retry-after": LITELLM_WINDOW} if refusal.wait is None else _told_seconds(refusal)


def _openai_body(refusal: Refusal, words: str, wait: float | None) -> bytes:
    kind = {"too_large": "tokens", "in_flight": "max_parallel_requests"}.get(refusal.reason, refusal.reason)
    return openai_error(words, kind, "rate_limit_exceeded")


def _azure_body(refusal: Refusal, words: str, wait: float | None) -> bytes:
    return azure_error(words, "429")


def _anthropic_body(refusal: Refusal, words: str, wait: float | None) -> bytes:
    return anthropic_error(words, "rate_limit_error")


def _gemini_body(refusal: Refusal, words: str, wait: float | None) -> bytes:
    quota = GEMINI_QUOTAS.get(refusal.reason)
    details = [*([quota_failure(quota)] if quota else []), *([retry_info(f"{wait:.3f}s")] if wait is not None else [])]
    return google_error(429, "RESOURCE_EXHAUSTED", words, *details)


def _mistral_body(refusal: Refusal, words: str, wait: float | None) -> bytes:
    return mistral_error(words, "rate_limited", "1300")


def _openrouter_body(refusal: Refusal, words: str, wait: float | None) -> bytes:
    return openrouter_error(words, 429, headers=_told_by_openrouter(refusal) if wait is not None else {})


def _litellm_body(refusal: Refusal, words: str, wait: float | None) -> bytes:
    return litellm_error(words, "None", 429)


OPENAI = Voice(
    rate="Rate limit reached for the simulated model on {thing} per {per} ({short}): Limit {limit}, Requested {requested}.",
    wait=" Please try again in {duration}.",
    at_once="Too many calls at once: max_parallel_requests is {limit}, this is {requested}.",
    error=_openai_body,
    told=_told_milliseconds,
)
VOICES: Mapping[Dialect, Voice] = {
    "openai": OPENAI,
    "azure": Voice(
        rate="Your requests to the simulated model have exceeded the {sort} rate limit of your pricing tier.",
        wait=" Please retry after {seconds} seconds.",
        at_once="Your requests to the simulated model have exceeded the limit of {limit} concurrent requests.",
        error=_azure_body,
        told=_told_milliseconds,
    ),
    "anthropic": Voice(
        rate="This request would exceed your organization's rate limit of {limit} {thing} per {per}.",
        wait="",
        at_once="Number of concurrent connections has exceeded your rate limit.",
        error=_anthropic_body,
        told=_told_seconds,
    ),
    "groq": replace(OPENAI, told=_told_seconds, too_large=413),
    "gemini": Voice(
        rate="You exceeded your current quota: {thing} per {per}, limit: {limit}.",
        wait=" Please retry in {duration}.",
        at_once="Too many concurrent requests; the limit is {limit}.",
        error=_gemini_body,
        told=_told_nothing,
    ),
    "mistral": Voice(
        rate="Rate limit exceeded",
        wait="",
        at_once="Too many concurrent requests",
        error=_mistral_body,
        told=_told_seconds,
    ),
    "openrouter": Voice(
        rate="Rate limit exceeded: {thing}-per-{per}.",
        wait="",
        at_once="Too many requests in flight.",
        error=_openrouter_body,
        told=_told_by_openrouter,
    ),
    "litellm": Voice(
        rate="Rate limit exceeded for api_key: simulated. Limit type: {reason}. Current limit: {limit}, Remaining: 0.",
        wait="",
        at_once="Rate limit exceeded for api_key: simulated. Limit type: max_parallel_requests. Current limit: {limit}.",
        error=_litellm_body,
        told=_told_by_litellm,
    ),
    "none": OPENAI,
}
