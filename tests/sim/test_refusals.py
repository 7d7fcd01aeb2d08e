"""How a provider refuses what is above a quota."""

from __future__ import annotations

import json
import time
from typing import Any, get_args

import pytest

from llm_fanout.sim.account import Refusal
from llm_fanout.sim.config import Dialect, Hints
from llm_fanout.sim.refusals import refusal_answer

SAID = {"x-said": "so"}
JSON = {"Content-Type": "application/json"}


def refused(
    refusal: Refusal, hints: Hints = "full", dialect: Dialect = "openai", status: int = 429
) -> tuple[dict[str, str], Any]:
    """Headers and body of a refusal, decoded if it is JSON."""
    answer = refusal_answer(refusal, hints, dialect, lambda: SAID)
    assert answer.status == status
    headers, text = dict(answer.headers), answer.body.decode()
    return headers, json.loads(text) if headers["Content-Type"] == "application/json" else text


@pytest.mark.parametrize("dialect", ["openai", "none"])
def test_openai_says_when_to_the_millisecond(dialect: Dialect) -> None:
    """Seconds, milliseconds, words, and the headers that every answer has."""
    headers, body = refused(Refusal("tokens", 600, 10, 1.25), "full", dialect)

    assert headers == {"retry-after": "2", "retry-after-ms": "1250", **JSON, **SAID}
    assert "tokens per min (TPM): Limit 600, Requested 10. Please try again in 1.25s." in body["error"]["message"]
    assert (body["error"]["type"], body["error"]["code"]) == ("tokens", "rate_limit_exceeded")


@pytest.mark.parametrize(("reason", "sort"), [("requests", "call"), ("tokens", "token")])
def test_azure_speaks_of_calls_and_tokens(reason: str, sort: str) -> None:
    """Seconds in the words, milliseconds in the headers, and the status for a code."""
    headers, body = refused(Refusal(reason, 600, 10, 1.25), "full", "azure")

    assert headers == {"retry-after": "2", "retry-after-ms": "1250", **JSON, **SAID}
    assert f"exceeded the {sort} rate limit" in body["error"]["message"]
    assert "Please retry after 2 seconds." in body["error"]["message"]
    assert body["error"]["code"] == "429"


def test_anthropic_says_that_it_is_an_error() -> None:
    """Whole seconds in a header; the words name the limit, and no time."""
    headers, body = refused(Refusal("output_tokens", 600, 10, 1.25), "full", "anthropic")

    assert headers == {"retry-after": "2", **JSON, **SAID}
    assert (body["type"], body["error"]["type"]) == ("error", "rate_limit_error")
    assert body["error"]["message"].endswith("rate limit of 600 output tokens per min.")


def test_groq_speaks_as_openai_but_in_whole_seconds() -> None:
    """OpenAI's words without the milliseconds, and a status of its own for what can never fit."""
    headers, body = refused(Refusal("requests_day", 600, 1, 1.25), "full", "groq")
    _, too_large = refused(Refusal("too_large", 600, 601), "full", "groq", status=413)

    assert headers == {"retry-after": "2", **JSON, **SAID}
    assert "requests per day (RPD): Limit 600, Requested 1. Please try again in 1.25s." in body["error"]["message"]
    assert "Request too large" in too_large["error"]["message"]


@pytest.mark.parametrize(
    ("reason", "quota"),
    [
        ("requests", "GenerateRequestsPerMinutePerProjectPerModel"),
        ("requests_day", "GenerateRequestsPerDayPerProjectPerModel"),
        ("input_tokens", "GenerateContentInputTokensPerModelPerMinute"),
    ],
)
def test_gemini_says_all_in_a_list(reason: str, quota: str) -> None:
    """The quota's name and the delay are details of the error; no header says when."""
    headers, body = refused(Refusal(reason, 10, 1, 1.25), "full", "gemini")

    failure, info = body[0]["error"]["details"]
    assert headers == {**JSON, **SAID}
    assert failure["violations"][0]["quotaId"] == quota
    assert info["retryDelay"] == "1.250s"
    assert "Please retry in 1.25s." in body[0]["error"]["message"]


def test_gemini_names_no_quota_of_calls_at_once() -> None:
    """Nor a delay: nobody knows it."""
    _, body = refused(Refusal("in_flight", 4, 5), "full", "gemini")

    assert body[0]["error"]["details"] == []


def test_mistral_says_little() -> None:
    """A flat error that does not name the quota; whole seconds in a header."""
    headers, body = refused(Refusal("tokens", 600, 10, 1.25), "full", "mistral")

    assert headers == {"retry-after": "2", **JSON, **SAID}
    assert body == {
        "object": "error",
        "message": "Rate limit exceeded",
        "type": "rate_limited",
        "param": None,
        "code": "1300",
    }


def test_openrouter_says_the_instant_of_the_reset() -> None:
    """In milliseconds, in headers that its answers do not have, and the same again in the body."""
    before = time.time()
    headers, body = refused(Refusal("requests", 20, 1, 30.0), "full", "openrouter")

    reset = int(headers["X-RateLimit-Reset"]) / 1000
    assert (headers["X-RateLimit-Limit"], headers["X-RateLimit-Remaining"], headers["retry-after"]) == ("20", "0", "30")
    assert before + 30 <= reset < time.time() + 31
    assert body["error"]["message"] == "Rate limit exceeded: requests-per-min."
    assert body["error"]["metadata"]["headers"]["X-RateLimit-Limit"] == "20"


def test_litellm_names_the_type_of_limit() -> None:
    """Of too many at once it names its whole window, although a place is free as soon as a call ends."""
    rate = refused(Refusal("requests", 20, 1, 30.0), "full", "litellm")
    at_once = refused(Refusal("in_flight", 4, 5), "full", "litellm")

    assert (rate[0]["retry-after"], at_once[0]["retry-after"]) == ("30", "60")
    assert "Limit type: requests. Current limit: 20" in rate[1]["error"]["message"]
    assert "Limit type: max_parallel_requests. Current limit: 4" in at_once[1]["error"]["message"]
    assert rate[1]["error"]["code"] == "429"


@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_one_header_may_be_all(dialect: Dialect) -> None:
    """Told so, every provider says whole seconds in one header and nowhere else."""
    headers, body = refused(Refusal("requests", 60, 1, 0.1), "retry-after", dialect)

    assert headers == {"retry-after": "1", **JSON, **SAID}
    assert "again" not in str(body)
    assert "retry" not in str(body).lower()


@pytest.mark.parametrize("reason", ["requests", "requests_day", "tokens", "input_tokens", "output_tokens", "in_flight"])
@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_bare_refusals_say_nothing(reason: str, dialect: Dialect) -> None:
    """Plain JSON, or a proxy's page: no wait, no reset, no word about what is used up."""
    refusal = Refusal(reason, 60, 1, None if reason == "in_flight" else 1.0)

    plain, page = refused(refusal, "none", dialect), refused(refusal, "nginx", dialect)

    assert plain == (JSON, {"error": "Too Many Requests"})
    assert page[0] == {"Content-Type": "text/html"}
    assert "<title>429</title>" in page[1]


@pytest.mark.parametrize("hints", ["full", "retry-after"])
def test_too_many_at_once_names_the_parameter(hints: Hints) -> None:
    """Nobody knows when another call ends, so it names no wait."""
    headers, body = refused(Refusal("in_flight", 4, 5), hints)

    assert headers == {**JSON, **SAID}
    assert "max_parallel_requests is 4" in body["error"]["message"]


@pytest.mark.parametrize("dialect", ["openai", "azure", "anthropic", "groq", "gemini", "mistral", "openrouter", "none"])
def test_too_many_at_once_has_no_wait_anywhere(dialect: Dialect) -> None:
    """Nor any sign of a rate, which would slow down what is not too fast."""
    headers, body = refused(Refusal("in_flight", 4, 5), "full", dialect)

    assert headers == {**JSON, **SAID}
    assert "per min" not in str(body)


@pytest.mark.parametrize("hints", get_args(Hints))
@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_what_can_never_fit_is_told_so(hints: Hints, dialect: Dialect) -> None:
    """However silent the provider, 'Request too large' is said, for waiting would not help."""
    status = 413 if dialect == "groq" else 429

    headers, body = refused(Refusal("too_large", 600, 601), hints, dialect, status)

    assert headers == JSON
    assert "Request too large for the simulated model: Limit 600, Requested 601." in str(body)
