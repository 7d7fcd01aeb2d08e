"""The table from what a provider did to what is done about it, row by row."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx
import httpx2
import openai
import pytest
from aiohttp import RequestInfo
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.http_exceptions import ContentEncodingError
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from llm_fanout.core.announced import Window
from llm_fanout.core.job import Cost, Outcome
from llm_fanout.core.retry import Again
from llm_fanout.errors import ERROR_OF_KIND, CallError
from llm_fanout.llm import reactions, signals
from llm_fanout.llm.reactions import Reaction
from llm_fanout.llm.wire import ReplyTooLarge, StaleConnection


def error_of(outcome: Outcome) -> CallError:
    assert isinstance(outcome.error, CallError)
    return outcome.error


def says(outcome: Outcome) -> str:
    """The rest of a row: who waits, what is learnt, whether it was paid for, who else may try, what closes (!: at once)."""
    words = [name for name in ("gate", "shrink", "outage") if getattr(outcome, name)]
    words += ["billed"] * (outcome.used is None) + ["elsewhere"] * outcome.elsewhere
    words += [outcome.closes + "!" * outcome.closes_at_once] * bool(outcome.closes)
    return " ".join(words)


def body(**error: Any) -> bytes:
    return json.dumps({"error": error}).encode()


def openai_body(code: str | None = None, kind: str | None = None, message: str = "why") -> bytes:
    return body(message=message, type=kind, param=None, code=code)


def anthropic_body(kind: str, message: str = "why", **details: Any) -> bytes:
    error = {"type": kind, "message": message} | ({"details": details} if details else {})
    return json.dumps({"type": "error", "error": error, "request_id": "req_1"}).encode()


def gemini_body(*quotas: str, delay: str = "27s") -> bytes:
    failure = {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{"quotaId": quota} for quota in quotas],
    }
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    error = {"code": 429, "message": "You exceeded", "status": "RESOURCE_EXHAUSTED", "details": [failure, retry]}
    return json.dumps([{"error": error}]).encode()


def google_body(code: int, message: str, status: str, **detail: str) -> bytes:
    return body(
        code=code, message=message, status=status, details=[{"@type": "type.googleapis.com/google.rpc.ErrorInfo"} | detail]
    )


def openrouter_body(code: int, message: str = "why", **metadata: Any) -> bytes:
    return body(code=code, message=message, metadata=metadata)


def vllm_body(message: str) -> bytes:
    return json.dumps(
        {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}
    ).encode()


NO, TRY, BAD, PUSH = Again.NO, Again.TRANSIENT, Again.BAD_REPLY, Again.PUSHBACK
PER_MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
PER_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
AZURE_FILTER = body(
    message="The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
    type=None, param="prompt", code="content_filter", status=400,
    innererror={"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True}}},
)  # fmt: skip
LITELLM_FILTER = body(
    message="litellm.BadRequestError: AzureException - The response was filtered", type=None, param=None, code="400",
    provider_specific_fields={"innererror": {"code": "ResponsibleAIPolicyViolation"}},
)  # fmt: skip

# Rows: the kind, which tries it uses up, and the rest as `says` tells it.
RATE = ("rate_limited", PUSH, "gate elsewhere")
BUSY = ("rate_limited", PUSH, "shrink elsewhere")
WAIT = ("rate_limited", PUSH, "gate shrink elsewhere")
DAY = ("rate_limited", NO, "elsewhere quota!")
CREDIT = ("credit", NO, "elsewhere credential!")
TOO_LARGE = ("too_large", NO, "elsewhere")
FILTERED = ("filtered", NO, "")
AUTH = ("auth", NO, "elsewhere credential")
NO_MODEL = ("invalid", NO, "elsewhere quota")
WRONG_URL = ("invalid", NO, "elsewhere endpoint")
INVALID = ("invalid", NO, "")
UNREADY = ("server", TRY, "elsewhere")
SERVER = ("server", TRY, "outage elsewhere")
LATE = ("server", TRY, "outage billed elsewhere")
MALFORMED = ("malformed", BAD, "billed elsewhere")
TRUNCATED = ("truncated", BAD, "billed elsewhere")

TOO_MANY = "Rate limit reached for gpt-5 on tokens per min (TPM): Limit 9000, Used 8000, Requested 3000."


@pytest.mark.parametrize(
    ("status", "content", "kind", "again", "rest"),
    [
        # 429 without a time
        (429, b"<html>429 Too Many Requests</html>", *WAIT),
        (429, b"", *WAIT),
        (429, openai_body("rate_limit_exceeded"), *WAIT),
        (429, anthropic_body("rate_limit_error", "Rate limited"), *WAIT),
        (429, b'{"object":"error","message":"Rate limit exceeded","type":"rate_limited","code":"1300"}',
         *WAIT),
        # ... which says that it is about a rate
        (429, openai_body("rate_limit_exceeded", "tokens", TOO_MANY), *RATE),
        (429, openai_body("rate_limit_exceeded", "requests"), *RATE),
        # ... or about calls at once
        (429, openai_body(None, None, "Limit type: max_parallel_requests."), *BUSY),
        (429, openai_body("slow_down", "rate_limit_error"), *BUSY),
        (429, openai_body(None, None, "The engine is currently overloaded"), *BUSY),
        (429, b'{"object":"error","message":"Service tier capacity exceeded for this model."}',
         *BUSY),
        (498, openai_body("capacity_exceeded"), *BUSY),
        (498, b"", *BUSY),
        (503, openai_body("slow_down"), *BUSY),
        (503, openai_body("server_is_overloaded"), *BUSY),
        (503, google_body(503, "The model is overloaded. Please try again later.", "UNAVAILABLE"),
         *BUSY),
        (503, openrouter_body(503, error_type="provider_overloaded"), *BUSY),
        (529, anthropic_body("overloaded_error", "Overloaded"), *BUSY),
        (529, b"", *BUSY),
        # ... or about a day
        (429, openrouter_body(429, "Rate limit exceeded", limit_source="openrouter_free_tier_daily"),
         *DAY),
        (429, openrouter_body(429, "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000"),
         *DAY),
        # an empty account
        (429, openai_body("insufficient_quota", "insufficient_quota"), *CREDIT),
        (429, openai_body(None, "insufficient_quota"), *CREDIT),
        (429, openai_body("credit_balance_exhausted"), *CREDIT),
        (429, openai_body("organization_spend_limit_exceeded"), *CREDIT),
        (429, openai_body("project_usage_limit_exceeded"), *CREDIT),
        (429, openai_body("billing_hard_limit_reached"), *CREDIT),
        (429, anthropic_body("rate_limit_error", error_code="enforced_spend_limit_reached"), *CREDIT),
        (429, openai_body("429", "budget_exceeded", "ExceededBudget: End User=x over budget."), *CREDIT),
        (429, b'{"error": "Your team 16f2 has either used all available credits or reached its monthly spending limit."}',
         *CREDIT),
        (400, anthropic_body("invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
         *CREDIT),
        (400, anthropic_body("invalid_request_error", "You have reached your specified API usage limits. You will"),
         *CREDIT),
        (400, openai_body("400", None, "litellm.BadRequestError: OpenAIException - Budget has been exceeded! Current"),
         *CREDIT),
        (402, b"", *CREDIT),
        (402, b'{"error":{"message":"Insufficient Balance","type":"unknown_error"}}', *CREDIT),
        (402, anthropic_body("billing_error"), *CREDIT),
        (402, openrouter_body(402, limit_source="openrouter_credits"), *CREDIT),
        (403, openrouter_body(403, limit_source="openrouter_key_limit"), *CREDIT),
        (403, openrouter_body(403, limit_source="openrouter_workspace_budget"), *CREDIT),
        (403, openrouter_body(403, limit_source="openrouter_guardrail_budget"), *CREDIT),
        (403, b'{"code":"x","error":"You have run out of credits or need a Grok subscription."}', *CREDIT),
        (403, b'{"statusCode":403,"message":"Out of call volume quota. Quota will be replenished in 01:02:03."}',
         *CREDIT),
        # ... for the moment
        (402, openrouter_body(402, reason="in_flight_budget_exhausted", limit_source="openrouter_in_flight_budget"),
         *WAIT),
        # more than ever fits
        (429, openai_body("rate_limit_exceeded", "tokens", "Request too large (TPM): Limit 10, Requested 20"),
         *TOO_LARGE),
        (429, openai_body(None, "tokens", "Request too large for gpt: Limit 20, Requested 10"), *RATE),
        (429, anthropic_body("rate_limit_error", "Extra usage is required for long context requests."), *TOO_LARGE),
        (402, openrouter_body(402, reason="weight_exceeds_budget", limit_source="openrouter_credits"), *TOO_LARGE),
        (413, b"<html>413 Request Entity Too Large</html>", *TOO_LARGE),
        (413, openai_body(None, "tokens", "on tokens per minute (TPM): Limit 6000, Requested 9000"), *TOO_LARGE),
        (413, anthropic_body("request_too_large"), *TOO_LARGE),
        (400, openai_body("context_length_exceeded", "invalid_request_error"), *TOO_LARGE),
        (400, openai_body("string_above_max_length"), *TOO_LARGE),
        (400, openai_body(None, None, "This model's maximum context length is 8192 tokens, however you"), *TOO_LARGE),
        (400, anthropic_body("invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum"), *TOO_LARGE),
        (400, anthropic_body("invalid_request_error", "input length and `max_tokens` exceed context limit: 178959 + 64000"),
         *TOO_LARGE),
        (400, b'{"error":{"code":400,"message":"...","type":"exceed_context_size_error","n_prompt_tokens":14429}}',
         *TOO_LARGE),
        (500, b'{"error":{"code":500,"message":"...","type":"exceed_context_size_error","n_prompt_tokens":1407}}',
         *TOO_LARGE),
        (400, openai_body(None, None, "the request exceeds the available context size, try increasing it"), *TOO_LARGE),
        (400, vllm_body("This model's maximum context length is 16384 tokens. However, you requested"), *TOO_LARGE),
        (400, vllm_body("The input (61709 tokens) is longer than the model's context length (40960 tokens)."), *TOO_LARGE),
        (400, vllm_body("The decoder prompt (length 10127) is longer than the maximum model length of 8192."), *TOO_LARGE),
        (400, google_body(400, "The input token count (134123) exceeds the maximum number of tokens", "INVALID_ARGUMENT"),
         *TOO_LARGE),
        # moderated
        (400, AZURE_FILTER, *FILTERED),
        (400, LITELLM_FILTER, *FILTERED),
        (400, openai_body("content_policy_violation"), *FILTERED),
        (400, openai_body("invalid_prompt", None, "Invalid prompt: your prompt was flagged as potentially violating our"),
         *FILTERED),
        (400, anthropic_body("invalid_request_error", "Output blocked by content filtering policy"), *FILTERED),
        (403, openrouter_body(403, reasons=["violence"], flagged_input="how...", provider_name="OpenAI"),
         *FILTERED),
        (403, openrouter_body(403, "Request blocked: prompt injection patterns detected", patterns=["ignore all"]),
         *FILTERED),
        # nobody may ask this here
        (401, openai_body("invalid_api_key", "invalid_request_error"), *AUTH),
        (401, anthropic_body("authentication_error"), *AUTH),
        (400, google_body(400, "API key not valid.", "INVALID_ARGUMENT", reason="API_KEY_INVALID"), *AUTH),
        (403, b"forbidden", *AUTH),
        (403, anthropic_body("permission_error"), *AUTH),
        (403, openai_body("unsupported_country_region_territory", "request_forbidden"), *AUTH),
        (403, openai_body("model_not_found", None, "Project `p` does not have access to model `m`"), *NO_MODEL),
        (404, openai_body("model_not_found"), *NO_MODEL),
        (404, anthropic_body("not_found_error", "model: claude-0"), *NO_MODEL),
        (404, b"<html>nginx</html>", *NO_MODEL),
        (400, openai_body("model_decommissioned", "invalid_request_error"), *NO_MODEL),
        (405, b"", *WRONG_URL),
        (415, b"", *WRONG_URL),
        (301, b"", *WRONG_URL),
        (307, b"", *WRONG_URL),
        # the call is at fault
        (400, openai_body("unknown_word"), *INVALID),
        (400, openai_body(None, None, "unknown field: budget has been exceeded! overloaded"), *INVALID),
        (422, b'{"detail": [{"msg": "wrong"}]}', *INVALID),
        (418, b"", *INVALID),
        (451, b"", *INVALID),
        # the server is
        (408, b"", *UNREADY),
        (409, b"", *UNREADY),
        (425, b"", *UNREADY),
        (499, b"", *UNREADY),
        (501, b"", *UNREADY),
        (505, b"", *UNREADY),
        (500, openai_body(None, "server_error"), *SERVER),
        (500, anthropic_body("api_error"), *SERVER),
        (502, b"<html>nginx</html>", *SERVER),
        (503, openai_body(None, "unavailable_error", "Loading model"), *SERVER),
        (503, b"", *SERVER),
        (504, b"", *LATE),
        (520, b"<html>cloudflare</html>", *SERVER),
        (524, b"error code: 524", *LATE),
        (599, b"", *SERVER),
        # a success with an error in it: its own code, if that is known
        (200, openai_body(None, "server_error"), *MALFORMED),
        (200, openai_body("x"), *MALFORMED),
        (200, openrouter_body(502, "Provider returned error"), *MALFORMED),
        (200, openai_body("insufficient_quota"), *CREDIT),
        (200, openrouter_body(429, "Rate limit exceeded", error_type="rate_limit_exceeded"), *WAIT),
        (200, openrouter_body(408, "Your request timed out"), *UNREADY),
        (200, openai_body("429", None, TOO_MANY), *RATE),
        (200, b'{"error":{"code":400,"message":"...","type":"exceed_context_size_error"}}', *TOO_LARGE),
        (200, google_body(503, "The model is overloaded.", "UNAVAILABLE"), *BUSY),
        (101, b"", *MALFORMED),
    ],
)  # fmt: skip
def test_answers(status: int, content: bytes, kind: str, again: Again, rest: str) -> None:
    """The body's word first, then the limit it names, then the status; a row for each known answer."""
    outcome = signals.of_answer(status, {}, content)
    error = error_of(outcome)

    assert (error.kind, outcome.again, says(outcome)) == (kind, again, rest)
    assert (error.status, outcome.told, error.retry_after, outcome.heard) == (status, None, None, True)
    assert type(error) is ERROR_OF_KIND[error.kind]


RESET = {"X-RateLimit-Remaining-Tokens": "0", "X-RateLimit-Reset-Tokens": "6m0s"}
FULL_AGAIN = {"X-RateLimit-Remaining-Tokens": "7", "X-RateLimit-Reset-Tokens": "6m0s"}
ANTHROPIC_RESET = {
    "date": "Mon, 21 Sep 2026 14:13:20 GMT",
    "anthropic-ratelimit-input-tokens-remaining": "0",
    "anthropic-ratelimit-input-tokens-reset": "2026-09-21T14:13:50Z",
}
AZURE_UNKNOWN = {"x-ratelimit-remaining-requests": "-1", "x-ratelimit-remaining-tokens": "-1"}
IN_FLIGHT = openrouter_body(402, reason="in_flight_budget_exhausted", limit_source="openrouter_in_flight_budget")


@pytest.mark.parametrize(
    ("status", "headers", "content", "kind", "again", "told", "rest"),
    [
        (429, {"Retry-After": "2"}, b"", "rate_limited", PUSH, 2.0, "gate elsewhere"),
        (429, {"retry-after-ms": "1500", "retry-after": "9"}, b"", "rate_limited", PUSH, 1.5, "gate elsewhere"),
        (429, {"retry-after": "rubbish"}, b"", "rate_limited", PUSH, None, "gate shrink elsewhere"),
        (429, {"retry-after": "nan"}, b"", "rate_limited", PUSH, None, "gate shrink elsewhere"),
        (429, {"retry-after": "-1"}, b"", "rate_limited", PUSH, None, "gate shrink elsewhere"),
        (429, AZURE_UNKNOWN, b"", "rate_limited", PUSH, None, "gate shrink elsewhere"),
        (429, {"X-RateLimit-Remaining-Requests": "0"}, b"", "rate_limited", PUSH, None, "gate elsewhere"),
        (429, RESET, b"", "rate_limited", PUSH, 360.0, "gate elsewhere"),
        (429, FULL_AGAIN, b"", "rate_limited", PUSH, None, "gate shrink elsewhere"),
        (429, ANTHROPIC_RESET, anthropic_body("rate_limit_error"), "rate_limited", PUSH, 30.0, "gate elsewhere"),
        (429, {}, openai_body(None, "tokens", f"{TOO_MANY} Please try again in 84ms."),
         "rate_limited", PUSH, 0.084, "gate elsewhere"),
        (429, {"retry-after": "60"}, openai_body(None, None, "max_parallel_requests: 4"),
         "rate_limited", PUSH, 60.0, "shrink elsewhere"),
        (429, {"retry-after": "3"}, openai_body("slow_down"), "rate_limited", PUSH, 3.0, "shrink elsewhere"),
        (429, {"retry-after": "3"}, gemini_body(PER_MINUTE), "rate_limited", PUSH, 3.0, "gate elsewhere"),
        (429, {}, gemini_body(PER_MINUTE), "rate_limited", PUSH, 27.0, "gate elsewhere"),
        (429, {}, gemini_body(PER_MINUTE, PER_DAY), "rate_limited", NO, 27.0, "elsewhere quota!"),
        (429, {"retry-after": "3"}, openai_body("insufficient_quota"), "credit", NO, 3.0, "elsewhere credential!"),
        (402, {"Retry-After": "4"}, b"", "rate_limited", PUSH, 4.0, "gate shrink elsewhere"),
        (402, {"Retry-After": "4"}, IN_FLIGHT, "rate_limited", PUSH, 4.0, "gate shrink elsewhere"),
        (402, {"Retry-After": "4"}, openai_body("insufficient_quota"), "credit", NO, 4.0, "elsewhere credential!"),
        (503, {"Retry-After": "5"}, b"", "server", TRY, 5.0, "outage elsewhere"),
        (529, {"Retry-After": "5"}, b"", "rate_limited", PUSH, 5.0, "shrink elsewhere"),
        (401, {"Retry-After": "5"}, b"", "auth", NO, None, "elsewhere credential"),
        (400, RESET, b"", "invalid", NO, None, ""),
        (200, {"Retry-After": "5"}, openrouter_body(429), "rate_limited", PUSH, 5.0, "gate elsewhere"),
    ],
)  # fmt: skip
def test_refusals_with_headers(
    status: int, headers: dict[str, str], content: bytes, kind: str, again: Again, told: float | None, rest: str
) -> None:
    """Headers say how long, and whose limit; what is final names a wait only where waiting helps."""
    outcome = signals.of_answer(status, headers, content)
    error = error_of(outcome)

    assert (error.kind, outcome.again, says(outcome)) == (kind, again, rest)
    assert outcome.told == error.retry_after == told


EVENT_HEADERS = {"content-type": "text/event-stream", "x-ratelimit-limit-requests": "9"}


@pytest.mark.parametrize(
    ("data", "kind", "again", "rest"),
    [
        (anthropic_body("overloaded_error", "Overloaded"), "rate_limited", PUSH, "shrink billed elsewhere"),
        (anthropic_body("rate_limit_error"), "rate_limited", PUSH, "gate shrink billed elsewhere"),
        (anthropic_body("invalid_request_error", "prompt is too long: 9 tokens > 8"), "too_large", NO, "billed elsewhere"),
        (anthropic_body("invalid_request_error"), "invalid", NO, "billed"),
        (anthropic_body("authentication_error"), "auth", NO, "billed elsewhere credential"),
        (anthropic_body("permission_error"), "auth", NO, "billed elsewhere credential"),
        (anthropic_body("not_found_error"), "invalid", NO, "billed elsewhere quota"),
        (anthropic_body("request_too_large"), "too_large", NO, "billed elsewhere"),
        (anthropic_body("api_error", "Internal server error"), *TRUNCATED),
        (openai_body(None, "server_error", "The server had an error"), *TRUNCATED),
        (b'{"error": {"code": 429, "message": "Rate limit exceeded"}, "choices": [{"finish_reason": "error"}]}',
         "rate_limited", PUSH, "gate shrink billed elsewhere"),
        (b'{"error": {"code": 502, "message": "Provider disconnected"}}', *TRUNCATED),
        (b'{"type": "error", "code": "rate_limit_exceeded", "message": "m", "param": null}', "rate_limited", PUSH,
         "gate shrink billed elsewhere"),
        (b'{"type": "response.failed", "response": {"error": {"code": "insufficient_quota", "message": "m"}}}', "credit", NO,
         "billed elsewhere credential!"),
        (b'{"type": "response.failed", "response": {"error": null}}', *TRUNCATED),
        (b"Internal Server Error", *TRUNCATED),
        (b"", *TRUNCATED),
    ],
)  # fmt: skip
def test_error_events(data: bytes, kind: str, again: Again, rest: str) -> None:
    """An error in the middle of a stream is read like a body; the text before it is kept, and was paid for."""
    outcome = signals.of_event(EVENT_HEADERS, data, "half an ans")
    error = error_of(outcome)

    assert (error.kind, outcome.again, says(outcome)) == (kind, again, rest)
    assert (error.partial, error.status) == ("half an ans", 200)
    assert error.message.startswith("an error inside a 200 from the provider: ")


def test_an_error_event_before_any_text_cost_nothing() -> None:
    """A stream that is refused with its first event used no tokens; one that breaks may have."""
    assert signals.of_event({}, anthropic_body("overloaded_error")).used == Cost(tokens=0.0)
    assert signals.of_event({}, b"").used is None


@pytest.mark.parametrize(
    ("kind", "again", "rest"),
    [
        ("truncated", BAD, "billed elsewhere"),
        ("empty", BAD, "billed elsewhere"),
        ("malformed", BAD, "billed elsewhere"),
        ("schema", Again.REPAIR, "billed elsewhere"),
        ("length", NO, "billed"),
        ("refusal", NO, "billed"),
        ("filtered", NO, "billed"),
    ],
)
def test_answers_that_cannot_be_used(kind: Any, again: Again, rest: str) -> None:
    """A success that is none is tried again a few times, unless the same call would end in the same way."""
    announced = {"requests": Window(9)}

    outcome = signals.unusable(kind, "cut\nshort", status=200, partial="half", announced=announced)
    error = error_of(outcome)

    assert (error.kind, outcome.again, says(outcome)) == (kind, again, rest)
    assert (error.status, error.partial, outcome.announced, outcome.told) == (200, "half", announced, None)
    assert error.message.startswith("cut short")
    assert type(error) is ERROR_OF_KIND[error.kind]


def test_silence_has_fewer_calls_at_once_and_may_be_an_outage() -> None:
    """Too late, and a stream in which nothing comes: the provider may be overloaded or down, and goes on at our cost."""
    late, stalled = signals.timed_out(5, "half"), signals.stalled(60, "half")

    for outcome, what in (late, "no answer within 5 s"), (stalled, "nothing of the answer came for 60 s"):
        error = error_of(outcome)
        assert (error.kind, outcome.again, says(outcome)) == ("timeout", TRY, "shrink outage billed elsewhere")
        assert (error.partial, what in error.message) == ("half", True)


@pytest.mark.parametrize("status", [200, 400, 429, 500])
def test_errors_announce_too(status: int) -> None:
    """What an error answer says of the quota is passed on, whatever the error is."""
    headers = {"X-RateLimit-Limit-Tokens": "100", "X-RateLimit-Remaining-Tokens": "7", "X-RateLimit-Reset-Tokens": "9s"}

    assert signals.of_answer(status, headers, b"").announced == {"tokens": Window(100, 7, 9)}
    assert signals.of_answer(status, {}, b"").announced is None


def test_a_refused_call_gives_its_tokens_back() -> None:
    """What the provider surely did not do is not spent: no tokens, and one request."""
    assert signals.of_answer(429, {}, b"").used == Cost(tokens=0.0)


@pytest.mark.parametrize("status", range(200, 300, 33))
def test_a_success_is_a_2xx(status: int) -> None:
    """One place decides what is an answer to the question."""
    assert signals.is_success(status)


@pytest.mark.parametrize("status", [101, 199, 300, 307, 404, 500])
def test_nothing_else_is_a_success(status: int) -> None:
    """A redirect, say, is no answer."""
    assert not signals.is_success(status)


@pytest.mark.parametrize(
    ("status", "said", "kind", "again", "rest"),
    [
        (500, "false", "server", NO, "outage elsewhere"),
        (429, "false", "rate_limited", NO, "gate shrink elsewhere"),
        (400, "false", "invalid", NO, ""),
        (402, "false", "credit", NO, "elsewhere credential!"),
        (400, "true", "invalid", TRY, ""),
        (429, "true", "rate_limited", PUSH, "gate shrink elsewhere"),
        (500, "true", "server", TRY, "outage elsewhere"),
        (500, "maybe", "server", TRY, "outage elsewhere"),
        (401, "true", "auth", TRY, "elsewhere"),
        (402, "true", "credit", TRY, "elsewhere"),
        (404, "true", "invalid", TRY, ""),
    ],
)
def test_x_should_retry_overrules(status: int, said: str, kind: str, again: Again, rest: str) -> None:
    """The provider's own word on whether to try again is obeyed, within the caps; what may work again closes nothing."""
    outcome = signals.of_answer(status, {"X-Should-Retry": said}, b"")

    assert (error_of(outcome).kind, outcome.again, says(outcome)) == (kind, again, rest)


def test_a_refusal_that_must_not_be_retried_still_tells_everybody_to_wait() -> None:
    """`x-should-retry: false` ends the call; the time beside it binds the quota, and is in the result."""
    outcome = signals.of_answer(429, {"X-Should-Retry": "false", "Retry-After": "9"}, b"")

    assert (outcome.again, outcome.told, outcome.gate, error_of(outcome).retry_after) == (NO, 9.0, True, 9.0)


@given(
    st.integers(100, 999),
    st.one_of(
        st.binary(),
        st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)).map(
            lambda x: json.dumps(x).encode()
        ),
    ),
)
def test_no_body_can_break_it(status: int, content: bytes) -> None:
    """Any bytes and any JSON give an outcome with an error whose message is short and on one line."""
    message = error_of(signals.of_answer(status, {}, content)).message

    assert len(message) < 650
    assert message.isprintable()


@pytest.mark.parametrize(
    ("status", "headers", "content", "message"),
    [
        (500, {}, b'[{"error": {"message": "in a list"}}]', "500 from the provider: in a list"),
        (500, {}, b"", "500 from the provider: (an empty body)"),
        (500, {}, b"\x1b[31mred\x07\x00", "500 from the provider: [31mred"),
        (400, {}, openai_body(None, None, "unknown parameter: top_q"), "400 from the provider: unknown parameter: top_q"),
        (401, {}, openai_body("invalid_api_key", None, "Incorrect API key provided."),
         "401 from the provider: Incorrect API key provided; check the API key and what it may be used for"),
        (402, {}, openai_body(None, None, "Insufficient Balance"),
         "402 from the provider: Insufficient Balance; add credit, or raise the limit that is hit"),
        (404, {}, openai_body("model_not_found", None, "The model `gpt-9` does not exist."),
         "404 from the provider: The model `gpt-9` does not exist; "
         "check the model's name, and that base_url is where the API begins"),
        (405, {}, b"Method Not Allowed", "405 from the provider: Method Not Allowed; check base_url"),
        (413, {}, b"", "413 from the provider: (an empty body); shorten the prompt or lower max_tokens"),
        (429, {}, gemini_body(PER_DAY),
         "429 from the provider: You exceeded; wait for the next day, or have its limit raised"),
        (400, {}, AZURE_FILTER,
         "400 from the provider: The response was filtered due to the prompt triggering Azure OpenAI's content "
         "management policy; change the prompt"),
        (200, {}, openai_body(None, None, "try later"), "an error inside a 200 from the provider: try later"),
        (308, {}, b"ignored", "308 from the provider: a redirect, which is not followed; check base_url"),
        (308, {"Location": "https://me:secret@api.example/v2/chat?key=secret#secret"}, b"",
         "308 from the provider: a redirect to https://***@api.example/v2/chat, which is not followed; check base_url"),
        (302, {"Location": "/login\x1b[2J?next=secret"}, b"",
         "302 from the provider: a redirect to /login [2J, which is not followed; check base_url"),
        (403, {}, b"see https://proxy.example/?token=secret&a=1 with Authorization: Bearer sk-0123456789abcdef01",
         "403 from the provider: see https://proxy.example/?token=***&a=*** with Authorization: Bearer ***; "
         "check the API key and what it may be used for"),
    ],
)  # fmt: skip
def test_messages_say_what_happened_and_what_to_do(
    status: int, headers: dict[str, str], content: bytes, message: str
) -> None:
    """The status, the provider's own words without anybody's secrets, and what may help."""
    assert error_of(signals.of_answer(status, headers, content)).message == message


@pytest.mark.parametrize("content", [openai_body(None, None, "x" * 9000), b"x" * 9000, b"[" * 100_000])
def test_messages_are_cut(content: bytes) -> None:
    """A page of HTML, or a prompt that is quoted, is cut at 500 characters."""
    assert len(error_of(signals.of_answer(500, {}, content)).message) == signals.MESSAGE_LIMIT


REQUEST = httpx.Request("POST", "https://api.example")
REQUEST2 = httpx2.Request("POST", "https://api.example")


def wrapped(outer: Exception, cause: Exception) -> Exception:
    outer.__cause__ = cause
    return outer


def certificate_error() -> aiohttp.ClientConnectorCertificateError:
    return aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError("certificate verify failed"))


INFO = RequestInfo(URL("https://api.example"), "POST", CIMultiDictProxy(CIMultiDict()))
KEY: Any = ConnectionKey("api.example", 443, True, True, None, None, None, "api.example")
LOST = ("connection", TRY, "outage elsewhere")
CUT = ("connection", TRY, "outage billed elsewhere")
SILENT = ("timeout", TRY, "shrink outage billed elsewhere")


@pytest.mark.parametrize(
    ("make", "kind", "again", "rest"),
    [
        # connection refused, DNS, TLS
        (lambda: aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "refused")), *LOST),
        (lambda: wrapped(aiohttp.ClientConnectorDNSError(KEY, OSError("x")), socket.gaierror(-2, "x")), *LOST),
        (lambda: aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError("wrong version number")), *LOST),
        (certificate_error, *LOST),
        (lambda: aiohttp.ClientProxyConnectionError(KEY, OSError("x")), *LOST),
        (lambda: aiohttp.ClientHttpProxyError(INFO, (), status=502, message="Bad Gateway"), *LOST),
        (lambda: aiohttp.ConnectionTimeoutError("slow"), *LOST),
        (lambda: httpx.ConnectTimeout("x"), *LOST),
        (lambda: httpx2.ConnectError("x"), *LOST),
        (lambda: wrapped(httpx2.ConnectError("x"), socket.gaierror(-2, "Name or service not known")), *LOST),
        (lambda: OSError("no route to host"), *LOST),
        # reset, or closed before the headers
        (aiohttp.ServerDisconnectedError, *CUT),
        (lambda: aiohttp.ClientOSError(104, "reset"), *CUT),
        (lambda: aiohttp.ClientConnectionResetError("Cannot write to closing transport"), *CUT),
        (lambda: ConnectionResetError("x"), *CUT),
        (lambda: httpx2.RemoteProtocolError("Server disconnected without sending a response."), *CUT),
        # cut in the middle
        (lambda: aiohttp.ClientPayloadError("cut"), *CUT),
        (lambda: httpx2.RemoteProtocolError("peer closed connection without sending complete message body"), *CUT),
        (lambda: httpx.ReadError("x"), *CUT),
        # no answer in time
        (lambda: aiohttp.ServerTimeoutError("slow"), *SILENT),
        (lambda: httpx.ReadTimeout("x"), *SILENT),
        (lambda: httpx2.WriteTimeout("x"), *SILENT),
        (TimeoutError, *SILENT),
        # our own pool
        (lambda: httpx.PoolTimeout("x"), "connection", PUSH, "shrink elsewhere"),
        # an address that is none
        (lambda: aiohttp.InvalidURL("x"), *WRONG_URL),
        (lambda: aiohttp.NonHttpUrlClientError("ftp://x"), *WRONG_URL),
        (lambda: httpx.InvalidURL("x"), *WRONG_URL),
        (lambda: httpx2.UnsupportedProtocol("x"), *WRONG_URL),
        # an answer that cannot be read
        (lambda: ReplyTooLarge("64 MB"), "malformed", NO, "billed elsewhere"),
        (lambda: httpx2.DecodingError("bad gzip"), *MALFORMED),
        (lambda: wrapped(aiohttp.ClientPayloadError("bad gzip"), ContentEncodingError("x")), *MALFORMED),
        (lambda: aiohttp.ClientResponseError(INFO, (), message="Bad status line"), *MALFORMED),
        (lambda: json.JSONDecodeError("bad", "x", 0), *MALFORMED),
        (lambda: UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), *MALFORMED),
        # what the SDK makes of them
        (lambda: openai.APITimeoutError(REQUEST2), *SILENT),
        (lambda: openai.APIConnectionError(request=REQUEST2), *LOST),
        (lambda: wrapped(openai.APITimeoutError(REQUEST2), ConnectionRefusedError("no")), *LOST),
        (lambda: wrapped(openai.APIConnectionError(request=REQUEST2), httpx.ReadTimeout("x")), *SILENT),
        # a bug
        (lambda: RuntimeError("a bug"), "exception", NO, ""),
    ],
)  # fmt: skip
def test_exceptions(make: Callable[[], Exception], kind: str, again: Again, rest: str) -> None:
    """What an HTTP library or the SDK raised, found along its causes; the exception itself is not kept."""
    exc = make()

    outcome = signals.of_exception(exc)
    error = error_of(outcome)

    assert (error.kind, outcome.again, says(outcome)) == (kind, again, rest)
    assert (outcome.told, outcome.heard, error.status, error.retry_after) == (None, False, None, None)
    assert type(exc).__name__ in error.message
    assert error.__cause__ is None


@pytest.mark.parametrize(
    ("exc", "advice"),
    [
        (socket.gaierror(-2, "Name or service not known"), "; check base_url and the network"),
        (certificate_error(), "; check base_url and the trusted certificates"),
        (aiohttp.InvalidURL("nonsense"), "; check base_url"),
    ],
)
def test_an_endpoint_that_cannot_be_reached_says_what_to_check(exc: Exception, advice: str) -> None:
    """A name that nobody knows, a certificate that nobody trusts: likely the address is wrong."""
    assert error_of(signals.of_exception(exc)).message.endswith(advice)


async def ask_over_aiohttp(url: str) -> None:
    async with aiohttp.ClientSession() as session, session.post(url, data=b"question") as response:
        await response.read()


async def ask_over_httpx2(url: str) -> None:
    async with httpx2.AsyncClient() as client:
        await client.post(url, content=b"question")


TLS_HELLO = b"\x16"  # RFC 8446, section 5.1: a handshake's first byte


@asynccontextmanager
async def server_that_says(words: bytes) -> AsyncIterator[str]:
    """The host and port of a server that reads a request, answers with `words` and hangs up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readexactly(1) != TLS_HELLO:
            await reader.readuntil(b"question")
        writer.write(words)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield "{}:{}".format(*server.sockets[0].getsockname())


@pytest.mark.parametrize("ask", [ask_over_aiohttp, ask_over_httpx2])
@pytest.mark.parametrize(
    ("scheme", "words", "kind", "told", "rest"),
    [
        ("http", b"", "connection", 0.0, "outage billed elsewhere"),
        ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "connection", None, "outage billed elsewhere"),
        ("https", b"plain", "connection", None, "outage elsewhere"),
    ],
)
async def test_exceptions_of_real_connections(
    ask: Callable[[str], Awaitable[None]], scheme: str, words: bytes, kind: str, told: float | None, rest: str
) -> None:
    """What the libraries raise: closed before an answer, closed in the middle of one, no TLS where it should be."""
    async with server_that_says(words) as address:
        with pytest.raises((aiohttp.ClientError, httpx2.HTTPError)) as caught:
            await ask(f"{scheme}://{address}/")

    outcome = signals.of_exception(caught.value, first=True)

    assert (error_of(outcome).kind, outcome.told, says(outcome)) == (kind, told, rest)


@pytest.mark.parametrize("ask", [ask_over_aiohttp, ask_over_httpx2])
async def test_a_refused_connection_is_not_tried_again_at_once(ask: Callable[[str], Awaitable[None]]) -> None:
    """Nobody listens: that does not pass within a moment."""
    async with server_that_says(b"") as address:
        pass
    with pytest.raises((aiohttp.ClientError, httpx2.HTTPError)) as caught:
        await ask(f"http://{address}/")

    outcome = signals.of_exception(caught.value, first=True)

    assert (error_of(outcome).kind, outcome.told, says(outcome)) == ("connection", None, "outage elsewhere")


def test_a_connection_that_the_server_had_dropped_is_replaced_at_once() -> None:
    """The first failure of a call, if it is a connection that broke before any answer, costs no wait; the next ones do."""
    reset, cut = aiohttp.ServerDisconnectedError(), aiohttp.ClientPayloadError()

    assert signals.of_exception(reset, first=True).told == 0.0
    assert error_of(signals.of_exception(reset, first=True)).retry_after is None
    assert signals.of_exception(reset).told is None
    assert signals.of_exception(cut, first=True).told is None


def test_a_kept_connection_that_broke_uses_up_no_try() -> None:
    """The first time in a call, and it is no sign of an outage; after that it counts like any other that broke."""
    stale = StaleConnection("x")
    first, later = signals.of_exception(stale, first=True), signals.of_exception(stale)

    assert (first.again, first.told, says(first)) == (PUSH, 0.0, "elsewhere")
    assert (later.again, later.told, says(later)) == (TRY, None, "outage billed elsewhere")


def test_what_had_come_before_a_failure_is_kept() -> None:
    """A stream that breaks keeps its text, and that was paid for, whatever broke."""
    outcome = signals.of_exception(ConnectionResetError("x"), partial="half an ans")

    assert (error_of(outcome).partial, outcome.used) == ("half an ans", None)


@pytest.mark.parametrize(
    "text",
    [
        "Cannot connect to proxy http://user:secret@proxy.example:3128/",
        "https://gate.example/v1?api-key=secret&x=secret",
        f"{'x' * 480} http://user:secret@host.example/",
        "Illegal header value b'Bearer secret-secret-secret\\n'",
    ],
)
def test_exceptions_tell_no_secrets(text: str) -> None:
    """Credentials in URLs and headers that an exception quotes, or its cause does, are not in the message."""
    exc = wrapped(aiohttp.ClientError(text), OSError(text))

    assert "secret" not in error_of(signals.of_exception(exc)).message


@pytest.mark.parametrize(
    "exc",
    [
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ENFILE, "Too many open files in system"),
        OSError("Multiple exceptions: [Errno 24] Too many open files, [Errno 24] Too many open files"),
        wrapped(httpx.ConnectError("x"), OSError(errno.EMFILE, "x")),
        wrapped(OSError("All failed"), ExceptionGroup("x", [OSError(errno.EMFILE, "x"), OSError("x")])),
        wrapped(openai.APIConnectionError(request=REQUEST2), OSError(errno.EMFILE, "x")),
    ],
)
def test_our_own_want_of_files_costs_no_try(exc: Exception) -> None:
    """A process without a free file waits, with fewer calls at once: the other side has done nothing."""
    outcome = signals.of_exception(exc)

    assert (error_of(outcome).kind, outcome.again) == ("connection", Again.PUSHBACK)
    assert (outcome.shrink, outcome.gate, outcome.outage, outcome.used) == (True, False, False, Cost(tokens=0.0))


def test_a_circle_of_causes_ends() -> None:
    """An exception that is its own cause, in the end, is looked at once."""
    one, two = RuntimeError("one"), RuntimeError("two")
    one.__cause__, two.__cause__ = two, one

    assert error_of(signals.of_exception(one)).message == "RuntimeError: one <- RuntimeError: two"


def reactions_in(table: Any) -> list[Reaction]:
    if isinstance(table, Reaction):
        return [table]
    values = table.values() if isinstance(table, Mapping) else table if isinstance(table, tuple) else ()
    return [reaction for value in values for reaction in reactions_in(value)]


def test_every_row_is_sound() -> None:
    """A row names a kind that has a class; what is tried again closes nothing; only what closes may do so at once."""
    rows = [row for name, table in vars(reactions).items() if name.isupper() for row in reactions_in(table)]

    assert {row.kind for row in rows} <= set(ERROR_OF_KIND)
    assert [row for row in rows if row.closes and row.again is not NO] == []
    assert [row for row in rows if row.closes_at_once and not row.closes] == []
    assert {row.again for row in rows if row.retry_now} == {TRY, PUSH}
