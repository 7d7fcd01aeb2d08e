"""Chat Completions, as OpenAI and most others serve it. Source: the types of the openai package, 3.57."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..asked import ANY, OFFERED, Asked, JsonObject, asked, form_of, messages_in, schema_in
from .api import Reply, Streaming, sse
from .vendors import FAILED, OPENAI

DONE = b"data: [DONE]\n\n"
CHOICES = {"required": ANY, "auto": OFFERED}  # "none" is none


class ChatStream:
    """The answer as `chat.completion.chunk` objects, and "[DONE]"."""

    def opening(self, reply: Reply) -> list[bytes]:
        """Who speaks, or which tool is called."""
        delta: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
        if reply.tool:
            delta |= {"content": None, "tool_calls": [{"index": 0, **_call(reply, "")}]}
        return [_chunk(reply, delta)]

    def delta(self, reply: Reply, piece: str, index: int) -> bytes:
        """A bit of the text or of the arguments."""
        if reply.tool:
            return _chunk(reply, {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        return _chunk(reply, {"content": piece})

    def closing(self, reply: Reply, deltas: int) -> list[bytes]:
        """Why it ends, the usage if that was asked for, and the end."""
        events = [DONE]
        if (reply.asked.body.get("stream_options") or {}).get("include_usage"):
            events.insert(0, sse({**_head(reply), "choices": [], "usage": _usage(reply)}))
        if (finish := _finish(reply)) is not None:
            events.insert(0, _chunk(reply, {}, finish))
        return events

    def failure(self, reply: Reply, deltas: int) -> bytes:
        """A chunk that is an error."""
        return sse({"error": {"message": FAILED, "type": "server_error", "param": None, "code": None}})


class Chat:
    """POST /chat/completions."""

    paths: Sequence[str] = ("/v1/chat/completions",)
    vendor = OPENAI
    streaming: Streaming | None = ChatStream()

    def read(self, body: JsonObject) -> Asked:
        """What is asked."""
        messages, tools, wanted = messages_in(body), body.get("tools"), body.get("response_format")
        schema = schema_in(wanted)
        form = form_of(_tools(tools), _choice(body), schema, after_result=messages[-1].get("role") == "tool")
        most = body.get("max_completion_tokens", body.get("max_tokens"))
        return asked(body, messages, most=most, form=form, beside=(tools, schema))

    def whole(self, reply: Reply) -> dict[str, Any]:
        """A `chat.completion` object."""
        message: dict[str, Any] = {"role": "assistant", "content": reply.said.text, "refusal": None}
        if reply.tool:
            message |= {"content": None, "tool_calls": [_call(reply, reply.said.text)]}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(reply)}
        return {
            "id": f"chatcmpl-sim-{reply.id}",
            "object": "chat.completion",
            "created": reply.created,
            "model": reply.asked.model,
            "choices": [] if reply.blank else [choice],
            "usage": _usage(reply),
            "system_fingerprint": "simulated",
        }


def _head(reply: Reply) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-sim-{reply.id}",
        "object": "chat.completion.chunk",
        "created": reply.created,
        "model": reply.asked.model,
        "system_fingerprint": "simulated",
    }


def _chunk(reply: Reply, delta: Mapping[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return sse({**_head(reply), "choices": [] if reply.blank else [choice]})


def _call(reply: Reply, arguments: str) -> dict[str, Any]:
    function = {"name": reply.tool, "arguments": arguments}
    return {"id": f"call_sim_{reply.id}", "type": "function", "function": function}


def _finish(reply: Reply) -> str | None:
    return "tool_calls" if reply.tool and reply.said.finish_reason == "stop" else reply.said.finish_reason


def _usage(reply: Reply) -> dict[str, Any]:
    prompt, said = reply.asked.tokens, reply.said.tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": said,
        "total_tokens": prompt + said,
        "prompt_tokens_details": {"cached_tokens": reply.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _tools(tools: Sequence[JsonObject] | None) -> dict[str, JsonObject]:
    functions = [tool["function"] for tool in tools or () if tool.get("type") == "function"]
    return {function["name"]: function.get("parameters") or {} for function in functions}


def _choice(body: JsonObject) -> str | None:
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        name: str = choice["function"]["name"]
        return name
    return CHOICES.get(choice or "auto")
