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
from . import plain, reading
from .format import APART, extras
from .growing import Growing, is_idempotent
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
        return plain.completion(raw) or self._read(raw)

    def _read(self, raw: bytes) -> Reply:
        answer = reading.document(raw)
        _refuse_error(answer)
        if "choices" not in answer:
            raise ValueError("a chat completion has choices")
        choices = rows(answer["choices"])
        for each in choices:
            _refuse_failure(each)
        choice = next(iter(choices), {})
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
    """Puts chunks of a chat completion together.

    Nearly all of them add to the first choice's text, and say nothing else that the one before has not said: such a text
    is only appended, for merging would do no more.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._head: dict[str, Any] = {}
        self._choices: dict[int, Growing] = {}
        self._text = StringIO()  # of the first choice
        self._merged: _Besides | None = None  # with a text that is in there; None where more has to be merged each time

    def feed(self, event: Event) -> str:
        """Take one chunk; gives the text that it adds to the first choice."""
        if event.data.startswith(DONE):
            self.is_over = True
            return ""
        if not event.data.strip():
            return ""  # some servers keep a connection alive with it
        chunk = reading.document(event.data)
        choices = chunk.pop("choices", None)
        _refuse_error(chunk)
        for name, value in chunk.items():
            if value is not None:
                self._head[name] = value
        piece, besides = _text_in(choices)
        if besides is None or besides != self._merged:
            return self._merge(rows(choices), besides)
        self._text.write(piece)
        return piece

    def whole(self) -> bytes:
        """A chat completion of what came so far."""
        choices = [_choice(index, grown.value()) for index, grown in sorted(self._choices.items())]
        head = {name: value for name, value in self._head.items() if name != "obfuscation"}
        return reading.encoded({**head, "object": "chat.completion", "choices": choices})

    def _merge(self, choices: list[dict[str, Any]], besides: _Besides | None) -> str:
        added = "".join([self._add(choice) for choice in choices])
        self._merged = None
        if besides is not None and all(map(is_idempotent, besides)):
            self._merged = besides
            self._text = self._choices[0].text_at("message", "content")
        return added

    def _add(self, choice: dict[str, Any]) -> str:
        _refuse_failure(choice)
        index = choice.pop("index", 0)
        index = index if isinstance(index, int) else 0
        delta = mapping(choice.pop("delta", None))
        self._choices.setdefault(index, Growing()).merge({**choice, "message": delta})
        return reading.text_of(delta.get("content")) if index == 0 else ""


_Besides = tuple[dict[str, Any], dict[str, Any]]  # the other fields of a choice, and those of its delta


def _text_in(choices: object) -> tuple[str, _Besides | None]:
    """The text that a chunk adds to the first choice, and what else it says of it; None if it says anything of others."""
    if isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], dict):
        choice = choices[0].copy()
        delta = choice.pop("delta", None)
        if choice.pop("index", 0) == 0 and isinstance(delta, dict) and isinstance(delta.get("content"), str):
            delta = delta.copy()
            return delta.pop("content"), (choice, delta)
    return "", None


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


def _refuse_failure(choice: Mapping[str, Any]) -> None:
    """Raise the error that a choice carries, if it does: at OpenRouter, when the model behind it failed on the way."""
    if choice.get("error"):
        raise ProviderError(choice["error"])


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
