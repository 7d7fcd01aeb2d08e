"""One prompt on its way: what is said of it at its edges; the rest is seen through a client."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llm_fanout import Endpoint, FanOut, Limits, Prompt, Rejected
from llm_fanout.core.retry import Again
from llm_fanout.llm.calls import FIRST_GUESS, MEMORY, OutputGuess, Plan, PromptCall
from llm_fanout.llm.prompt import Settings
from llm_fanout.llm.routes import Routes
from llm_fanout.llm.wire import AiohttpWire
from llm_fanout.providers import Reply, Request
from llm_fanout.spending import Usage
from llm_fanout.work import Timing


async def mine(request: Request) -> Reply:
    return Reply("yes", usage=Usage(10, 20))


def call_of(text: str, limits: Limits, **options: Any) -> PromptCall:
    routes = Routes([Endpoint("mine/x", provider=mine, limits=limits)], AiohttpWire())
    prompt, settings = Prompt(text), Settings.of(options)
    return PromptCall(prompt, 0, Plan(routes.steps(None), settings, rank=1))


def test_a_call_that_is_cut_off_before_its_first_step() -> None:
    """Nothing was sent: it is tried again, and costs nothing."""
    call = call_of("hello", Limits(), timeout=3)

    outcome = call.late()
    result = call.result(0, outcome, Timing())

    assert (outcome.again, str(outcome.error)[:22]) == (Again.TRANSIENT, "no answer within 3 s; ")
    assert (result.spending, result.cost, result.model, result.endpoint) == ((), None, "mine/x", "")


def test_a_call_reserves_what_it_may_use() -> None:
    """The input by an estimate, the output by `max_tokens` or else by a guess; nothing where tokens are not counted."""
    stated = call_of("hello", Limits(tpm=100_000), max_tokens=50).choices[0].cost
    guessed = call_of("hello", Limits(tpm=100_000)).choices[0].cost
    newer = call_of("hello", Limits(tpm=100_000), max_completion_tokens=60).choices[0].cost
    uncounted = call_of("hello", Limits(rpm=5)).choices[0].cost

    assert (stated.output, guessed.output, newer.output) == (50, FIRST_GUESS, 60)
    assert stated.input > 0
    assert uncounted.tokens == 0


def test_what_can_never_start_is_refused() -> None:
    """More tokens than pass in a minute: said at once, with what to do."""
    with pytest.raises(Rejected, match=r"may use 5\d\d\d tokens .* raise tpm"):
        call_of("hello", Limits(tpm=1_000), max_tokens=5_000)


def test_the_guess_follows_the_answers() -> None:
    """The first answer counts for as much as the guess, later ones for a twentieth at least."""
    guess = OutputGuess()

    guess.learn(100)
    once = guess.tokens
    for _ in range(10 * MEMORY):
        guess.learn(100)

    assert (once, round(guess.tokens)) == (300.0, 100)


async def test_answers_teach_what_the_next_call_reserves() -> None:
    """By the usage that they report."""
    async with FanOut(Endpoint("mine/x", provider=mine), limits=Limits(tpm=1_000_000, max_concurrency=1)) as fan:
        report = await asyncio.wait_for(fan.map(["a"] * 60, progress=False), 60)
        route = next(route for _, route in fan._routes)

    assert report.summary.usage == Usage(600, 1_200)
    assert 20 <= route.output.tokens < FIRST_GUESS / 4
