"""What the APIs of one vendor share."""

from __future__ import annotations

import json

import pytest

from llm_fanout.sim.apis.vendors import bearer, in_anthropics_shape, x_api_key
from llm_fanout.sim.wording import HTML, JSON, ErrorAnswer, nginx_page, openai_error


def test_keys_are_where_the_vendor_has_them() -> None:
    """OpenAI's with the bearer, Anthropic's in a header of its own or with the bearer."""
    assert bearer({"Authorization": "Bearer a"}) == "a"
    assert bearer({"Authorization": "Basic a"}) is None
    assert x_api_key({"x-api-key": "a", "Authorization": "Bearer b"}) == "a"
    assert x_api_key({"Authorization": "Bearer b"}) == "b"
    assert x_api_key({}) is None


def test_anthropics_errors_say_what_openais_say() -> None:
    """The message stays, the type is Anthropic's for the status, the request is named in header and body."""
    answer = in_anthropics_shape(ErrorAnswer(404, {"retry-after": "1", **JSON}, openai_error("gone", "x", None)), "req_1")

    error = {"type": "not_found_error", "message": "gone"}
    assert json.loads(answer.body) == {"type": "error", "error": error, "request_id": "req_1"}
    assert answer.headers == {"retry-after": "1", "request-id": "req_1", **JSON}


def test_what_is_anthropics_already_only_gets_the_request() -> None:
    """Its type is its own."""
    error = {"type": "overloaded_error", "message": "later"}
    answer = in_anthropics_shape(ErrorAnswer(429, JSON, json.dumps({"type": "error", "error": error}).encode()), "req_1")

    assert json.loads(answer.body) == {"type": "error", "error": error, "request_id": "req_1"}
    assert answer.headers["request-id"] == "req_1"


@pytest.mark.parametrize(
    "answer",
    [
        ErrorAnswer(502, HTML, nginx_page(502)),
        ErrorAnswer(429, JSON, b'{"error": "Too Many Requests"}'),
        ErrorAnswer(429, JSON, b'[{"error": {"message": "x"}}]'),
    ],
)
def test_what_has_another_shape_keeps_it(answer: ErrorAnswer) -> None:
    """A page, a bare word, and a list."""
    assert in_anthropics_shape(answer, "req_1") is answer
