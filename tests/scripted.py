"""A provider that is a function: what it answers, and when, is said by the test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from llm_fanout import Endpoint, FanOut, Limits
from llm_fanout.core.quota import Quota
from llm_fanout.providers import Request

Answer = Callable[[str], Awaitable[str]]


class Scripted:
    """Answers with `answer(text of the prompt)`, and notes what happens.

    Attributes:
        asked: The prompts' texts, as they came.
        running: Calls that are under way; `most`, of these at once.
        cancelled: Prompts whose calls were cancelled.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.asked: list[str] = []
        self.cancelled: list[str] = []
        self.running = self.most = 0

    async def __call__(self, request: Request) -> str:
        text: str = request.messages[-1]["content"]
        self.asked.append(text)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self._answer(text)
        except asyncio.CancelledError:
            self.cancelled.append(text)
            raise
        finally:
            self.running -= 1

    def fan(self, limits: Limits | None = None, **options: Any) -> FanOut:
        """A client of it."""
        return FanOut(Endpoint("mine/x", provider=self, price=(1.0, 1.0)), limits=limits or Limits(), **options)


def quota_of(fan: FanOut) -> Quota:
    """The quota of its own model."""
    return fan._runs.routes.steps(None, ())[0].routes[0].hold.quota


async def after(seconds: float, text: str) -> str:
    """`text`, in so many seconds."""
    await asyncio.sleep(seconds)
    return text
