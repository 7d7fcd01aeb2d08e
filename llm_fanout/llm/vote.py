"""A vote: one prompt is asked again and again, until no further answer can change which is the most frequent."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..core.checks import is_count
from ..core.votes import Votes
from ..errors import ConfigError
from ..results import Result
from .prompt import Prompt, prompt_of
from .supply import Supply, answers

if TYPE_CHECKING:
    from ..run import Run

T_co = TypeVar("T_co", covariant=True)
Key = Callable[[Any], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote(Generic[T_co]):
    """How a vote ended: see `FanOut.vote`.

    Attributes:
        winner: The most frequent answer, the first of those that count as it; None if no call gave a vote. Of several that
            are equally frequent, the one that comes first in `results`: then `margin` is 0.
        decided: Whether it is the winner whatever the calls that were not made would have answered.
        counts: Votes by what they are for (what `key` made of the answers), the most frequent first.
        margin: Votes by which it is ahead of the second.
        results: Those of the calls that were made, failed ones included, in order.
        saved: Calls that were not made.
    """

    winner: T_co | None
    decided: bool
    counts: Mapping[object, int]
    margin: int
    results: Sequence[Result[T_co]]
    saved: int


def ballot_of(prompt: object) -> Prompt:
    """What is asked each time: an id would be there twice. Raises ConfigError if it is no prompt."""
    asked = prompt_of(prompt)
    return asked if asked.id is None else Prompt(asked.content, model=asked.model, tag=asked.tag, **asked.options)


def check_votes(votes: int, lead: int | None) -> None:
    """Refuse numbers with which there is no vote."""
    for name, number in (("votes", votes), ("lead", 1 if lead is None else lead)):
        if not is_count(number):
            raise ConfigError(f"{name} must be a whole number >= 1, got {number!r}")


def stripped(text: str) -> str:
    """A text as it is counted, unless the user says otherwise."""
    return text.strip()


def written(value: Any) -> str:
    """An instance of a pydantic model as it is counted, unless the user says otherwise."""
    return str(value.model_dump_json())


class Poll(Generic[T_co]):
    """One vote while it is taken.

    Args:
        supply: What its run pulls.
        prompt: What is asked.
        votes: How often at the most.
        lead: How far ahead is enough; None for as far as cannot be made up.
        key: What an answer counts as; None for a spoiled vote.
    """

    def __init__(self, supply: Supply, prompt: Prompt, *, votes: int, lead: int | None, key: Key) -> None:
        self._supply = supply
        self._prompt = prompt
        self._number = votes
        self._lead = lead
        self._key = key
        self._votes = Votes(votes, lead)
        self._begun = 0
        self._heard: dict[int, tuple[Result[T_co], Hashable]] = {}

    async def take(self, run: Run[T_co]) -> Vote[T_co]:
        """Ask and count until it has ended. What `key` raises is passed on, once the calls under way are cancelled."""
        self._ask()
        async with answers(run) as results:
            async for result in results:
                key = self._key_of(result)
                self._heard[result.index] = result, key
                self._votes.count(key)
                self._ask()
        return self._ended()

    def _ask(self) -> None:
        """Have as many calls under way as it takes, and no more."""
        wanted = self._votes.wanted
        while self._begun - self._votes.heard < wanted:
            self._begun += 1
            self._supply.add(self._prompt)
        if not wanted:
            self._supply.close()

    def _key_of(self, result: Result[T_co]) -> Any:
        """What it is a vote for; a failed call, and one that called tools instead, is for nobody."""
        return self._key(result.value) if result.ok and not result.tool_calls else None

    def _ended(self) -> Vote[T_co]:
        """The outcome, in which equals come in the order of their calls, and not in that of their answers."""
        heard = [self._heard[index] for index in sorted(self._heard)]
        votes = Votes(self._number, self._lead)
        for _, key in heard:
            votes.count(key)
        leader = votes.leader
        return Vote(
            winner=next((result.value for result, key in heard if key is not None and key == leader), None),
            decided=votes.is_decided,
            counts=dict(votes.counts.most_common()),
            margin=votes.margin,
            results=[result for result, _ in heard],
            saved=self._number - len(heard),
        )
