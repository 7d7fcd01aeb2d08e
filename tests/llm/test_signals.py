"""The table from what a provider did to what is done about it, row by row."""

from __future__ import annotations

import errno
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

from llm_fanout.core.announced import Window
from llm_fanout.core.quota import Cost
from llm_fanout.core.retry import Again
from llm_fanout.core.schedule import Outcome
from llm_fanout.errors import ERROR_OF_KIND, CallError
from llm_fanout.llm import signals
from llm_fanout.llm.wire import ReplyTooLarge


def error_of(outcome: Outcome) -> CallError:
    assert isinstance(outcome.error, CallError)
    return outcome.error


def body(code: str | None = None, kind: str | None = None, message: str = "why") -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "code": code}}).encode()


def gemini(quota: str) -> bytes:
    violations, delay = {"violations": [{"quotaId": quota}]}, {"retryDelay": "27s"}
    return json.dumps([{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [violations, delay]}}]).encode()


def openrouter(source: str, reason: str | None = None) -> bytes:
    return json.dumps({"error": {"code": 402, "metadata": {"limit_source": source, "reason": reason}}}).encode()


NO, TRY, BAD, PUSH = Again.NO, Again.TRANSIENT, Again.BAD_REPLY, Again.PUSHBACK


@pytest.mark.parametrize(
    ("status", "content", "kind", "again", "says"),
    [
        (200, body(None, "server_error"), "malformed", BAD, ""),
        (200, body("insufficient_quota"), "credit", NO, ""),
        (307, b"", "malformed", BAD, ""),
        (400, body("unknown_word"), "invalid", NO, ""),
        (400, body("context_length_exceeded"), "too_large", NO, ""),
        (400, body(None, "exceed_context_size_error"), "too_large", NO, ""),
        (400, body("content_filter"), "filtered", NO, ""),
        (401, body("invalid_api_key"), "auth", NO, ""),
        (402, b"", "credit", NO, ""),
        (402, body(None, "billing_error"), "credit", NO, ""),
        (402, openrouter("openrouter_in_flight_budget", "in_flight_budget_exhausted"), "rate_limited", PUSH, "gate shrink"),
        (402, openrouter("openrouter_credits"), "credit", NO, ""),
        (402, openrouter("openrouter_credits", "weight_exceeds_budget"), "too_large", NO, ""),
        (403, b"forbidden", "auth", NO, ""),
        (403, openrouter("openrouter_key_limit"), "credit", NO, ""),
        (403, openrouter("openrouter_workspace_budget"), "credit", NO, ""),
        (403, openrouter("openrouter_guardrail_budget"), "credit", NO, ""),
        (404, body("model_not_found"), "invalid", NO, ""),
        (408, b"", "server", TRY, ""),
        (409, b"", "server", TRY, ""),
        (413, b"", "too_large", NO, ""),
        (413, body(None, "tokens", "on tokens per minute (TPM): Limit 6000, Requested 9000"), "too_large", NO, ""),
        (418, b"", "invalid", NO, ""),
        (422, b'{"detail": [{"msg": "wrong"}]}', "invalid", NO, ""),
        (425, b"", "server", TRY, ""),
        (429, b"<html>slow down</html>", "rate_limited", PUSH, "gate shrink"),
        (429, body("rate_limit_exceeded"), "rate_limited", PUSH, "gate shrink"),
        (429, body("rate_limit_exceeded", "requests"), "rate_limited", PUSH, "gate"),
        (429, body(None, "tokens", "(TPM): Limit 9, Requested 3. Please try again in 2s"), "rate_limited", PUSH, "gate"),
        (429, body(None, None, "Please try again in 2s"), "rate_limited", PUSH, "gate"),
        (429, body(None, None, "Limit type: max_parallel_requests."), "rate_limited", PUSH, "shrink"),
        (429, body(None, None, "The engine is currently overloaded"), "rate_limited", PUSH, "shrink"),
        (429, body("slow_down", "rate_limit_error"), "rate_limited", PUSH, "shrink"),
        (429, gemini("GenerateRequestsPerMinutePerProjectPerModel-FreeTier"), "rate_limited", PUSH, "gate"),
        (429, gemini("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), "credit", NO, ""),
        (429, openrouter("openrouter_free_tier_daily"), "credit", NO, ""),
        (429, body("insufficient_quota", "insufficient_quota"), "credit", NO, ""),
        (429, body(None, "insufficient_quota"), "credit", NO, ""),
        (429, body("credit_balance_exhausted"), "credit", NO, ""),
        (429, body("organization_spend_limit_exceeded"), "credit", NO, ""),
        (429, body("project_usage_limit_exceeded"), "credit", NO, ""),
        (429, b'{"error": {"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}}}',
         "credit", NO, ""),
        (429, body(None, "tokens", "Request too large for gpt: Limit 10, Requested 20"), "too_large", NO, ""),
        (429, body(None, "tokens", "Request too large for gpt: Limit 20, Requested 10"), "rate_limited", PUSH, "gate"),
        (498, b"", "rate_limited", PUSH, "shrink"),
        (499, b"", "server", TRY, ""),
        (500, body(None, "server_error"), "server", TRY, "outage"),
        (501, b"", "server", TRY, ""),
        (502, b"<html>nginx</html>", "server", TRY, "outage"),
        (503, body("slow_down"), "rate_limited", PUSH, "shrink"),
        (503, body("server_is_overloaded"), "rate_limited", PUSH, "shrink"),
        (503, body(None, None, "The model is overloaded. Please try again later."), "rate_limited", PUSH, "shrink"),
        (503, body(None, "unavailable_error", "Loading model"), "server", TRY, "outage"),
        (503, b"", "server", TRY, "outage"),
        (505, b"", "server", TRY, ""),
        (524, b"", "server", TRY, "outage"),
        (529, b"", "rate_limited", PUSH, "shrink"),
        (529, body(None, "overloaded_error"), "rate_limited", PUSH, "shrink"),
        (599, b"", "server", TRY, "outage"),
    ],
)  # fmt: skip
def test_answers(status: int, content: bytes, kind: str, again: Again, says: str) -> None:
    """The body's word first, then the status: kind, class, who waits, whether fewer may go, whether it may be an outage."""
    outcome = signals.of_answer(status, {}, content)
    error = error_of(outcome)

    assert (error.kind, outcome.again, error.status) == (kind, again, status)
    assert [name for name in ("gate", "shrink", "outage") if getattr(outcome, name)] == says.split()
    assert type(error) is ERROR_OF_KIND[error.kind]


@pytest.mark.parametrize(
    ("status", "headers", "content", "kind", "told", "says"),
    [
        (429, {"Retry-After": "2"}, b"", "rate_limited", 2.0, "gate"),
        (429, {"retry-after-ms": "1500", "retry-after": "9"}, b"", "rate_limited", 1.5, "gate"),
        (429, {"retry-after": "rubbish"}, b"", "rate_limited", None, "gate shrink"),
        (429, {"retry-after": "nan"}, b"", "rate_limited", None, "gate shrink"),
        (429, {"X-RateLimit-Remaining-Requests": "-1"}, b"", "rate_limited", None, "gate shrink"),
        (429, {"X-RateLimit-Remaining-Requests": "0"}, b"", "rate_limited", None, "gate"),
        (429, {"X-RateLimit-Remaining-Tokens": "0", "X-RateLimit-Reset-Tokens": "6m0s"}, b"", "rate_limited", 360.0, "gate"),
        (429, {"retry-after": "60"}, body(None, None, "max_parallel_requests: 4"), "rate_limited", 60.0, "shrink"),
        (429, {"retry-after": "3"}, body("slow_down"), "rate_limited", 3.0, "shrink"),
        (429, {"retry-after": "3"}, gemini("XPerMinuteY"), "rate_limited", 3.0, "gate"),
        (429, {}, gemini("XPerMinuteY"), "rate_limited", 27.0, "gate"),
        (429, {"retry-after": "3"}, gemini("XPerDayY"), "credit", None, ""),
        (429, {"retry-after": "3"}, body("insufficient_quota"), "credit", None, ""),
        (402, {"Retry-After": "4"}, b"", "rate_limited", 4.0, "gate shrink"),
        (402, {"Retry-After": "4"}, body("insufficient_quota"), "credit", None, ""),
        (503, {"Retry-After": "5"}, b"", "server", 5.0, "outage"),
        (529, {"Retry-After": "5"}, b"", "rate_limited", 5.0, "shrink"),
        (401, {"Retry-After": "5"}, b"", "auth", None, ""),
    ],
)
def test_refusals_with_headers(
    status: int, headers: dict[str, str], content: bytes, kind: str, told: float | None, says: str
) -> None:
    """Headers say how long, and whose limit; what is final names no wait."""
    outcome = signals.of_answer(status, headers, content)
    error = error_of(outcome)

    assert (error.kind, outcome.told, error.retry_after) == (kind, told, told)
    assert [name for name in ("gate", "shrink", "outage") if getattr(outcome, name)] == says.split()


@pytest.mark.parametrize("status", [200, 400, 429, 500])
def test_errors_announce_too(status: int) -> None:
    """What an error answer says of the quota is passed on, whatever the error is."""
    headers = {"X-RateLimit-Limit-Tokens": "100", "X-RateLimit-Remaining-Tokens": "7", "X-RateLimit-Reset-Tokens": "9s"}

    assert signals.of_answer(status, headers, b"").announced == {"tokens": Window(100, 7, 9)}
    assert signals.of_answer(status, {}, b"").announced is None


def test_a_refused_call_gives_its_tokens_back_and_a_cut_one_does_not() -> None:
    """What the provider surely did not do is not spent; what it may have billed is."""
    assert signals.of_answer(429, {}, b"").used == Cost(tokens=0.0)
    assert signals.of_exception(aiohttp.ClientPayloadError()).used is None
    assert signals.timed_out(5).used is None


@pytest.mark.parametrize(
    ("status", "said", "again"),
    [
        (500, "false", Again.NO),
        (429, "false", Again.NO),
        (400, "true", Again.TRANSIENT),
        (429, "true", Again.PUSHBACK),
        (500, "true", Again.TRANSIENT),
        (500, "maybe", Again.TRANSIENT),
        (402, "true", Again.TRANSIENT),
    ],
)
def test_x_should_retry_overrules(status: int, said: str, again: Again) -> None:
    """The provider's own word on whether to try again is obeyed."""
    assert signals.of_answer(status, {"X-Should-Retry": said}, b"").again is again


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
        (b'[{"error": {"message": "in a list"}}]', "500 from the provider: in a list"),
        (b"", "500 from the provider: (an empty body)"),
        (b"[" * 100_000, "500 from the provider: [[["),
    ],
)
def test_messages_say_what_the_provider_said(content: bytes, says: str) -> None:
    """The status, and the provider's own words."""
    assert error_of(signals.of_answer(500, {}, content)).message.startswith(says)


REQUEST = httpx.Request("POST", "https://api.example")
REQUEST2 = httpx2.Request("POST", "https://api.example")


def wrapped(outer: Exception, cause: Exception) -> Exception:
    outer.__cause__ = cause
    return outer


@pytest.mark.parametrize(
    ("make", "kind", "again", "outage"),
    [
        (aiohttp.ServerDisconnectedError, "connection", TRY, True),
        (lambda: aiohttp.ClientOSError(104, "reset"), "connection", TRY, True),
        (lambda: aiohttp.ClientPayloadError("cut"), "connection", TRY, True),
        (lambda: aiohttp.ConnectionTimeoutError("slow"), "connection", TRY, True),
        (lambda: aiohttp.ServerTimeoutError("slow"), "timeout", TRY, True),
        (lambda: aiohttp.InvalidURL("x"), "invalid", NO, False),
        (lambda: ReplyTooLarge("64 MB"), "malformed", NO, False),
        (lambda: httpx.ConnectTimeout("x"), "connection", TRY, True),
        (lambda: httpx.PoolTimeout("x"), "connection", PUSH, False),
        (lambda: httpx.ReadTimeout("x"), "timeout", TRY, True),
        (lambda: httpx.ReadError("x"), "connection", TRY, True),
        (lambda: httpx.UnsupportedProtocol("x"), "invalid", NO, False),
        (lambda: httpx2.ConnectError("x"), "connection", TRY, True),
        (lambda: httpx2.RemoteProtocolError("x"), "connection", TRY, True),
        (lambda: httpx2.WriteTimeout("x"), "timeout", TRY, True),
        (lambda: openai.APITimeoutError(REQUEST2), "timeout", TRY, True),
        (lambda: openai.APIConnectionError(request=REQUEST2), "connection", TRY, True),
        (lambda: wrapped(openai.APITimeoutError(REQUEST2), ConnectionRefusedError("no")), "connection", TRY, True),
        (lambda: wrapped(openai.APIConnectionError(request=REQUEST2), httpx.ReadTimeout("x")), "timeout", TRY, True),
        (lambda: json.JSONDecodeError("bad", "x", 0), "malformed", BAD, False),
        (lambda: UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), "malformed", BAD, False),
        (TimeoutError, "timeout", TRY, True),
        (lambda: ConnectionResetError("x"), "connection", TRY, True),
        (lambda: OSError("no file descriptors"), "connection", TRY, True),
        (lambda: RuntimeError("a bug"), "exception", NO, False),
    ],
)
def test_exceptions(make: Callable[[], Exception], kind: str, again: Again, outage: bool) -> None:
    """What an HTTP library or the SDK raised, found along its causes; the exception itself is not kept."""
    exc = make()

    outcome = signals.of_exception(exc)
    error = error_of(outcome)

    assert (error.kind, outcome.again, outcome.outage) == (kind, again, outage)
    assert outcome.shrink is (again is PUSH)
    assert type(exc).__name__ in error.message
    assert error.__cause__ is None


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


def test_an_attempt_that_took_too_long_may_be_an_outage() -> None:
    """A server that is down may look like one that is slow."""
    assert signals.timed_out(5).outage


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
        *signals.LIMITS.values(),
        *signals.EXCEPTIONS.values(),
        *signals.WRAPPERS.values(),
    ]

    assert {reaction.kind for reaction in reactions} <= set(ERROR_OF_KIND)
