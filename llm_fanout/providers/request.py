"""What is asked, in the words of no API in particular: those of the OpenAI SDK."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..core.tokens import estimate_tokens
from . import parts

if TYPE_CHECKING:
    from .schema import Schema

DECLARATIONS = ("tools", "functions", "response_format")  # parameters that the model reads, and that are paid for as input


@dataclass(slots=True)  # one for each call: frozen, it would take three times as long to make
class Request:
    """One call of a model.

    Attributes:
        model: The provider's name of it, "gpt-5-mini".
        messages: OpenAI's message dicts, in order. For an embedding: one, with the text.
        params: The SDK's request arguments by name (temperature, tools, ...); `extra_body` goes into the body as it is,
            `extra_headers` are the sender's business.
        schema: What the answer has to fit, if anything.
        stream: Whether the answer is asked for as a stream.
        shared: How many of the first messages other calls begin with, too: what a provider is to cache that has to be told.
    """

    model: str
    messages: Sequence[Mapping[str, Any]]
    params: Mapping[str, Any] = field(default_factory=dict, repr=False)
    schema: Schema[Any] | None = None
    stream: bool = False
    shared: int = 0

    @property
    def max_tokens(self) -> int | None:
        """Tokens of the answer at most, under whichever name they are said; None if they are not."""
        most: int | None = self.params.get("max_completion_tokens", self.params.get("max_tokens"))
        return most

    def input_tokens(self, count: parts.Count = estimate_tokens) -> int:
        """About how many tokens are sent: messages with their images, audio and files, tools, and the schema.

        Args:
            count: Gives the tokens of a text.
        """
        tokens = 0
        for message in self.messages:
            tokens += parts.tokens_of(message, self.model, count)
        return tokens + self._declared_tokens(count) if self.params or self.schema is not None else tokens

    def _declared_tokens(self, count: parts.Count) -> int:
        places = (self.params, self.params.get("extra_body") or {})
        declared = [place[name] for place in places for name in DECLARATIONS if place.get(name)]
        if self.schema is not None:
            declared.append(self.schema.json)
        return sum(parts.declared_tokens(each, count) for each in declared)
