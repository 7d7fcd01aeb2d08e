"""How prompts are asked: what a call reserves, and what that is learnt from."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from llm_fanout import Endpoint, FanOut, Limits, Prompt, Rejected
from llm_fanout.core.job import Choice
from llm_fanout.llm.plan import FIRST_GUESS, FIRST_TOKEN, MEMORY, NEXT_TOKEN, OutputGuess, Plan
from llm_fanout.llm.prompt import Settings
from llm_fanout.llm.routes import Routes
from llm_fanout.llm.wire import AiohttpWire
from llm_fanout.providers import Reply, Request
from llm_fanout.spending import Usage


async def mine(request: Request) -> Reply:
    return Reply("yes", usage=Usage(10, 20))


def choices_of(text: str, limits: Limits, **options: Any) -> Sequence[Choice]:
    """Those of a call with that prompt."""
    routes = Routes([Endpoint("mine/x", provider=mine, limits=limits)], AiohttpWire())
    plan = Plan(routes.steps(None), Settings.of(options), rank=1)
    return plan.choices_for(plan.request_of(Prompt(text)))


def test_a_call_reserves_what_it_may_use() -> None:
    """The input by an estimate, the output by `max_tokens` or else by a guess; nothing where tokens are not counted."""
    stated = choices_of("hello", Limits(tpm=100_000), max_tokens=50)[0].cost
    guessed = choices_of("hello", Limits(tpm=100_000))[0].cost
    newer = choices_of("hello", Limits(tpm=100_000), max_completion_tokens=60)[0].cost
    uncounted = choices_of("hello", Limits(rpm=5))[0].cost

    assert (stated.output, guessed.output, newer.output) == (50, FIRST_GUESS, 60)
    assert stated.input > 0
    assert uncounted.tokens == 0


def test_what_can_never_start_is_refused() -> None:
    """More tokens than pass in a minute: said at once, with what to do."""
    with pytest.raises(Rejected, match=r"may use 5\d\d\d tokens .* raise tpm"):
        choices_of("hello", Limits(tpm=1_000), max_tokens=5_000)


def test_the_guess_follows_the_answers() -> None:
    """The first answer counts for as much as the guess, later ones for a twentieth at least."""
    guess = OutputGuess()

    guess.learn(100, 1.0)
    once = guess.tokens
    for _ in range(10 * MEMORY):
        guess.learn(100, 1.0)

    assert (once, round(guess.tokens)) == (300.0, 100)


def test_how_long_answers_take_is_learnt() -> None:
    """A guess until the first answer, then what answers took, more or less of it for longer or shorter ones."""
    guess = OutputGuess()

    before = guess.seconds_for(50)
    guess.learn(50, 10.0)
    once = guess.seconds_for(50)
    guess.learn(50, 20.0)
    twice = guess.seconds_for(50), guess.seconds_for(100)

    assert before == pytest.approx(FIRST_TOKEN + 50 * NEXT_TOKEN)
    assert (once, *twice) == pytest.approx((10.0, 15.0, 22.5))


async def test_answers_teach_what_the_next_call_reserves() -> None:
    """By the usage that they report."""
    async with FanOut(Endpoint("mine/x", provider=mine), limits=Limits(tpm=1_000_000, max_concurrency=1)) as fan:
        report = await asyncio.wait_for(fan.map(["a"] * 60, progress=False), 60)
        route = next(route for _, route in fan._runs.routes)

    assert report.summary.usage == Usage(600, 1_200)
    assert 20 <= route.output.tokens < FIRST_GUESS / 4
