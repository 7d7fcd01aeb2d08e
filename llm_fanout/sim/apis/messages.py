"""Anthropic's Messages. Source: the types of the anthropic package, 2.14; docs.anthropic.com/en/api/messages-streaming."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..asked import ANY, OFFERED, Asked, JsonObject, Unreadable, asked, form_of, messages_in, schema_in
from .api import Reply, Streaming, sse
from .vendors import ANTHROPIC, FAILED


class MessagesStream:
    """The answer as named events."""

    def opening(self, reply: Reply) -> list[bytes]:
        """The message, its only block, and a ping."""
        begun = {**_message(reply), "content": [], "stop_reason": None, "usage": {**_usage(reply), "output_tokens": 1}}
        events = [_event("message_start", message=begun)]
        if not reply.blank:
            events.append(_event("content_block_start", index=0, content_block=_block(reply, "")))
        return [*events, _event("ping")]

    def delta(self, reply: Reply, piece: str, index: int) -> bytes:
        """A bit of the text or of the tool's input."""
        kind, name = ("input_json_delta", "partial_json") if reply.tool else ("text_delta", "text")
        return _event("content_block_delta", index=0, delta={"type": kind, name: piece})

    def closing(self, reply: Reply, deltas: int) -> list[bytes]:
        """The block is done, why it ends and the usage, and the end."""
        events = [] if reply.blank else [_event("content_block_stop", index=0)]
        if (reason := _stop_reason(reply)) is not None:
            delta = {"stop_reason": reason, "stop_sequence": None}
            events.append(_event("message_delta", delta=delta, usage={"output_tokens": reply.said.tokens}))
        return [*events, _event("message_stop")]

    def failure(self, reply: Reply, deltas: int) -> bytes:
        """An `error` event."""
        return _event("error", error={"type": "api_error", "message": FAILED})


class Messages:
    """POST /messages. The SDK puts /v1 before it, whatever its base URL: with the box's own, it comes twice."""

    paths: Sequence[str] = ("/v1/messages", "/v1/v1/messages")
    vendor = ANTHROPIC
    streaming: Streaming | None = MessagesStream()

    def read(self, body: JsonObject) -> Asked:
        """What is asked: the system prompt, then the messages. `max_tokens` must be said."""
        messages, tools = messages_in(body), body.get("tools")
        if "max_tokens" not in body:
            raise Unreadable("max_tokens: Field required")
        system = [{"role": "system", "content": body["system"]}] if body.get("system") else []
        # The SDK asks for a schema in output_config.format; before 2.0 it was output_format, with a beta header.
        schema = schema_in((body.get("output_config") or {}).get("format") or body.get("output_format"))
        form = form_of(_tools(tools), _choice(body), schema, after_result=_is_result(messages[-1]))
        return asked(body, [*system, *messages], most=body["max_tokens"], form=form, beside=(tools, schema))

    def whole(self, reply: Reply) -> dict[str, Any]:
        """A `message` object."""
        content = [] if reply.blank else [_block(reply, reply.said.text)]
        return {**_message(reply), "content": content, "stop_reason": _stop_reason(reply), "usage": _usage(reply)}


def _message(reply: Reply) -> dict[str, Any]:
    head = {"id": f"msg_sim_{reply.id}", "type": "message", "role": "assistant", "model": reply.asked.model}
    return {**head, "stop_sequence": None}


def _block(reply: Reply, text: str) -> dict[str, Any]:
    if reply.tool:
        return {"type": "tool_use", "id": f"toolu_sim_{reply.id}", "name": reply.tool, "input": _object_in(text)}
    return {"type": "text", "text": text, "citations": None}


def _object_in(text: str) -> object:
    """A call's input; arguments that were cut are none."""
    try:
        return json.loads(text)
    except ValueError:
        return {}


def _stop_reason(reply: Reply) -> str | None:
    if reply.said.finish_reason == "stop":
        return "tool_use" if reply.tool else "end_turn"
    return "max_tokens" if reply.said.finish_reason == "length" else None


def _usage(reply: Reply) -> dict[str, Any]:
    return {
        "input_tokens": reply.asked.tokens - reply.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": reply.cached,
        "output_tokens": reply.said.tokens,
        "service_tier": "standard",
    }


def _event(kind: str, **fields: Any) -> bytes:
    return sse({"type": kind, **fields}, kind)


def _tools(tools: Sequence[JsonObject] | None) -> dict[str, JsonObject]:
    return {tool["name"]: tool["input_schema"] for tool in tools or () if "input_schema" in tool}


def _choice(body: JsonObject) -> str | None:
    choice = body.get("tool_choice") or {}
    if choice.get("type") == "tool":
        name: str = choice["name"]
        return name
    return {"any": ANY, "auto": OFFERED}.get(choice.get("type", "auto"))


def _is_result(message: JsonObject) -> bool:
    content = message.get("content")
    return isinstance(content, list) and any(part.get("type") == "tool_result" for part in content)
