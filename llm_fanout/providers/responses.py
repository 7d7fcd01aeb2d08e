"""OpenAI's Responses. A conversation is a list of items there: messages, calls, and the outputs of calls.

Sources, read 2026-11: openai SDK 3.57, `types/responses`; OpenAI, "Migrate to the Responses API".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from ..errors import Rejected
from ..results import ToolCall
from ..spending import Usage
from . import reading
from .chat import DONE, response_format
from .format import Rule, add, extras, translated, under
from .growing import Growing
from .reading import mapping, rows, text
from .reply import ProviderError, Reply
from .request import Request
from .schema import INSTRUCTING
from .sse import Event

Message = Mapping[str, Any]

# Parameters that Responses has under the same name, and in the same sense.
_SAME = (
    "temperature",
    "top_p",
    "top_logprobs",
    "parallel_tool_calls",
    "metadata",
    "service_tier",
    "store",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "moderation",
)


def _flat(value: object) -> object:
    """Chat's `{"type": "function", "function": {...}}` without the second level; anything else as it is."""
    kind = mapping(value).get("type")
    inner = mapping(value).get(kind) if isinstance(kind, str) else None
    return {"type": kind, **inner} if isinstance(inner, dict) else value


def _tool(tool: object) -> object:
    flat = _flat(tool)
    if not isinstance(flat, dict) or flat is tool:
        return tool  # one of Responses' own
    if flat["type"] == "function":
        # Strict unless told otherwise, where Chat Completions is not; and the schema is required.
        return {"strict": False, "parameters": {"type": "object", "properties": {}}, **flat}
    return {**flat, "format": _flat(flat["format"])} if "format" in flat else flat


def _tool_choice(choice: object) -> object:
    flat = _flat(choice)
    return {**flat, "tools": _each(_flat, flat["tools"])} if isinstance(flat, dict) and "tools" in flat else flat


def _each(change: Callable[[object], object], values: object) -> object:
    return [change(value) for value in values] if isinstance(values, list | tuple) else values


_RULES: dict[str, Rule] = {
    **{name: under(name) for name in _SAME},
    "max_tokens": under("max_output_tokens"),
    "max_completion_tokens": under("max_output_tokens"),
    "reasoning_effort": under("reasoning", "effort"),
    "verbosity": under("text", "verbosity"),
    "response_format": lambda wanted: {"text": {"format": _flat(wanted)}},
    "tools": lambda tools: {"tools": _each(_tool, tools)},
    "tool_choice": lambda choice: {"tool_choice": _tool_choice(choice)},
}


class ResponsesFormat:
    """Responses."""

    name = "responses"
    path = "/responses"

    def said(self, request: Request) -> dict[str, Any]:
        """Instructions and input items."""
        return _conversation(request.messages)

    def frame(self, request: Request) -> dict[str, Any]:
        """The parameters. `seed`, `stop`, penalties and `logprobs` are among what it cannot take."""
        body = {"model": request.model, **translated(request.params, _RULES, self.name)}
        if request.schema is not None:
            add(body, _RULES["response_format"](response_format(request.schema)))
        if request.stream:
            body["stream"] = True
        return {**body, **extras(request)}

    def read(self, raw: bytes) -> Reply:
        """Its messages and calls. Raises ProviderError if it failed, ValueError if it is no response."""
        answer = reading.document(raw)
        _refuse_failure(answer)
        if "output" not in answer:
            raise ValueError("a response has an output")
        items = rows(answer["output"])
        said = [part for item in items if item.get("type") == "message" for part in rows(item.get("content"))]
        calls = [_tool_call(item) for item in items if text(item.get("type")) in _CALLS]
        return Reply(
            text="".join(text(part.get("text")) for part in said),
            finish_reason=_finish_reason(answer, bool(calls)),
            usage=_usage(answer.get("usage")),
            tool_calls=calls,
            refusal="".join(text(part.get("refusal")) for part in said) or None,
            raw=raw,
        )

    def assembler(self) -> ResponsesAssembler:
        """A new assembler for one streamed answer."""
        return ResponsesAssembler()

    def response(self, raw: bytes) -> object:
        """The `openai.types.responses.Response`."""
        from openai.types.responses import Response

        return reading.sdk_object(Response, raw)


# How a request is written


def _conversation(messages: Sequence[Message]) -> dict[str, Any]:
    """What comes first from above the conversation is its instructions; the rest are items."""
    leading = list(takewhile(lambda message: message.get("role") in INSTRUCTING, messages))
    custom = {call.get("id") for message in messages for call in _calls_of(message) if call.get("type") == "custom"}
    items = [item for message in messages[len(leading) :] for item in _items(message, custom)]
    instructions = "\n\n".join(reading.text_of(message.get("content")) for message in leading)
    return {"instructions": instructions, "input": items} if instructions else {"input": items}


def _items(message: Message, custom: set[Any]) -> list[Mapping[str, Any]]:
    role, content = message.get("role"), message.get("content")
    if "type" in message:
        return [message]  # an item already
    if role == "tool":
        call = message.get("tool_call_id")
        kind = "custom_tool_call_output" if call in custom else "function_call_output"
        return [{"type": kind, "call_id": call, "output": _each(_part, content)}]
    if role == "assistant":
        said = reading.text_of(content) or text(message.get("refusal"))
        answered = [{"role": role, "content": said}] if said else []
        return [*answered, *map(_call, _calls_of(message))]
    if role == "user" or role in INSTRUCTING:
        return [{"role": role, "content": _each(_part, content)}]
    raise Rejected(f"the responses API cannot take a message with the role {role!r}", kind="invalid")


def _calls_of(message: Message) -> list[dict[str, Any]]:
    return rows(message.get("tool_calls"))


def _call(call: Mapping[str, Any]) -> Mapping[str, Any]:
    function, custom = mapping(call.get("function")), mapping(call.get("custom"))
    if custom:
        return {"type": "custom_tool_call", "call_id": call.get("id"), **custom}
    return {"type": "function_call", "call_id": call.get("id"), **function}


def _part(part: object) -> object:
    change = _PARTS.get(text(mapping(part).get("type")))
    return part if change is None else change(mapping(part))


def _text_part(part: Mapping[str, Any]) -> dict[str, Any]:
    return {**part, "type": "input_text"}


def _image_part(part: Mapping[str, Any]) -> dict[str, Any]:
    said = part.get("image_url")
    image = said if isinstance(said, dict) else {"url": said}
    return {"type": "input_image", "image_url": image.get("url"), "detail": image.get("detail", "auto")}


def _file_part(part: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "input_file", **mapping(part.get("file"))}


# Content parts that are called otherwise; the others (`input_audio`, and Responses' own) pass as they are.
_PARTS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "text": _text_part,
    "image_url": _image_part,
    "file": _file_part,
}


# How an answer is read

_CALLS = frozenset({"function_call", "custom_tool_call"})

_INCOMPLETE = {"max_output_tokens": "length", "max_messages": "length", "content_filter": "content_filter"}


def _finish_reason(answer: Mapping[str, Any], has_calls: bool) -> str | None:
    """In Chat's words; None for a response that is not at its end (in_progress, queued, cancelled)."""
    if answer.get("status") == "completed":
        return "tool_calls" if has_calls else "stop"
    if answer.get("status") == "incomplete":
        return _INCOMPLETE.get(text(mapping(answer.get("incomplete_details")).get("reason")))
    return None


def _refuse_failure(answer: Mapping[str, Any]) -> None:
    """Raise the error of a response that failed."""
    if answer.get("error") or answer.get("status") == "failed":
        raise ProviderError(answer.get("error"))


def _tool_call(item: Mapping[str, Any]) -> ToolCall:
    written = text(item.get("arguments")) or text(item.get("input"))
    return ToolCall.of(text(item.get("call_id")), text(item.get("name")), written)


def _usage(usage: object) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    return Usage(
        input_tokens=reading.count(usage.get("input_tokens")),
        output_tokens=reading.count(usage.get("output_tokens")),
        cached_tokens=reading.count(mapping(usage.get("input_tokens_details")).get("cached_tokens")),
        reasoning_tokens=reading.count(mapping(usage.get("output_tokens_details")).get("reasoning_tokens")),
    )


# How a stream is put together

Change = Callable[[Mapping[str, Any]], Mapping[str, Any]]  # an event -> what it adds to its item


def _to_item(*names: str) -> Change:
    """An event that adds to a field of the item itself, named as here."""
    return lambda said: {name: said.get("delta") for name in names}


def _to_part(parts: str, index: str, field: str) -> Change:
    """An event that adds to a field of one of the item's parts."""
    return lambda said: {parts: [{"index": said.get(index), field: said.get("delta")}]}


def _new_part(parts: str, index: str) -> Change:
    return lambda said: {parts: [{**mapping(said.get("part")), "index": said.get(index)}]}


def _text(said: Mapping[str, Any]) -> Mapping[str, Any]:
    part = {"index": said.get("content_index"), "text": said.get("delta"), "logprobs": said.get("logprobs")}
    return {"content": [part]}


def _annotation(said: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"content": [{"index": said.get("content_index"), "annotations": [said.get("annotation")]}]}


TEXT_DELTA = "response.output_text.delta"

_CHANGES: Mapping[str, Change] = {
    "response.output_item.added": lambda said: mapping(said.get("item")),
    "response.content_part.added": _new_part("content", "content_index"),
    "response.reasoning_summary_part.added": _new_part("summary", "summary_index"),
    TEXT_DELTA: _text,
    "response.refusal.delta": _to_part("content", "content_index", "refusal"),
    "response.reasoning_text.delta": _to_part("content", "content_index", "text"),
    "response.reasoning_summary_text.delta": _to_part("summary", "summary_index", "text"),
    "response.output_text.annotation.added": _annotation,
    "response.function_call_arguments.delta": _to_item("arguments"),
    "response.mcp_call_arguments.delta": _to_item("arguments"),
    "response.custom_tool_call_input.delta": _to_item("input"),
}
_ENDS = frozenset({"response.completed", "response.incomplete"})


class ResponsesAssembler:
    """Puts the events of a response together; the last of them has it whole."""

    def __init__(self) -> None:
        self.is_over = False
        self._head: Mapping[str, Any] = {}
        self._items: dict[int, Growing] = {}
        self._done: dict[int, Mapping[str, Any]] = {}

    def feed(self, event: Event) -> str:
        """Take one event; gives the text that it adds."""
        if event.data.startswith(DONE):
            self.is_over = True  # not OpenAI's, but of servers that end all streams in the same way
            return ""
        said = reading.document(event.data)
        kind = text(said.get("type"))
        if kind == "error":
            raise ProviderError(said.get("error") or said)
        if isinstance(said.get("response"), dict):
            _refuse_failure(said["response"])
            self._head = said["response"]
        self.is_over = self.is_over or kind in _ENDS
        self._change(kind, said)
        return text(said.get("delta")) if kind == TEXT_DELTA else ""

    def whole(self) -> bytes:
        """The response as the server sent it last, with the items that came so far if it had none in it."""
        output = self._head.get("output") or [
            self._done.get(index) or self._items[index].value() for index in sorted({**self._items, **self._done})
        ]
        return reading.encoded({**self._head, "output": output})

    def _change(self, kind: str, said: Mapping[str, Any]) -> None:
        index = said.get("output_index")
        if not isinstance(index, int):
            return
        if kind in _CHANGES:
            self._items.setdefault(index, Growing()).merge(_CHANGES[kind](said))
        elif kind == "response.output_item.done":
            self._done[index] = mapping(said.get("item"))
