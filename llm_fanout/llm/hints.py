"""What an answer tells: how long to wait, which limit was hit, how much is left, and its body's own words.

Pure: the wall clock comes in as `wall`, seconds since the epoch. Whatever a header or a body holds, nothing here raises, and
every figure that comes out is finite and >= 0; what makes no sense was not said. Headers are looked up, never walked
through: the names are in lower case, and the mapping either ignores case or has its names in lower case too.

Sources, read 2026-11: the providers' pages on rate limits, openai SDK 3.54, LiteLLM's parallel_request_limiter_v3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from ..core.announced import Announced, Dimension, Window

Headers = Mapping[str, str]
Error = Mapping[str, Any]  # the error object of an answer's body; empty if there is none
LimitHit = Literal["day", "size", "concurrency", "rate"]

LONGEST_WAIT = 32 * 86_400.0  # seconds; the longest window that a provider has is a month, so more is nonsense
MOST_UNITS = 1e12  # of a window; LiteLLM says 2**63 - 1 where it means that there is no limit
EPOCH = 1e9  # a bare number from here on is a date: seconds since 1970, as of 2001
EPOCH_MS = 1e11  # and from here on milliseconds since 1970, as of 1973
LATEST = 1e14  # and no date is later: the year 5138
TEXT_LIMIT = 2000  # characters in which a wait or a limit is looked for; Gemini names its wait after 400


class _Names(NamedTuple):
    """The headers of one dimension, and the seconds of its window where the name or the family proves them."""

    dimension: Dimension
    limit: str
    reset: str
    per: float | None


def _names(dimension: Dimension, pattern: str, per: float | None) -> tuple[str, _Names]:
    limit, remaining, reset = (pattern.format(what) for what in ("limit", "remaining", "reset"))
    return remaining, _Names(dimension, limit, reset, per)


# By the header that says what remains: each family has it wherever it has the others, so that an answer without any costs
# one look for each. Where two families speak of one dimension, the first is announced: the one whose quota is nearest.
NAMES: tuple[tuple[str, _Names], ...] = (
    # LiteLLM's own key: its rpm_limit and tpm_limit, in windows of a minute; it names no reset
    _names("requests", "x-ratelimit-api_key-{}-requests", 60.0),
    _names("tokens", "x-ratelimit-api_key-{}-tokens", 60.0),
    # OpenAI, Azure, and Groq, whose requests are per day while its tokens are per minute: the name proves nothing
    _names("requests", "x-ratelimit-{}-requests", None),
    _names("tokens", "x-ratelimit-{}-tokens", None),
    # Anthropic: "tokens" is the most restrictive of the others; RFC 3339
    _names("requests", "anthropic-ratelimit-requests-{}", 60.0),
    _names("tokens", "anthropic-ratelimit-tokens-{}", 60.0),
    _names("input", "anthropic-ratelimit-input-tokens-{}", 60.0),
    _names("output", "anthropic-ratelimit-output-tokens-{}", 60.0),
    # Mistral, today's names (mistralai/client-ts#169; Cerebras has those of tokens too) and the older ones
    _names("requests", "x-ratelimit-{}-req-minute", 60.0),
    _names("tokens", "x-ratelimit-{}-tokens-minute", 60.0),
    (
        "x-ratelimitbysize-remaining-minute",
        _Names("tokens", "x-ratelimitbysize-limit-minute", "ratelimitbysize-reset", 60.0),
    ),
    # OpenRouter, on refusals only: of a minute or of a day; the reset is a date in milliseconds
    _names("requests", "x-ratelimit-{}", None),
)


def announced(headers: Headers, wall: float) -> Announced | None:
    """What the headers say of the quota, one window per dimension; None if they say nothing of use."""
    said: dict[Dimension, Window] = {}
    for dimension, window in _windows(headers, wall):
        said.setdefault(dimension, window)
    return said or None


def told_wait(headers: Headers, error: Error, text: str, wall: float) -> float | None:
    """Seconds that a refusal asks to wait, > 0; None if it does not say, or says nonsense.

    `retry-after-ms`, then `retry-after`, then the longest reset of what is exhausted, then the body. A reset while
    something remains is the time until full, and says nothing about this call.

    A wait of 0 is none, as in the openai SDK: what rounds down to it would have everybody ask again at once, for ever.

    Args:
        error: The error object in the body.
        text: Its message.
    """
    return (
        (_number(headers.get("retry-after-ms"), LONGEST_WAIT * 1000) or 0.0) / 1000
        or _wait(headers.get("retry-after"), headers, wall)
        or max((window.reset or 0.0 for window in _exhausted(headers, wall)), default=None)
        or _retry_delay(error)
        or _wait_in(text)
        or None
    )


def limit_hit(headers: Headers, error: Error, text: str, wall: float) -> LimitHit | None:
    """The limit that a refusal names; None if it names none.

    The body goes first: a 429 on concurrency may come with an exhausted minute beside it. "size" is a call that is above
    the whole limit by itself, "day" a quota that comes back tomorrow.
    """
    quotas = list(_quota_ids(error))
    if any("PerDay" in quota for quota in quotas) or _FREE_DAY.search(text):
        return "day"
    if _is_too_large(text):
        return "size"
    if _CONCURRENCY.search(text):
        return "concurrency"
    named = (
        _RATE.search(text)
        or error.get("type") in _DIMENSIONS
        or any("PerMinute" in quota for quota in quotas)
        or _exhausted(headers, wall)
    )
    return "rate" if named else None


def error_in(body: bytes) -> Error:
    """The error object in `body`, whatever shape the provider gives it; empty if there is none."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if isinstance(answer, list) and answer:
        answer = answer[0]
    if not isinstance(answer, dict):
        return {}
    failed = answer.get("response")  # OpenAI's Responses: the event `response.failed` carries the whole response
    error = (failed if isinstance(failed, dict) and failed.get("error") else answer).get("error", answer)
    return error if isinstance(error, dict) else {"message": error}


def text_in(error: Error, body: bytes) -> str:
    """The message, on one line; of a body without one, the body."""
    message = error.get("message") or error.get("detail")
    return one_line(message if isinstance(message, str) else body[: 2 * TEXT_LIMIT].decode(errors="replace"))


def one_line(text: str) -> str:
    """`text` on one line and not too long of it, without control characters: a terminal would obey them."""
    start = text[: 2 * TEXT_LIMIT]
    if not start.isprintable():
        start = "".join(each if each.isprintable() else " " for each in start)
    return " ".join(start.split())[:TEXT_LIMIT]


def words_in(error: Error) -> list[str]:
    """What went wrong in a word, as each provider calls it, the most precise first; a number is a word, too.

    OpenAI's code is more precise than its type, which is `insufficient_quota` whatever it is that was exceeded.
    """
    metadata = _object(error, "metadata")
    said = (
        error.get("code"),
        _object(error, "innererror").get("code"),  # Azure; LiteLLM passes it on, one level down
        _object(_object(error, "provider_specific_fields"), "innererror").get("code"),
        _object(error, "details").get("error_code"),  # Anthropic
        *(detail.get("reason") for detail in _details(error)),  # Google's ErrorInfo
        *map(metadata.get, ("reason", "limit_source", "error_type")),  # OpenRouter
        error.get("error_type"),  # OpenRouter, where it speaks Anthropic's language
        error.get("type"),
        *metadata,  # OpenRouter: a moderated prompt has `flagged_input`
    )
    return [str(word) for word in said if isinstance(word, str | int)]


def duration(text: str) -> float | None:
    """Seconds of "6m0s", "1.5s", "12ms" or a bare number; None for anything else."""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        return _number(text, LATEST)
    days, hours, minutes, seconds, milliseconds = match.groups()
    total = float(seconds) if seconds else 0.0
    if milliseconds:
        total += float(milliseconds) / 1000
    if minutes:
        total += float(minutes) * 60
    if hours or days:
        total += float(hours or 0) * 3600 + float(days or 0) * 86400
    return total if total <= LATEST else None


_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?", re.ASCII)
# OpenAI "Please try again in 6m0s", Gemini "Please retry in 12.5s", Azure "Please retry after 26 seconds"
_WAIT_IN = re.compile(
    r"(?:try again|retry) (?:in|after) ((?:\d+(?:\.\d+)?(?:ms|[dhms]))+|\d+(?:\.\d+)?(?= ?sec))", re.ASCII | re.IGNORECASE
)
# LiteLLM "Limit type: max_parallel_requests" (its older text names every limit: then too, stop nobody else), OpenRouter
# "in-flight", Anthropic "concurrent connections"
_CONCURRENCY = re.compile(r"max[_ ]parallel|parallel requests|in[-_ ]?flight|concurren", re.IGNORECASE)
# OpenAI "requests per min (RPM)", Anthropic "per-minute rate limit", Azure "token rate limit", LiteLLM "Limit type: tokens"
_RATE = re.compile(
    r"\b(?:[rt]p[smhd]\b|per[-_ ]?(?:sec|min|hour|day)|(?:request|token|call) rate limit|limit type: (?:request|token))",
    re.IGNORECASE,
)
# OpenAI and Groq: "Request too large for gpt-5 on tokens per min (TPM): Limit 30000, Requested 34307"
_FIGURES = re.compile(r"\blimit:? (\d[\d,]*).*?\brequested:? (\d[\d,]*)", re.ASCII | re.IGNORECASE)
_DIMENSIONS = ("requests", "tokens")  # OpenAI's `type` of a refusal
_FREE_DAY = re.compile("free-models-per-day")  # OpenRouter: Gitlawb/openclaude#936


def _windows(headers: Headers, wall: float) -> list[tuple[Dimension, Window]]:
    found = []
    get = headers.get
    for remaining, names in NAMES:
        left = get(remaining)
        if left is not None:
            dimension, limit, reset, per = names
            window = _window(get(limit), left, _wait(get(reset), headers, wall), per)
            if window is not None:
                found.append((dimension, window))
    return found


def _window(most: str | None, left: str, reset: float | None, per: float | None) -> Window | None:
    limit, remaining = _number(most, MOST_UNITS), _number(left, MOST_UNITS)
    if limit:
        return Window(limit, None if remaining is None or remaining > limit else remaining, reset, per)
    if most is not None or remaining is None:
        return None  # Azure says -1 of both, or 0 of both, where it does not know
    return Window(None, remaining, reset, per)


def _exhausted(headers: Headers, wall: float) -> list[Window]:
    return [window for _, window in _windows(headers, wall) if window.remaining == 0]


def _wait(text: str | None, headers: Headers, wall: float) -> float | None:
    """Seconds until what `text` says: a duration, or a date by the clock of the server that wrote it."""
    if not text:
        return None
    wait = None if text[4:5] == "-" else duration(text)  # RFC 3339 begins with its year
    if wait is None or wait >= EPOCH:
        date = _date(text) if wait is None else wait / 1000 if wait >= EPOCH_MS else wait
        if date is None:
            return None
        wait = max(0.0, date - (_date(headers.get("date", "")) or wall))
    return _sane(wait)


@lru_cache(maxsize=64)  # 5 us apiece, and all answers of a second have the same
def _date(text: str) -> float | None:
    """Seconds since the epoch of an RFC 3339 or HTTP date; one without a zone is in UTC."""
    try:
        date = datetime.fromisoformat(text) if text[4:5] == "-" else parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, IndexError, TypeError):  # the last two: email.utils, of texts that are no dates
        return None


def _number(text: str | None, most: float) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= most else None  # nan is neither


def _is_too_large(text: str) -> bool:
    figures = _FIGURES.search(text)
    if figures is None:
        return "request too large" in text.lower()
    limit, requested = (float(figure.replace(",", "")) for figure in figures.groups())
    return requested > limit


def _wait_in(text: str) -> float | None:
    match = _WAIT_IN.search(text)
    return None if match is None else _sane(duration(match[1]))


def _retry_delay(error: Error) -> float | None:
    """Google's RetryInfo: a duration in JSON, such as "27s"."""
    delays = [detail["retryDelay"] for detail in _details(error) if isinstance(detail.get("retryDelay"), str)]
    return _sane(duration(delays[0])) if delays else None


def _quota_ids(error: Error) -> Iterator[str]:
    """Google's QuotaFailure: the names of the quotas that were hit."""
    for detail in _details(error):
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else ():
            quota = violation.get("quotaId") if isinstance(violation, dict) else None
            if isinstance(quota, str):
                yield quota


def _object(error: Error, name: str) -> Error:
    """The object of that name; empty if there is none."""
    value = error.get(name)
    return value if isinstance(value, dict) else {}


def _details(error: Error) -> list[dict[str, Any]]:
    details = error.get("details")
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _sane(wait: float | None) -> float | None:
    return wait if wait is not None and wait <= LONGEST_WAIT else None
