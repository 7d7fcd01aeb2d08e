"""What tokens cost: the list prices of the genai-prices package, offline, imported when a cost is asked for."""

from __future__ import annotations

from functools import lru_cache

Rates = tuple[float, float, float]  # USD per token: fresh input, output, cached input


def rates(model: str, request_size: int) -> Rates | None:
    """The rates of `model` ("openai/gpt-5-mini") for a call of so many input tokens; None if they are not known."""
    if model.startswith("sim/"):
        return None  # simulated answers have no price, and it takes no price list to know
    return _rates(model, max(request_size // 1000 * 1000 + 500, 500))


@lru_cache(maxsize=4096)
def _rates(model: str, size: int) -> Rates | None:
    # One probe per thousand tokens: prices step up at round thresholds (128,000, say) and are linear in between.
    fresh = _price(model, input_tokens=size)
    if fresh is None:
        return None
    both = _price(model, input_tokens=size, output_tokens=size) or fresh
    cached = _price(model, input_tokens=size, cache_read_tokens=size) or fresh
    return fresh / size, (both - fresh) / size, cached / size


def _price(model: str, **tokens: int) -> float | None:
    from genai_prices import Usage, calc_price

    provider, _, name = model.partition("/")
    try:
        return float(calc_price(Usage(**tokens), name, provider_id=provider).total_price)
    except LookupError:
        return None
