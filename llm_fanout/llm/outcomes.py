"""What follows from an answer that came: only one that ended, with something in it, is a success."""

from __future__ import annotations

import time

from ..core.announced import Announced
from ..core.job import Cost, Outcome
from ..providers.format import Format
from ..providers.reply import ProviderError, Reply
from . import hints, signals
from .reactions import Flaw


def of_answer(status: int, headers: signals.Headers, body: bytes, form: Format, *, streamed: bool = False) -> Outcome:
    """What follows from an answer: the Reply as the outcome's value, or why it cannot be used.

    Args:
        status: The HTTP status.
        headers: As they came.
        body: As it came; of a streamed answer, what it was put together to.
        form: How it is read.
        streamed: Whether it was put together: then nothing at all is a stream that broke off.
    """
    if not signals.is_success(status):
        return signals.of_answer(status, headers, body)
    announced = hints.announced(headers, time.time())
    try:
        reply = form.read(body)
    except ProviderError:
        return signals.of_answer(status, headers, body)
    except ValueError as exc:
        start = body[:80].decode(errors="replace")
        why = f"the answer is none of the {form.name} API ({exc}): {start!r}"
        return signals.unusable("malformed", why, status=status, announced=announced)
    return of_reply(reply, status=status, announced=announced, streamed=streamed)


def of_reply(
    reply: Reply, *, status: int | None = None, announced: Announced | None = None, streamed: bool = False
) -> Outcome:
    """What follows from a reply. It is the outcome's value even if it has a flaw: its tokens were used."""
    flaw = _flaw_in(reply, streamed=streamed)
    if flaw is None:
        outcome = Outcome(announced=announced)
    else:
        outcome = signals.unusable(*flaw, status=status, partial=reply.text, announced=announced)
    outcome.value = reply
    if reply.usage is not None:
        outcome.used = Cost.of(reply.usage.input_tokens, reply.usage.output_tokens)
    return outcome


def _flaw_in(reply: Reply, *, streamed: bool) -> tuple[Flaw, str] | None:
    """What is wrong with a reply, and why; None if nothing is."""
    if reply.refusal:
        return "refusal", f"the model refused: {reply.refusal}"
    if reply.finish_reason == "content_filter":
        return "filtered", "the provider's content filter cut the answer"
    if reply.finish_reason == "length":
        return None  # cut where it was told to be, be it before the first word
    has_something = bool(reply.text or reply.tool_calls or reply.vector)
    if reply.finish_reason is None and (has_something or streamed):
        return "truncated", "the answer ended without a finish reason"
    if not has_something:
        return "empty", "the answer is empty"
    calls = reply.tool_calls
    if calls and any(not call.arguments and call.raw.strip() not in ("", "{}") for call in calls):
        return "malformed", "the answer calls a tool with arguments that are no JSON object"
    return None
