"""How a provider speaks of its quotas."""

from __future__ import annotations

from typing import Any

import pytest

from llm_fanout.sim import SimConfig
from llm_fanout.sim.account import Account
from llm_fanout.sim.config import Dialect
from llm_fanout.sim.dialects import ANNOUNCE

NOON = 1_763_985_600.0  # 2025-11-24 12:00:00 UTC


def announced(dialect: Dialect, **config: Any) -> dict[str, str]:
    """The headers after one request of 30 tokens in and 20 out."""
    account = Account(SimConfig(headers=dialect, **config), now=0.0)
    account.admit(30, 20, 0.0)
    return ANNOUNCE[dialect](account.quotas, 0.0, NOON)


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


def test_mistral_has_names_of_its_own() -> None:
    """By the minute, without a reset, but for the older names of the tokens."""
    assert announced("mistral", rpm=60, tpm=600, burst=10) == {
        "x-ratelimit-limit-req-minute": "60",
        "x-ratelimit-remaining-req-minute": "9",
        "x-ratelimit-limit-tokens-minute": "600",
        "x-ratelimit-remaining-tokens-minute": "50",
        "x-ratelimitbysize-limit-minute": "600",
        "x-ratelimitbysize-remaining-minute": "50",
        "ratelimitbysize-reset": "5",
    }


def test_litellm_names_the_key_and_no_reset() -> None:
    """Limit and remaining, of the proxy's own key."""
    assert announced("litellm", rpm=60, tpm=600, burst=10) == {
        "x-ratelimit-api_key-limit-requests": "60",
        "x-ratelimit-api_key-remaining-requests": "9",
        "x-ratelimit-api_key-limit-tokens": "600",
        "x-ratelimit-api_key-remaining-tokens": "50",
    }


@pytest.mark.parametrize("dialect", ["none", "gemini", "openrouter"])
def test_silence_is_a_dialect_too(dialect: Dialect) -> None:
    """A provider may announce nothing with its answers."""
    assert announced(dialect, rpm=60, tpm=600) == {}


def test_remaining_requests_are_whole() -> None:
    """Nine tenths of a request are none: whoever trusts the header is not refused."""
    account = Account(SimConfig(rpm=60, burst=1), now=0.0)
    account.admit(0, 0, 0.0)

    assert ANNOUNCE["openai"](account.quotas, 0.9, NOON)["x-ratelimit-remaining-requests"] == "0"
