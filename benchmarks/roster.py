"""All callers by name: those that read an answer as a whole, and those that read it as a stream."""

from __future__ import annotations

from .callers import Aiohttp, Caller, DropIn, Floor, OpenAI, OpenAIOverAiohttp, Ours, OursGeneral, OursIterated, OursResponse
from .peers import AsyncBatchLLMCaller, LangChainCaller, LiteLLMCaller, LmDelugeCaller
from .streams import AiohttpStream, DropInStream, OpenAIStream, OursStream

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
STREAMERS: dict[str, type[Caller]] = {
    "aiohttp-stream": AiohttpStream,
    "ours-stream": OursStream,
    "openai-stream": OpenAIStream,
}
DROP_INS: dict[str, type[Caller]] = {
    "openai": OpenAI,
    "drop-in": DropIn,
    "openai-stream": OpenAIStream,
    "drop-in-stream": DropInStream,
}
ALL = {**CALLERS, **STREAMERS, **DROP_INS}
