"""What an answer says, whichever API gave it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..results import ToolCall
from ..spending import Usage
from .reading import encoded, mapping, text


@dataclass(slots=True)  # one for each answer: frozen, it would take three times as long to make
class Reply:
    """One answer: its text or its tool calls, why it ended, and what it used. `Reply("hello")` is a whole one.

    Attributes:
        text: The answer's text; empty if there is none.
        finish_reason: In OpenAI's words: "stop", "length", "tool_calls", "content_filter", or what else the server says.
            None: the answer did not end, it broke off.
        usage: Tokens as the provider counted them; None if it did not say.
        tool_calls: What the model asks for, in its order.
        refusal: Why the model will not answer; None if it did.
        vector: An embedding; None for every other answer.
        raw: The bytes that it was read from.
    """

    text: str = ""
    finish_reason: str | None = "stop"
    usage: Usage | None = None
    tool_calls: Sequence[ToolCall] = ()
    refusal: str | None = None
    vector: Sequence[float] | None = None
    raw: bytes = field(default=b"", repr=False)


class ProviderError(ValueError):
    """A success by its status, an error by its body, or an error in the middle of a stream.

    Attributes:
        body: `{"error": ...}` with the provider's error object: what an answer with the status of an error would hold.

    Raises:
        ValueError: The error object is nested too deep to be passed on.
    """

    def __init__(self, error: object) -> None:
        said = text(mapping(error).get("message")) or text(error) or "no message"
        super().__init__(f"the answer carries an error: {said}")
        self.body = encoded({"error": error})
