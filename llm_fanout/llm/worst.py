"""The most that one call can cost, and how long an answer its budget allows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from ..budgets import Charge
from ..core.tokens import most_tokens
from ..errors import ConfigError
from ..hooks import hook
from ..providers.request import Request
from ..spending import NO_USAGE, Spending
from .plan import Route

AROUND_MESSAGE = 8  # tokens of a message's role and its marks, at the most; OpenAI's cookbook counts 3 and the name
FLOOR = 1_024  # output tokens: what is cut before that is seldom worth its price
MOST = 32_768  # output tokens that are asked for where the call does not say: longer answers are rare. A model that takes
# fewer says so when it refuses, which costs nothing: see `Route.most_output`.
GENEROUS = 4.0  # times the likely length of an answer is what it is allowed, even if fewer calls are under way at once then


@dataclass(frozen=True, slots=True)
class Worst:
    """What a call takes at most.

    Args:
        input: Tokens of the prompt: no more than it has bytes.
        output: Tokens of the answer, if the call says how many; else None.
        likely: Tokens that answers have.
        most: Tokens that the model can be asked for.
        rates: USD per token of input and output; None if they do not matter.
    """

    input: float
    output: float | None
    likely: float
    most: float
    rates: tuple[float, float] | None

    @classmethod
    def of(cls, request: Request, routes: Iterable[Route], *, is_priced: bool) -> Worst:
        """That of `request`, whoever of `routes` answers it."""
        routes = list(routes)
        input = float(request.input_tokens(most_tokens) + AROUND_MESSAGE * len(request.messages))
        stated = request.max_tokens
        return cls(
            input,
            None if stated is None else float(stated),
            max(route.output.tokens for route in routes),
            min(route.most_output or MOST for route in routes),
            worst_rates(routes, input) if is_priced else None,
        )

    def charge(self, output: float) -> Charge:
        """What is used if the answer has so many tokens."""
        usd = 0.0 if self.rates is None else self.input * self.rates[0] + output * self.rates[1]
        return Charge(usd, self.input + output)

    @property
    def least(self) -> Charge:
        """What it must be able to take to be asked at all."""
        return self.charge(min(FLOOR, self.most) if self.output is None else self.output)

    def allowed(self, room: Charge, share: Charge) -> float:
        """How many tokens its answer may have: as many as its share pays for, and enough for most answers if there is room.

        Args:
            room: What is left of the budgets; no less than `least`.
            share: What of that each call that may be under way can have.
        """
        if self.output is not None:
            return self.output
        wished = max(FLOOR, GENEROUS * self.likely, self._paid_by(share))
        return float(int(min(wished, self.most, self._paid_by(room))))

    def _paid_by(self, sum: Charge) -> float:
        tokens = sum.tokens - self.input
        if self.rates is None or not self.rates[1]:
            return tokens
        return min(tokens, (sum.usd - self.input * self.rates[0]) / self.rates[1])


class Bill:
    """What one call has used so far, as far as that is known, and else as much as it may have.

    Args:
        worst: What it takes at most.

    Attributes:
        attempt: What one attempt uses at most.
        limit: The tokens of its answer that the budget allows, where the call does not say.
    """

    __slots__ = ("_is_open", "_settled", "attempt", "limit", "worst")

    def __init__(self, worst: Worst) -> None:
        self.worst = worst
        self.limit: int | None = None
        self.attempt = worst.least
        self._settled = Charge()
        self._is_open = False

    def allow(self, output: float) -> Charge:
        """What one attempt uses at most whose answer may have so many tokens."""
        self.attempt = self.worst.charge(output)
        return self.attempt

    def open(self) -> None:
        """An attempt begins."""
        self._is_open = True

    def book(self, spending: Spending) -> None:
        """It has ended, and this is what it used; if nobody knows, as much as it may have."""
        self._is_open = False
        usage = spending.usage
        if usage == NO_USAGE:
            self._settled += self.attempt
        else:
            self._settled += Charge(self._usd(spending), usage.input_tokens + usage.output_tokens)

    def refused(self) -> None:
        """It has ended, and used nothing."""
        self._is_open = False

    @property
    def charged(self) -> Charge:
        """What its attempts have used, or may have used, the one under way included."""
        return self._settled + self.attempt if self._is_open else self._settled

    def _usd(self, spending: Spending) -> float:
        if self.worst.rates is None:
            return 0.0
        cost = spending.cost
        return self.attempt.usd if cost is None else cost


MOST_NAMED = re.compile(r"(?:at most|maximum|less than or equal to|up to|<=|max(?:imum)? of)\D{0,40}?([0-9][0-9,_]*)", re.I)


def most_named(message: str) -> float:
    """The tokens that a model can be asked for, going by its refusal of more; `inf` if it was refused for another reason."""
    found = MOST_NAMED.search(message) if "token" in message else None
    most = 0 if found is None else int(re.sub("[,_]", "", found[1]))
    return most if most > 0 else inf


def worst_rates(routes: Iterable[Route], input: float) -> tuple[float, float]:
    """The highest rates of `routes` for calls of up to so many input tokens: USD per token of input, and of output.

    Raises:
        ConfigError: One of them has no price.
    """
    rates = [each for route in routes for each in _rates_of(route, input)]
    return max(each[0] for each in rates), max(each[1] for each in rates)


def _rates_of(route: Route, input: float) -> list[tuple[float, ...]]:
    if route.price is not None:
        return [tuple(each / 1e6 for each in route.price)]
    name = route.place.name
    found = [hook("rates")(name, size) for size in (0, int(min(input, 1e9)))]  # some models cost more above a size
    if None in found:
        raise ConfigError(
            f"there is no price for {name!r}, so a budget in USD cannot be kept; say Endpoint({name!r}, price=(input, "
            "output)) in USD per million tokens, or token_budget="
        )
    return found
