"""Races: the first good answer is taken, and nothing is left of the others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from scripted import Scripted, after, quota_of
from support import Simulate

from llm_fanout import BadReply, ConfigError, FanOut, Prompt, Rejected, Result, Stopped
from llm_fanout.core.stated import Limits
from llm_fanout.sim import Box, SimConfig


async def answer(text: str) -> str:
    """A prompt "fast 1" is answered in a second with itself; one that begins with "bad" fails."""
    name, seconds = text.split()
    said = await after(float(seconds), name)
    if name == "bad":
        raise Rejected("it will not do", kind="refusal")
    return said


def race(simulate: Simulate[Any], *prompts: str | Prompt, **options: Any) -> tuple[Result[str], Scripted, float]:
    """A race of `prompts`: its Result, who answered, and how long it took. Nothing is held or under way after it."""
    provider = Scripted(answer)

    async def main() -> tuple[Result[str], float]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with provider.fan() as fan:
            result = await fan.race(prompts, **options)
            took = loop.time() - began
            await asyncio.sleep(0)  # what is left behind to be tidied up begins now
            assert (provider.running, quota_of(fan).slots.in_use, len(asyncio.all_tasks())) == (0, 0, 1)
            assert fan.summary.done == len(prompts)
        return result, took

    result, took = simulate(main)
    return result, provider, took


def test_the_first_answer_wins(simulate: Simulate[Any]) -> None:
    """All are asked at once; the quickest is the Result, and the others are cancelled that very moment."""
    result, provider, took = race(simulate, "slow 5", "fast 1", "slower 9")

    assert (result.value, result.index, took) == ("fast", 1, 1.0)
    assert provider.most == 3
    assert sorted(provider.cancelled) == ["slow 5", "slower 9"]


def test_an_answer_that_is_not_accepted_does_not_win(simulate: Simulate[Any]) -> None:
    """`accept` is asked of every answer as it comes, and not of failures; the first that it takes wins."""
    seen: list[str] = []

    def accept(result: Result[str]) -> bool:
        seen.append(result.value)
        return result.value == "good"

    result, _, took = race(simulate, "good 7", "poor 1", "bad 2", "good 3", accept=accept)

    assert (result.value, result.index, took) == ("good", 3, 3.0)
    assert seen == ["poor", "good"]


def test_a_race_that_nobody_wins_says_so(simulate: Simulate[Any]) -> None:
    """Answers that were not accepted are no failure of the calls: it says how many there were, and has the first one's."""
    result, _, _ = race(simulate, "bad 1", "poor 3", "weak 2", accept=lambda result: False)

    assert isinstance(result.error, BadReply)
    assert result.error.kind == "schema"
    assert "2 of 3 prompts got an answer, and accept= took none" in str(result.error)
    assert (result.text, result.index) == ("poor", 1)


def test_one_prompt_may_race_alone(simulate: Simulate[Any]) -> None:
    """A list of one is many: with `accept` it is a call whose answer is checked."""
    result, _, _ = race(simulate, "poor 1", accept=lambda result: False)

    assert "the prompt got an answer" in str(result.error)


def test_without_an_answer_it_is_the_first_prompts_failure(simulate: Simulate[Any]) -> None:
    """All fail: the Result is that of the first prompt, whichever failed first."""
    result, _, _ = race(simulate, "bad 3", Prompt("bad 1", id="second"))

    assert isinstance(result.error, Rejected)
    assert (result.index, result.error.kind) == (0, "refusal")


def test_what_accept_raises_is_passed_on(simulate: Simulate[Any]) -> None:
    """An error of the user's own ends the race: the others are cancelled first."""
    provider = Scripted(answer)

    async def main() -> tuple[int, int]:
        async with provider.fan() as fan:
            with pytest.raises(ZeroDivisionError):
                await fan.race(["fast 1", "slow 9"], accept=lambda result: bool(1 / 0))
            return quota_of(fan).slots.in_use, len(asyncio.all_tasks())

    assert simulate(main) == (0, 1)
    assert provider.cancelled == ["slow 9"]


def test_a_race_under_a_budget_gives_back_what_the_losers_held(simulate: Simulate[Any]) -> None:
    """What was set aside for the losers, and not used, pays for the next race."""
    provider = Scripted(answer)

    async def main() -> list[bool]:
        async with provider.fan(token_budget=30_000, max_tokens=1_000) as fan:
            return [(await fan.race([f"fast {number}", "slow 9"])).ok for number in range(3)]

    assert simulate(main) == [True, True, True]


def test_the_clean_up_of_the_others_is_awaited(simulate: Simulate[Any]) -> None:
    """A provider that takes two seconds to end a call: the race is over when it has."""
    tidied: list[str] = []

    async def tidy(text: str) -> str:
        try:
            return await answer(text)
        except asyncio.CancelledError:
            await asyncio.sleep(2)
            tidied.append(text)
            raise

    async def main() -> tuple[str, list[str], float]:
        began = asyncio.get_running_loop().time()
        async with Scripted(tidy).fan() as fan:
            result = await fan.race(["slow 5", "fast 1"])
            return result.value, list(tidied), asyncio.get_running_loop().time() - began

    assert simulate(main) == ("fast", ["slow 5"], 3.0)


def test_a_narrow_quota_asks_one_after_another(simulate: Simulate[Any]) -> None:
    """With one slot nothing locks up: what never began when the first has won is not asked."""
    provider = Scripted(answer)

    async def main() -> Result[str]:
        async with provider.fan(Limits(max_concurrency=1)) as fan:
            return await fan.race([f"fast {number + 1}" for number in range(50)])

    assert simulate(main).value == "fast"
    assert provider.asked == ["fast 1", "fast 2"]  # the slot is free a moment before the answer is seen
    assert provider.cancelled == ["fast 2"]


@pytest.mark.parametrize(
    ("prompts", "said"),
    [("one", "one prompt"), (Prompt("one"), "one prompt"), ([], "no prompt to race"), (iter([]), "no prompt to race"),
     (["ok", 7], "prompt 1"), (iter(["ok", 7]), "prompt 1"), ({"a": "b"}, "a dict"), (7, "must be a list")],
)  # fmt: skip
async def test_what_is_no_race_is_refused(prompts: Any, said: str) -> None:
    """One prompt instead of many, none, or something else: nothing is sent."""
    provider = Scripted(answer)
    async with provider.fan() as fan:
        with pytest.raises(ConfigError, match=said):
            await fan.race(prompts)

    assert provider.asked == []


async def test_prompts_that_come_one_by_one_are_no_race() -> None:
    """An async iterable cannot be asked at once."""

    async def prompts() -> Any:
        yield "fast 1"

    async with Scripted(answer).fan() as fan:
        with pytest.raises(ConfigError, match="async iterable"):
            await fan.race(prompts())  # type: ignore[arg-type]  # the mistake under test


async def test_an_option_of_a_run_is_refused() -> None:
    """A race takes what a call takes."""
    async with Scripted(answer).fan() as fan:
        with pytest.raises(ConfigError, match="no option 'journal'"):
            await fan.race(["fast 1"], journal="x.db")  # type: ignore[call-arg]  # the mistake under test


def test_a_scope_that_ends_ends_its_race(simulate: Simulate[Any]) -> None:
    """Cancelled with its scope, every prompt has failed: the first one's Result says why."""

    async def main() -> Result[str]:
        async with Scripted(answer).fan() as fan, fan.scope("agent") as scope:
            asyncio.get_running_loop().call_later(1, scope.cancel)
            return await fan.race(["slow 5", "slow 6"])

    result = simulate(main)

    assert isinstance(result.error, Stopped)
    assert "scope 'agent' was cancelled" in str(result.error)


async def test_losers_are_hung_up_on() -> None:
    """Over sockets: the box sees the losers' connections go, and answers the next call at once."""
    with Box(SimConfig(latency=0.01, jitter=0.0)) as box:
        async with FanOut("sim/x", base_url=box.url) as fan:
            result = await fan.race(["[[answer:slow]] [[latency:30]]", "[[answer:quick]]", "[[answer:slow]] [[latency:30]]"])
            again = await fan.call("[[answer:next]]")
            summary = fan.summary

    assert (result.value, again.value) == ("quick", "next")
    assert (summary.done, summary.succeeded) == (4, 2)
