"""A reduce: values are joined by neighbours, their answers again, until there is one; all as they come.

Theory of operation. Two tasks: one reads the parts in input order, the other hears the answers to joins as they are done.
What either brings goes into the folding, and what that wants to be asked into the supply of one run, which keeps the quota,
the budget, the deadline and the journal. Parts are read no faster than the run pulls what follows from them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from ..call import refused
from ..core.checks import is_count
from ..core.folding import Folding, Question, Unfoldable, Weigh
from ..errors import CallError, ConfigError, Rejected, Stopped
from ..results import Result
from ..run import Run
from .plans import Plans
from .prompt import Prompt, prompt_of
from .supply import Supply, answers


def check_parts(parts: object, context: int) -> None:
    """Refuse what is surely a mistake, before anything is sent."""
    if not is_count(context):
        raise ConfigError(f"context must be a whole number of tokens >= 1, got {context!r}")
    if isinstance(parts, Run):
        return
    if isinstance(parts, str | Prompt | Mapping) or not isinstance(parts, Iterable):
        kind = type(parts).__name__
        raise ConfigError(f"parts must be a run (`fan.map(...)`, not awaited) or a list of values, got one {kind}")


def weigh_by(join: Callable[[Sequence[Any]], Any], plans: Plans) -> Weigh[Any, Prompt]:
    """Makes the prompt that joins values, and says how many tokens it may take, its answer included where that has a bound.
    Raises what `join` raises, and ConfigError if it gives no prompt.
    """

    def weigh(values: Sequence[Any]) -> tuple[Prompt, int]:
        prompt = prompt_of(join(values))
        plan = plans.of(prompt)
        request = plan.request_of(prompt)
        return prompt, request.input_tokens() + (request.max_tokens or 0)

    return weigh


class Reduction:
    """One reduce while it goes on.

    Args:
        parts: What is folded: a run, or values.
        folding: Which of it is joined.
        run: Asks the joins.
        supply: What that pulls.
    """

    def __init__(
        self, parts: Run[Any] | Iterable[Any], folding: Folding[Any, Prompt], run: Run[Any], supply: Supply
    ) -> None:
        self._parts = parts
        self._folding = folding
        self._run = run
        self._supply = supply
        self._asked: dict[int, Question[Prompt]] = {}  # that have not been answered, by their positions in the run
        self._number = 0
        self._outcome: Result[Any] | None = None

    async def result(self) -> Result[Any]:
        """The Result of the last join, or one that says why there is none. Cancelled, or broken by what `join` or a run
        raises, it leaves nothing of either run.
        """
        tasks = [asyncio.ensure_future(self._read()), asyncio.ensure_future(self._hear())]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in ended:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert self._outcome is not None  # hearing has ended
        return self._outcome

    async def _read(self) -> None:
        """Take all parts; those of a run also when nothing is joined any more, for they are kept where it keeps them."""
        if isinstance(self._parts, Run):
            await self._read_run(self._parts)
        else:
            await self._read_values(self._parts)
        self._go_on(self._folding.end)
        if not self._folding.taken:
            self._fail(Rejected("there are no parts to reduce; hand in at least one", kind="invalid"))

    async def _read_run(self, parts: Run[Any]) -> None:
        async with answers(parts, in_order=True) as results:
            async for result in results:
                if result.error is not None:
                    self._skip(f"part {result.id!r}", result.error)
                else:
                    self._go_on(partial(self._folding.take, result.value))
                await self._supply.spent()
        if (stopped := parts.summary.stopped) is not None:  # there may be parts that nobody has heard of
            self._skip("the run of the parts", stopped)

    async def _read_values(self, parts: Iterable[Any]) -> None:
        for value in parts:
            self._go_on(partial(self._folding.take, value))
            if self._outcome is not None:
                return
            await asyncio.sleep(0)  # long texts take a millisecond to size: others have their turns between them
            await self._supply.spent()

    async def _hear(self) -> None:
        """Take the answers to joins."""
        async with answers(self._run) as results:
            async for result in results:
                question = self._asked.pop(result.index)
                if question.is_last:
                    self._outcome = result
                elif result.error is not None:
                    self._skip(f"join {question.place} of level {question.level}", result.error)
                else:
                    self._go_on(partial(self._folding.answer, question, result.value))
        self._heard_all(self._run.summary.stopped)

    def _heard_all(self, stopped: Stopped | None) -> None:
        """The run of the joins has ended, by itself or by a bound of its own."""
        if stopped is not None:
            self._fail(stopped)
            if stopped.kind == "deadline" and isinstance(self._parts, Run):
                self._parts.cancel("the deadline of its reduce has passed")
        self._supply.close()

    def _go_on(self, step: Callable[[], list[Question[Prompt]]]) -> None:
        """Ask what follows from a step, if there is any use in it."""
        if self._outcome is not None:
            return
        try:
            questions = step()
        except Unfoldable as exc:
            self._fail(Rejected(str(exc), kind="too_large"))
            return
        for question in questions:
            self._asked[self._number] = question
            self._number += 1
            self._supply.add(question.asked)
            if question.is_last:
                self._supply.close()

    def _skip(self, what: str, error: CallError) -> None:
        """Something failed without which there is no whole."""
        skipped = Stopped(f"{what} failed, so nothing more was joined: {error.kind}: {error.message}", kind="skipped")
        skipped.__cause__ = error
        self._fail(skipped)

    def _fail(self, error: CallError) -> None:
        """There will be no whole, because of what came first: joins that were not begun are not asked any more."""
        if self._outcome is None:
            self._outcome = refused(0, None, error)
            self._run.wind_down(error.message)
            self._supply.close()
