"""The table from what a provider did to what is done about it, row by row."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import aiohttp
import httpx
import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout.core.quota import Cost
from llm_fanout.core.retry import Again
from llm_fanout.core.schedule import Outcome
from llm_fanout.errors import ERROR_OF_KIND, CallError
from llm_fanout.llm import signals
from llm_fanout.llm.wire import ReplyTooLarge

WALL = 1_790_000_000.0


def error_of(outcome: Outcome) -> CallError:
    assert isinstance(outcome.error, CallError)
    return outcome.error


def body(code: str | None = None, kind: str | None = None, message: str = "why") -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "code": code}}).encode()


@pytest.mark.parametrize(
    ("status", "content", "kind", "again", "gate"),
    [
        (400, body("unknown_word"), "invalid", Again.NO, False),
        (400, body("context_length_exceeded"), "too_large", Again.NO, False),
        (400, body("content_filter"), "filtered", Again.NO, False),
        (401, body("invalid_api_key"), "auth", Again.NO, False),
        (402, b"", "credit", Again.NO, False),
        (403, b"forbidden", "auth", Again.NO, False),
        (404, body("model_not_found"), "invalid", Again.NO, False),
        (408, b"", "server", Again.TRANSIENT, False),
        (409, b"", "server", Again.TRANSIENT, False),
        (413, b"", "too_large", Again.NO, False),
        (422, b'{"detail": [{"msg": "wrong"}]}', "invalid", Again.NO, False),
        (425, b"", "server", Again.TRANSIENT, False),
        (429, b"<html>slow down</html>", "rate_limited", Again.PUSHBACK, True),
        (429, body("rate_limit_exceeded", "requests"), "rate_limited", Again.PUSHBACK, True),
        (429, body("insufficient_quota", "insufficient_quota"), "credit", Again.NO, False),
        (429, body(None, "insufficient_quota"), "credit", Again.NO, False),
        (429, body(None, "tokens", "Request too large for gpt: Limit 10, Requested 20"), "too_large", Again.NO, False),
        (429, body("slow_down"), "rate_limited", Again.PUSHBACK, False),
        (498, b"", "rate_limited", Again.PUSHBACK, False),
        (499, b"", "server", Again.TRANSIENT, False),
        (500, body(None, "server_error"), "server", Again.TRANSIENT, False),
        (502, b"<html>nginx</html>", "server", Again.TRANSIENT, False),
        (503, body("slow_down"), "rate_limited", Again.PUSHBACK, False),
        (503, b"", "server", Again.TRANSIENT, False),
        (524, b"", "server", Again.TRANSIENT, False),
        (529, body(None, "overloaded_error"), "rate_limited", Again.PUSHBACK, False),
        (599, b"", "server", Again.TRANSIENT, False),
        (418, b"", "invalid", Again.NO, False),
        (307, b"", "malformed", Again.BAD_REPLY, False),
        (200, body(None, "server_error"), "malformed", Again.BAD_REPLY, False),
        (200, body("insufficient_quota"), "credit", Again.NO, False),
    ],
)
def test_answers(status: int, content: bytes, kind: str, again: Again, gate: bool) -> None:
    """The body's word first, then the status: kind, class, whether it is tried again, and who waits."""
    outcome = signals.of_answer(status, {}, content)
    error = error_of(outcome)

    assert (error.kind, outcome.again, outcome.gate, error.status) == (kind, again, gate, status)
    assert outcome.shrink is (again is Again.PUSHBACK)
    assert type(error) is ERROR_OF_KIND[error.kind]


def test_a_refused_call_gives_its_tokens_back_and_a_cut_one_does_not() -> None:
    """What the provider surely did not do is not spent; what it may have billed is."""
    assert signals.of_answer(429, {}, b"").used == Cost(tokens=0.0)
    assert signals.of_exception(aiohttp.ClientPayloadError()).used is None
    assert signals.timed_out(5).used is None


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, None),
        ({"Retry-After": "2"}, 2.0),
        ({"retry-after": "0.5", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "x", "retry-after": "7"}, 7.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "6m0s"}, None),
        ({"x-ratelimit-remaining-requests": "-1", "x-ratelimit-reset-requests": "6m0s"}, None),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "12ms",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "1.5s",
            },
            1.5,
        ),
        ({"x-ratelimit-remaining-tokens": "0"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "rubbish"}, None),
    ],
)
def test_told_waits(headers: dict[str, str], told: float | None) -> None:
    """The shortest unit first, then seconds, then the exhausted dimension's reset; nonsense is no wait."""
    outcome = signals.of_answer(429, headers, b"")

    assert outcome.told == told
    assert error_of(outcome).retry_after == told


@pytest.mark.parametrize(
    ("date", "told"),
    [("Mon, 21 Sep 2026 13:33:20 GMT", 0.0), ("Mon, 21 Sep 2026 14:13:50 GMT", 30.0), ("Mon, 99 Sep 2026", None)],
)
def test_told_dates(date: str, told: float | None) -> None:
    """An HTTP date is as many seconds as it is ahead; one that has passed is no wait, one that is none says nothing."""
    assert signals.told_wait({"retry-after": date}, WALL) == told


def test_final_failures_have_no_wait() -> None:
    """What will not be tried again does not say when."""
    assert signals.of_answer(401, {"retry-after": "5"}, b"").told is None


@pytest.mark.parametrize(
    ("status", "said", "again"),
    [
        (500, "false", Again.NO),
        (429, "false", Again.NO),
        (400, "true", Again.TRANSIENT),
        (429, "true", Again.PUSHBACK),
        (500, "true", Again.TRANSIENT),
        (500, "maybe", Again.TRANSIENT),
    ],
)
def test_x_should_retry_overrules(status: int, said: str, again: Again) -> None:
    """The provider's own word on whether to try again is obeyed."""
    assert signals.of_answer(status, {"X-Should-Retry": said}, b"").again is again


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
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    """Go's durations and bare seconds."""
    assert signals.duration(text) == seconds


@given(
    st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens", "x-ratelimit-remaining-tokens"]),
        st.text(),
    )
)
def test_no_header_can_break_it(headers: dict[str, str]) -> None:
    """Any text in a header gives a finite wait >= 0, or none."""
    told = signals.told_wait(headers, WALL)

    assert told is None or 0 <= told < float("inf")


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

    assert len(message) < 600
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'[{"error": {"message": "in a list"}}]', "in a list"),
        (b'{"error": "just text"}', "just text"),
        (b'{"detail": "fastapi"}', "fastapi"),
        (b"", "(an empty body)"),
        (b"<html>\n  <h1>Bad   Gateway</h1></html>", "<html> <h1>Bad Gateway</h1></html>"),
        (b"[" * 100_000, "[[["),
        (b"\xff\xfe", "\ufffd"),
        (b"[]", "[]"),
    ],
)
def test_messages_are_found_where_they_are(content: bytes, says: str) -> None:
    """Every provider's shape, and whatever is none."""
    assert says in error_of(signals.of_answer(500, {}, content)).message


REQUEST = httpx.Request("POST", "https://api.example")
REQUEST2 = httpx2.Request("POST", "https://api.example")


def wrapped(outer: Exception, cause: Exception) -> Exception:
    outer.__cause__ = cause
    return outer


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (aiohttp.ServerDisconnectedError, "connection"),
        (lambda: aiohttp.ClientOSError(104, "reset"), "connection"),
        (lambda: aiohttp.ClientPayloadError("cut"), "connection"),
        (lambda: aiohttp.ConnectionTimeoutError("slow"), "connection"),
        (lambda: aiohttp.ServerTimeoutError("slow"), "timeout"),
        (lambda: aiohttp.InvalidURL("x"), "invalid"),
        (lambda: ReplyTooLarge("64 MB"), "malformed"),
        (lambda: httpx.ConnectTimeout("x"), "connection"),
        (lambda: httpx.PoolTimeout("x"), "connection"),
        (lambda: httpx.ReadTimeout("x"), "timeout"),
        (lambda: httpx.ReadError("x"), "connection"),
        (lambda: httpx.UnsupportedProtocol("x"), "invalid"),
        (lambda: httpx2.ConnectError("x"), "connection"),
        (lambda: httpx2.RemoteProtocolError("x"), "connection"),
        (lambda: httpx2.WriteTimeout("x"), "timeout"),
        (lambda: openai.APITimeoutError(REQUEST2), "timeout"),
        (lambda: openai.APIConnectionError(request=REQUEST2), "connection"),
        (lambda: wrapped(openai.APITimeoutError(REQUEST2), ConnectionRefusedError("no")), "connection"),
        (lambda: wrapped(openai.APIConnectionError(request=REQUEST2), httpx.ReadTimeout("x")), "timeout"),
        (lambda: json.JSONDecodeError("bad", "x", 0), "malformed"),
        (lambda: UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), "malformed"),
        (TimeoutError, "timeout"),
        (lambda: ConnectionResetError("x"), "connection"),
        (lambda: OSError("no file descriptors"), "connection"),
        (lambda: RuntimeError("a bug"), "exception"),
    ],
)
def test_exceptions(make: Callable[[], Exception], kind: str) -> None:
    """What an HTTP library or the SDK raised, found along its causes; the exception itself is not kept."""
    exc = make()

    error = error_of(signals.of_exception(exc))

    assert error.kind == kind
    assert type(exc).__name__ in error.message
    assert error.__cause__ is None


def test_a_circle_of_causes_ends() -> None:
    """An exception that is its own cause, in the end, is looked at once."""
    one, two = RuntimeError("one"), RuntimeError("two")
    one.__cause__, two.__cause__ = two, one

    assert error_of(signals.of_exception(one)).message == "RuntimeError: one <- RuntimeError: two"


def test_every_row_is_of_a_known_kind() -> None:
    """Each reaction of the tables names a kind that has a class."""
    reactions: list[Any] = [
        *signals.CODES.values(),
        *signals.STATUSES.values(),
        *signals.EXCEPTIONS.values(),
        *signals.WRAPPERS.values(),
    ]

    assert {reaction.kind for reaction in reactions} <= set(ERROR_OF_KIND)
