"""A race: many prompts are asked at once, and the first good answer is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import BadReply, ConfigError
from ..results import Result
from .sources import check_at_hand, check_source
from .supply import answers

if TYPE_CHECKING:
    from ..run import Run

Accept = Callable[[Result[str]], bool]


def starters(prompts: Iterable[object]) -> list[object]:
    """All prompts of a race. Raises ConfigError if there are none, or one that is none."""
    check_at_hand(prompts)
    check_source(prompts)
    rows = list(prompts)
    check_source(rows)  # what was an iterator could not be looked through
    if not rows:
        raise ConfigError("there is no prompt to race; hand in at least one")
    return rows


def any_answer(result: Result[str]) -> bool:
    """Whatever was answered is accepted."""
    return True


async def first_accepted(run: Run[Any], accept: Accept) -> Result[str]:
    """The Result of the first call of `run` whose answer is accepted; the others are cancelled, and their clean-up is done.
    If there is none, a Result that says why. What `accept` raises is passed on.
    """
    losers: list[Result[str]] = []
    async with answers(run) as results:
        async for result in results:
            if result.ok and accept(result):
                return result
            losers.append(result)
    return _none_accepted(sorted(losers, key=lambda result: result.index))


def _none_accepted(losers: list[Result[str]]) -> Result[str]:
    """What is said of a race that nobody won."""
    answered = [result for result in losers if result.ok]
    if not answered:
        return losers[0]
    count = f"{len(answered)} of {len(losers)} prompts" if len(losers) > 1 else "the prompt"
    why = f"{count} got an answer, and accept= took none; ask otherwise, or accept more"
    best = answered[0]
    return replace(best, error=BadReply(why, kind="schema", partial=best.text))
