"""What an answer says."""

from __future__ import annotations

import json

import pytest

from llm_fanout.providers import ProviderError, Reply


def test_a_text_is_a_whole_reply() -> None:
    """What a user's own function has to give."""
    reply = Reply("hello")

    assert (reply.text, reply.finish_reason, reply.usage, reply.tool_calls, reply.raw) == ("hello", "stop", None, (), b"")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ({"message": "overloaded", "code": "slow_down"}, "overloaded"),
        ("overloaded", "overloaded"),
        ({"code": 5}, "no message"),
        (None, "no message"),
    ],
)
def test_an_error_is_passed_on(error: object, message: str) -> None:
    """Its words are the message, and its object is what the body of an error would be."""
    raised = ProviderError(error)

    assert str(raised) == f"the answer carries an error: {message}"
    assert json.loads(raised.body) == {"error": error}
