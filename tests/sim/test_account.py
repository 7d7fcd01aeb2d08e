"""The provider's side of a quota."""

from __future__ import annotations

import json

import pytest

from llm_fanout.core.tokens import estimate_tokens
from llm_fanout.sim import SimConfig
from llm_fanout.sim.account import Account, go_duration, input_tokens, text_of


def test_requests_beyond_the_burst_are_refused_until_time_has_passed() -> None:
    """The burst passes, the next is refused with the wait, and after it one more passes."""
    account = Account(SimConfig(rpm=60, burst=2), now=0.0)

    first, second, third = (account.admit(0, 10.0) for _ in range(3))
    later = account.admit(0, 11.0)

    assert first is second is later is None
    assert third is not None
    assert third.status == 429
    assert third.headers["retry-after"] == "1"
    assert third.headers["retry-after-ms"] == "1000"
    assert json.loads(third.body)["error"]["code"] == "rate_limit_exceeded"


def test_a_refused_request_costs_nothing() -> None:
    """Requests and tokens are taken together or not at all."""
    account = Account(SimConfig(rpm=60, tpm=600, burst=2), now=0.0)  # twenty tokens at once
    account.admit(20, 0.0)

    refused = account.admit(10, 0.0)

    assert refused is not None
    assert account.headers(0.0)["x-ratelimit-remaining-requests"] == "1"


def test_unused_tokens_come_back() -> None:
    """What was charged and not used can be used by the next."""
    account = Account(SimConfig(tpm=600), now=0.0)  # a burst of 100

    admitted = account.admit(100, 0.0)
    refused = account.admit(50, 0.0)
    account.settle(100, 20, 0.0)
    afterwards = account.admit(50, 0.0)

    assert admitted is None
    assert refused is not None
    assert afterwards is None


def test_settling_does_not_touch_requests() -> None:
    """A request that was made stays made."""
    account = Account(SimConfig(rpm=60, burst=1), now=0.0)
    account.admit(5, 0.0)

    account.settle(5, 0, 0.0)

    assert account.headers(0.0)["x-ratelimit-remaining-requests"] == "0"


def test_a_request_that_can_never_pass_says_so() -> None:
    """More tokens than a minute has: 'Request too large', without a wait."""
    refusal = Account(SimConfig(tpm=600), now=0.0).admit(601, 0.0)

    assert refusal is not None
    assert "retry-after" not in refusal.headers
    assert b"Request too large" in refusal.body


def test_headers_say_what_remains() -> None:
    """Limit, remaining, and the time until full, for each dimension."""
    account = Account(SimConfig(rpm=60, tpm=600, burst=10), now=0.0)
    account.admit(50, 0.0)

    assert account.headers(0.0) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "9",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "600",
        "x-ratelimit-remaining-tokens": "50",
        "x-ratelimit-reset-tokens": "5s",
    }


@pytest.mark.parametrize(("seconds", "text"), [(0.0, "0ms"), (0.0121, "13ms"), (1.5, "1.5s"), (90, "1m30s"), (360, "6m0s")])
def test_go_durations(seconds: float, text: str) -> None:
    """Times are written as OpenAI writes them."""
    assert go_duration(seconds) == text


def test_text_is_counted_in_strings_and_parts() -> None:
    """A message's content is text or parts; anything else has no tokens."""
    messages = [
        {"content": "hello world"},
        {"content": [{"type": "text", "text": "hello"}, {"type": "image_url"}, "odd"]},
        {"content": None},
    ]

    assert input_tokens(messages) == estimate_tokens("hello world") + estimate_tokens("hello")
    assert text_of(5) == ""
