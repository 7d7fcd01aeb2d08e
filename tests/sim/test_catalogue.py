"""Every error that a provider is known to answer with."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime

import pytest
from support import post_chat

from llm_fanout.sim import Box, SimConfig
from llm_fanout.sim.catalogue import ERRORS, MIXED, ROWS, error_answer
from llm_fanout.sim.wording import ErrorAnswer


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    """A provider that has nothing but what is asked of it."""
    with Box(SimConfig(latency=0, jitter=0)) as box:
        yield box


def said(fault: str, wait: float | None = None) -> ErrorAnswer:
    """The one way in which `fault` is said."""
    return error_answer(fault, random.Random(0), wait)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_said_over_the_wire_as_it_stands(box: Box, name: str) -> None:
    """A prompt that asks for a fault gets its status and its headers, in JSON or as a page, with every time filled in."""
    status, headers, body = post_chat(box.url, f"[[fault:{name}]]")

    assert status == ROWS[name].status
    assert {each.lower() for each in ROWS[name].headers} <= set(headers)
    assert b"$" not in body + "".join(headers.values()).encode()
    if headers["content-type"] == "text/html":
        assert b"<html>" in body
    else:
        assert headers["content-type"] == "application/json"
        json.loads(body)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_named_for_its_status(name: str) -> None:
    """A name that begins with digits begins with the status; each has a meaning that fits on a line."""
    digits = name.partition("-")[0]

    assert not digits.isdigit() or int(digits) == ROWS[name].status
    assert 300 <= ROWS[name].status < 600
    assert 0 < len(ROWS[name].meaning) < 80


@pytest.mark.parametrize("name", ["429-retry-after", "429-parallel", "402-in-flight"])
def test_a_wait_in_seconds(name: str) -> None:
    """A second by default, or what is asked for, however short."""
    assert said(name).headers["retry-after"] == "1"
    assert said(name, 0.25).headers["retry-after"] == "0.25"


def test_a_wait_in_milliseconds() -> None:
    """Both headers say the same."""
    headers = said("429-retry-after-ms", 0.25).headers

    assert (headers["retry-after-ms"], headers["retry-after"]) == ("250", "0.25")


@pytest.mark.parametrize(("wait", "written"), [(None, "1s"), (0.4, "400ms"), (360, "6m0s")])
def test_a_wait_as_a_reset(wait: float | None, written: str) -> None:
    """The requests are used up, and are reset after the wait; the tokens are not, and say a longer time."""
    headers = said("429-reset", wait).headers

    assert (headers["x-ratelimit-remaining-requests"], headers["x-ratelimit-reset-requests"]) == ("0", written)
    assert (headers["x-ratelimit-remaining-tokens"], headers["x-ratelimit-reset-tokens"]) == ("1999000", "6m0s")
    assert "retry-after" not in headers


def test_waits_as_instants() -> None:
    """An HTTP date and an RFC 3339 instant are at least as late as the wait, and less than a second later."""
    before = time.time()
    date = parsedate_to_datetime(said("429-date", 5).headers["retry-after"]).timestamp()
    instant = datetime.fromisoformat(said("429-anthropic", 5).headers["anthropic-ratelimit-requests-reset"]).timestamp()
    after = time.time()

    assert before + 5 <= date < after + 6
    assert before + 5 <= instant < after + 6


@pytest.mark.parametrize(("name", "period"), [("429-gemini-minute", "PerMinute"), ("429-gemini-day", "PerDay")])
def test_a_wait_in_the_body(name: str, period: str) -> None:
    """Gemini names quota and delay in a list's error."""
    (answer,) = json.loads(said(name, 0.4).body)
    failure, info = answer["error"]["details"]

    assert period in failure["violations"][0]["quotaId"]
    assert info["retryDelay"] == "0.4s"


def test_a_wait_is_for_those_that_name_one() -> None:
    """A refusal without a wait has none, whatever is asked for."""
    assert said("429-bare", 5) == said("429-bare")


@pytest.mark.parametrize("name", MIXED)
def test_a_status_that_is_said_in_several_ways(name: str) -> None:
    """It is any of them, about as often, and its meaning names them."""
    answers = [error_answer(name, random.Random(seed), None) for seed in range(200)]

    shares = [answers.count(said(each)) for each in MIXED[name]]
    assert sum(shares) == 200
    assert min(shares) > 60
    assert all(each in ERRORS[name] for each in MIXED[name])
