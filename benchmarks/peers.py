"""Peers as callers: those that the probes know are asked just as there."""

from __future__ import annotations

from typing import Any

from .callers import KEY, NEVER_WAITS, Caller
from .conformance.contenders import AsyncBatchLLM, Contender, LangChain, LiteLLM, LmDeluge
from .conformance.job import Job


class Peer(Caller):
    """A contender of the probes, at its defaults but for how many calls may be in flight."""

    contender: type[Contender]
    told: dict[str, int] = {}  # noqa: RUF012
    slow = True

    async def open(self) -> None:
        self.peer: Any = self.contender(self.url, Job(waves=[], work=[], concurrency=self.width, **self.told))
        self.peer.open()

    async def ask(self, prompts: list[str]) -> int:
        return sum(await self.peer.ask(prompts))


class AsyncBatchLLMCaller(Peer):
    contender = AsyncBatchLLM
    packages = AsyncBatchLLM.packages


class LmDelugeCaller(Peer):
    contender = LmDeluge
    packages = LmDeluge.packages
    told = NEVER_WAITS  # its defaults would hold it to 1,000 a minute
    slow = False


class LangChainCaller(Peer):
    contender = LangChain
    packages = LangChain.packages

    async def close(self) -> None:
        """Close the client that it caches: in the next turn its connections would be open, and of another event loop."""
        from langchain_openai.chat_models._client_utils import _cached_async_httpx_client

        await self.peer.model.root_async_client.close()
        _cached_async_httpx_client.cache_clear()


class LiteLLMCaller(Caller):
    """`acompletion`: its Router, which the probes ask, costs more and refuses what does not fit."""

    packages = LiteLLM.packages
    slow = True

    async def open(self) -> None:
        from litellm import acompletion

        self.complete = acompletion

    async def ask(self, prompts: list[str]) -> int:
        return await self.ask_each(prompts, self.one)

    async def one(self, prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        answer: Any = await self.complete("openai/x", messages, api_base=self.url, api_key=KEY, num_retries=0)
        return str(answer.choices[0].message.content)
