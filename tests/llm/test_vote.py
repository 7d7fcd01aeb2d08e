"""Votes: one prompt asked until no further answer can change the winner."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from scripted import Scripted, after, quota_of
from support import Simulate

from llm_fanout import ConfigError, Endpoint, FanOut, Limits, Prompt, Rejected, Stopped, Vote
from llm_fanout.providers import Reply, Request
from llm_fanout.providers import ToolCall as Called
from llm_fanout.sim import Box, SimConfig


class Grade(BaseModel):
    good: bool
    why: str = ""


class Voters:
    """Each call is answered with the next of these, a second after it came; "fail" fails."""

    def __init__(self, said: Iterable[str]) -> None:
        self._said = iter(said)
        self.provider = Scripted(self.answer)

    async def answer(self, _: str) -> str:
        said = await after(1.0, next(self._said))
        if said == "fail":
            raise Rejected("it will not do", kind="refusal")
        return said


def vote(simulate: Simulate[Any], said: Iterable[str], prompt: Any = "2 + 2?", **options: Any) -> tuple[Vote[Any], Scripted]:
    """A vote in which calls are answered so: what came of it, and who answered. Nothing is held or under way after it."""
    provider = Voters(said).provider

    async def main() -> Vote[Any]:
        async with provider.fan() as fan:
            outcome: Vote[Any] = await fan.vote(prompt, **options)
            assert (provider.running, quota_of(fan).slots.in_use, len(asyncio.all_tasks())) == (0, 0, 1)
            assert fan.summary.done == len(outcome.results) == len(provider.asked)
        return outcome

    return simulate(main), provider


def test_a_majority_is_enough(simulate: Simulate[Any]) -> None:
    """Eight of fifteen agree: nobody else is asked, and nothing can change it."""
    outcome, provider = vote(simulate, ["4"] * 15, votes=15)

    assert (outcome.winner, outcome.decided, outcome.counts, outcome.margin) == ("4", True, {"4": 8}, 8)
    assert (len(outcome.results), outcome.saved, provider.most) == (8, 7, 8)


def test_only_as_many_are_under_way_as_could_decide_it(simulate: Simulate[Any]) -> None:
    """Each answer that disagrees releases at most one more, so no call has to be thrown away."""
    outcome, provider = vote(simulate, ["4", "5", "4", "4", "4", "5", "4", "4", "4", "4", "4"], votes=15)

    assert (outcome.winner, outcome.decided, outcome.counts) == ("4", True, {"4": 8, "5": 2})
    assert (len(outcome.results), outcome.saved, provider.most) == (10, 5, 8)
    assert provider.cancelled == []


def test_a_lead_ends_it_sooner_and_says_so(simulate: Simulate[Any]) -> None:
    """Three ahead of nobody after three of fifteen: the other twelve could still overturn it."""
    outcome, provider = vote(simulate, ["4"] * 15, votes=15, lead=3)

    assert (outcome.winner, outcome.decided, outcome.margin, outcome.saved) == ("4", False, 3, 12)
    assert provider.most == 3


def test_a_lead_that_cannot_be_made_up_is_decided(simulate: Simulate[Any]) -> None:
    """Reached when it is decided anyway."""
    outcome, _ = vote(simulate, ["4"] * 5, votes=5, lead=3)

    assert (outcome.winner, outcome.decided, outcome.saved) == ("4", True, 2)


def test_a_tie_is_not_decided(simulate: Simulate[Any]) -> None:
    """All votes are taken, and the winner is the first of the equals."""
    outcome, _ = vote(simulate, ["b", "a", "a", "b"], votes=4)

    assert (outcome.winner, outcome.decided, outcome.margin, outcome.saved) == ("b", False, 0, 0)


def test_equals_come_in_the_order_of_the_calls(simulate: Simulate[Any]) -> None:
    """Whichever was answered first."""
    seconds = iter([5.0, 1.0])

    async def answer(_: str) -> str:
        first = next(seconds)
        return await after(first, f"after {first:.0f}")

    async def main() -> Vote[str]:
        async with Scripted(answer).fan() as fan:
            return await fan.vote("?", votes=2)

    outcome = simulate(main)

    assert outcome.winner == "after 5"
    assert list(outcome.counts) == ["after 5", "after 1"]


def test_answers_are_counted_by_their_key(simulate: Simulate[Any]) -> None:
    """The winner is the first answer with the winning key, as it was given."""
    outcome, _ = vote(simulate, ["I say 4", "so 4", "4"], votes=3, key=lambda text: text[-1])

    assert (outcome.winner, outcome.counts) == ("I say 4", {"4": 2})


def test_space_around_an_answer_does_not_count(simulate: Simulate[Any]) -> None:
    """By default texts are counted without it."""
    outcome, _ = vote(simulate, [" 4\n", "4", "5"], votes=3)

    assert (outcome.winner, outcome.counts) == (" 4\n", {"4": 2})


def test_failed_calls_and_those_without_a_key_are_spoiled_votes(simulate: Simulate[Any]) -> None:
    """They are results, and for nobody; they need not be made good."""
    said = ["fail", "hm", "4", "5", "4"]
    outcome, _ = vote(simulate, said, votes=5, key=lambda text: None if text == "hm" else text)

    assert (outcome.winner, outcome.decided, outcome.counts) == ("4", True, {"4": 2, "5": 1})
    assert [result.ok for result in outcome.results] == [False, True, True, True, True]


def test_a_vote_without_votes_has_no_winner(simulate: Simulate[Any]) -> None:
    """All have failed."""
    outcome, _ = vote(simulate, ["fail"] * 3, votes=3)

    assert (outcome.winner, outcome.decided, outcome.counts, outcome.margin, outcome.saved) == (None, False, {}, 0, 0)


def test_structured_answers_are_counted_as_json(simulate: Simulate[Any]) -> None:
    """Instances that are equal are one candidate, however they were written; the winner is an instance."""
    said = ['{"good": true}', '{"why": "", "good": true}', '{"good": false}']
    outcome, _ = vote(simulate, said, votes=3, response_format=Grade)

    assert outcome.winner == Grade(good=True)
    assert outcome.counts == {'{"good":true,"why":""}': 2}


def test_a_key_of_structured_answers_gets_the_instance(simulate: Simulate[Any]) -> None:
    """Verdicts are counted, and their reasons are not."""
    said = ['{"good": true, "why": "x"}', '{"good": true, "why": "y"}']
    outcome, _ = vote(simulate, said, votes=3, response_format=Grade, key=lambda grade: grade.good)

    assert (outcome.winner, outcome.counts) == (Grade(good=True, why="x"), {True: 2})


async def test_an_answer_that_calls_a_tool_is_a_spoiled_vote() -> None:
    """It has no value that could be counted."""

    async def answer(request: Request) -> Reply:
        return Reply("", tool_calls=(Called("1", "add", {}, "{}"),), finish_reason="tool_calls")

    async with FanOut(Endpoint("mine/x", provider=answer)) as fan:
        outcome = await fan.vote("?", votes=2, response_format=Grade)

    assert (outcome.winner, outcome.counts, [result.ok for result in outcome.results]) == (None, {}, [True, True])


def test_a_prompt_with_an_id_may_be_voted_on(simulate: Simulate[Any]) -> None:
    """The id is one of a run, where it could be there once only; the rest of the Prompt counts."""
    outcome, provider = vote(simulate, ["4"] * 3, Prompt("2 + 2?", id="q", tag="t", temperature=1.5), votes=3)

    assert [(result.id, result.tag) for result in outcome.results] == [(0, "t"), (1, "t")]
    assert outcome.results[0].prompt.options == {"temperature": 1.5}
    assert provider.asked == ["2 + 2?"] * 2


@pytest.mark.parametrize("key", [lambda text: 1 / 0, lambda text: [text]])
def test_what_key_raises_is_passed_on(simulate: Simulate[Any], key: Any) -> None:
    """So is a key that cannot be counted; the calls under way are cancelled first."""
    seconds = iter([1.0, 9.0, 9.0])
    provider = Scripted(lambda _: after(next(seconds), "4"))

    async def main() -> tuple[int, int]:
        async with provider.fan() as fan:
            with pytest.raises((ZeroDivisionError, TypeError)):
                await fan.vote("?", votes=5, key=key)
            return quota_of(fan).slots.in_use, len(asyncio.all_tasks())

    assert simulate(main) == (0, 1)
    assert len(provider.cancelled) == 2


@pytest.mark.parametrize(
    "numbers", [{"votes": 0}, {"votes": 2.5}, {"votes": None}, {"votes": 3, "lead": 0}, {"votes": True}]
)
async def test_numbers_that_make_no_vote_are_refused(numbers: Any) -> None:
    """So is a prompt that is none, before anything is sent."""
    async with Scripted(lambda _: after(0, "4")).fan() as fan:
        with pytest.raises(ConfigError, match="must be a whole number >= 1"):
            await fan.vote("?", **numbers)
        with pytest.raises(ConfigError, match="a prompt is text"):
            await fan.vote(7, votes=3)  # type: ignore[call-overload]  # the mistake under test


def test_a_budget_that_ends_leaves_a_vote_undecided(simulate: Simulate[Any]) -> None:
    """What was answered counts; what could not be asked is saved, and could have changed it."""
    provider = Scripted(lambda _: after(1.0, "4"))

    async def main() -> Vote[str]:
        async with provider.fan(Limits(max_concurrency=1), token_budget=1_000) as fan:
            return await fan.vote("?", votes=15, max_tokens=100)

    outcome = simulate(main)

    assert outcome.winner == "4"
    assert not outcome.decided
    assert 0 < len(provider.asked) < 8
    assert len(outcome.results) + outcome.saved == 15


def test_a_scope_that_ends_ends_its_vote(simulate: Simulate[Any]) -> None:
    """What has come counts; the calls under way are failed ones, and nothing more is asked."""

    async def main() -> Vote[str]:
        async with Scripted(lambda _: after(9.0, "4")).fan() as fan, fan.scope("agent") as scope:
            asyncio.get_running_loop().call_later(1, scope.cancel)
            return await fan.vote("?", votes=5)

    outcome = simulate(main)

    assert (outcome.winner, outcome.decided, outcome.saved) == (None, False, 2)
    assert [type(result.error) for result in outcome.results] == [Stopped] * 3


async def test_a_vote_over_sockets_goes_on_from_its_journal(tmp_path: Path) -> None:
    """With the journal of a scope, the same vote again asks nothing, and a larger one what it lacks."""
    with Box(SimConfig(latency=0.01, jitter=0.0)) as box:
        endpoint = Endpoint("openai/x", base_url=box.url, api_key="none", quota="q")
        async with FanOut(endpoint) as fan:
            outcomes, sent = [], []
            for votes in (3, 3, 5):
                async with fan.scope("s", journal=tmp_path / "votes.db"):
                    outcomes.append(await fan.vote("[[answer:4]] 2 + 2?", votes=votes))
                sent.append(box.stats["requests"])

    assert [outcome.counts for outcome in outcomes] == [{"4": 2}, {"4": 2}, {"4": 3}]
    assert sent == [2, 2, 3]
