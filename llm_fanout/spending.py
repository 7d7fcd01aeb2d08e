"""What was used, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from .hooks import hook

Price = tuple[float, ...]  # USD per million tokens: input, output[, cached input]


# Every Result has one of each; they can be in no circle, and so are no work for the garbage collector.
class Usage(Struct, frozen=True, gc=False, array_like=True):
    """Tokens as the provider counted them; `cached_tokens` are part of the input, `reasoning_tokens` of the output."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


NO_USAGE = Usage()


def cost_of(model: str, usage: Usage, request_size: int | None = None, price: Price | None = None) -> float | None:
    """USD that `usage` costs on `model`; None if the price is not known, never 0 for that.

    Args:
        model: Provider and model, "openai/gpt-5-mini".
        usage: Tokens of one call, or of many of about the same size.
        request_size: Input tokens of one call: some models cost more above a threshold. By default those of `usage`.
        price: USD per million tokens, instead of the list price.
    """
    size = usage.input_tokens if request_size is None else request_size
    rates = rates_of(model, size, price)
    if rates is None:
        return None
    fresh = usage.input_tokens - usage.cached_tokens
    return float(fresh * rates[0] + usage.output_tokens * rates[1] + usage.cached_tokens * rates[2])


def rates_of(model: str, size: int, price: Price | None = None) -> Sequence[float] | None:
    """USD per token of fresh input, output and cached input, for a call of so many input tokens; None if they are not known.

    Args:
        model: Provider and model, "openai/gpt-5-mini".
        size: Input tokens of the call.
        price: USD per million tokens, instead of the list price.
    """
    if price is not None:
        return [each / 1e6 for each in (*price, price[0])[:3]]
    listed: Sequence[float] | None = hook("rates")(model, size)
    return listed


class Spending(Struct, frozen=True, gc=False, array_like=True):
    """Tokens that one model reported, by the size of the requests, for prices may depend on it.

    Attributes:
        model: Provider and model.
        request_size: Input tokens of each of these requests, rounded down to thousands.
        calls: How many requests.
        usage: Their tokens together.
        price: USD per million tokens, where the endpoint says so; else the list price holds.
    """

    model: str
    request_size: int
    calls: int
    usage: Usage
    price: Price | None = None

    @classmethod
    def of(cls, model: str, usage: Usage, price: Price | None = None) -> Spending:
        """That of one request."""
        return cls(model, usage.input_tokens // 1000 * 1000, 1, usage, price)

    @property
    def cost(self) -> float | None:
        """USD; None if the price is not known, or no tokens were reported."""
        return None if self.usage == NO_USAGE else cost_of(self.model, self.usage, self.request_size, self.price)

    @property
    def saved(self) -> float:
        """USD that the provider's cache has saved, as far as prices are known."""
        if not self.usage.cached_tokens:
            return 0.0
        rates = rates_of(self.model, self.request_size, self.price)
        return 0.0 if rates is None else float(self.usage.cached_tokens * (rates[0] - rates[2]))
