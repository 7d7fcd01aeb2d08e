"""Us and the peers, one small class each: how its documentation says to do what the probes ask.

A contender is made from the witness's address and a job. `open` makes the library's client, once; `ask` gives one truth
value per prompt, whether it was answered; `race` gives the answer of whoever was first; `work` maps a function that does
nothing over so many items. What a library does not have raises NotOffered. Every other setting is its own default.
Libraries are imported on use: each contender runs in an environment that has its own and no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from .job import ANSWER_TOKENS, Job, NotOffered

KEY = "none"


class Contender:
    """What a contender says if its library has nothing for a probe.

    `packages` are what its environment needs, the library itself first; none for us.
    """

    packages: Sequence[str] = ()
    least_python = (3, 11)
    takes: frozenset[str] = frozenset()

    def __init__(self, url: str, job: Job) -> None:
        self.url = url
        self.job = job
        for name in ("concurrency", "rpm", "tpm", "retries"):
            if getattr(job, name) is not None and name not in self.takes:
                raise NotOffered(f"no setting for {name}")

    def open(self) -> None:
        """Import the library and make the client that every `ask` uses."""

    async def ask(self, prompts: list[str]) -> list[bool]:
        """Whether each prompt was answered, in order."""
        raise NotOffered("does not ask prompts")

    async def race(self, prompt: str) -> str:
        """The answer of whichever of the models "slow" and "fast" is first."""
        raise NotOffered("no race")

    async def work(self, items: int) -> None:
        """Map a function that does nothing."""
        raise NotOffered("maps no functions")

    def said(self, **names: str) -> dict[str, Any]:
        """The job's figures that are set, under the library's words for them."""
        return {name: value for ours, name in names.items() if (value := getattr(self.job, ours)) is not None}


class Ours(Contender):
    takes = frozenset({"concurrency", "rpm", "tpm", "retries"})

    def open(self) -> None:
        from llm_fanout import FanOut, Limits

        limits = Limits(**self.said(concurrency="max_concurrency", rpm="rpm", tpm="tpm"))
        options = self.said(retries="max_retries")
        self.fan = FanOut("openai/x", base_url=self.url, api_key=KEY, limits=limits, max_tokens=ANSWER_TOKENS, **options)

    async def ask(self, prompts: list[str]) -> list[bool]:
        return [result.ok for result in await self.fan.map(prompts)]

    async def work(self, items: int) -> None:
        from llm_fanout import Executor

        async def nothing(item: int) -> int:
            return item

        await Executor().map(nothing, range(items))


class AsyncBatchLLM(Contender):
    packages = ("async-batch-llm==0.28.0", "openai")
    takes = frozenset({"concurrency", "rpm", "tpm", "retries"})

    def open(self) -> None:
        from async_batch_llm import CharacterTokenEstimator, ProcessorConfig, RetryConfig

        figures = self.said(concurrency="concurrency", rpm="max_requests_per_minute", tpm="max_tokens_per_minute")
        if self.job.retries is not None:
            figures["retry"] = RetryConfig(max_attempts=1 + self.job.retries)
        if self.job.tpm is not None:
            figures["token_estimator"] = CharacterTokenEstimator(expected_output_tokens=ANSWER_TOKENS)
        self.config = ProcessorConfig(**figures)

    async def ask(self, prompts: list[str]) -> list[bool]:
        from async_batch_llm import llm, process_prompts

        options = {"generation_config": {"max_tokens": ANSWER_TOKENS}}
        strategy = llm("openai-compatible:x", base_url=self.url, api_key=KEY, **options)
        batch = await process_prompts(strategy, prompts, config=self.config, preserve_order=True)
        return [result.success for result in batch.results]

    async def work(self, items: int) -> None:
        from async_batch_llm import CallableStrategy, process_prompts

        async def nothing(prompt: str, *, attempt: int, timeout: float, state: object) -> str:
            return prompt

        await process_prompts(CallableStrategy(nothing), [str(item) for item in range(items)])


class LmDeluge(Contender):
    packages = ("lm-deluge==0.0.168",)
    takes = frozenset({"concurrency", "rpm", "tpm", "retries"})

    def open(self) -> None:
        from lm_deluge import LLMClient
        from lm_deluge.models import register_model

        register_model(id="probe", name="x", api_base=self.url, api_key_env_var="OPENAI_API_KEY")
        words = {"concurrency": "max_concurrent_requests", "rpm": "max_requests_per_minute", "tpm": "max_tokens_per_minute"}
        figures = self.said(**words)
        if self.job.retries is not None:
            figures["max_attempts"] = 1 + self.job.retries
        self.client = LLMClient("probe", max_new_tokens=ANSWER_TOKENS, **figures)

    async def ask(self, prompts: list[str]) -> list[bool]:
        answers = await self.client.process_prompts_async(prompts, show_progress=False)
        return [not answer.is_error for answer in answers]


class FlexLLM(Contender):
    packages = ("flexllm==0.17.10",)
    takes = frozenset({"concurrency", "rpm", "retries"})

    def open(self) -> None:
        from flexllm import LLMClient

        figures = self.said(concurrency="concurrency_limit", retries="retry_times")
        if self.job.rpm is not None:
            figures["max_qps"] = self.job.rpm / 60
        self.client = LLMClient(base_url=self.url, api_key=KEY, model="x", **figures)

    async def ask(self, prompts: list[str]) -> list[bool]:
        rows = [[{"role": "user", "content": prompt}] for prompt in prompts]
        return [result.ok for result in await self.client.chat_batch(rows, show_progress=False, max_tokens=ANSWER_TOKENS)]


class InferMesh(Contender):
    packages = ("infermesh==0.3.2",)
    least_python = (3, 12)
    takes = frozenset({"concurrency", "rpm", "tpm", "retries"})

    def open(self) -> None:
        from infermesh import LMClient

        words = {"concurrency": "max_parallel_requests", "rpm": "rpm", "tpm": "tpm", "retries": "max_retries"}
        options = {"default_output_tokens": ANSWER_TOKENS} if self.job.tpm is not None else {}
        self.client = LMClient(model="openai/x", api_base=self.url, api_key=KEY, **self.said(**words), **options)

    async def ask(self, prompts: list[str]) -> list[bool]:
        rows: Any = [[{"role": "user", "content": prompt}] for prompt in prompts]
        batch = await self.client.agenerate_batch(rows, max_tokens=ANSWER_TOKENS)
        return [error is None for error in batch.errors or [None] * len(prompts)]


class LiteLLM(Contender):
    packages = ("litellm==1.109.1",)
    takes = frozenset({"concurrency", "rpm", "tpm", "retries"})

    def open(self) -> None:
        from litellm import Router

        params = {"model": "openai/x", "api_base": self.url, "api_key": KEY}
        params |= self.said(concurrency="max_parallel_requests", rpm="rpm", tpm="tpm")
        options = self.said(retries="num_retries")
        if self.job.rpm is not None or self.job.tpm is not None:
            options["routing_strategy"] = "usage-based-routing-v2"
        self.router = Router(model_list=[{"model_name": "x", "litellm_params": params}], **options)

    async def ask(self, prompts: list[str]) -> list[bool]:
        async def one(prompt: str) -> Any:
            messages: Any = [{"role": "user", "content": prompt}]
            return await self.router.acompletion("x", messages, max_tokens=ANSWER_TOKENS)

        answers = await asyncio.gather(*map(one, prompts), return_exceptions=True)
        return [not isinstance(answer, BaseException) for answer in answers]

    async def race(self, prompt: str) -> str:
        from litellm import batch_completion_models

        messages = [{"role": "user", "content": prompt}]
        arguments = {"models": ["openai/slow", "openai/fast"], "messages": messages, "api_base": self.url, "api_key": KEY}
        answer: Any = await asyncio.to_thread(lambda: batch_completion_models(**arguments))
        return str(answer.choices[0].message.content)


class LangChain(Contender):
    packages = ("langchain-core==1.8.2", "langchain-openai==1.7.4")
    takes = frozenset({"concurrency", "rpm", "retries"})

    def open(self) -> None:
        from langchain_core.rate_limiters import InMemoryRateLimiter
        from langchain_openai import ChatOpenAI

        options = self.said(retries="max_retries")
        if self.job.rpm is not None:
            options["rate_limiter"] = InMemoryRateLimiter(requests_per_second=self.job.rpm / 60)
        self.model = ChatOpenAI(model="x", base_url=self.url, api_key=KEY, max_tokens=ANSWER_TOKENS, **options)

    async def ask(self, prompts: list[str]) -> list[bool]:
        config = self.said(concurrency="max_concurrency")
        answers = await self.model.abatch(prompts, config=config, return_exceptions=True)
        return [not isinstance(answer, BaseException) for answer in answers]

    async def work(self, items: int) -> None:
        from langchain_core.runnables import RunnableLambda

        async def nothing(item: int) -> int:
            return item

        await RunnableLambda(nothing).abatch(list(range(items)))


class Chatlas(Contender):
    packages = ("chatlas==0.23.0", "openai")
    takes = frozenset({"concurrency", "rpm", "retries"})

    def open(self) -> None:
        from chatlas import ChatOpenAICompletions

        options: Any = {"kwargs": self.said(retries="max_retries")}
        self.chat = ChatOpenAICompletions(base_url=self.url, api_key=KEY, model="x", **options)

    async def ask(self, prompts: list[str]) -> list[bool]:
        from chatlas import Chat, parallel_chat

        figures = self.said(concurrency="max_active", rpm="rpm")
        chats = await parallel_chat(self.chat, list(prompts), on_error="continue", **figures)
        return [isinstance(each, Chat) for each in chats]


class InspectAI(Contender):
    packages = ("inspect-ai==0.3.285", "openai")
    takes = frozenset({"concurrency", "retries"})

    def open(self) -> None:
        from inspect_ai.model import GenerateConfig, get_model

        config = GenerateConfig(max_tokens=ANSWER_TOKENS, **self.said(concurrency="max_connections", retries="max_retries"))
        self.model = get_model("openai-api/probe/x", config=config, base_url=self.url, api_key=KEY)

    async def ask(self, prompts: list[str]) -> list[bool]:
        answers = await asyncio.gather(*map(self.model.generate, prompts), return_exceptions=True)
        return [not isinstance(answer, BaseException) for answer in answers]


class DSPy(Contender):
    packages = ("dspy==3.4.1",)
    takes = frozenset({"concurrency", "retries"})

    def open(self) -> None:
        import dspy

        self.model = dspy.LM("openai/x", api_base=self.url, api_key=KEY, cache=False, **self.said(retries="num_retries"))

    async def ask(self, prompts: list[str]) -> list[bool]:
        answers = await self._map(self.model, prompts)
        return [answer is not None and not isinstance(answer, Exception) for answer in answers]

    async def work(self, items: int) -> None:
        await self._map(lambda item: item, list(range(items)))

    async def _map(self, function: Any, items: list[Any]) -> list[Any]:
        from dspy.utils.parallelizer import ParallelExecutor

        figures = self.said(concurrency="num_threads")
        executor = ParallelExecutor(disable_progress_bar=True, max_errors=len(items) + 1, **figures)
        return await asyncio.to_thread(executor.execute, function, items)


CONTENDERS: dict[str, type[Contender]] = {
    "llm_fanout": Ours,
    "async-batch-llm": AsyncBatchLLM,
    "lm-deluge": LmDeluge,
    "flexllm": FlexLLM,
    "infermesh": InferMesh,
    "litellm": LiteLLM,
    "langchain": LangChain,
    "chatlas": Chatlas,
    "inspect-ai": InspectAI,
    "dspy": DSPy,
}
