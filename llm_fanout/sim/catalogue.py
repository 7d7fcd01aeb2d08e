"""Every error that a provider is known to answer with, by name: one row each, in the shape of the provider that says it.

A row's texts may hold what is said of the time to wait:

    $seconds       "1", or "0.4" where a prompt asks for so little
    $milliseconds  "400"
    $duration      "400ms", "1.5s", "6m0s"
    $instant       RFC 3339, the next whole second
    $date          HTTP date, the next whole second

Rows are named for the status, and what sets them apart from others of that status; a bare number is the plainest of them,
or any of `MIXED`. Sources, read 2026-11: the guides to errors and rate limits of the provider that a comment names.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from string import Template

from .wording import (
    CLOUDFLARE,
    HTML,
    JSON,
    ErrorAnswer,
    anthropic_error,
    azure_error,
    cloudflare_page,
    fastapi_error,
    go_duration,
    google_error,
    http_date,
    litellm_error,
    llamacpp_error,
    mistral_error,
    nginx_page,
    openai_error,
    openrouter_error,
    quota_failure,
    retry_info,
    rfc3339,
)


@dataclass(frozen=True, slots=True)
class Row:
    """One error.

    Attributes:
        meaning: What has happened, in a line.
        status: Of HTTP.
        body: As it is sent, but for the time to wait.
        headers: Beside the type of the content, which is JSON if they do not name it.
        wait: Seconds that it says, where it says any and the request does not ask for others.
    """

    meaning: str
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    wait: float = 1.0


def _gemini_error(quota: str) -> bytes:
    # Gemini "Rate limits"; google-gemini/gemini-cli#8437 has such a body
    message = "You exceeded your current quota, please check your plan and billing details."
    return google_error(429, "RESOURCE_EXHAUSTED", message, quota_failure(quota), retry_info("${seconds}s"))


# OpenAI "Rate limits" and "Error codes"; the messages as users quote them
RPM = openai_error(
    "Rate limit reached for gpt-sim on requests per min (RPM): Limit 5000.", "requests", "rate_limit_exceeded"
)
VAGUE = openai_error("Too many requests. Please try again later.", "rate_limit_error", None)
SERVER = openai_error("The server had an error while processing your request. Sorry about that!", "server_error", None)
REQUEST = {"request-id": "req_simulated"}  # Anthropic "Errors": every answer has it, in the body, too
FULL = {"x-ratelimit-limit-requests": "5000", "x-ratelimit-limit-tokens": "2000000"}

ROWS: Mapping[str, Row] = {
    # A rate limit, and when to come back. OpenAI, but where another is named.
    "429-retry-after": Row("a rate limit that names whole seconds", 429, RPM, {"retry-after": "$seconds"}),
    "429-retry-after-ms": Row(
        "a rate limit that names milliseconds, too", 429, RPM, {"retry-after-ms": "$milliseconds", "retry-after": "$seconds"}
    ),
    # RFC 9110, 10.2.3: a date is as good as a number
    "429-date": Row("a rate limit that names a date", 429, RPM, {"retry-after": "$date"}),
    # The reset of tokens, of which enough are left, is the time until full: not one to wait for
    "429-reset": Row(
        "a rate limit whose headers say which quota is used up, and when it is reset",
        429,
        VAGUE,
        FULL
        | {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "$duration"}
        | {"x-ratelimit-remaining-tokens": "1999000", "x-ratelimit-reset-tokens": "6m0s"},
    ),
    # Anthropic "Rate limits"
    "429-anthropic": Row(
        "Anthropic's rate limit, which names the instant of the reset",
        429,
        anthropic_error(
            "This request would exceed your organization's rate limit of 4,000 requests per minute.", "rate_limit_error"
        ),
        REQUEST
        | {
            "anthropic-ratelimit-requests-limit": "4000",
            "anthropic-ratelimit-requests-remaining": "0",
            "anthropic-ratelimit-requests-reset": "$instant",
        },
    ),
    "429-gemini-minute": Row(
        "Gemini's limit of a minute, which names the wait in the body",
        429,
        _gemini_error("GenerateRequestsPerMinutePerProjectPerModel"),
    ),
    # Its RetryInfo names seconds all the same: gke-labs/gemini-for-kubernetes-development#1215, langgenius/dify#19838
    "429-gemini-day": Row(
        "Gemini's limit of a day, which names seconds although it lasts until tomorrow",
        429,
        _gemini_error("GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
    ),
    # A rate limit that does not say when
    "429-rate": Row("a rate limit that does not say when", 429, RPM),
    "429-bare": Row("a refusal that says nothing", 429, b'{"error": "Too Many Requests"}'),
    "429-nginx": Row("a proxy's page in the place of a rate limit", 429, nginx_page(429), HTML),
    # BerriAI/litellm: what it says of a provider's refusal, without the provider's headers
    "429-litellm": Row(
        "LiteLLM's rate limit, from which all hints are lost",
        429,
        litellm_error("litellm.RateLimitError: OpenAIException - Too Many Requests", "throttling_error", 429),
    ),
    # mistralai: quoted in cline/cline#9085, raycast/extensions#31107
    "429-mistral": Row("Mistral's rate limit", 429, mistral_error("Rate limit exceeded", "rate_limited", "1300")),
    # Azure "Quotas and limits": -1 is for what it does not know
    "429-azure": Row(
        "Azure's rate limit, whose headers say -1 of everything",
        429,
        azure_error("Rate limit is exceeded. Try again later.", "429"),
        dict.fromkeys(
            (f"x-ratelimit-{what}-{unit}" for what in ("limit", "remaining", "reset") for unit in ("requests", "tokens")),
            "-1",
        ),
    ),
    "429-garbage": Row("a Retry-After that is no time", 429, VAGUE, {"retry-after": "soon"}),
    "429-negative": Row("a Retry-After below zero", 429, VAGUE, {"retry-after": "-5"}),
    "429-nan": Row("a Retry-After that is not a number", 429, VAGUE, {"retry-after": "nan", "retry-after-ms": "nan"}),
    # Too many at once, or too much going on
    # BerriAI/litellm, parallel_request_limiter_v3: the wait is the window's, although a place is free when a call ends
    "429-parallel": Row(
        "too many calls at once",
        429,
        litellm_error(
            "Rate limit exceeded for api_key: simulated. Limit type: max_parallel_requests. Current limit: 4, Remaining: 0.",
            "None",
            429,
        ),
        {"retry-after": "$seconds"},
    ),
    "429-slow-down": Row(
        "OpenAI asks for a slower start",
        429,
        openai_error("Slow down: your rate rose too fast.", "rate_limit_error", "slow_down"),
    ),
    "503-slow-down": Row(
        "OpenAI asks for a slower start, as a failure",
        503,
        openai_error("Slow down: your rate rose too fast.", "service_unavailable_error", "slow_down"),
    ),
    # Anthropic "Errors"
    "529": Row("Anthropic is overloaded", 529, anthropic_error("Overloaded", "overloaded_error"), REQUEST),
    # Groq "API error codes"
    "498": Row(
        "Groq's flex tier is full",
        498,
        openai_error("Flex tier capacity exceeded.", "invalid_request_error", "capacity_exceeded"),
    ),
    # Nothing left to pay with. OpenAI "Error codes": the type is insufficient_quota whatever the code
    "insufficient_quota": Row(
        "OpenAI's quota is used up, as it was said for years",
        429,
        openai_error("You exceeded your current quota.", "insufficient_quota", "insufficient_quota"),
    ),
    "credit_balance_exhausted": Row(
        "the prepaid credit is used up",
        429,
        openai_error("You have no prepaid credits remaining.", "insufficient_quota", "credit_balance_exhausted"),
    ),
    "spend_limit": Row(
        "the spend limit of the organization is reached",
        429,
        openai_error("You reached your spend limit.", "insufficient_quota", "organization_spend_limit_exceeded"),
    ),
    "usage_limit": Row(
        "the usage limit of the organization is reached",
        429,
        openai_error("You reached your usage limit.", "insufficient_quota", "organization_usage_limit_exceeded"),
    ),
    # Anthropic "Rate limits", spend limits
    "429-anthropic-spend": Row(
        "Anthropic's spend limit is reached until the month ends",
        429,
        anthropic_error("You have reached your spend limit.", "rate_limit_error", error_code="enforced_spend_limit_reached"),
        REQUEST,
    ),
    # OpenRouter "Limits" and "Errors": limit_source says whose budget it is
    "402": Row(
        "OpenRouter's credits are used up",
        402,
        openrouter_error("Insufficient credits.", 402, reason="payment_required", limit_source="openrouter_credits"),
    ),
    "402-in-flight": Row(
        "what is under way has used up OpenRouter's credits for now",
        402,
        openrouter_error(
            "Your requests in flight use up your balance.",
            402,
            reason="in_flight_budget_exhausted",
            limit_source="openrouter_in_flight_budget",
        ),
        {"retry-after": "$seconds"},
    ),
    "402-too-large": Row(
        "this call by itself costs more than OpenRouter's balance",
        402,
        openrouter_error(
            "This request costs too much.", 402, reason="weight_exceeds_budget", limit_source="openrouter_credits"
        ),
    ),
    "403-budget": Row(
        "the limit of OpenRouter's key is reached",
        403,
        openrouter_error("Budget limit exceeded.", 403, limit_source="openrouter_key_limit", limit_usd=5, spend_usd=5),
    ),
    # It will never fit. OpenAI and Groq: vanna-ai/vanna-flask#11, continuedev/continue#10218
    "429-too-large": Row(
        "a request larger than the whole limit",
        429,
        openai_error(
            "Request too large for gpt-sim on tokens per min (TPM): Limit 30000, Requested 34307.",
            "tokens",
            "rate_limit_exceeded",
        ),
    ),
    "413-too-large": Row(
        "a request larger than Groq's whole limit",
        413,
        openai_error(
            "Request too large for model `sim` on tokens per minute (TPM): Limit 12000, Requested 14137.",
            "tokens",
            "rate_limit_exceeded",
        ),
    ),
    # Anthropic "Errors": more than 32 MB; Cloudflare says it
    "413": Row(
        "a request of too many bytes",
        413,
        anthropic_error("Request exceeds the maximum allowed number of bytes.", "request_too_large"),
        REQUEST,
    ),
    "400-context": Row(
        "a prompt longer than OpenAI's context",
        400,
        openai_error(
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 150002 tokens.",
            "invalid_request_error",
            "context_length_exceeded",
        ),
    ),
    "400-prompt-too-long": Row(
        "a prompt longer than Anthropic's context",
        400,
        anthropic_error("prompt is too long: 210000 tokens > 200000 maximum", "invalid_request_error"),
        REQUEST,
    ),
    # ggml-org/llama.cpp#15780
    "400-llamacpp": Row(
        "a prompt longer than llama.cpp's context",
        400,
        llamacpp_error(
            "the request exceeds the available context size, try increasing it",
            "exceed_context_size_error",
            400,
            n_prompt_tokens=14429,
            n_ctx=8192,
        ),
    ),
    # The server fails
    "500": Row("the server fails", 500, SERVER),
    "502": Row("a proxy got nothing of use from the server", 502, nginx_page(502), HTML),
    "503": Row(
        "the server is overloaded",
        503,
        openai_error("The engine is currently overloaded, please try again later.", "server_error", None),
    ),
    # ggml-org/llama.cpp, server README, /health
    "503-loading": Row("llama.cpp is loading its model", 503, llamacpp_error("Loading model", "unavailable_error", 503)),
    "504": Row("a proxy waited too long for the server", 504, nginx_page(504), HTML),
    **{
        str(status): Row(f"Cloudflare says: {title[0].lower()}{title[1:]}", status, cloudflare_page(status), HTML)
        for status, title in CLOUDFLARE.items()
    },
    "599": Row("a failure that nobody knows", 599, nginx_page(599), HTML),
    # Try again soon: `_should_retry` of the openai SDK; 425 is RFC 8470, 499 is in Groq "API error codes"
    "408": Row("the request took too long to arrive", 408, openai_error("Request timeout.", "timeout", None)),
    "409": Row("the request was in conflict with another", 409, openai_error("Conflict.", "conflict", None)),
    "425": Row("the request came too early", 425, nginx_page(425), HTML),
    "499": Row("the request was cancelled over there", 499, openai_error("Request cancelled.", "request_cancelled", None)),
    # openai SDK, `_should_retry`: this header overrules everything
    "should-retry-true": Row(
        "an error that the server says may pass",
        400,
        openai_error("The request could not be read.", "invalid_request_error", None),
        {"x-should-retry": "true"},
    ),
    "should-retry-false": Row("a failure that the server says will stay", 500, SERVER, {"x-should-retry": "false"}),
    # This key, this model or this address will not do. OpenAI, but where another is named
    "401": Row(
        "the key is wrong", 401, openai_error("Incorrect API key provided.", "invalid_request_error", "invalid_api_key")
    ),
    "403-region": Row(
        "the caller's country is not served",
        403,
        openai_error(
            "Country, region, or territory not supported", "request_forbidden", "unsupported_country_region_territory"
        ),
    ),
    # Anthropic "Errors"
    "403-permission": Row(
        "the key may not do this",
        403,
        anthropic_error("Your API key does not have permission to use the specified resource.", "permission_error"),
        REQUEST,
    ),
    "404-model": Row(
        "there is no such model",
        404,
        openai_error(
            "The model `gpt-sim` does not exist or you do not have access to it.", "invalid_request_error", "model_not_found"
        ),
    ),
    "404-url": Row(
        "the base URL is wrong",
        404,
        openai_error("Invalid URL (POST /v1/v1/chat/completions)", "invalid_request_error", None),
    ),
    # vLLM and others, by way of their framework
    "405": Row("the address takes no POST", 405, fastapi_error("Method Not Allowed"), {"allow": "GET"}),
    # A redirect that is followed would carry the key to wherever it leads; port 9 is discard, where nobody listens
    "307": Row("the address has moved", 307, nginx_page(307), HTML | {"location": "http://127.0.0.1:9/v1/chat/completions"}),
    "415": Row(
        "the address takes no JSON",
        415,
        openai_error("Unsupported content type: 'application/json'.", "invalid_request_error", "unsupported_content_type"),
    ),
    # What was asked may not be
    # OpenRouter "Errors", moderation
    "403-moderation": Row(
        "OpenRouter's moderation has flagged the prompt",
        403,
        openrouter_error(
            "Your chosen model requires moderation and your input was flagged",
            403,
            reasons=["violence"],
            flagged_input="...",
            provider_name="OpenAI",
            model_slug="sim",
        ),
    ),
    # Azure "Content filtering"
    "400-filter": Row(
        "Azure's filter has refused the prompt",
        400,
        azure_error(
            "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
            "content_filter",
            param="prompt",
            type=None,
            status=400,
            innererror={
                "code": "ResponsibleAIPolicyViolation",
                "content_filter_result": {"violence": {"filtered": True, "severity": "high"}},
            },
        ),
    ),
    "400": Row("the request is not valid", 400, openai_error("The request is not valid.", "invalid_request_error", None)),
    "418": Row("an error that nobody knows", 418, fastapi_error("I'm a teapot")),
    "422": Row(
        "the request has a field that it must not have",
        422,
        fastapi_error([{"type": "extra_forbidden", "loc": ["body", "n"], "msg": "Extra inputs are not permitted"}]),
    ),
}

# Statuses that are said in several ways of which none is the plainest: such a fault is any of these, each as often.
MIXED: Mapping[str, tuple[str, ...]] = {
    "429": ("429-retry-after-ms", "429-rate"),
    "403": ("403-permission", "403-region"),
    "404": ("404-model", "404-url"),
}

# From the name of a fault that is answered with an error to its meaning, in a line.
ERRORS: dict[str, str] = {
    **{name: f"any of {', '.join(names)}" for name, names in MIXED.items()},
    **{name: row.meaning for name, row in ROWS.items()},
}


def error_answer(fault: str, draw: random.Random, wait: float | None = None) -> ErrorAnswer:
    """How a provider says `fault`, one of `ERRORS`.

    Args:
        draw: Decides between several ways to say it.
        wait: Seconds to come back after, where it says any; None for its own.
    """
    row = ROWS[draw.choice(MIXED[fault]) if fault in MIXED else fault]
    said = _said_of(row.wait if wait is None else wait, time.time())
    headers = {name: Template(value).safe_substitute(said) for name, value in row.headers.items()}
    return ErrorAnswer(row.status, {**JSON, **headers}, Template(row.body.decode()).safe_substitute(said).encode())


def _said_of(wait: float, wall: float) -> dict[str, str]:
    """What is said of `wait` seconds from `wall`, in seconds since the epoch."""
    return {
        "seconds": f"{wait:g}",
        "milliseconds": str(ceil(wait * 1000)),
        "duration": go_duration(wait),
        "instant": rfc3339(wall + wait),
        "date": http_date(wall + wait),
    }
