"""How prompts are asked: the ways there are to a model, in which order, and what a call reserves on each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..core.job import ONE_REQUEST, Choice, Cost
from ..core.quota import Quota
from ..core.source import Source
from ..errors import Rejected
from ..providers.request import Request
from ..providers.schema import Schema
from ..quotas import Hold
from ..spending import Price
from .asking import Provider
from .digest import Frame
from .endpoint import Place
from .heard import Tell
from .prompt import Prompt, Settings, messages_of

if TYPE_CHECKING:
    from .relay import Relay

FIRST_GUESS = 500.0  # output tokens of a model that nobody has heard yet, where `max_tokens` does not say
MEMORY = 20  # answers after which one more counts a twentieth
FIRST_TOKEN = 0.5  # seconds to the first token of a model that nobody has heard yet, and to each that follows: guesses on
NEXT_TOKEN = 0.01  # the quick side, small models of 2026-11 write 50 to 200 tokens a second


@dataclass(slots=True)
class OutputGuess:
    """How many tokens an answer will have, and how long it will take, going by those that came."""

    tokens: float = FIRST_GUESS
    _took: float = 1.0  # seconds, the mean of answers
    _usual: float = 1.0  # what they would usually take
    _weight: int = 1

    def learn(self, tokens: int, seconds: float) -> None:
        """An answer had so many, and took so long."""
        self._weight = min(self._weight + 1, MEMORY)
        self.tokens += (tokens - self.tokens) / self._weight
        # What is usual is a wild guess: unlike that of the tokens, it counts for nothing once there is one answer.
        self._took += (seconds - self._took) / (self._weight - 1)
        self._usual += (_usual_seconds(tokens) - self._usual) / (self._weight - 1)

    def seconds_for(self, tokens: float) -> float:
        """How long an answer of so many tokens will take."""
        return self._took / self._usual * _usual_seconds(tokens)


def _usual_seconds(tokens: float) -> float:
    return FIRST_TOKEN + NEXT_TOKEN * tokens


@dataclass(slots=True, eq=False)
class Route:
    """A way to a model: where it is, who answers there, and the quota on it.

    Attributes:
        place: Where it is.
        provider: Gives who answers there, asked through the API of that name, or, with None, as the endpoint says. Raises
            ConfigError if there is no such API.
        hold: The quota.
        price: What it costs, if the endpoint says so.
        output: How long its answers are.
        most_output: The most tokens of an answer that it lets be asked for, as far as is known.
        most_together: The same of a prompt and its answer together.
        takes_schemas: Whether its API has a word for the schema of an answer, as far as is known.
    """

    place: Place
    provider: Callable[[str | None], Provider]
    hold: Hold
    price: Price | None = None
    output: OutputGuess = field(default_factory=OutputGuess)
    takes_schemas: bool = True
    most_output: int | None = None
    most_together: int | None = None

    def blot(self, text: str, headers: Mapping[str, str] | None = None) -> str:
        """`text` without the key, and without those in a call's own `headers`."""
        return self.place.credential.blot(text, headers)


class Step:
    """Where a call may be asked at one time: one route, or several that are balanced by what each has left.

    Args:
        routes: The routes.
        source: What their quotas are together.

    Attributes:
        plain: It as the only choice of a job whose tokens nobody counts.
    """

    __slots__ = ("plain", "routes", "source")

    def __init__(self, routes: Sequence[Route], source: Source) -> None:
        self.routes = routes
        self.source = source
        self.plain = (Choice(source),)

    def choice_for(self, request: Request) -> Choice:
        """The step as a choice of a job, with what one attempt reserves: the input's tokens, and the most (or the likely)
        tokens of an answer; where nobody counts tokens, nothing of that."""
        for route in self.routes:
            if route.hold.quota.counts_tokens:
                return Choice(self.source, self._cost_of(request))
        return self.plain[0]

    def _cost_of(self, request: Request) -> Cost:
        most = request.max_tokens
        output = max([route.output.tokens for route in self.routes]) if most is None else float(most)
        return Cost.of(float(request.input_tokens()), output)


class Plan:
    """How prompts are asked: what all those of a run share that have the same options.

    Args:
        steps: Where they may be asked, one after another.
        settings: What is sent besides the messages, and how hard to try.
        rank: How urgent they are.
        schema: What the answers have to fit, if anything.
        api: What they are asked through, where that is not the endpoint's to say.
        tell: Gets the pieces of a streamed answer.
        is_priced: Whether there is a budget in USD: then all routes must have prices.
        relay: What passes them on, if they were made elsewhere: then it says what is asked, and how long that may take.

    Attributes:
        frame: What tells its calls from others, besides their prompts.
    """

    __slots__ = (
        "_lone",
        "api",
        "frame",
        "is_priced",
        "model",
        "rank",
        "relay",
        "schema",
        "settings",
        "steps",
        "stream",
        "tell",
    )

    def __init__(
        self,
        steps: Sequence[Step],
        settings: Settings,
        rank: int,
        *,
        schema: Schema[Any] | None = None,
        api: str | None = None,
        tell: Tell | None = None,
        is_priced: bool = False,
        relay: Relay | None = None,
    ) -> None:
        self.steps = steps
        self.settings = settings if relay is None else replace(settings, timeouts=relay.timeouts)
        self.relay = relay
        self.rank = rank
        self.schema = schema
        self.api = api
        self.tell = tell
        self.is_priced = is_priced
        self.stream = settings.stream or tell is not None
        self.model = steps[0].routes[0].place.model  # as long as nobody else is asked
        self._lone = steps[0].routes[0] if len(steps) == len(steps[0].routes) == 1 else None
        self.frame = self._frame()

    def _frame(self) -> Frame:
        """What tells its calls from others, besides their prompts. Fallbacks are no part of it: they only answer instead."""
        first = [route.place for route in self.steps[0].routes]
        places = [(place.name, self.api or place.api, place.known_as) for place in first]
        schema = None if self.schema is None else self.schema.plain
        return Frame(places, self.settings.params, self.settings.system, schema)

    @property
    def routes(self) -> Sequence[Route]:
        """All routes on which its calls may be asked."""
        return [route for step in self.steps for route in step.routes]

    def request_of(self, prompt: Prompt) -> Request:
        """What is asked with `prompt`."""
        if self.relay is not None:
            return self.relay.sent.request
        messages = messages_of(prompt, self.settings)
        shared = len(messages) - 1 if self.settings.warm_first else 0
        return Request(self.model, messages, self.settings.params, self.schema, self.stream, shared)

    def provider_on(self, route: Route) -> Provider:
        """Who answers there."""
        return route.provider(self.api) if self.relay is None else self.relay

    def route_on(self, quota: Quota) -> Route:
        """The route whose quota that is."""
        if self._lone is not None:
            return self._lone
        return next(route for route in self.routes if route.hold.quota is quota)

    def choices_for(self, request: Request) -> Sequence[Choice]:
        """Where `request` may be tried, and what each attempt reserves there.

        Raises:
            Rejected: It needs more tokens than pass in a minute anywhere, so it could never start.
        """
        if self._lone is not None and not self._lone.hold.quota.counts_tokens:
            return self.steps[0].plain
        fitting = []
        for step in self.steps:
            choice = step.choice_for(request)
            if choice.cost is ONE_REQUEST or choice.source.fits_ever(choice.cost):
                fitting.append(choice)
        if not fitting:
            cost = self.steps[0].choice_for(request).cost
            raise Rejected(
                f"the call may use {cost.tokens:.0f} tokens ({cost.input:.0f} in, {cost.output:.0f} out), more than passes "
                "in a minute; shorten the prompt, lower max_tokens or raise tpm",
                kind="too_large",
            )
        return fitting
