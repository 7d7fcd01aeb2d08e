"""What a provider did, and what follows: one table for every lane.

The order of the rules: `x-should-retry`, then the body's own words (a 429 may be an empty account), then the status, and
for a 429 the limit that it names. Nothing else in the package looks at a status code; `hints` reads waits and windows.

Sources, read 2026-11: the providers' error guides, and `_should_retry` of the openai SDK 3.54; a row with another source
names it. The reactions to each row:

    kind    what the error is called, and with it its class
    again   which retries it may use up
    gate    whether everybody on the quota waits, not this call alone
    shrink  whether fewer calls should be under way at once
    outage  whether it would look the same if the provider were down; never so where it answered with a refusal
    spent   whether the reserved tokens may have been used (they are kept then), or surely not
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from errno import EMFILE, ENFILE

from ..core.announced import Announced
from ..core.quota import Cost
from ..core.retry import Again
from ..core.schedule import Outcome
from ..errors import ERROR_OF_KIND, Kind
from . import hints

Headers = hints.Headers

MESSAGE_LIMIT = 500  # characters of the provider's own words in an error


@dataclass(frozen=True, slots=True)
class Reaction:
    """One row's right-hand side."""

    kind: Kind
    again: Again = Again.NO
    gate: bool = False
    shrink: bool = False
    outage: bool = False
    spent: bool = False


RATE = Reaction("rate_limited", Again.PUSHBACK, gate=True)  # so many a minute: it is the pace that was wrong, not the width
BUSY = Reaction("rate_limited", Again.PUSHBACK, shrink=True)  # so many at once: those under way make room by ending
WAIT = Reaction("rate_limited", Again.PUSHBACK, gate=True, shrink=True)  # nobody knows which
SERVER = Reaction("server", Again.TRANSIENT, outage=True)
UNREADY = Reaction("server", Again.TRANSIENT)  # the server is there, and says that it cannot serve this one now
TIMEOUT = Reaction("timeout", Again.TRANSIENT, outage=True, spent=True)  # it goes on over there, and is billed
CONNECTION = Reaction("connection", Again.TRANSIENT, outage=True)
CUT = Reaction("connection", Again.TRANSIENT, outage=True, spent=True)  # cut in the middle of an answer
NO_ROOM = Reaction("connection", Again.PUSHBACK, shrink=True)  # our own pool or files: nothing was sent, no try is used up
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

# What the body says went wrong, in a word: see `_words_of`.
CODES: dict[str, Reaction] = {
    "insufficient_quota": CREDIT,  # OpenAI, as are those without another name
    "billing_hard_limit_reached": CREDIT,
    "billing_not_active": CREDIT,
    "credit_balance_exhausted": CREDIT,
    "context_length_exceeded": TOO_LARGE,
    "string_above_max_length": TOO_LARGE,
    "content_filter": Reaction("filtered"),
    "content_policy_violation": Reaction("filtered"),
    "invalid_api_key": AUTH,
    "slow_down": BUSY,
    "server_is_overloaded": BUSY,
    "exceed_context_size_error": TOO_LARGE,  # llama.cpp
    "overloaded_error": BUSY,  # Anthropic
    "billing_error": CREDIT,  # Anthropic, with 402
    "enforced_spend_limit_reached": CREDIT,  # Anthropic, rate limits page: a 429 until the month ends
    "capacity_exceeded": BUSY,  # Groq, with 498
    "weight_exceeds_budget": TOO_LARGE,  # OpenRouter, limits page, as are the next: this call by itself costs too much
    "openrouter_in_flight_budget": WAIT,  # those under way have to be paid for first
    "openrouter_credits": CREDIT,
    "openrouter_key_limit": CREDIT,
    "openrouter_workspace_budget": CREDIT,
    "openrouter_guardrail_budget": CREDIT,
    "openrouter_free_tier_daily": CREDIT,
}
# OpenAI, error codes page: organization_spend_limit_exceeded, project_usage_limit_exceeded and the like, all with 429
SPENT_UP = ("_spend_limit_exceeded", "_usage_limit_exceeded")

STATUSES: dict[int, Reaction] = {
    401: AUTH,
    402: CREDIT,
    403: AUTH,
    408: UNREADY,
    409: UNREADY,
    413: TOO_LARGE,
    425: UNREADY,
    498: BUSY,  # Groq: capacity exceeded
    499: UNREADY,
    501: UNREADY,  # a server that does not know the method is up; so for 505
    505: UNREADY,
    529: BUSY,  # Anthropic: overloaded
}
# The limit that a 429 names.
LIMITS: dict[hints.LimitHit, Reaction] = {
    "day": CREDIT,  # Gemini quotaId "...PerDay...": its RetryInfo names seconds all the same
    "size": TOO_LARGE,  # OpenAI and Groq "Limit 30000, Requested 34307": it will never fit
    "concurrency": BUSY,  # LiteLLM max_parallel_requests says 60 s, yet the next place is free when a call ends
    "rate": RATE,  # remaining: 0 in the headers, "tokens per min", Gemini quotaId "...PerMinute..."
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
    "PoolTimeout": NO_ROOM,
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
    lower = {name.lower(): value for name, value in headers.items()}
    error, wall = hints.error_in(body), time.time()
    text = hints.text_in(error, body)
    told = hints.told_wait(lower, error, text, wall)
    limit = hints.limit_hit(lower, error, text, wall)
    reaction = _body_says(status, error, text) or _status_says(status, limit, told)
    reaction = _obeying(lower.get("x-should-retry"), reaction)
    return outcome_of(
        reaction,
        f"{status} from the provider: {text[:MESSAGE_LIMIT] or '(an empty body)'}",
        status=status,
        told=None if reaction.again is Again.NO else told,
        announced=hints.announced(lower, wall),
    )


def of_exception(exc: BaseException) -> Outcome:
    """What follows from a call that ended without an answer.

    The exception itself is not kept: those of HTTP libraries and SDKs hold the request, and with it the API key.
    """
    chain = _chain(exc)
    if any(map(_is_out_of_files, chain)):
        reaction = NO_ROOM
    else:
        reaction = _known(chain, EXCEPTIONS) or _known(chain, WRAPPERS) or OUR_FAULT
    return outcome_of(reaction, " <- ".join(f"{type(each).__name__}: {each}".rstrip(": ") for each in chain))


def timed_out(seconds: float) -> Outcome:
    """What follows from an attempt that took longer than its timeout."""
    return outcome_of(TIMEOUT, f"no answer within {seconds:g} s; raise timeout= if answers need longer")


def outcome_of(
    reaction: Reaction,
    message: str,
    *,
    status: int | None = None,
    told: float | None = None,
    partial: str = "",
    announced: Announced | None = None,
) -> Outcome:
    """The outcome that says `reaction`, with its error."""
    return Outcome(
        reaction.again,
        told=told,
        gate=reaction.gate,
        shrink=reaction.shrink,
        outage=reaction.outage,
        announced=announced,
        used=None if reaction.spent else Cost(tokens=0.0),
        error=ERROR_OF_KIND[reaction.kind](message, kind=reaction.kind, status=status, retry_after=told, partial=partial),
    )


def _body_says(status: int, error: hints.Error, text: str) -> Reaction | None:
    """The reaction to the body's own words; None if the table has none of them."""
    for word in _words_of(error):
        if word in CODES:
            return CODES[word]
        if word.endswith(SPENT_UP):
            return CREDIT
    # Gemini "The model is overloaded", OpenAI "The engine is currently overloaded"
    return BUSY if status in (429, 503) and "overloaded" in text.lower() else None


def _words_of(error: hints.Error) -> list[str]:
    """The most precise word first: OpenAI's code is `insufficient_quota` in type, whatever it is that was exceeded."""
    details, metadata = error.get("details"), error.get("metadata")
    anthropic = details.get("error_code") if isinstance(details, dict) else None
    openrouter = (metadata.get("reason"), metadata.get("limit_source")) if isinstance(metadata, dict) else ()
    return [word for word in (error.get("code"), anthropic, *openrouter, error.get("type")) if isinstance(word, str)]


def _status_says(status: int, limit: hints.LimitHit | None, told: float | None) -> Reaction:
    if status == 429 and limit is not None:
        return LIMITS[limit]
    if status == 429:
        # A time without a reason is an instruction to all. Refused again after that, there were too many at once; but one
        # answer cannot know that it is the second.
        return WAIT if told is None else RATE
    if status == 402 and told is not None:
        return WAIT  # OpenRouter: what is under way has used up the balance for now
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


def _chain(exc: BaseException) -> list[BaseException]:
    """`exc` and what caused it, outermost first."""
    chain = [exc]
    while (cause := _cause_of(chain[-1])) is not None and cause not in chain:
        chain.append(cause)
    return chain


def _cause_of(exc: BaseException) -> BaseException | None:
    if isinstance(exc, BaseExceptionGroup):
        return exc.exceptions[0]  # anyio: one for each address that was tried
    return exc.__cause__ or exc.__context__


def _is_out_of_files(exc: BaseException) -> bool:
    """By number, or by what it says: asyncio and aiohttp make one OSError of several, without a number."""
    return isinstance(exc, OSError) and (exc.errno in (EMFILE, ENFILE) or "too many open files" in str(exc).lower())


def _known(chain: list[BaseException], table: Mapping[str, Reaction]) -> Reaction | None:
    for exc in chain:
        for ancestor in type(exc).__mro__:
            if ancestor.__name__ in table:
                return table[ancestor.__name__]
    return None
