"""One prompt on its way: the ways it may go, what it costs, one try at it, and the Result that it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .. import clock
from ..core.job import Cost, Outcome
from ..core.quota import Quota
from ..core.retry import RetryPolicy
from ..errors import CallError, Rejected
from ..providers.reply import Reply
from ..providers.request import Request
from ..providers.schema import Schema, in_words, repair
from ..quotas import Hold
from ..results import Result
from ..spending import Price, Spending
from ..work import Timing
from . import signals
from .asking import FunctionProvider, HttpProvider, Provider
from .endpoint import Place
from .heard import Heard, Tell
from .lanes import Lane
from .prompt import Prompt, Settings

if TYPE_CHECKING:
    from .endpoint import Function

FIRST_GUESS = 500.0  # output tokens of a model that nobody has heard yet, where `max_tokens` does not say
MEMORY = 20  # answers after which one more counts a twentieth


@dataclass(slots=True)
class OutputGuess:
    """How many tokens an answer will have, going by those that came."""

    tokens: float = FIRST_GUESS
    _weight: int = 1

    def learn(self, tokens: int) -> None:
        """An answer had so many."""
        self._weight = min(self._weight + 1, MEMORY)
        self.tokens += (tokens - self.tokens) / self._weight


@dataclass(slots=True, eq=False)
class Route:
    """A way to a model: where it is, how to get there, and the quota on it.

    Attributes:
        place: Where it is.
        way: How requests get there, or the function that answers them.
        hold: The quota.
        price: What it costs, if the endpoint says so.
        output: How long its answers are.
        takes_schemas: Whether its API has a word for the schema of an answer, as far as is known.
    """

    place: Place
    way: Lane | Function
    hold: Hold
    price: Price | None = None
    output: OutputGuess = field(default_factory=OutputGuess)
    takes_schemas: bool = True
    _providers: dict[str | None, Provider] = field(default_factory=dict)

    def provider(self, api: str | None) -> Provider:
        """Who answers here, asked through `api`, or as the endpoint says.

        Raises:
            ConfigError: This provider has no such API.
        """
        if api not in self._providers:
            own = callable(self.way)
            self._providers[api] = FunctionProvider(self.way) if own else HttpProvider(self.way, self.place.format(api))
        return self._providers[api]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Where a call may be asked at one time: one route, or several that are balanced by what each has left.

    Attributes:
        routes: The routes.
        source: What their quotas are together.
    """

    routes: Sequence[Route]
    source: Source

    def cost_of(self, request: Request, most: int | None) -> Cost:
        """What one attempt reserves: the input's tokens, and the most (or else the likely) tokens of an answer.

        Raises:
            Rejected: It is more than the quota has in a whole minute, so it could never start.
        """
        if not any(route.hold.quota.counts_tokens for route in self.routes):
            return Cost()
        output = max(route.output.tokens for route in self.routes) if most is None else float(most)
        cost = Cost.of(float(request.input_tokens()), output)
        if not any(route.hold.quota.fits_ever(cost) for route in self.routes):
            raise Rejected(
                f"the call may use {cost.tokens:.0f} tokens ({cost.input:.0f} in, {cost.output:.0f} out), more than passes "
                "in a minute; shorten the prompt, lower max_tokens or raise tpm",
                kind="too_large",
            )
        return cost


@dataclass(slots=True, eq=False)
class PromptCall:
    """One prompt of a run: its `Work`.

    Args:
        prompt: As handed in.
        id: Its own, or its position.
        steps: Where it may be asked, one after another.
        request: What is asked; each route puts its own model in.
        settings: How hard to try.
        rank: How urgent it is.
        api: What it is asked through, where that is not the endpoint's to say.
        tell: Gets the pieces of a streamed answer.
    """

    prompt: Prompt
    id: str | int
    steps: Sequence[Step]
    choices: Sequence[Choice]
    request: Request
    settings: Settings
    rank: int
    api: str | None = None
    tell: Tell | None = None
    _route: Route | None = None  # the one that was asked last
    _heard: Heard | None = None
    _instance: object = None  # of the schema
    _spent: list[Spending] = field(default_factory=list)

    @property
    def retry(self) -> RetryPolicy:
        """How hard it tries."""
        return self.settings.retry

    @property
    def timeout(self) -> float:
        """Seconds that one attempt may take."""
        return self.settings.timeouts.total

    async def perform(self, quota: Quota) -> Outcome:
        """Ask once, on the route that `quota` is of."""
        self._route = route = self._route_on(quota)
        self._heard = heard = Heard(self.tell)
        begun = clock.now()
        outcome = await route.provider(self.api).ask(self._request_for(route), self.settings.timeouts, heard)
        self._book(outcome, route, clock.now() - begun)
        if self.request.schema is not None:
            outcome = self._checked(outcome, route, self.request.schema)
        return self._clean(outcome, heard)

    def late(self) -> Outcome:
        """No answer within the timeout."""
        return signals.timed_out(self.timeout, "" if self._heard is None else self._heard.text)

    def result(self, index: int, outcome: Outcome, timing: Timing) -> Result[Any]:
        """The prompt's Result."""
        route, heard = self._route, self._heard
        reply = outcome.value if isinstance(outcome.value, Reply) else None
        return Result(
            index=index,
            id=self.id,
            prompt=self.prompt,
            tag=self.prompt.tag,
            error=outcome.error,  # type: ignore[arg-type]  # every outcome of ours has a CallError
            model=(route or self.steps[0].routes[0]).place.name,
            endpoint="" if route is None else route.place.base_url,
            attempts=timing.attempts,
            spending=self._spent,
            queue_time=timing.queue_time,
            service_time=timing.service_time,
            latency=timing.latency,
            ttft=None if heard is None else heard.first,
            inter_token=() if heard is None else heard.gaps,
            reply=b"" if reply is None else reply.raw or reply,
            api="" if route is None else route.format_name(self.api),
            returned=None if outcome.error is not None else self._instance,
        )

    def _route_on(self, quota: Quota) -> Route:
        return next(route for step in self.steps for route in step.routes if route.hold.quota is quota)

    def _request_for(self, route: Route) -> Request:
        request = replace(self.request, model=route.place.model)
        return request if route.takes_schemas or request.schema is None else in_words(request)

    def _book(self, outcome: Outcome, route: Route, seconds: float) -> None:
        """Note what the attempt has used, and learn from it how long answers are."""
        reply = outcome.value
        if not isinstance(reply, Reply):
            return
        self._spent.append(Spending.of(route.place.name, reply.usage or NO_USAGE, route.price))
        if reply.usage is not None and outcome.error is None:
            route.output.learn(reply.usage.output_tokens)
            if reply.usage.output_tokens:
                outcome.pace = seconds / reply.usage.output_tokens

    def _checked(self, outcome: Outcome, route: Route, schema: Schema) -> Outcome:
        """The outcome, if the answer is one that the schema allows; else another, by which it is asked for anew."""
        if outcome.error is not None:
            return self._unasked(outcome, route)
        reply: Any = outcome.value
        if reply.tool_calls:
            return outcome
        try:
            self._instance = schema.validate(reply.text)
        except ValueError as exc:
            if reply.finish_reason == "length":
                return signals.misfit(outcome, signals.LENGTH, f"the answer was cut at its max_tokens and breaks its schema: {exc}")
            self.request = repair(self.asked, reply.text, str(exc))
            return self._again(signals.misfit(outcome, signals.SCHEMA, f"the answer does not fit its schema: {exc}"))
        return outcome

    def _unasked(self, outcome: Outcome, route: Route) -> Outcome:
        """A server that does not know how to be told a schema is told in words, from now on."""
        error = outcome.error
        if route.takes_schemas and isinstance(error, CallError) and error.kind == "invalid" and _NATIVE.search(error.message):
            route.takes_schemas = False
            return self._again(replace(outcome, again=Again.REPAIR))
        return outcome

    def _again(self, outcome: Outcome) -> Outcome:
        """The outcome; what is asked next has another length."""
        outcome.next_cost = next(step for step in self.steps if self._route in step.routes).cost_of(self.request, self.settings.max_tokens)
        return outcome

    def _clean(self, outcome: Outcome, heard: Heard) -> Outcome:
        """The outcome, its error free of the key (some servers quote what they refuse) and with the text that came."""
        error = outcome.error
        if isinstance(error, CallError):
            outcome.error = error = error.reading(self._blot(error.message))
            error.partial = error.partial or heard.text
            if heard.was_told:
                outcome.again = Again.NO  # whoever has seen a part of it cannot be given another
                outcome.elsewhere = False
        return outcome
