"""What headers and bodies say of time and quota, provider by provider."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from llm_fanout.core.announced import Dimension, Window
from llm_fanout.llm import hints

WALL = 1_790_000_000.0
DATE = "Mon, 21 Sep 2026 14:13:20 GMT"  # WALL
SKEWED = "Mon, 21 Sep 2026 14:12:20 GMT"  # of a server whose clock is a minute behind ours

OPENAI = {
    "x-ratelimit-limit-requests": "5000",
    "x-ratelimit-remaining-requests": "4999",
    "x-ratelimit-reset-requests": "12ms",
    "x-ratelimit-limit-tokens": "160000",
    "x-ratelimit-remaining-tokens": "159976",
    "x-ratelimit-reset-tokens": "6m0s",
}


def anthropic(dimension: str, remaining: str, reset: str) -> dict[str, str]:
    name = f"anthropic-ratelimit-{dimension}"
    return {f"{name}-limit": "50000", f"{name}-remaining": remaining, f"{name}-reset": reset}


def told(headers: Mapping[str, str], *, error: Mapping[str, Any] | None = None, text: str = "") -> float | None:
    return hints.told_wait(headers, error or {}, text, WALL)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        # OpenAI
        (OPENAI, {"requests": Window(5000, 4999, 0.012), "tokens": Window(160_000, 159_976, 360)}),
        # Azure: whole seconds, -1 and 0/0 for what it does not know, any of them missing
        (
            {
                "x-ratelimit-limit-tokens": "8000",
                "x-ratelimit-remaining-tokens": "7000",
                "x-ratelimit-reset-tokens": "7",
                "x-ratelimit-limit-requests": "-1",
                "x-ratelimit-remaining-requests": "-1",
            },
            {"tokens": Window(8000, 7000, 7)},
        ),
        ({"x-ratelimit-limit-requests": "0", "x-ratelimit-remaining-requests": "0"}, None),
        ({"x-ratelimit-limit-requests": "-1", "x-ratelimit-remaining-requests": "0"}, None),
        ({"x-ratelimit-limit-requests": "9", "x-ratelimit-remaining-requests": "-1"}, {"requests": Window(9)}),
        ({"x-ratelimit-remaining-requests": "3"}, {"requests": Window(None, 3)}),
        # Anthropic: RFC 3339, by the server's own clock
        (
            anthropic("requests", "49", "2026-09-21T14:13:50Z")
            | anthropic("tokens", "0", "2026-09-21T16:13:50.5+02:00")
            | anthropic("input-tokens", "1", "2026-09-21T14:13:00Z")
            | anthropic("output-tokens", "2", "2026-09-21T14:14:20"),
            {
                "requests": Window(50_000, 49, 30, 60),
                "tokens": Window(50_000, 0, 30.5, 60),
                "input": Window(50_000, 1, 0, 60),
                "output": Window(50_000, 2, 60, 60),
            },
        ),
        (
            anthropic("requests", "49", "2026-09-21T14:13:50Z") | {"date": SKEWED},
            {"requests": Window(50_000, 49, 90, 60)},
        ),
        (
            anthropic("requests", "49", "2026-09-21T14:13:50Z") | {"date": "yesterday"},
            {"requests": Window(50_000, 49, 30, 60)},
        ),
        # Groq: a day's requests under OpenAI's name, so that nothing is said of the window
        (
            {
                "x-ratelimit-limit-requests": "14400",
                "x-ratelimit-remaining-requests": "14370",
                "x-ratelimit-reset-requests": "2m59.56s",
            },
            {"requests": Window(14_400, 14_370, 179.56)},
        ),
        # Mistral, new and old
        (
            {
                "x-ratelimit-limit-req-minute": "720",
                "x-ratelimit-remaining-req-minute": "717",
                "x-ratelimit-limit-tokens-minute": "5000000",
                "x-ratelimit-remaining-tokens-minute": "4999911",
            },
            {"requests": Window(720, 717, None, 60), "tokens": Window(5_000_000, 4_999_911, None, 60)},
        ),
        (
            {
                "x-ratelimitbysize-limit-minute": "500000",
                "x-ratelimitbysize-remaining-minute": "499000",
                "ratelimitbysize-reset": "9",
            },
            {"tokens": Window(500_000, 499_000, 9, 60)},
        ),
        # OpenRouter: milliseconds since 1970; others of this name say seconds, or a duration
        (
            {"x-ratelimit-limit": "20", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1790000040000"},
            {"requests": Window(20, 0, 40)},
        ),
        (
            {"x-ratelimit-limit": "20", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1790000040"},
            {"requests": Window(20, 0, 40)},
        ),
        (
            {"x-ratelimit-limit": "20", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "40"},
            {"requests": Window(20, 0, 40)},
        ),
        # LiteLLM: the key's own limits before those of what is behind it; 2**63 - 1 is no limit
        (
            {
                **OPENAI,
                "x-ratelimit-api_key-limit-requests": "60",
                "x-ratelimit-api_key-remaining-requests": "59",
                "x-ratelimit-api_key-limit-tokens": "9223372036854775807",
                "x-ratelimit-api_key-remaining-tokens": "9223372036854775807",
            },
            {"requests": Window(60, 59, None, 60), "tokens": Window(160_000, 159_976, 360)},
        ),
        # What cannot be
        ({**OPENAI, "x-ratelimit-remaining-requests": "nan", "x-ratelimit-remaining-tokens": "inf"},
         {"requests": Window(5000, None, 0.012), "tokens": Window(160_000, None, 360)}),
        ({**OPENAI, "x-ratelimit-remaining-requests": "5001", "x-ratelimit-limit-tokens": "many"},
         {"requests": Window(5000, None, 0.012)}),
        ({"x-ratelimit-remaining-requests": "rubbish", "x-ratelimit-reset-requests": "1s"}, None),
        (
            {"x-ratelimit-remaining-tokens": "1", "x-ratelimit-reset-tokens": "9" * 400 + "s"},
            {"tokens": Window(None, 1)},
        ),
        ({"x-ratelimit-remaining-tokens": "1", "x-ratelimit-reset-tokens": "99d"}, {"tokens": Window(None, 1)}),
        ({"x-ratelimit-remaining-tokens": "1", "x-ratelimit-reset-tokens": "-5s"}, {"tokens": Window(None, 1)}),
        ({"x-ratelimit-remaining-tokens": "1", "x-ratelimit-reset-tokens": "2026-99-99T"}, {"tokens": Window(None, 1)}),
        ({"content-type": "application/json"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_announced_windows(headers: dict[str, str], said: dict[Dimension, Window] | None) -> None:
    """Each family's headers become windows; what was not said, or cannot be, is None."""
    assert hints.announced(headers, WALL) == said


@pytest.mark.parametrize("wrapped", [lambda x: CIMultiDictProxy(CIMultiDict(x)), httpx.Headers])
def test_headers_are_found_in_any_case(wrapped: Any) -> None:
    """The HTTP libraries' own mappings ignore case, so that nothing has to be copied."""
    headers = wrapped({name.title(): value for name, value in OPENAI.items()})

    assert hints.announced(headers, WALL) == hints.announced(OPENAI, WALL) != None  # noqa: E711  # all three


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.5", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "7"}, 7.0),
        ({"retry-after": "Mon, 21 Sep 2026 14:13:50 GMT"}, 30.0),
        ({"retry-after": "Mon, 21 Sep 2026 14:13:50 GMT", "date": SKEWED}, 90.0),
        ({"retry-after": "Mon, 21 Sep 2026 14:13:50 -0000"}, 30.0),
        ({"retry-after": "1790000030"}, 30.0),
        # no time at all
        ({"retry-after": "0"}, None),
        ({"retry-after": "Mon, 21 Sep 2026 13:33:20 GMT"}, None),
        ({"retry-after": "Mon, 99 Sep 2026"}, None),
        ({"retry-after": "Mon, 21 Sep 2099 13:33:20 GMT"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e300"}, None),
        ({"retry-after": "500000000"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        # resets of what is exhausted
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "6m0s"}, None),
        ({"x-ratelimit-remaining-requests": "-1", "x-ratelimit-reset-requests": "6m0s"}, None),
        ({"x-ratelimit-remaining-tokens": "0"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "rubbish"}, None),
        ({"retry-after": "soon", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "3s"}, 3.0),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "12ms",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "1.5s",
            },
            1.5,
        ),
        (
            anthropic("requests", "7", "2026-09-21T14:59:00Z")
            | anthropic("input-tokens", "0", "2026-09-21T14:13:25Z")
            | {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1790000040000"},
            40.0,
        ),
    ],
)
def test_told_waits(headers: dict[str, str], seconds: float | None) -> None:
    """Milliseconds first, then seconds or a date, then the longest reset of what is exhausted; nonsense is no wait."""
    assert told(headers) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Rate limit reached ... Requested 800. Please try again in 84ms. Visit https://x", 0.084),
        ("Please try again in 1.2s.", 1.2),
        ("Please try again in 6m0s", 360.0),
        ("Please try again in 1h2m3.5s", 3723.5),
        ("Please retry in 12.5s.", 12.5),
        ("have exceeded token rate limit. Please retry after 26 seconds.", 26.0),
        ("Please try again in 999d", None),
        ("Please try again in 0s", None),
        ("Please try again in a while", None),
        ("Retry after in-flight requests settle", None),
        ("Please try again later.", None),
    ],
)
def test_waits_in_words(text: str, seconds: float | None) -> None:
    """What a message says is the last thing that is believed, and believed if nothing else was said."""
    assert told({}, text=text) == seconds
    assert told({"retry-after": "7"}, text=text) == 7.0


@pytest.mark.parametrize(
    ("details", "seconds"),
    [
        ([{"@type": "x/google.rpc.Help"}, {"@type": "x/google.rpc.RetryInfo", "retryDelay": "27.5s"}], 27.5),
        ([{"retryDelay": "soon"}], 5.0),
        ([{"retryDelay": 7}, "odd"], 5.0),
        ({"retryDelay": "27s"}, 5.0),
    ],
)
def test_googles_retry_info(details: Any, seconds: float) -> None:
    """RetryInfo is told in the body, and goes before the words of the message."""
    assert told({}, error={"details": details}, text="Please retry in 5s.") == seconds


@pytest.mark.parametrize(
    ("headers", "error", "text", "limit"),
    [
        ({}, {}, "Rate limit reached for gpt on requests per min (RPM): Limit 3, Used 3, Requested 1.", "rate"),
        ({}, {}, "on tokens per min (TPM): Limit 40000, Used 39669, Requested 800.", "rate"),
        ({}, {}, "would exceed your organization's rate limit of 50,000 input tokens per minute", "rate"),
        ({}, {}, "Number of request tokens has exceeded your per-minute rate limit", "rate"),
        ({}, {}, "have exceeded token rate limit of your current OpenAI S0 pricing tier", "rate"),
        ({}, {}, "Rate limit exceeded for api_key: x. Limit type: tokens. Current limit: 5", "rate"),
        ({}, {}, "TPM limit", "rate"),
        ({}, {"type": "tokens"}, "", "rate"),
        ({}, {"details": [{"violations": [{"quotaId": "GenerateRequestsPerMinutePerProject"}]}]}, "", "rate"),
        ({"x-ratelimit-remaining-tokens": "0"}, {}, "Too Many Requests", "rate"),
        (anthropic("input-tokens", "0", ""), {"type": "rate_limit_error"}, "", "rate"),
        ({}, {}, "Rate limit exceeded for api_key: x. Limit type: max_parallel_requests. Current limit: 4", "concurrency"),
        ({}, {}, "Crossed TPM / RPM / Max Parallel Request Limit. current rpm: 1, rpm limit: 15", "concurrency"),
        ({"x-ratelimit-remaining-requests": "0"}, {}, "too many concurrent requests", "concurrency"),
        ({}, {}, "5 requests in flight", "concurrency"),
        ({}, {}, "Request too large for gpt on tokens per min (TPM): Limit 30,000, Requested 34,307.", "size"),
        ({}, {}, "Rate limit reached (TPM): Limit 10000, Used 0, Requested 12000.", "size"),
        ({}, {}, "Request too large.", "size"),
        ({}, {}, "Request too large (TPM): Limit 30000, Requested 29000.", "rate"),
        (
            {},
            {"details": [{"violations": [{"quotaId": "XPerMinuteY"}, {"quotaId": "XPerDayY"}, {"quotaId": 5}, "odd"]}]},
            "",
            "day",
        ),
        (
            {},
            {},
            "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day",
            "day",
        ),
        ({}, {"details": [{"violations": 5}]}, "Resource has been exhausted (e.g. check quota).", None),
        ({"x-ratelimit-remaining-requests": "3"}, {"type": "rate_limit_error"}, "Rate limit exceeded", None),
        ({"x-ratelimit-limit-requests": "0", "x-ratelimit-remaining-requests": "0"}, {}, "", None),
        ({}, {}, "", None),
    ],
)
def test_the_limit_that_was_hit(headers: dict[str, str], error: dict[str, Any], text: str, limit: str | None) -> None:
    """A body's own words first, then what the headers say is used up; a refusal may name nothing."""
    assert hints.limit_hit(headers, error, text, WALL) == limit


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360),
        ("1.5s", 1.5),
        ("12ms", 0.012),
        ("1h2m3s", 3_723),
        ("1d", 86_400),
        ("7", 7),
        ("", None),
        ("x", None),
        ("5 s", None),
        ("9" * 400 + "d", None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    """Go's durations and bare seconds."""
    assert hints.duration(text) == seconds


ALL_NAMES = ["retry-after", "retry-after-ms", "date"] + [
    name for remaining, names in hints.NAMES for name in (remaining, names.limit, names.reset)
]
LIKELY = st.sampled_from(
    ["0", "-1", "nan", "inf", "-inf", "1e999", "1_0", "6m0s", "1790000040000", DATE, "2026-09-21T14:13:50Z"]
)
ODD = st.from_regex(r"[0-9a-zA-Z:+. -]{0,30}", fullmatch=True) | st.from_regex(r"[0-9]{4}-[0-9T:Z+.-]{0,30}", fullmatch=True)


@given(st.dictionaries(st.sampled_from(ALL_NAMES), LIKELY | ODD | st.text()), LIKELY | ODD | st.text())
def test_no_header_can_break_it(headers: dict[str, str], text: str) -> None:
    """Any text in any header, and in the message, gives figures that are finite and >= 0, or none."""
    wait = told(headers, text=f"try again in {text}")
    windows = (hints.announced(headers, WALL) or {}).values()
    figures = [figure for each in windows for figure in (each.limit, each.remaining, each.reset, each.per)]

    assert wait is None or 0 < wait <= hints.LONGEST_WAIT
    assert all(figure is None or (isfinite(figure) and figure >= 0) for figure in figures)
    assert all(each.limit != 0 and (each.limit, each.remaining) != (None, None) for each in windows)
    hints.limit_hit(headers, {}, text, WALL)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
)


@given(st.dictionaries(st.sampled_from(["type", "details", "retryDelay", "violations", "quotaId"]), JSON))
def test_no_error_object_can_break_it(error: dict[str, Any]) -> None:
    """Any JSON where Google's details would be gives a wait > 0 or none."""
    for each in (error, {"details": [error]}, {"details": [{"violations": [error]}]}):
        wait = told({}, error=each)
        hints.limit_hit({}, each, "", WALL)

        assert wait is None or 0 < wait <= hints.LONGEST_WAIT


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'[{"error": {"message": "in a list"}}]', "in a list"),
        (b'{"error": "just text"}', "just text"),
        (b'{"detail": "fastapi"}', "fastapi"),
        (b"", ""),
        (b"<html>\n  <h1>Bad   Gateway</h1></html>", "<html> <h1>Bad Gateway</h1></html>"),
        (b"\xff", "\ufffd"),
        (b"[]", "[]"),
        (b"1", "1"),
        (b'{"type": "error", "code": "x", "message": "an event"}', "an event"),
        (b'{"type": "response.failed", "response": {"error": {"message": "Responses"}}}', "Responses"),
        (b'{"response": {"error": null}, "message": "of its own"}', "of its own"),
        (b'{"error": {"message": "\\u001b[31mred\\u0007 \\u202eback\\u2028"}}', "[31mred back"),
        (json.dumps({"message": "x" * 9000}).encode(), "x" * hints.TEXT_LIMIT),
    ],
)
def test_messages_are_found_where_they_are(content: bytes, says: str) -> None:
    """Every provider's shape, and whatever is none."""
    assert hints.text_in(hints.error_in(content), content) == says


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ({}, []),
        ({"code": "x", "type": "y", "param": "z"}, ["x", "y"]),
        ({"code": None, "type": ["y"]}, []),
        ({"code": 429, "type": "y"}, ["429", "y"]),
        ({"code": "c", "innererror": {"code": "i", "content_filter_result": {}}}, ["c", "i"]),
        ({"code": "400", "provider_specific_fields": {"innererror": {"code": "i"}}}, ["400", "i"]),
        ({"type": "t", "details": {"error_code": "e"}}, ["e", "t"]),
        ({"code": 400, "details": [{"reason": "r"}, {"retryDelay": "1s"}, "odd"]}, ["400", "r"]),
        ({"code": 402, "metadata": {"limit_source": "s", "reason": "r"}}, ["402", "r", "s", "limit_source", "reason"]),
        ({"code": 429, "metadata": {"error_type": "e"}}, ["429", "e", "error_type"]),
        ({"error_type": "e", "type": "t"}, ["e", "t"]),
        ({"code": 403, "metadata": {"flagged_input": "...", "reasons": ["x"]}}, ["403", "flagged_input", "reasons"]),
        ({"metadata": "odd", "innererror": 5, "details": 5, "provider_specific_fields": []}, []),
    ],
)
def test_what_went_wrong_in_a_word(error: dict[str, Any], words: list[str]) -> None:
    """Each provider's own place for it, the most precise first; what is no word is none."""
    assert hints.words_in(error) == words


@given(st.dictionaries(st.sampled_from(["code", "type", "details", "metadata", "innererror", "reason"]), JSON))
def test_no_error_object_can_break_the_words(error: dict[str, Any]) -> None:
    """Any JSON gives words."""
    for each in (error, {"details": error}, {"details": [error]}, {"metadata": error}, {"innererror": error}):
        assert all(isinstance(word, str) for word in hints.words_in(each))
