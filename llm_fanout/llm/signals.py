"""What a provider did, and what follows: one table for every lane.

The order of the rules: the body's own code or type first (a 429 may be an empty account), then the status. Headers say only
how long to wait. Nothing else in the package looks at a status code.

Sources, read 2026-11: the providers' error guides, and `_should_retry` of the openai SDK 3.54. The reactions to each row:

    kind    what the error is called, and with it its class
    again   which retries it may use up
    gate    whether everybody on the quota waits, not this call alone
    shrink  whether fewer calls should be under way at once
    spent   whether the reserved tokens may have been used (they are kept then), or surely not
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any

from ..core.quota import Cost
from ..core.retry import Again
from ..core.schedule import Outcome
from ..errors import ERROR_OF_KIND, Kind

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reaction:
    """One row's right-hand side."""

    kind: Kind
    again: Again = Again.NO
    gate: bool = False
    shrink: bool = False
    spent: bool = False


WAIT = Reaction("rate_limited", Again.PUSHBACK, gate=True, shrink=True)
BUSY = Reaction("rate_limited", Again.PUSHBACK, shrink=True)
SERVER = Reaction("server", Again.TRANSIENT)
TIMEOUT = Reaction("timeout", Again.TRANSIENT, spent=True)  # a call we stop waiting for goes on over there, and is billed
CONNECTION = Reaction("connection", Again.TRANSIENT)
CUT = Reaction("connection", Again.TRANSIENT, spent=True)  # cut in the middle of an answer
INVALID = Reaction("invalid")
AUTH = Reaction("auth")
CREDIT = Reaction("credit")
TOO_LARGE = Reaction("too_large")
FILTERED = Reaction("filtered", spent=True)
REFUSAL = Reaction("refusal", spent=True)
MALFORMED = Reaction("malformed", Again.BAD_REPLY, spent=True)
EMPTY = Reaction("empty", Again.BAD_REPLY, spent=True)
TRUNCATED = Reaction("truncated", Again.BAD_REPLY, spent=True)
OUR_FAULT = Reaction("exception")

# The body's `error.code`, or its `error.type`.
CODES: dict[str, Reaction] = {
    "insufficient_quota": CREDIT,
    "billing_hard_limit_reached": CREDIT,
    "billing_not_active": CREDIT,
    "credit_balance_exhausted": CREDIT,
    "context_length_exceeded": TOO_LARGE,
    "exceed_context_size_error": TOO_LARGE,  # llama.cpp
    "string_above_max_length": TOO_LARGE,
    "content_filter": Reaction("filtered"),
    "content_policy_violation": Reaction("filtered"),
    "invalid_api_key": AUTH,
    "slow_down": BUSY,
    "overloaded_error": BUSY,
}

STATUSES: dict[int, Reaction] = {
    401: AUTH,
    402: CREDIT,
    403: AUTH,
    408: SERVER,
    409: SERVER,
    413: TOO_LARGE,
    425: SERVER,
    429: WAIT,
    498: BUSY,  # Groq: capacity exceeded
    499: SERVER,
    529: BUSY,  # Anthropic: overloaded
}

# Exceptions by class name, looked up along the class's ancestors and then along the chain of causes. Names, so that no
# library is imported to ask: aiohttp's first, then those that httpx and httpx2 share, then the standard library's.
EXCEPTIONS: dict[str, Reaction] = {
    "ReplyTooLarge": Reaction("malformed", spent=True),  # ours, of the wire; asking again would cost as much again
    "ConnectionTimeoutError": CONNECTION,
    "ServerTimeoutError": TIMEOUT,
    "ClientConnectorError": CONNECTION,
    "ClientPayloadError": CUT,
    "ServerDisconnectedError": CONNECTION,
    "ClientOSError": CONNECTION,
    "InvalidURL": INVALID,
    "InvalidUrlClientError": INVALID,
    "ClientError": CONNECTION,
    "ConnectTimeout": CONNECTION,
    "PoolTimeout": CONNECTION,
    "TimeoutException": TIMEOUT,
    "RemoteProtocolError": CUT,
    "ReadError": CUT,
    "TransportError": CONNECTION,
    "UnsupportedProtocol": INVALID,
    "APIResponseValidationError": MALFORMED,
    "JSONDecodeError": MALFORMED,
    "UnicodeDecodeError": MALFORMED,
    "TimeoutError": TIMEOUT,
    "OSError": CONNECTION,
}
# The SDK's own classes are asked last: over its aiohttp backend every broken connection is an APITimeoutError.
WRAPPERS: dict[str, Reaction] = {"APITimeoutError": TIMEOUT, "APIConnectionError": CONNECTION}


def of_answer(status: int, headers: Headers, body: bytes) -> Outcome:
    """What follows from an answer that is an error.

    Args:
        status: The HTTP status; 200 for an answer that carries an `error` object.
        headers: As they came; names in any case.
        body: As it came: JSON in one of the providers' shapes, HTML, or nothing.
    """
    error = _error_in(body)
    lower = {name.lower(): value for name, value in headers.items()}
    reaction = _obeying(lower.get("x-should-retry"), _reaction_to(status, error))
    told = told_wait(lower, time.time()) if reaction.again is not Again.NO else None
    return outcome_of(reaction, f"{status} from the provider: {_message_in(error, body)}", status=status, told=told)


def of_exception(exc: BaseException) -> Outcome:
    """What follows from a call that ended without an answer.

    The exception itself is not kept: those of HTTP libraries and SDKs hold the request, and with it the API key.
    """
    chain = _chain(exc)
    reaction = _known(chain, EXCEPTIONS) or _known(chain, WRAPPERS) or OUR_FAULT
    return outcome_of(reaction, " <- ".join(f"{type(each).__name__}: {each}".rstrip(": ") for each in chain))


def timed_out(seconds: float) -> Outcome:
    """What follows from an attempt that took longer than its timeout."""
    return outcome_of(TIMEOUT, f"no answer within {seconds:g} s; raise timeout= if answers need longer")


def outcome_of(
    reaction: Reaction, message: str, *, status: int | None = None, told: float | None = None, partial: str = ""
) -> Outcome:
    """The outcome that says `reaction`, with its error."""
    error = ERROR_OF_KIND[reaction.kind](message, kind=reaction.kind, status=status, retry_after=told, partial=partial)
    used = None if reaction.spent else Cost(tokens=0.0)
    return Outcome(reaction.again, told=told, gate=reaction.gate, shrink=reaction.shrink, used=used, error=error)


def told_wait(headers: Headers, wall: float) -> float | None:
    """Seconds that a refusal's headers ask to wait; None if they do not say, or say nonsense.

    Args:
        headers: Names in lower case.
        wall: Seconds since the epoch, for waits that are given as a date.

    `retry-after-ms`, then `retry-after` (seconds or an HTTP date), then the longest reset of the dimensions whose
    remaining count is 0. A reset while something remains is the time until full, and says nothing about this call.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    after = headers.get("retry-after")
    if after is not None:
        seconds = _number(after)
        return seconds if seconds is not None else _until(after, wall)
    resets = [
        wait
        for dimension in ("requests", "tokens")
        if _number(headers.get(f"x-ratelimit-remaining-{dimension}")) == 0
        and (wait := duration(headers.get(f"x-ratelimit-reset-{dimension}", ""))) is not None
    ]
    return max(resets, default=None)


_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


def duration(text: str) -> float | None:
    """Seconds of "6m0s", "1.5s", "12ms" or a bare number; None for anything else."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not text.strip():
        return _number(text)
    days, hours, minutes, seconds, milliseconds = (float(part or 0) for part in match.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if isfinite(value) and value >= 0 else None


def _until(date: str, wall: float) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - wall)
    except (ValueError, OverflowError):
        return None


def _reaction_to(status: int, error: Mapping[str, Any]) -> Reaction:
    for word in (error.get("code"), error.get("type")):
        if isinstance(word, str) and word in CODES:
            return CODES[word]
    if status == 429 and "request too large" in str(error.get("message", "")).lower():
        return TOO_LARGE  # OpenAI says so of a call above the whole minute's tokens: it will never fit
    if status in STATUSES:
        return STATUSES[status]
    if status < 400:
        return MALFORMED  # an error object inside a success, or a redirect, which is not followed
    return SERVER if status >= 500 else INVALID


def _obeying(should_retry: str | None, reaction: Reaction) -> Reaction:
    """The reaction, overruled by `x-should-retry`: the provider knows best whether the same call may work."""
    if should_retry == "false":
        return replace(reaction, again=Again.NO)
    if should_retry == "true" and reaction.again is Again.NO:
        return replace(reaction, again=Again.TRANSIENT)
    return reaction


def _error_in(body: bytes) -> Mapping[str, Any]:
    """The error object in `body`, whatever shape the provider gives it; empty if there is none."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if isinstance(answer, list) and answer:
        answer = answer[0]
    error = answer.get("error", answer) if isinstance(answer, dict) else {}
    return error if isinstance(error, dict) else {"message": error}


MESSAGE_LIMIT = 500


def _message_in(error: Mapping[str, Any], body: bytes) -> str:
    message = error.get("message") or error.get("detail")
    text = message if isinstance(message, str) else body[: 2 * MESSAGE_LIMIT].decode(errors="replace")
    return " ".join(text.split())[:MESSAGE_LIMIT] or "(an empty body)"


def _chain(exc: BaseException) -> list[BaseException]:
    """`exc` and what caused it, outermost first."""
    chain = [exc]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    return chain


def _known(chain: list[BaseException], table: Mapping[str, Reaction]) -> Reaction | None:
    for exc in chain:
        for ancestor in type(exc).__mro__:
            if ancestor.__name__ in table:
                return table[ancestor.__name__]
    return None
