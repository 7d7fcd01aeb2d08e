"""The table: what is done about whatever a provider does. One row a line; `signals` looks them up, and nobody else.

A reaction's columns:

    kind            what the error is called, and with it its class
    again           which retries it may use up
    gate            whether everybody on the quota waits, not this call alone
    shrink          whether fewer calls should be under way at once
    outage          whether it would look the same if the provider were down; never so where it answered with a refusal
    spent           whether the reserved tokens may have been used (they are kept then), or surely not
    retry_now       whether the first failure of a call, if it is this one, is tried again without a wait
    closes          what is of no use any more: this model's quota, all that the credential opens, or the endpoint
    closes_at_once  whether one such answer is proof enough of that, whoever was answered before
    advice          what to do about it, for the end of the message

Sources, read 2026-11: the providers' error guides, and `_should_retry` of the openai SDK 3.54; a row with another source
names it. "owner/repository#1" is an issue on GitHub that quotes the answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..core.retry import Again
from ..errors import ERROR_OF_KIND, Kind
from .hints import LimitHit

Closes = Literal["", "quota", "credential", "endpoint"]
Flaw = Literal["truncated", "empty", "malformed", "schema", "length", "refusal", "filtered"]


@dataclass(frozen=True, slots=True)
class Reaction:
    """One row's right-hand side."""

    kind: Kind
    again: Again = Again.NO
    gate: bool = False
    shrink: bool = False
    outage: bool = False
    spent: bool = False
    retry_now: bool = False
    closes: Closes = ""
    closes_at_once: bool = False
    advice: str = ""

    @property
    def elsewhere(self) -> bool:
        """Whether another endpoint may do better: not where the call itself is at fault."""
        return self.kind not in ITS_OWN_FAULT or bool(self.closes)


ITS_OWN_FAULT: frozenset[Kind] = frozenset({"invalid", "refusal", "filtered", "length", "exception"})

# Come back later.
RATE = Reaction("rate_limited", Again.PUSHBACK, gate=True)  # so many a minute: it is the pace that was wrong, not the width
BUSY = Reaction("rate_limited", Again.PUSHBACK, shrink=True)  # so many at once: those under way make room by ending
WAIT = Reaction("rate_limited", Again.PUSHBACK, gate=True, shrink=True)  # nobody knows which
DAY = Reaction("rate_limited", closes="quota", closes_at_once=True, advice="wait for the next day, or have its limit raised")

# Nothing came, or not all of it.
SERVER = Reaction("server", Again.TRANSIENT, outage=True)  # a burst of them is the breaker's, which stops everything
LATE = Reaction("server", Again.TRANSIENT, outage=True, spent=True)  # a proxy's patience ended; it goes on behind it
UNREADY = Reaction("server", Again.TRANSIENT)  # the server is there, and says that it cannot serve this one now
TIMEOUT = Reaction("timeout", Again.TRANSIENT, shrink=True, outage=True, spent=True)  # it goes on over there, and is billed
CONNECTION = Reaction("connection", Again.TRANSIENT, outage=True)
NO_HOST = Reaction("connection", Again.TRANSIENT, outage=True, advice="check base_url and the network")
NO_TRUST = Reaction("connection", Again.TRANSIENT, outage=True, advice="check base_url and the trusted certificates")
# A kept connection that the server had dropped, or one that broke while it was at work on the answer.
RESET = Reaction("connection", Again.TRANSIENT, outage=True, spent=True, retry_now=True)
STALE = Reaction("connection", Again.PUSHBACK, retry_now=True)  # that for sure, and a call's first failure: costs no try
CUT = Reaction("connection", Again.TRANSIENT, outage=True, spent=True)  # cut in the middle of an answer
NO_ROOM = Reaction("connection", Again.PUSHBACK, shrink=True)  # our own pool or files: nothing was sent, no try is used up

# Never mind asking again.
INVALID = Reaction("invalid")
NO_MODEL = Reaction("invalid", closes="quota", advice="check the model's name, and that base_url is where the API begins")
WRONG_URL = Reaction("invalid", closes="endpoint", advice="check base_url")
AUTH = Reaction("auth", closes="credential", advice="check the API key and what it may be used for")
NO_PASSAGE = Reaction("auth", closes="endpoint", advice="check the login in the proxy's URL")
CREDIT = Reaction("credit", closes="credential", closes_at_once=True, advice="add credit, or raise the limit that is hit")
TOO_LARGE = Reaction("too_large", advice="shorten the prompt or lower max_tokens")
FLAGGED = Reaction("filtered", advice="change the prompt")  # before the model saw it
REPLY_TOO_LARGE = Reaction("malformed", spent=True)  # asking again would cost as much again
OUR_FAULT = Reaction("exception")

# What is wrong with an answer that came as a success.
FLAWS: Mapping[Flaw, Reaction] = {
    "truncated": Reaction("truncated", Again.BAD_REPLY, spent=True),  # it ended without a finish reason
    "empty": Reaction("empty", Again.BAD_REPLY, spent=True),
    "malformed": Reaction("malformed", Again.BAD_REPLY, spent=True),
    "schema": Reaction("schema", Again.REPAIR, spent=True),
    "length": Reaction("length", spent=True, advice="raise max_tokens"),  # cut by max_tokens, so that it breaks its schema
    "refusal": Reaction("refusal", spent=True),
    "filtered": Reaction("filtered", spent=True),
}

# What the body says went wrong, in a word: see `hints.words_in`. Of several words the first that stands here counts.
CODES: Mapping[str, Reaction] = {
    "insufficient_quota": CREDIT,  # OpenAI, as are those without another name
    "billing_hard_limit_reached": CREDIT,
    "billing_not_active": CREDIT,
    "credit_balance_exhausted": CREDIT,
    "context_length_exceeded": TOO_LARGE,
    "string_above_max_length": TOO_LARGE,
    "content_filter": FLAGGED,  # Azure too
    "content_policy_violation": FLAGGED,
    "invalid_api_key": AUTH,
    "model_not_found": NO_MODEL,  # with 403, too: cursor/cursor#2953
    "slow_down": BUSY,
    "server_is_overloaded": BUSY,
    "ResponsibleAIPolicyViolation": FLAGGED,  # Azure's innererror, which LiteLLM passes on: BerriAI/litellm#16231
    "exceed_context_size_error": TOO_LARGE,  # llama.cpp: ggml-org/llama.cpp#15780
    "API_KEY_INVALID": AUTH,  # Gemini, with 400: cequence-io/openai-scala-client#109
    "overloaded_error": BUSY,  # Anthropic
    "billing_error": CREDIT,  # Anthropic, with 402
    "enforced_spend_limit_reached": CREDIT,  # Anthropic, rate limits page: a 429 until the month ends
    "capacity_exceeded": BUSY,  # Groq, with 498
    "model_decommissioned": NO_MODEL,  # Groq, with 400: atiilla/sqlmap-ai#3
    "budget_exceeded": CREDIT,  # LiteLLM, with 400 or 429: BerriAI/litellm#37000
    "weight_exceeds_budget": TOO_LARGE,  # OpenRouter, limits page, as are the next: this call by itself costs too much
    "openrouter_in_flight_budget": WAIT,  # those under way have to be paid for first
    "openrouter_credits": CREDIT,
    "openrouter_key_limit": CREDIT,
    "openrouter_workspace_budget": CREDIT,
    "openrouter_guardrail_budget": CREDIT,
    "openrouter_free_tier_daily": DAY,  # of all models without a price; the others are still to be had
    "string_too_long": TOO_LARGE,  # OpenRouter, typed error codes, as are the next
    "token_limit_exceeded": TOO_LARGE,
    "provider_overloaded": BUSY,
    "flagged_input": FLAGGED,  # OpenRouter, moderation errors, with 403
    "patterns": FLAGGED,  # OpenRouter, guardrail errors, with 403: those of a prompt injection
}
# OpenAI, error codes page: organization_spend_limit_exceeded, project_usage_limit_exceeded and the like, all with 429
SPENT_UP = ("_spend_limit_exceeded", "_usage_limit_exceeded")

_UNPAID = frozenset({400, 402, 403, 429})
_TOO_MUCH = frozenset({400, 413, 422})


def _begins(text: str) -> re.Pattern[str]:
    """For what closes a credential: servers quote prompts, but not before their own words."""
    return re.compile(rf"\A(?:litellm\.\w+: ?|\w+ ?- ?)*(?:{text})", re.IGNORECASE)


def _holds(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


# What the message says, where there is no word for it: the statuses that it comes with, and the text.
TEXTS: tuple[tuple[frozenset[int], re.Pattern[str], Reaction], ...] = (
    (_UNPAID, _begins("your credit balance is too low"), CREDIT),  # Anthropic, with 400: anthropics/claude-code#66314
    (_UNPAID, _begins("you have reached your specified api usage limits"), CREDIT),  # the same: anthropics/claude-code#38035
    (_UNPAID, _begins(r"your team \S+ has either used all"), CREDIT),  # xAI, with 403 or 429: continuedev/continue#10373
    (_UNPAID, _begins("you have run out of credits"), CREDIT),  # xAI, with 403: Wei-Shaw/sub2api#4069
    (_UNPAID, _begins("budget has been exceeded|exceededbudget:"), CREDIT),  # LiteLLM, older: BerriAI/litellm#14144
    (
        _UNPAID,
        _begins("(?:extra usage is|usage credits are) required"),
        TOO_LARGE,
    ),  # Anthropic: anthropics/claude-code#64982
    (_UNPAID, _begins("out of call volume quota"), CREDIT),  # Azure API Management, quota policy, with 403
    (_TOO_MUCH, _holds("maximum context length"), TOO_LARGE),  # vLLM, DeepSeek, OpenAI's embeddings: vllm-project/vllm#20409
    (_TOO_MUCH, _holds("longer than the (?:model's context|maximum model) length"), TOO_LARGE),  # SGLang: QwenLM/Qwen3#1321
    (_TOO_MUCH, _holds("prompt is too long|exceed context limit"), TOO_LARGE),  # Anthropic: docker/docker-agent#569
    (_TOO_MUCH, _holds("exceeds the available context size"), TOO_LARGE),  # llama.cpp, older: continuedev/continue#9797
    (_TOO_MUCH, _holds(r"input token count .{0,20}exceeds"), TOO_LARGE),  # Gemini: google-gemini/gemini-cli#12214
    (_TOO_MUCH, _holds("flagged as potentially violating"), FLAGGED),  # OpenAI invalid_prompt: openai/codex#7250
    (_TOO_MUCH, _holds("blocked by content filtering"), FLAGGED),  # Anthropic: anthropics/claude-code#58367
    (frozenset({429}), _holds("service tier capacity exceeded"), BUSY),  # Mistral: continuedev/continue#6185
    (frozenset({429, 503}), _holds("overloaded"), BUSY),  # Gemini "The model is overloaded", OpenAI "The engine is ..."
)

# The limit that a 429 names.
LIMITS: Mapping[LimitHit, Reaction] = {
    "day": DAY,  # Gemini quotaId "...PerDay...": its RetryInfo names seconds all the same
    "size": TOO_LARGE,  # OpenAI and Groq "Limit 30000, Requested 34307": it will never fit
    "concurrency": BUSY,  # LiteLLM max_parallel_requests says 60 s, yet the next place is free when a call ends
    "rate": RATE,  # remaining: 0 in the headers, "tokens per min", Gemini quotaId "...PerMinute..."
}
STATUSES: Mapping[int, Reaction] = {
    401: AUTH,
    402: CREDIT,
    403: AUTH,  # a region, or a permission
    404: NO_MODEL,
    405: WRONG_URL,
    407: NO_PASSAGE,  # from a proxy
    408: UNREADY,
    409: UNREADY,
    413: TOO_LARGE,
    415: WRONG_URL,
    425: UNREADY,
    498: BUSY,  # Groq: capacity exceeded
    499: UNREADY,  # nginx: its client went away, and that was not us
    501: UNREADY,  # a server that does not know the method is up; so for 505
    504: LATE,
    505: UNREADY,
    524: LATE,  # Cloudflare
    529: BUSY,  # Anthropic: overloaded
}
# The status that a success would have had, by what the error in it is called; OpenRouter and llama.cpp say it as a number.
STATUS_OF: Mapping[str, int] = {
    "rate_limit_exceeded": 429,  # OpenAI
    "invalid_request_error": 400,  # Anthropic, as are the next, in an error event of a stream
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
}

# Exceptions by class name, so that no library is imported to ask. First what is at the bottom of it, whoever wraps it.
CAUSES: Mapping[str, Reaction] = {
    "ReplyTooLarge": REPLY_TOO_LARGE,  # ours, of the wire
    "gaierror": NO_HOST,  # socket.getaddrinfo
    "SSLCertVerificationError": NO_TRUST,
    "ContentEncodingError": FLAWS["malformed"],  # aiohttp: an answer whose compression is broken, or not known here
}
# Then along the class's ancestors: aiohttp's first, those that httpx and httpx2 share, and the standard library's.
EXCEPTIONS: Mapping[str, Reaction] = {
    "ConfigError": OUR_FAULT,  # ours: what is set wrong stays so, whatever was found by it
    "StaleConnection": STALE,  # ours, of the wire
    "ConnectionTimeoutError": CONNECTION,
    "ServerTimeoutError": TIMEOUT,
    "ClientConnectorError": CONNECTION,
    "ClientPayloadError": CUT,
    "ServerDisconnectedError": RESET,  # before the headers; afterwards it is a ClientPayloadError
    "ClientConnectionResetError": RESET,
    "ClientOSError": RESET,
    "ClientHttpProxyError": CONNECTION,
    "ClientResponseError": FLAWS["malformed"],  # what came is no HTTP: somebody is there, and may have done the work
    "InvalidURL": WRONG_URL,
    "NonHttpUrlClientError": WRONG_URL,
    "ClientError": CONNECTION,
    "ConnectTimeout": CONNECTION,
    "PoolTimeout": NO_ROOM,
    "TimeoutException": TIMEOUT,
    "RemoteProtocolError": CUT,
    "ReadError": CUT,  # it does not tell whether the headers had come
    "UnsupportedProtocol": WRONG_URL,
    "TransportError": CONNECTION,
    "DecodingError": FLAWS["malformed"],
    "APIResponseValidationError": FLAWS["malformed"],
    "JSONDecodeError": FLAWS["malformed"],
    "UnicodeDecodeError": FLAWS["malformed"],
    "TimeoutError": TIMEOUT,
    "ConnectionResetError": RESET,
    "ConnectionAbortedError": RESET,
    "BrokenPipeError": RESET,
    "OSError": CONNECTION,
}
# The SDK's own classes are asked last: over its aiohttp backend every broken connection is an APITimeoutError.
WRAPPERS: Mapping[str, Reaction] = {"APITimeoutError": TIMEOUT, "APIConnectionError": CONNECTION}

# Errors of ours that a user's own function raises, by kind; what is not here is final, and closes nothing.
RAISED: Mapping[Kind, Reaction] = {
    **{kind: Reaction(kind) for kind in ERROR_OF_KIND},
    **{flaw.kind: flaw for flaw in FLAWS.values()},
    **{each.kind: each for each in (WAIT, TIMEOUT, CONNECTION, SERVER)},
}
