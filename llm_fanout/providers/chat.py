"""OpenAI's Chat Completions, which most servers speak. What is asked is in its words, so little is translated.

Sources, read 2026-11: openai SDK 3.57, `types/chat`; OpenRouter, errors and debugging; vLLM, OpenAI-compatible server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import StringIO
from typing import Any

from ..results import ToolCall
from ..spending import Usage
from . import reading
from .format import APART, extras
from .growing import Growing
from .reading import mapping, rows, text
from .reply import ProviderError, Reply
from .request import Request
from .schema import Schema
from .sse import Event

DONE = "[DONE]"

# OpenAI's o-series and all since GPT-5 answer `max_tokens` with 400 unsupported_parameter; gpt-oss is served by others, and
# other servers may not know the newer word.
_NEWER = re.compile(r"(ft:)?(o[1-9]|gpt-([5-9]|[1-9]\d))")


def wants_max_completion_tokens(model: str) -> bool:
    """Whether OpenAI takes the bound of an answer only by its newer name, going by the model's."""
    return _NEWER.match(model) is not None


class ChatFormat:
    """Chat Completions."""

    name = "chat"
    path = "/chat/completions"

    def said(self, request: Request) -> dict[str, Any]:
        """The messages as they are."""
        return {"messages": list(request.messages)}

    def frame(self, request: Request) -> dict[str, Any]:
        """The parameters as they are; `extra_body` is put in last."""
        params = {name: value for name, value in request.params.items() if value is not None and name not in APART}
        if "max_tokens" in params and wants_max_completion_tokens(request.model):
            params.setdefault("max_completion_tokens", params.pop("max_tokens"))
        if request.schema is not None:
            params["response_format"] = response_format(request.schema)
        if request.stream:
            params["stream"] = True
            params["stream_options"] = {**params.get("stream_options", {}), "include_usage": True}
        return {"model": request.model, **params, **extras(request)}

    def read(self, raw: bytes) -> Reply:
        """The first choice. Raises ProviderError for an error in it, ValueError if it is no chat completion."""
        answer = reading.document(raw)
        _refuse_error(answer)
        if "choices" not in answer:
            raise ValueError("a chat completion has choices")
        choice = next(iter(rows(answer["choices"])), {})
        message = mapping(choice.get("message"))
        return Reply(
            text=reading.text_of(message.get("content")),
            finish_reason=text(choice.get("finish_reason")) or None,
            usage=_usage(answer.get("usage")),
            tool_calls=[_tool_call(call) for call in rows(message.get("tool_calls"))],
            refusal=text(message.get("refusal")) or None,
            raw=raw,
        )

    def assembler(self) -> ChatAssembler:
        """A new assembler for one streamed answer."""
        return ChatAssembler()

    def response(self, raw: bytes) -> object:
        """The `openai.types.chat.ChatCompletion`."""
        from openai.types.chat import ChatCompletion

        return reading.sdk_object(ChatCompletion, raw)


class ChatAssembler:
    """Puts chunks of a chat completion together."""

    def __init__(self) -> None:
        self.is_over = False
        self._text = StringIO()
        self._head: dict[str, Any] = {}
        self._choices: dict[int, Growing] = {}

    @property
    def text(self) -> str:
        """The text of the first choice so far."""
        return self._text.getvalue()

    def feed(self, event: Event) -> str:
        """Take one chunk; gives the text that it adds to the first choice."""
        if event.data.startswith(DONE):
            self.is_over = True
            return ""
        if not event.data.strip():
            return ""  # some servers keep a connection alive with it
        chunk = reading.document(event.data)
        _refuse_error(chunk)
        choices = rows(chunk.pop("choices", None))
        self._head.update({name: value for name, value in chunk.items() if value is not None})
        return "".join([self._add(choice) for choice in choices])

    def whole(self) -> bytes:
        """A chat completion of what came so far."""
        choices = [_choice(index, grown.value()) for index, grown in sorted(self._choices.items())]
        head = {name: value for name, value in self._head.items() if name != "obfuscation"}
        return reading.encoded({**head, "object": "chat.completion", "choices": choices})

    def _add(self, choice: dict[str, Any]) -> str:
        index = choice.pop("index", 0)
        index = index if isinstance(index, int) else 0
        delta = mapping(choice.pop("delta", None))
        self._choices.setdefault(index, Growing()).merge({**choice, "message": delta})
        added = reading.text_of(delta.get("content")) if index == 0 else ""
        self._text.write(added)
        return added


def response_format(schema: Schema[Any]) -> dict[str, Any]:
    """A schema as Chat Completions wants it."""
    described = {"name": schema.name, "schema": schema.json, "strict": schema.strict}
    return {"type": "json_schema", "json_schema": described}


def _choice(index: int, choice: Mapping[str, Any]) -> dict[str, Any]:
    """A choice with the fields that the SDK's types require, said or not."""
    message = {"role": "assistant", "content": None, "refusal": None, **choice["message"]}
    return {"finish_reason": None, "logprobs": None, **choice, "index": index, "message": message}


def _refuse_error(answer: Mapping[str, Any]) -> None:
    """Raise the error that an answer or a chunk carries, if it does."""
    if answer.get("error"):
        raise ProviderError(answer["error"])
    if answer.get("object") == "error":
        raise ProviderError(answer)  # the older shape of vLLM, and of servers built on it
    for choice in rows(answer.get("choices")):
        if choice.get("error"):
            raise ProviderError(choice["error"])  # OpenRouter: the model behind it failed on the way


def _tool_call(call: Mapping[str, Any]) -> ToolCall:
    """A function's call with its arguments, or a custom tool's with its input, which is free text."""
    function, custom = mapping(call.get("function")), mapping(call.get("custom"))
    written = text(function.get("arguments")) or text(custom.get("input"))
    return ToolCall.of(text(call.get("id")), text(function.get("name")) or text(custom.get("name")), written)


def _usage(usage: object) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    return Usage(
        input_tokens=reading.count(usage.get("prompt_tokens")),
        output_tokens=reading.count(usage.get("completion_tokens")),
        cached_tokens=reading.count(mapping(usage.get("prompt_tokens_details")).get("cached_tokens")),
        reasoning_tokens=reading.count(mapping(usage.get("completion_tokens_details")).get("reasoning_tokens")),
    )
