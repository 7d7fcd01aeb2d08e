"""The most that one call can cost, and how long an answer its budget allows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..budgets import Charge
from ..core.checks import is_number
from ..core.tokens import most_tokens
from ..errors import ConfigError
from ..providers.request import Request
from ..spending import NO_USAGE, Spending, rates_of
from .plan import Route

AROUND_CALL = 128  # tokens that a server puts before the messages: gpt-oss's template some 70 (openai/harmony)
AROUND_TOOLS = 600  # the same where there are tools: Anthropic, tool use: 264 to 530
AROUND_MESSAGE = 8  # tokens of a message's role and its marks, at the most; OpenAI's cookbook counts 3 and the name
FLOOR = 1_024  # output tokens: what is cut before that is seldom worth its price
MOST = 32_768  # output tokens that are asked for where the call does not say: longer answers are rare. A model that takes
# fewer says so when it refuses, which costs nothing: see `Route.most_output`.
GENEROUS = 4.0  # times the likely length of an answer is what it is allowed, even if fewer calls are under way at once then
COUNTED = ("content", "tool_calls", "role", "type")  # fields of a message that `input_tokens` counts, or that are short
LENGTHS = ("max_tokens", "max_completion_tokens", "max_output_tokens")  # by which names an answer's length may be stated


class Worst(NamedTuple):  # one for each call: a frozen dataclass would take three times as long to make
    """What a call takes at most.

    Args:
        input: Tokens of the prompt: no more than it has bytes.
        output: Tokens of the answer, if the call says how many; else None.
        likely: Tokens that answers have.
        most: Tokens that the model can be asked for.
        minute: Tokens that pass in a minute; `inf` if nobody counts them.
        rates: USD per token of input and output; None if they do not matter.
        number: Answers that it asks for at once, all of which count; `output` has the tokens of all, `most` those of each.
    """

    input: float
    output: float | None
    likely: float
    most: float
    minute: float
    rates: tuple[float, float] | None
    number: float = 1.0

    @classmethod
    def of(cls, request: Request, routes: Iterable[Route], *, is_priced: bool, answers: bool = True) -> Worst:
        """That of `request`, whoever of `routes` answers it, in words if it `answers` at all."""
        routes = list(routes)
        input = most_input(request)
        return cls(
            input,
            _stated_output(request.params) if answers else 0.0,
            max([route.output.tokens for route in routes]),
            min([_most_output(route, input) for route in routes]),
            min([route.hold.quota.tokens_a_minute for route in routes]),
            worst_rates(routes, input) if is_priced else None,
            _number_of(request.params),
        )

    def charge(self, output: float) -> Charge:
        """What is used if the answer has so many tokens, or all its answers together have."""
        usd = 0.0 if self.rates is None else self.input * self.rates[0] + output * self.rates[1]
        return Charge(usd, self.input + output)

    @property
    def least(self) -> Charge:
        """What it must be able to take to be asked at all."""
        return self.charge(self.number * min(FLOOR, self.most) if self.output is None else self.output)

    def allowed(self, room: Charge, at_once: float) -> float:
        """How many tokens its answer may have, or all its answers together: as many as its share pays for, and enough for
        most if there is room.

        Args:
            room: What is left of the budgets; no less than `least`.
            at_once: Calls that may be under way, which share that, and the tokens of a minute: some providers count what
                may come, and not what does.
        """
        if self.output is not None:
            return self.output
        share = Charge(room.usd / at_once, min(room.tokens, self.minute) / at_once)
        wished = max(self.number * FLOOR, GENEROUS * self.likely, self._paid_by(share))
        each = int(min(wished, self.number * self.most, self._paid_by(room)) / self.number)
        return each * self.number

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

    __slots__ = ("_open", "_output", "_settled", "attempt", "limit", "worst")

    def __init__(self, worst: Worst) -> None:
        self.worst = worst
        self.limit: int | None = None
        self.attempt = worst.least
        self._output = 0.0
        self._settled = Charge()
        self._open = 0

    def allow(self, output: float) -> Charge:
        """What one attempt uses at most whose answer may have so many tokens."""
        self._output = output
        self.attempt = self.worst.charge(output)
        return self.attempt

    def lengthen(self, input: float) -> None:
        """The next attempt's prompt has so many tokens at most."""
        self.worst = self.worst._replace(input=input)
        self.attempt = self.worst.charge(self._output)

    def open(self) -> None:
        """An attempt begins."""
        self._open += 1

    def book(self, spending: Spending, *, is_whole: bool = True) -> None:
        """It has ended, and this is what it used; if nobody knows, or its answer broke off, as much as it may have."""
        self._open -= 1
        usage = spending.usage
        if usage == NO_USAGE or not is_whole:
            self._settled += self.attempt
        else:
            self._settled += Charge(self._usd(spending), usage.input_tokens + usage.output_tokens)

    def refused(self) -> None:
        """It has ended, and used nothing."""
        self._open -= 1

    @property
    def charged(self) -> Charge:
        """What its attempts have used, or may have used, those under way included."""
        return self._settled + Charge(self.attempt.usd * self._open, self.attempt.tokens * self._open)

    def _usd(self, spending: Spending) -> float:
        if self.worst.rates is None:
            return 0.0
        cost = spending.cost
        return self.attempt.usd if cost is None else cost


def most_input(request: Request) -> float:
    """The tokens of its prompt, at the most."""
    params, messages = request.params, request.messages
    extra = params.get("extra_body")
    tokens = request.input_tokens(most_tokens) + AROUND_CALL + AROUND_MESSAGE * len(messages)
    tokens += sum(_tokens_beside(message) for message in messages if len(message) > 2)
    if extra:
        tokens += _tokens_of(extra)  # whatever of it the model reads
    if extra or params.get("tools"):
        tokens += AROUND_TOOLS
    return float(tokens)


def _tokens_beside(message: Mapping[str, Any]) -> int:
    """Those of what an API's own items have besides a content: the output of a tool, say."""
    return _tokens_of({name: said for name, said in message.items() if name not in COUNTED})


def _tokens_of(said: object) -> int:
    return most_tokens(json.dumps(said, default=str, ensure_ascii=False))


def _stated_output(params: Mapping[str, Any]) -> float | None:
    """Tokens of all answers together, if the call says how many: the most, where it says so under several names."""
    if not params:
        return None
    extra = params.get("extra_body") or {}
    stated = [place[name] for place in (params, extra) for name in LENGTHS if is_number(place.get(name))]
    return float(max(stated)) * _number_of(params) if stated else None


def _number_of(params: Mapping[str, Any]) -> float:
    """Answers that it asks for; what is no number is the server's to refuse."""
    number: Any = (params.get("extra_body") or {}).get("n")
    return max(1.0, float(number)) if is_number(number) else 1.0


def _most_output(route: Route, input: float) -> float:
    most = float(route.most_output or MOST)
    if route.most_together is None:
        return most
    # The prompt is likely much shorter than its bytes: if it seems to leave no room, the server knows.
    return min(most, max(route.most_together - input, FLOOR))


def worst_rates(routes: Iterable[Route], input: float) -> tuple[float, float]:
    """The highest rates of `routes` for calls of up to so many input tokens: USD per token of input, and of output.

    Raises:
        ConfigError: One of them has no price.
    """
    rates = [each for route in routes for each in _rates_on(route, input)]
    dearest = max(max(fresh, cached) for fresh, _, cached in rates)  # cached input may cost more
    return dearest, max(output for _, output, _ in rates)


def _rates_on(route: Route, input: float) -> list[Sequence[float]]:
    name = route.place.name
    sizes = (0, int(min(input, 1e9)))  # some models cost more above a size
    found = [rates for size in sizes if (rates := rates_of(name, size, route.price)) is not None]
    if len(found) < len(sizes):
        raise ConfigError(
            f"there is no price for {name!r}, so a budget in USD cannot be kept; say Endpoint({name!r}, price=(input, "
            "output)) in USD per million tokens, or token_budget="
        )
    return found
