"""The shapes of errors, and how times are written."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from llm_fanout.sim import wording

NOON = 1_763_985_600.0  # 2025-11-24 12:00:00 UTC


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (
            wording.openai_error("m", "k", "c"),
            {"error": {"message": "m", "type": "k", "param": None, "code": "c"}},
        ),
        (wording.azure_error("m", "429", param="p"), {"error": {"code": "429", "message": "m", "param": "p"}}),
        (
            wording.anthropic_error("m", "k"),
            {"type": "error", "error": {"type": "k", "message": "m"}, "request_id": "req_simulated"},
        ),
        (
            wording.google_error(429, "N", "m", wording.quota_failure("Q"), wording.retry_info("27s")),
            [
                {
                    "error": {
                        "code": 429,
                        "message": "m",
                        "status": "N",
                        "details": [
                            {
                                "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                                "violations": [
                                    {"quotaMetric": "generativelanguage.googleapis.com/simulated", "quotaId": "Q"}
                                ],
                            },
                            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "27s"},
                        ],
                    }
                }
            ],
        ),
        (
            wording.mistral_error("m", "k", "1300"),
            {"object": "error", "message": "m", "type": "k", "param": None, "code": "1300"},
        ),
        (
            wording.openrouter_error("m", 402, reason="r"),
            {"error": {"message": "m", "code": 402, "metadata": {"reason": "r"}}},
        ),
        (wording.litellm_error("m", "k", 429), {"error": {"message": "m", "type": "k", "param": "None", "code": "429"}}),
        (wording.llamacpp_error("m", "k", 400, n_ctx=8), {"error": {"code": 400, "message": "m", "type": "k", "n_ctx": 8}}),
        (wording.fastapi_error("m"), {"detail": "m"}),
    ],
)
def test_every_provider_has_its_shape(body: bytes, shape: Any) -> None:
    """An error is what that provider sends, field by field."""
    assert json.loads(body) == shape


def test_anthropic_may_say_more() -> None:
    """Its details stand in the error, where there are any."""
    body = json.loads(wording.anthropic_error("m", "k", error_code="spent"))

    assert body["error"]["details"] == {"error_code": "spent"}


def test_pages_are_html_and_say_their_status() -> None:
    """What stands before a provider speaks to browsers."""
    assert b"<title>502</title>" in wording.nginx_page(502)
    assert b"524: A timeout occurred" in wording.cloudflare_page(524)


@pytest.mark.parametrize(("seconds", "text"), [(0.0, "0ms"), (0.0121, "13ms"), (1.5, "1.5s"), (90, "1m30s"), (360, "6m0s")])
def test_go_durations(seconds: float, text: str) -> None:
    """Times are written as OpenAI writes them."""
    assert wording.go_duration(seconds) == text


def test_instants_are_rounded_up() -> None:
    """Whoever waits until then does not come too early."""
    assert wording.rfc3339(NOON + 0.1) == "2025-11-24T12:00:01Z"
    assert parsedate_to_datetime(wording.http_date(NOON + 0.1)) == datetime.fromtimestamp(NOON + 1, UTC)
