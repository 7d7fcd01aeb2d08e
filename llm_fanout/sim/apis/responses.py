"""OpenAI's Responses. Source: the types of the openai package, 3.57."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..asked import Asked, JsonObject, asked, form_of, messages_in, schema_in
from .api import Reply, Streaming, sse
from .chat import CHOICES
from .vendors import FAILED, OPENAI

# What a response repeats of its request, and what stands there if nothing was said.
ECHOED: JsonObject = {
    "instructions": None,
    "tool_choice": "auto",
    "tools": [],
    "parallel_tool_calls": True,
    "max_output_tokens": None,
}


class ResponsesStream:
    """The answer as named events; the last has all of it."""

    def opening(self, reply: Reply) -> list[bytes]:
        """The response, its only item, and that item's only part."""
        begun = _response(reply, "in_progress", [])
        events: list[tuple[str, dict[str, Any]]] = [
            ("response.created", {"response": begun}),
            ("response.in_progress", {"response": begun}),
        ]
        if not reply.blank:
            item = _item(reply, "", "in_progress")
            if not reply.tool:
                item["content"] = []
            events.append(("response.output_item.added", {"output_index": 0, "item": item}))
        if not reply.blank and not reply.tool:
            events.append(("response.content_part.added", {**_place(reply), "part": _part("")}))
        return _numbered(events, 0)

    def delta(self, reply: Reply, piece: str, index: int) -> bytes:
        """A bit of the text or of the arguments."""
        number = _opened(reply) + index
        if reply.tool:
            return _event("response.function_call_arguments.delta", {**_place(reply), "delta": piece}, number)
        return _event("response.output_text.delta", {**_place(reply), "delta": piece, "logprobs": []}, number)

    def closing(self, reply: Reply, deltas: int) -> list[bytes]:
        """All that was begun is done; without a finish reason, the response never is."""
        status, text = _status(reply), reply.said.text
        events: list[tuple[str, dict[str, Any]]] = []
        if not reply.blank:
            if reply.tool:
                done = {**_place(reply), "name": reply.tool, "arguments": text}
                events.append(("response.function_call_arguments.done", done))
            else:
                events.append(("response.output_text.done", {**_place(reply), "text": text, "logprobs": []}))
                events.append(("response.content_part.done", {**_place(reply), "part": _part(text)}))
            events.append(("response.output_item.done", {"output_index": 0, "item": _item(reply, text, status)}))
        if status != "in_progress":
            events.append((f"response.{status}", {"response": _whole(reply)}))
        return _numbered(events, _opened(reply) + deltas)

    def failure(self, reply: Reply, deltas: int) -> bytes:
        """An `error` event."""
        return _event("error", {"code": "server_error", "message": FAILED, "param": None}, _opened(reply) + deltas)


class Responses:
    """POST /responses."""

    paths: Sequence[str] = ("/v1/responses",)
    vendor = OPENAI
    streaming: Streaming | None = ResponsesStream()

    def read(self, body: JsonObject) -> Asked:
        """What is asked: the instructions, then a text or a list of items."""
        said = body.get("input")
        items = [{"role": "user", "content": said}] if isinstance(said, str) and said else messages_in(body, "input")
        instructions = [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
        tools, schema = body.get("tools"), schema_in((body.get("text") or {}).get("format"))
        after_result = items[-1].get("type") == "function_call_output"
        form = form_of(_tools(tools), _choice(body), schema, after_result=after_result)
        most = body.get("max_output_tokens")
        return asked(body, [*instructions, *items], most=most, form=form, beside=(tools, schema))

    def whole(self, reply: Reply) -> dict[str, Any]:
        """A `response` object."""
        return _whole(reply)


def _whole(reply: Reply) -> dict[str, Any]:
    status = _status(reply)
    return _response(reply, status, [] if reply.blank else [_item(reply, reply.said.text, status)])


def _opened(reply: Reply) -> int:
    """How many events come before the first delta: the numbers of all events rise by one."""
    return 2 if reply.blank else 3 if reply.tool else 4


def _response(reply: Reply, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    body = reply.asked.body
    return {
        "id": f"resp_sim_{reply.id}",
        "object": "response",
        "created_at": reply.created,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "model": reply.asked.model,
        "output": output,
        "text": body.get("text") or {"format": {"type": "text"}},
        "metadata": body.get("metadata") or {},
        "usage": None if status == "in_progress" else _usage(reply),
        **{name: body.get(name, default) for name, default in ECHOED.items()},
    }


def _item(reply: Reply, text: str, status: str) -> dict[str, Any]:
    if reply.tool:
        call = {"call_id": f"call_sim_{reply.id}", "name": reply.tool, "arguments": text}
        return {"id": f"fc_sim_{reply.id}", "type": "function_call", "status": status, **call}
    message = {"role": "assistant", "content": [_part(text)]}
    return {"id": f"msg_sim_{reply.id}", "type": "message", "status": status, **message}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _place(reply: Reply) -> dict[str, Any]:
    """Where in the response: there is one item, with one part."""
    if reply.tool:
        return {"item_id": f"fc_sim_{reply.id}", "output_index": 0}
    return {"item_id": f"msg_sim_{reply.id}", "output_index": 0, "content_index": 0}


def _status(reply: Reply) -> str:
    return {"stop": "completed", "length": "incomplete", None: "in_progress"}[reply.said.finish_reason]


def _usage(reply: Reply) -> dict[str, Any]:
    prompt, said = reply.asked.tokens, reply.said.tokens
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": reply.cached, "cache_write_tokens": 0},
        "output_tokens": said,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + said,
    }


def _event(kind: str, fields: dict[str, Any], number: int) -> bytes:
    return sse({"type": kind, "sequence_number": number, **fields}, kind)


def _numbered(events: Sequence[tuple[str, dict[str, Any]]], first: int) -> list[bytes]:
    return [_event(kind, fields, first + index) for index, (kind, fields) in enumerate(events)]


def _tools(tools: Sequence[JsonObject] | None) -> dict[str, JsonObject]:
    return {tool["name"]: tool.get("parameters") or {} for tool in tools or () if tool.get("type") == "function"}


def _choice(body: JsonObject) -> str | None:
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        name: str = choice["name"]
        return name
    return CHOICES.get(choice or "auto")
