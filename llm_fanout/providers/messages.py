"""Anthropic's Messages, as of the API's version 2026-10-21.

Sources, read 2026-11: anthropic SDK 2.14, `types`; Anthropic, "API versions" and "Handling stop reasons".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import groupby, takewhile
from typing import Any

from ..errors import Rejected
from ..results import ToolCall
from ..spending import Usage
from . import reading, strictness
from .format import Rule, add, cannot_take, extras, translated, under
from .growing import Growing
from .reading import mapping, rows, text
from .reply import ProviderError, Reply
from .request import Request
from .schema import INSTRUCTING, Schema
from .sse import Event

VERSION = "2026-10-21"  # of the API, for the header anthropic-version; it has no temperature, top_p or top_k any more

# Tokens; the API wants a bound. A reply of so many takes 8 minutes at the pace that the SDK reckons with, which refuses to
# wait for more than 10 without a stream; every model of today can write it.
MAX_TOKENS = 16_384

Message = Mapping[str, Any]
Block = Mapping[str, Any]
API = "messages"


def _tools(tools: object) -> Mapping[str, Any]:
    return {"tools": [_tool(tool) for tool in tools] if isinstance(tools, list | tuple) else tools}


def _tool(tool: object) -> object:
    """A function in Chat's words as a tool in Anthropic's; those that are Anthropic's pass as they are."""
    kind, function = mapping(tool).get("type"), mapping(mapping(tool).get("function"))
    if kind == "custom" and "custom" in mapping(tool):
        raise cannot_take(API, "tools of the type custom")
    if kind != "function":
        return tool
    same = {name: function[name] for name in ("name", "description", "strict") if function.get(name) is not None}
    return {**same, "input_schema": function.get("parameters") or {"type": "object", "properties": {}}}


def _tool_choice(choice: object) -> Mapping[str, Any]:
    words = {"auto": "auto", "required": "any", "none": "none"}
    kind = choice if isinstance(choice, str) else mapping(choice).get("type")
    if kind == "function":
        return {"tool_choice": {"type": "tool", "name": mapping(mapping(choice).get("function")).get("name")}}
    if isinstance(choice, str) and choice in words:
        return {"tool_choice": {"type": words[choice]}}
    if kind in ("auto", "any", "tool", "none") and isinstance(choice, dict):
        return {"tool_choice": choice}
    raise cannot_take(API, f"tool_choice={choice!r}")


def _parallel_tool_calls(allowed: object) -> Mapping[str, Any]:
    return {} if allowed else {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}


def _stop(stop: object) -> Mapping[str, Any]:
    return {"stop_sequences": [stop] if isinstance(stop, str) else stop}


def _metadata(metadata: object) -> Mapping[str, Any]:
    for name in mapping(metadata):
        if name != "user_id":
            raise cannot_take(API, f"metadata[{name!r}]")
    return {"metadata": metadata}


def _service_tier(tier: object) -> Mapping[str, Any]:
    tiers = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}
    if text(tier) not in tiers:
        raise cannot_take(API, f"service_tier={tier!r}")
    return {"service_tier": tiers[text(tier)]}


def _response_format(wanted: object) -> Mapping[str, Any]:
    kind = mapping(wanted).get("type")
    if kind == "text":
        return {}
    if kind != "json_schema":
        raise cannot_take(API, f"response_format of the type {kind!r}")
    return _output_format(mapping(mapping(wanted).get("json_schema")).get("schema"))


def _output_format(schema: object) -> Mapping[str, Any]:
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


_RULES: dict[str, Rule] = {
    "max_tokens": under("max_tokens"),
    "max_completion_tokens": under("max_tokens"),
    "stop": _stop,
    "metadata": _metadata,
    "service_tier": _service_tier,
    "reasoning_effort": under("output_config", "effort"),
    "response_format": _response_format,
    "tools": _tools,
    "parallel_tool_calls": _parallel_tool_calls,
    "tool_choice": _tool_choice,  # after the former, whose "auto" is a guess
}


class MessagesFormat:
    """Messages."""

    name = API
    path = "/v1/messages"  # the base URL is the host alone, as in the SDK

    def said(self, request: Request) -> dict[str, Any]:
        """System and turns."""
        messages, schema = request.messages, request.schema
        if schema is not None and not schema.strict:
            messages = schema.asked_in(messages)
        if request.shared:
            messages = _marked(messages, len(messages) - len(request.messages) + request.shared - 1)
        return _conversation(messages)

    def frame(self, request: Request) -> dict[str, Any]:
        """The parameters. `temperature`, `seed`, `logprobs` and penalties are among what it cannot take."""
        schema = request.schema
        body = {"model": request.model, "max_tokens": MAX_TOKENS, **translated(request.params, _RULES, API)}
        if schema is not None and schema.strict:
            add(body, _output_format(_enforceable(schema)))
        if request.stream:
            body["stream"] = True
        return {**body, **extras(request)}

    def read(self, raw: bytes) -> Reply:
        """Its text and tool calls. Raises ProviderError for an error, ValueError if it is no message."""
        answer = reading.document(raw)
        _refuse_error(answer)
        if "content" not in answer:
            raise ValueError("a message has a content")
        blocks = rows(answer["content"])
        said = "".join(text(block.get("text")) for block in blocks if block.get("type") == "text")
        reason = text(answer.get("stop_reason")) or None
        return Reply(
            text=said,
            finish_reason=_FINISH_REASONS.get(reason, reason) if reason else None,
            usage=_usage(answer.get("usage")),
            tool_calls=[_tool_call(block) for block in blocks if block.get("type") == "tool_use"],
            refusal=_refusal(answer, said) if reason == "refusal" else None,
            raw=raw,
        )

    def assembler(self) -> MessagesAssembler:
        """A new assembler for one streamed answer."""
        return MessagesAssembler()

    def response(self, raw: bytes) -> object:
        """The `anthropic.types.Message`. Raises ImportError if that SDK is not installed."""
        try:
            from anthropic.types import Message as SdkMessage
        except ImportError as exc:
            raise ImportError("this needs Anthropic's SDK: pip install 'llm-fanout[anthropic]'") from exc
        return reading.sdk_object(SdkMessage, raw)


@lru_cache(maxsize=64)  # a run sends the same one with every prompt
def _enforceable(schema: Schema[Any]) -> dict[str, Any]:
    """The schema without what Anthropic does not take."""
    return strictness.narrowed(schema.json, strictness.anthropic_keeps)


# How a request is written


def _conversation(messages: Sequence[Message]) -> dict[str, Any]:
    """What comes first from above the conversation is its system prompt; the results of one turn's calls are one turn."""
    leading = list(takewhile(lambda message: message.get("role") in INSTRUCTING, messages))
    rest = messages[len(leading) :]
    turns: list[Mapping[str, Any]] = []
    for is_result, group in groupby(rest, lambda message: message.get("role") == "tool"):
        if is_result:
            turns.append({"role": "user", "content": [_tool_result(message) for message in group]})
        else:
            turns.extend(_turn(message) for message in group)
    system = _system(leading)
    return {"system": system, "messages": turns} if system else {"messages": turns}


def _marked(messages: Sequence[Message], at: int) -> Sequence[Message]:
    """`messages`, cached up to the one there, unless it says so itself, or has nothing that can be marked."""
    content = messages[at].get("content")
    blocks: list[Any] = [{"type": "text", "text": content}] if isinstance(content, str) else [*rows(content)]
    if not blocks or any("cache_control" in mapping(block) for block in blocks):
        return messages
    blocks[-1] = {**blocks[-1], "cache_control": {"type": "ephemeral"}}
    return [*messages[:at], {**messages[at], "content": blocks}, *messages[at + 1 :]]


def _system(leading: Sequence[Message]) -> object:
    """One text; or blocks, if any of them has blocks (which may say what is to be cached)."""
    contents = [message.get("content") for message in leading]
    if all(isinstance(content, str) for content in contents):
        return "\n\n".join(map(str, contents))
    return [block for content in contents for block in _blocks(content)]


def _turn(message: Message) -> Mapping[str, Any]:
    role, content = message.get("role"), message.get("content")
    if role == "assistant":
        return {"role": role, "content": _answered(message)}
    if role in INSTRUCTING:
        return {"role": "system", "content": _content(content)}
    if role != "user":
        raise Rejected(f"the messages API cannot take a message with the role {role!r}", kind="invalid")
    return {"role": role, "content": _content(content)}


def _answered(message: Message) -> object:
    calls = [_tool_use(call) for call in rows(message.get("tool_calls"))]
    content = message.get("content") or text(message.get("refusal"))
    return [*_blocks(content), *calls] if calls else _content(content)


def _tool_use(call: Mapping[str, Any]) -> Block:
    function = mapping(call.get("function"))
    made = ToolCall.of(text(call.get("id")), text(function.get("name")), text(function.get("arguments")))
    if not made.arguments and made.raw.strip() not in ("", "{}"):
        raise cannot_take(API, f"the arguments of tool call {made.id!r}, which are no JSON object")
    return {"type": "tool_use", "id": made.id, "name": made.name, "input": made.arguments}


def _tool_result(message: Message) -> Block:
    return {"type": "tool_result", "tool_use_id": message.get("tool_call_id"), "content": _content(message.get("content"))}


def _content(content: object) -> object:
    return [_block(part) for part in content] if isinstance(content, list | tuple) else content


def _blocks(content: object) -> list[Any]:
    """A content as a list, for there is more to come; the API takes no empty text."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [_block(part) for part in content] if isinstance(content, list | tuple) else []


def _block(part: object) -> object:
    change = _BLOCKS.get(text(mapping(part).get("type")))
    return part if change is None else change(mapping(part))


def _image(part: Mapping[str, Any]) -> Block:
    said = part.get("image_url")
    return {"type": "image", "source": _source(text(said) or text(mapping(said).get("url")))}


def _document(part: Mapping[str, Any]) -> Block:
    file = mapping(part.get("file"))
    source = {"type": "file", "file_id": file["file_id"]} if "file_id" in file else _source(text(file.get("file_data")))
    title = {"title": file["filename"]} if file.get("filename") else {}
    return {"type": "document", "source": source, **title}


def _source(url: str) -> Mapping[str, Any]:
    """Where the bytes are: in a data URL (RFC 2397), or behind any other."""
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    kind, _, data = url.removeprefix("data:").partition(",")
    return {"type": "base64", "media_type": kind.partition(";")[0], "data": data}


def _refused(part: Mapping[str, Any]) -> Block:
    return {"type": "text", "text": part.get("refusal")}


def _no_audio(part: Mapping[str, Any]) -> Block:
    raise cannot_take(API, "a content part of the type input_audio")


# Chat's content parts; the others, text among them, are Anthropic's and pass as they are.
_BLOCKS: Mapping[str, Callable[[Mapping[str, Any]], Block]] = {
    "image_url": _image,
    "file": _document,
    "refusal": _refused,
    "input_audio": _no_audio,
}


# How an answer is read

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "pause_turn": "length",  # the server's tools took too long: there would be more, if it were asked to go on
    "refusal": "content_filter",
}


def _refusal(answer: Mapping[str, Any], said: str) -> str:
    details = mapping(answer.get("stop_details"))
    return text(details.get("explanation")) or said or text(details.get("category")) or "no reason given"


def _refuse_error(answer: Mapping[str, Any]) -> None:
    """Raise the error that an answer or an event carries, if it does."""
    if answer.get("error") or answer.get("type") == "error":
        raise ProviderError(answer.get("error"))


def _tool_call(block: Mapping[str, Any]) -> ToolCall:
    """Its input is an object already; text is what a stream left that broke off in the middle of one."""
    raw = text(block.get("input")) or reading.encoded(mapping(block.get("input"))).decode()
    return ToolCall.of(text(block.get("id")), text(block.get("name")), raw)


def _usage(usage: object) -> Usage | None:
    """The API's input_tokens are those that no cache had a part in; ours are all of them."""
    if not isinstance(usage, dict):
        return None
    parts = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return Usage(
        input_tokens=sum(reading.count(usage.get(part)) for part in parts),
        output_tokens=reading.count(usage.get("output_tokens")),
        cached_tokens=reading.count(usage.get("cache_read_input_tokens")),
        reasoning_tokens=reading.count(mapping(usage.get("output_tokens_details")).get("thinking_tokens")),
    )


# How a stream is put together


class MessagesAssembler:
    """Puts the events of a message together, as `accumulate_event` of the SDK does."""

    def __init__(self) -> None:
        self.is_over = False
        self._head: dict[str, Any] = {}
        self._blocks: dict[int, Growing] = {}

    def feed(self, event: Event) -> str:
        """Take one event; gives the text that it adds. Pings, and kinds that are not known yet, add nothing."""
        said = reading.document(event.data)
        _refuse_error(said)
        take = _EVENTS.get(text(said.get("type")))
        return take(self, said) if take else ""

    def whole(self) -> bytes:
        """The message of what came so far."""
        blocks = [_finished(block.value()) for _, block in sorted(self._blocks.items())]
        return reading.encoded({**self._head, "content": blocks})

    def _start(self, said: Mapping[str, Any]) -> str:
        self._head = dict(mapping(said.get("message")))
        return ""

    def _start_block(self, said: Mapping[str, Any]) -> str:
        return self._grow(said, mapping(said.get("content_block")))

    def _add(self, said: Mapping[str, Any]) -> str:
        delta = dict(mapping(said.get("delta")))
        kind = delta.pop("type", None)
        if kind == "citations_delta":
            delta = {"citations": [delta.get("citation")]}
        return self._grow(said, delta)

    def _grow(self, said: Mapping[str, Any], delta: Mapping[str, Any]) -> str:
        index = said.get("index")
        if not isinstance(index, int):
            raise ValueError("an event of a content block has its index")
        self._blocks.setdefault(index, Growing()).merge(delta)
        return text(delta.get("text"))

    def _end(self, said: Mapping[str, Any]) -> str:
        """How it ended, and the counts up to now, which take the place of those of the start."""
        counts = {name: value for name, value in mapping(said.get("usage")).items() if value is not None}
        delta = {name: value for name, value in mapping(said.get("delta")).items() if value is not None}
        self._head |= delta | {"usage": {**mapping(self._head.get("usage")), **counts}}
        return ""

    def _stop(self, said: Mapping[str, Any]) -> str:
        self.is_over = True
        return ""


_EVENTS: Mapping[str, Callable[[MessagesAssembler, Mapping[str, Any]], str]] = {
    "message_start": MessagesAssembler._start,
    "content_block_start": MessagesAssembler._start_block,
    "content_block_delta": MessagesAssembler._add,
    "message_delta": MessagesAssembler._end,
    "message_stop": MessagesAssembler._stop,
}


def _finished(block: dict[str, Any]) -> dict[str, Any]:
    """A block with the input of its tool, which was streamed as text; as that text if it broke off."""
    written = block.pop("partial_json", "")
    if written:
        block["input"] = _parsed(written)
    return block


def _parsed(written: str) -> object:
    try:
        return reading.document(written)
    except ValueError:
        return written
