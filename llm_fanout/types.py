"""Values that the library gives, beside those that `llm_fanout` itself names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from .hooks import hook


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run would take, as far as that can be told beforehand: see `FanOut.estimate`.

    Attributes:
        calls: Prompts that were handed in.
        refused: Of these, those that would fail without being sent: they need more tokens than pass in a minute, or are no
            prompts.
        input_tokens: About how many tokens would be sent.
        output_tokens: About how many would come back.
        cost: USD, the likely and the most, if each call is answered at its first try. The most counts every byte of a text
            as a token, and every answer as long as it may be: `max_tokens`, or else as long as the model can write (so say
            `max_tokens` for a useful figure). None if the price of a model is not known, never 0 for that; an
            `Endpoint(price=)` says it.
        earliest_finish: Seconds from its start until the run could be done, if nothing fails and nobody else uses the quota.
        binding: What the run would wait for most, in the words of `Summary.binding`: "requests", "tokens", "concurrency", or
            "provider" if no limit ever held it up.
    """

    calls: int
    refused: int = 0
    input_tokens: int
    output_tokens: int
    cost: tuple[float, float] | None
    earliest_finish: float
    binding: str

    def __str__(self) -> str:
        return cast("str", hook("text")(self))

    def _repr_html_(self) -> str:
        return cast("str", hook("html")(self))
