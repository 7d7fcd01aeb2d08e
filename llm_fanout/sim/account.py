"""The provider's side of a quota: requests and tokens that are counted, refused and announced in headers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from ..core.limits import TokenBucket
from ..core.tokens import estimate_tokens
from .config import SimConfig
from .faults import ErrorAnswer, error_body


def input_tokens(messages: Iterable[Mapping[str, Any]]) -> int:
    """Tokens of all messages: the same count as a caller's estimate, so that what is charged is what was reserved."""
    return sum(estimate_tokens(text_of(message.get("content"))) for message in messages)


def text_of(content: object) -> str:
    """The text of a message's content, which is text or a list of parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


@dataclass(frozen=True, slots=True)
class _Dimension:
    name: str
    limit: float
    bucket: TokenBucket


class Account:
    """Requests and tokens a minute, charged together or not at all; a refused request costs nothing.

    Args:
        config: The limits.
        now: Seconds at which the buckets are full.
    """

    def __init__(self, config: SimConfig, now: float) -> None:
        self._dimensions: list[_Dimension] = []
        if config.rpm is not None:
            self._add("requests", config.rpm, config.request_burst, now)
        if config.tpm is not None:
            self._add("tokens", config.tpm, config.token_burst, now)

    def admit(self, tokens: float, now: float) -> ErrorAnswer | None:
        """Charge one request of `tokens`; None if it is admitted, else the refusal."""
        for each in self._dimensions:
            amount = tokens if each.name == "tokens" else 1.0
            if each.name == "tokens" and amount > each.limit:
                return _too_large(each, amount)
            wait = each.bucket.ready_at(amount, now) - now
            if wait > 0:
                return self._refusal(each, amount, wait, now)
        for each in self._dimensions:
            each.bucket.take(tokens if each.name == "tokens" else 1.0, now)
        return None

    def settle(self, charged: float, used: float, now: float) -> None:
        """Give back the tokens that were charged and not used."""
        for each in self._dimensions:
            if each.name == "tokens":
                each.bucket.give(charged, used, now)

    def headers(self, now: float) -> dict[str, str]:
        """OpenAI's rate limit headers: limit, what remains, and the time until full."""
        said: dict[str, str] = {}
        for each in self._dimensions:
            said[f"x-ratelimit-limit-{each.name}"] = f"{each.limit:.0f}"
            said[f"x-ratelimit-remaining-{each.name}"] = f"{max(0.0, each.bucket.available(now)):.0f}"
            said[f"x-ratelimit-reset-{each.name}"] = go_duration(max(0.0, each.bucket.full_at - now))
        return said

    def _add(self, name: str, per_minute: float, burst: float, now: float) -> None:
        self._dimensions.append(_Dimension(name, per_minute, TokenBucket(per_minute / 60, burst)))

    def _refusal(self, each: _Dimension, amount: float, wait: float, now: float) -> ErrorAnswer:
        unit = "RPM" if each.name == "requests" else "TPM"
        message = (
            f"Rate limit reached for the simulated model on {each.name} per min ({unit}): Limit {each.limit:.0f}, "
            f"Requested {amount:.0f}. Please try again in {go_duration(wait)}."
        )
        headers = {"retry-after": str(max(1, ceil(wait))), "retry-after-ms": str(ceil(wait * 1000)), **self.headers(now)}
        headers["Content-Type"] = "application/json"
        return ErrorAnswer(429, headers, error_body(message, each.name, "rate_limit_exceeded"))


def _too_large(each: _Dimension, amount: float) -> ErrorAnswer:
    message = f"Request too large for the simulated model: Limit {each.limit:.0f}, Requested {amount:.0f}."
    return ErrorAnswer(429, {"Content-Type": "application/json"}, error_body(message, "tokens", "rate_limit_exceeded"))


def go_duration(seconds: float) -> str:
    """Seconds as OpenAI writes them: "6m0s", "1.5s", "12ms"."""
    if seconds < 1:
        return f"{ceil(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    return f"{minutes:.0f}m{rest:g}s" if minutes else f"{rest:g}s"
