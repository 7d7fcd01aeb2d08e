"""What tokens cost, and how many fit: the lists of the genai-prices package, offline, imported when they are asked for."""

from __future__ import annotations

from functools import lru_cache

from ..providers.vendors import VENDORS

Rates = tuple[float, float, float]  # USD per token: fresh input, output, cached input


def rates(model: str, request_size: int) -> Rates | None:
    """The rates of `model` ("openai/gpt-5-mini") for a call of so many input tokens; None if they are not known."""
    vendor = VENDORS.get(model.partition("/")[0])
    if vendor is None or not vendor.prices:
        return None  # simulated answers, and those of the user's own functions: it takes no price list to know
    return _rates(vendor.prices, model.partition("/")[2], max(request_size // 1000 * 1000 + 500, 500))


def context_window(model: str) -> int | None:
    """How many tokens, read and written, `model` can have to do with in one call; None if that is not known."""
    vendor = VENDORS.get(model.partition("/")[0])
    if vendor is None or not vendor.prices:
        return None
    from genai_prices import Usage, calc_price

    try:
        found = calc_price(Usage(input_tokens=1), model.partition("/")[2], provider_id=vendor.prices)
    except LookupError:
        return None
    return found.model.context_window


@lru_cache(maxsize=4096)
def _rates(provider: str, model: str, size: int) -> Rates | None:
    # One probe per thousand tokens: prices step up at round thresholds (128,000, say) and are linear in between.
    fresh = _price(provider, model, input_tokens=size)
    if fresh is None:
        return None
    both = _price(provider, model, input_tokens=size, output_tokens=size) or fresh
    cached = _price(provider, model, input_tokens=size, cache_read_tokens=size) or fresh
    return fresh / size, (both - fresh) / size, cached / size


def _price(provider: str, model: str, **tokens: int) -> float | None:
    from genai_prices import Usage, calc_price

    try:
        return float(calc_price(Usage(**tokens), model, provider_id=provider).total_price)
    except LookupError:
        return None
