"""How a provider speaks of its quotas."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_fanout.sim import SimConfig
from llm_fanout.sim.account import Account, Refusal
from llm_fanout.sim.config import Dialect, Hints
from llm_fanout.sim.dialects import ANNOUNCE, go_duration, refusal_answer, rfc3339

NOON = 1_763_985_600.0  # 2025-11-24 12:00:00 UTC
SAID = {"x-said": "so"}


def announced(dialect: Dialect, **config: Any) -> dict[str, str]:
    """The headers after one request of 30 tokens in and 20 out."""
    account = Account(SimConfig(headers=dialect, **config), now=0.0)
    account.admit(30, 20, 0.0)
    return ANNOUNCE[dialect](account.quotas, 0.0, NOON)


def refused(refusal: Refusal, hints: Hints = "full", dialect: Dialect = "openai") -> tuple[dict[str, str], str]:
    """Headers and body of a refusal."""
    answer = refusal_answer(refusal, hints, dialect, lambda: SAID)
    assert answer.status == 429
    return dict(answer.headers), answer.body.decode()


def test_openai_says_the_time_until_full() -> None:
    """Limit, remaining, and a Go duration, for requests and tokens."""
    assert announced("openai", rpm=60, tpm=600, itpm=600, burst=10) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "9",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "600",
        "x-ratelimit-remaining-tokens": "50",
        "x-ratelimit-reset-tokens": "5s",
    }


def test_azure_says_seconds_and_what_it_does_not_know() -> None:
    """The same names, but the tokens' reset is an integer, and -1 stands for what is unknown."""
    assert announced("azure", rpm=60, tpm=700, otpm=600, burst=10) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "-1",
        "x-ratelimit-reset-requests": "-1",
        "x-ratelimit-limit-tokens": "700",
        "x-ratelimit-remaining-tokens": "66",
        "x-ratelimit-reset-tokens": "5",
    }


def test_anthropic_says_instants_and_both_directions() -> None:
    """Input and output tokens apart, resets as RFC 3339; the day's requests are not announced."""
    said = announced("anthropic", rpm=60, tpm=600, itpm=600, otpm=1_200, rpd=1_000, burst=10)

    assert said == {
        "anthropic-ratelimit-requests-limit": "60",
        "anthropic-ratelimit-requests-remaining": "9",
        "anthropic-ratelimit-requests-reset": "2025-11-24T12:00:01Z",
        "anthropic-ratelimit-tokens-limit": "600",
        "anthropic-ratelimit-tokens-remaining": "50",
        "anthropic-ratelimit-tokens-reset": "2025-11-24T12:00:05Z",
        "anthropic-ratelimit-input-tokens-limit": "600",
        "anthropic-ratelimit-input-tokens-remaining": "70",
        "anthropic-ratelimit-input-tokens-reset": "2025-11-24T12:00:03Z",
        "anthropic-ratelimit-output-tokens-limit": "1200",
        "anthropic-ratelimit-output-tokens-remaining": "180",
        "anthropic-ratelimit-output-tokens-reset": "2025-11-24T12:00:01Z",
    }


@pytest.mark.parametrize(("config", "limit"), [({"rpm": 30}, "43200"), ({"rpm": 30, "rpd": 14_400}, "14400")])
def test_groq_announces_the_requests_of_a_day(config: dict[str, float], limit: str) -> None:
    """`limit-requests` is 1,440 times the minute's, or what was stated for the day; tokens are a minute's."""
    said = announced("groq", tpm=6_000, **config)

    assert said["x-ratelimit-limit-requests"] == limit
    assert said["x-ratelimit-remaining-requests"] == str(int(limit) - 1)
    assert said["x-ratelimit-limit-tokens"] == "6000"


def test_silence_is_a_dialect_too() -> None:
    """A provider may announce nothing."""
    assert announced("none", rpm=60, tpm=600) == {}


def test_remaining_requests_are_whole() -> None:
    """Nine tenths of a request are none: whoever trusts the header is not refused."""
    account = Account(SimConfig(rpm=60, burst=1), now=0.0)
    account.admit(0, 0, 0.0)

    assert ANNOUNCE["openai"](account.quotas, 0.9, NOON)["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize("dialect", ["openai", "azure", "none"])
def test_full_hints_say_when_to_the_millisecond(dialect: Dialect) -> None:
    """Seconds, milliseconds, words, and the headers that every answer has."""
    headers, body = refused(Refusal("tokens", 600, 10, 1.25), "full", dialect)

    assert headers == {"retry-after": "2", "retry-after-ms": "1250", "Content-Type": "application/json", **SAID}
    assert "tokens per min (TPM): Limit 600, Requested 10. Please try again in 1.25s." in body
    assert json.loads(body)["error"]["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize(
    ("hints", "dialect"), [("retry-after", "openai"), ("retry-after", "none"), ("full", "anthropic"), ("full", "groq")]
)
def test_some_providers_know_whole_seconds_only(hints: Hints, dialect: Dialect) -> None:
    """Where so told, and where the provider does so by nature, there is no retry-after-ms."""
    headers, body = refused(Refusal("requests", 60, 1, 0.1), hints, dialect)

    assert headers == {"retry-after": "1", "Content-Type": "application/json", **SAID}
    assert ("try again" in body) == (hints == "full")


@pytest.mark.parametrize("reason", ["requests", "requests_day", "tokens", "input_tokens", "output_tokens", "in_flight"])
def test_bare_refusals_say_nothing(reason: str) -> None:
    """Plain JSON, or a proxy's page: no wait, no reset, no word about what is used up."""
    refusal = Refusal(reason, 60, 1, None if reason == "in_flight" else 1.0)

    plain, page = refused(refusal, "none"), refused(refusal, "nginx")

    assert plain == ({"Content-Type": "application/json"}, '{"error": "Too Many Requests"}')
    assert page[0] == {"Content-Type": "text/html"}
    assert "<title>429</title>" in page[1]


@pytest.mark.parametrize("hints", ["full", "retry-after"])
def test_too_many_at_once_names_the_parameter(hints: Hints) -> None:
    """Nobody knows when another call ends, so it names no wait."""
    headers, body = refused(Refusal("in_flight", 4, 5), hints)

    assert headers == {"Content-Type": "application/json", **SAID}
    assert "max_parallel_requests is 4" in json.loads(body)["error"]["message"]


@pytest.mark.parametrize("hints", ["full", "retry-after", "none", "nginx"])
def test_what_can_never_fit_is_told_so(hints: Hints) -> None:
    """However silent the provider, 'Request too large' is said, for waiting would not help."""
    headers, body = refused(Refusal("too_large", 600, 601), hints)

    assert headers == {"Content-Type": "application/json"}
    assert "Request too large" in body


@pytest.mark.parametrize(("seconds", "text"), [(0.0, "0ms"), (0.0121, "13ms"), (1.5, "1.5s"), (90, "1m30s"), (360, "6m0s")])
def test_go_durations(seconds: float, text: str) -> None:
    """Times are written as OpenAI writes them."""
    assert go_duration(seconds) == text


def test_instants_are_rounded_up() -> None:
    """Whoever waits until then does not come too early."""
    assert rfc3339(NOON + 0.1) == "2025-11-24T12:00:01Z"
