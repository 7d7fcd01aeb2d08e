"""Providers are held to what a run needs of them: each fault has its complaint, and good ones pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from llm_fanout import Endpoint, Rejected
from llm_fanout.providers import Reply, Request
from llm_fanout.sim import Box, SimConfig
from llm_fanout.spending import Usage
from llm_fanout.testing import check_provider

Function = Callable[[Request], Awaitable[Any]]


def text_of(request: Request) -> str:
    return str(request.messages[-1]["content"])


async def echo(request: Request) -> str:
    await asyncio.sleep(0.01)
    return text_of(request)


async def choosy(request: Request) -> Reply:
    if "seed" in request.params:
        raise Rejected("there is no seed here; leave it out", kind="invalid")
    return Reply(text_of(request), usage=Usage(3, 2, 1, 1))


def test_good_providers_pass() -> None:
    """Functions, one that refuses a parameter by name included; and the box, by each of its APIs."""
    check_provider(lambda: Endpoint("mine/echo", provider=echo))
    check_provider(lambda: Endpoint("mine/choosy", provider=choosy))
    with Box(SimConfig(latency=0.05)) as box:
        check_provider(lambda: Endpoint("sim/x", base_url=box.url))
        check_provider(lambda: Endpoint("openai/x", base_url=box.url, api_key="none", api="responses"))
        check_provider(lambda: Endpoint("anthropic/x", base_url=box.url.removesuffix("/v1"), api_key="none"))


async def fails(request: Request) -> str:
    raise ValueError("always")


async def says_nothing(request: Request) -> Reply:
    return Reply("  ")


async def has_no_end(request: Request) -> Reply:
    return Reply("yes", finish_reason=None)


async def owes(request: Request) -> Reply:
    return Reply("yes", usage=Usage(-1, 5))


async def adds_up(request: Request) -> Reply:
    return Reply("yes", usage=Usage(50_000, 5))


async def caches_too_much(request: Request) -> Reply:
    return Reply("yes", usage=Usage(5, 5, cached_tokens=6))


async def counts_half(request: Request) -> Reply:
    return Reply("yes", usage=Usage(0, 5))


async def wants_text(request: Request) -> str:
    if not isinstance(request.messages[-1]["content"], str):
        raise TypeError("no parts")
    return "yes"


async def knows_no_stop(request: Request) -> str:
    if "stop" in request.params:
        raise RuntimeError("what?")
    return "yes"


def crowded() -> Function:
    running = 0

    async def provider(request: Request) -> str:
        nonlocal running
        running += 1
        try:
            await asyncio.sleep(0.05)
            if running > 5:
                raise Rejected("one at a time", kind="exception")
            return "yes"
        finally:
            running -= 1

    return provider


def confused() -> Function:
    last = ""

    async def provider(request: Request) -> str:
        nonlocal last
        last = text_of(request)
        await asyncio.sleep(0.05)
        return last

    return provider


async def blocks(request: Request) -> str:
    time.sleep(0.1)  # noqa: ASYNC251  # the mistake under test
    return "yes"


async def hears_no_cancel(request: Request) -> str:
    for _ in range(20 if "thousand" in text_of(request) else 0):
        try:
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            pass
    return "yes"


def bound() -> Function:
    loops: set[Any] = set()

    async def provider(request: Request) -> str:
        loops.add(asyncio.get_running_loop())
        if len(loops) > 1:
            raise RuntimeError("another loop")
        return "yes"

    return provider


@pytest.mark.parametrize(
    ("provider", "complaint"),
    [
        (fails, "a plain prompt fails: exception: ValueError: always"),
        (says_nothing, "a plain prompt is answered with no text"),
        (has_no_end, "a plain prompt fails: truncated: the answer ended without a finish reason"),
        (owes, "usage has a negative figure"),
        (adds_up, "give the tokens of this call alone"),
        (caches_too_much, "cached tokens are part of the input"),
        (counts_half, "input or output tokens alone"),
        (wants_text, "a conversation with instructions and content parts fails"),
        (knows_no_stop, r"stop= fails: exception: .*; take it, or refuse it as invalid and name it"),
        (crowded(), "of 20 calls at once"),
        (confused(), "get each other's answers"),
        (blocks, "it blocks the event loop"),
        (hears_no_cancel, "that is cancelled goes on"),
        (bound(), "another loop"),
    ],
    ids=lambda value: getattr(value, "__qualname__", "").partition(".")[0],
)
def test_each_fault_has_its_complaint(provider: Function, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not hold is said, with what to do."""
    monkeypatch.setattr("llm_fanout.acceptance.CANCELLED_WITHIN", 1.0)

    with pytest.raises(AssertionError, match=complaint):
        check_provider(lambda: Endpoint("mine/x", provider=provider))
