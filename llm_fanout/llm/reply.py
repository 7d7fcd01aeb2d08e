"""What a chat completion says, read from its bytes: no SDK, no copies kept."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.job import Cost, Outcome
from ..results import Usage
from . import hints, signals
from .reactions import Flaw


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: its text, why it ended, and what it used."""

    text: str
    finish_reason: str | None
    usage: Usage | None
    refusal: str | None
    choices: int
    raw: bytes = field(repr=False)

    def response(self) -> object:
        """The `openai.types.chat.ChatCompletion` of these bytes; fields that the SDK does not know are kept."""
        from openai.types.chat import ChatCompletion

        try:
            return ChatCompletion.model_validate_json(self.raw)
        except ValueError:  # the SDK builds objects from answers that its own types refuse; so do we
            return ChatCompletion.construct(**json.loads(self.raw))


def decode(body: bytes) -> Reply:
    """Read a chat completion. Raises ValueError if it is none."""
    answer = json.loads(body)
    if not isinstance(answer, dict):
        raise ValueError("not a JSON object")
    if answer.get("error"):
        raise ProviderError("the answer carries an error")
    choices = answer.get("choices")
    first: Mapping[str, Any] = choices[0] if isinstance(choices, list) and choices else {}
    message: Mapping[str, Any] = first.get("message") or {}
    return Reply(
        text=message.get("content") or "",
        finish_reason=first.get("finish_reason"),
        usage=_usage_of(answer.get("usage")),
        refusal=message.get("refusal"),
        choices=len(choices or ()),
        raw=body,
    )


class ProviderError(ValueError):
    """A success by its status, an error by its body."""


def outcome_of(status: int, headers: signals.Headers, body: bytes) -> Outcome:
    """What follows from an answer: the Reply as the outcome's value, or why it cannot be used."""
    if not signals.is_success(status):
        return signals.of_answer(status, headers, body)
    announced = hints.announced(headers, time.time())
    try:
        reply = decode(body)
    except ProviderError:
        return signals.of_answer(status, headers, body)
    except (ValueError, RecursionError, TypeError, AttributeError) as exc:
        start = body[:80].decode(errors="replace")
        message = f"the answer is no chat completion ({exc}): {start!r}"
        return signals.unusable("malformed", message, status=status, announced=announced)
    flaw = _flaw_in(reply)
    if flaw is not None:
        kind, message, partial = flaw
        return signals.unusable(kind, message, status=status, partial=partial, announced=announced)
    usage = reply.usage
    used = None if usage is None else Cost.of(usage.input_tokens, usage.output_tokens)
    return Outcome(value=reply, used=used, announced=announced)


def _flaw_in(reply: Reply) -> tuple[Flaw, str, str] | None:
    """Why it is no success, and what text there is all the same; only an answer that ended, with something in it, is one."""
    if reply.refusal:
        return "refusal", f"the model refused: {reply.refusal}", ""
    if reply.finish_reason == "content_filter":
        return "filtered", "the provider's content filter cut the answer", reply.text
    if not reply.choices or (not reply.text and reply.finish_reason != "length"):
        return "empty", "the answer is empty", ""
    if reply.finish_reason is None:
        return "truncated", "the answer ended without a finish reason", reply.text
    return None


def _usage_of(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    inputs, outputs = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    return Usage(
        input_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
        cached_tokens=_count(inputs.get("cached_tokens")),
        reasoning_tokens=_count(outputs.get("reasoning_tokens")),
    )


SANE_TOKENS = 10**9  # a count above is an error of the server; booked as a debt it would stop the quota for years


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value <= SANE_TOKENS else 0
