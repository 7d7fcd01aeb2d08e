"""All callers by name."""

from __future__ import annotations

from .callers import Aiohttp, Caller, Floor, OpenAI, OpenAIOverAiohttp, Ours, OursGeneral, OursIterated, OursResponse
from .peers import AsyncBatchLLMCaller, LangChainCaller, LiteLLMCaller, LmDelugeCaller

CALLERS: dict[str, type[Caller]] = {
    "floor": Floor,
    "aiohttp": Aiohttp,
    "ours": Ours,
    "ours-iterated": OursIterated,
    "ours-response": OursResponse,
    "ours-general": OursGeneral,
    "openai": OpenAI,
    "openai-aiohttp": OpenAIOverAiohttp,
    "lm-deluge": LmDelugeCaller,
    "async-batch-llm": AsyncBatchLLMCaller,
    "langchain": LangChainCaller,
    "litellm": LiteLLMCaller,
}
