"""One prompt on its way: the ways it may go, what it costs, one try at it, and the Result that it makes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..core.job import Choice, Cost, Outcome
from ..core.quota import Quota
from ..core.retry import Again, RetryPolicy
from ..core.source import Source
from ..errors import CallError, Rejected, Stopped
from ..providers.reply import Reply
from ..providers.request import Request
from ..providers.schema import Schema, repair
from ..quotas import Hold
from ..results import Result
from ..spending import NO_USAGE, Price, Spending
from ..work import Timing
from . import signals
from .asking import Provider
from .endpoint import Place
from .heard import Heard, Tell
from .prompt import Prompt, Settings
from .reactions import Flaw

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
    """A way to a model: where it is, who answers there, and the quota on it.

    Attributes:
        place: Where it is.
        provider: Gives who answers there, asked through the API of that name, or, with None, as the endpoint says. Raises
            ConfigError if there is no such API.
        hold: The quota.
        price: What it costs, if the endpoint says so.
        output: How long its answers are.
        takes_schemas: Whether its API has a word for the schema of an answer, as far as is known.
    """

    place: Place
    provider: Callable[[str | None], Provider]
    hold: Hold
    price: Price | None = None
    output: OutputGuess = field(default_factory=OutputGuess)
    takes_schemas: bool = True

    def blot(self, text: str) -> str:
        """`text` without the key."""
        credential = self.place.credential
        return text if credential is None else credential.blot(text)


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Where a call may be asked at one time: one route, or several that are balanced by what each has left.

    Attributes:
        routes: The routes.
        source: What their quotas are together.
    """

    routes: Sequence[Route]
    source: Source

    def cost_of(self, request: Request) -> Cost:
        """What one attempt reserves: the input's tokens, and the most (or else the likely) tokens of an answer."""
        if not any(route.hold.quota.counts_tokens for route in self.routes):
            return Cost()
        most: int | None = request.params.get("max_completion_tokens", request.params.get("max_tokens"))
        output = max(route.output.tokens for route in self.routes) if most is None else float(most)
        return Cost.of(float(request.input_tokens()), output)


@dataclass(slots=True, eq=False)
class PromptCall:
    """One prompt of a run: its `Work`.

    Args:
        prompt: As handed in.
        id: Its own, or its position.
        steps: Where it may be asked, one after another.
        asked: What is asked; each route puts its own model in.
        settings: How hard to try.
        rank: How urgent it is.
        api: What it is asked through, where that is not the endpoint's to say.
        tell: Gets the pieces of a streamed answer.

    Raises:
        Rejected: It needs more tokens than pass in a minute anywhere, so it could never start.
    """

    prompt: Prompt
    id: str | int
    steps: Sequence[Step]
    asked: Request
    settings: Settings
    rank: int
    api: str | None = None
    tell: Tell | None = None
    choices: Sequence[Choice] = field(init=False)
    _request: Request = field(init=False)  # `asked`, or the last repair of it
    _route: Route | None = None  # the one that was asked last
    _heard: Heard | None = None
    _failed: bool = False  # whether anything has gone wrong yet
    _instance: object = None  # of the schema
    _spent: list[Spending] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._request = self.asked
        choices = [Choice(step.source, step.cost_of(self.asked)) for step in self.steps]
        self.choices = [each for each in choices if each.source.fits_ever(each.cost)]
        if not self.choices:
            cost = choices[0].cost
            raise Rejected(
                f"the call may use {cost.tokens:.0f} tokens ({cost.input:.0f} in, {cost.output:.0f} out), more than passes "
                "in a minute; shorten the prompt, lower max_tokens or raise tpm",
                kind="too_large",
            )

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
        self._heard = heard = Heard(self.tell, first_try=not self._failed)
        asked = self._request
        request = Request(route.place.model, asked.messages, asked.params, asked.schema, asked.stream)
        if request.schema is not None and not route.takes_schemas:
            request = replace(request, messages=request.schema.asked_in(request.messages), schema=None)
        outcome = await route.provider(self.api).ask(request, self.settings.timeouts, heard)
        self._failed = self._failed or outcome.error is not None
        self._tell_whole(outcome, heard)
        self._book(outcome, route, heard)
        if self.asked.schema is not None:
            outcome = self._checked(outcome, route, self.asked.schema, request)
        return self._clean(outcome, route, heard)

    def late(self) -> Outcome:
        """No answer within the timeout."""
        route, heard = self._route, self._heard
        if route is None or heard is None:  # cut off before its first step
            return signals.timed_out(self.timeout)
        self._failed = True
        self._spent.append(Spending.of(route.place.name, NO_USAGE, route.price))  # so many as nobody knows
        return _unrepeatable(signals.timed_out(self.timeout, heard.text), heard)

    def result(self, index: int, outcome: Outcome, timing: Timing) -> Result[Any]:
        """The prompt's Result."""
        route, heard = self._route, self._heard
        reply = outcome.value if isinstance(outcome.value, Reply) else None
        error: Any = outcome.error
        if isinstance(error, Stopped) and heard is not None:
            error = error.keeping(heard.text)  # it ended in the middle of an answer
        return Result(
            index=index,
            id=self.id,
            prompt=self.prompt,
            tag=self.prompt.tag,
            error=error,
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
            api="" if route is None or reply is None or not reply.raw else route.place.format(self.api).name,
            returned=self._instance if error is None else None,
        )

    def _route_on(self, quota: Quota) -> Route:
        return next(route for step in self.steps for route in step.routes if route.hold.quota is quota)

    def _tell_whole(self, outcome: Outcome, heard: Heard) -> None:
        """Who wants the pieces of an answer that came whole gets it as one."""
        reply = outcome.value
        if (
            self.tell is not None
            and outcome.error is None
            and isinstance(reply, Reply)
            and not heard.was_told
            and reply.text
        ):
            heard.hear(reply.text)

    def _book(self, outcome: Outcome, route: Route, heard: Heard) -> None:
        """Note what the attempt has used, and learn from it how long answers are."""
        reply = outcome.value if isinstance(outcome.value, Reply) else None
        if reply is None and outcome.used is not None:
            return  # refused: nothing was used
        usage = NO_USAGE if reply is None else reply.usage or NO_USAGE
        self._spent.append(Spending.of(route.place.name, usage, route.price))
        if usage.output_tokens and outcome.error is None:
            route.output.learn(usage.output_tokens)
            outcome.pace = heard.seconds / usage.output_tokens

    def _checked(self, outcome: Outcome, route: Route, schema: Schema[Any], request: Request) -> Outcome:
        """The outcome, if the answer is one that the schema allows; else one by which it is asked for anew."""
        reply = outcome.value
        if outcome.error is not None:
            return outcome if request.schema is None else self._asked_in_words(outcome, route)
        if not isinstance(reply, Reply) or reply.tool_calls:
            return outcome
        try:
            self._instance = schema.validate(reply.text)
        except ValueError as exc:
            if reply.finish_reason == "length":
                return _flawed(outcome, reply, "length", f"the answer was cut at max_tokens and breaks its schema: {exc}")
            self._request = repair(self.asked, reply.text, str(exc))
            return self._asked_anew(_flawed(outcome, reply, "schema", f"the answer does not fit its schema: {exc}"))
        except Exception as exc:  # a validator of the user's: the answer was paid for, and is kept
            why = f"a validator of {schema.name} raised {type(exc).__name__}: {exc}; let it raise ValueError to ask again"
            outcome.error = Rejected(why, kind="exception", partial=reply.text)
        return outcome

    def _asked_in_words(self, outcome: Outcome, route: Route) -> Outcome:
        """A server that has no word for schemas is told in words, by this call and all that come."""
        error = outcome.error
        if not (isinstance(error, CallError) and error.kind == "invalid" and NATIVE_SCHEMA.search(error.message)):
            return outcome
        route.takes_schemas = False
        outcome.again = Again.REPAIR
        return self._asked_anew(outcome)

    def _asked_anew(self, outcome: Outcome) -> Outcome:
        """The outcome; the next request has another length."""
        step = next(step for step in self.steps if self._route in step.routes)
        outcome.next_cost = step.cost_of(self._request)
        return outcome

    def _clean(self, outcome: Outcome, route: Route, heard: Heard) -> Outcome:
        """The outcome, its error free of the key (some servers quote what they refuse) and with the text that came."""
        error = outcome.error
        if not isinstance(error, CallError):
            return outcome
        outcome.error = error.reading(route.blot(error.message)).keeping(heard.text)
        return _unrepeatable(outcome, heard)


# How a server names what it does not know, when it is asked for an answer that fits a schema: each API's own word for it.
NATIVE_SCHEMA = re.compile(
    r"\A(?!.*invalid schema).*?(?:response_format|json_schema|text\.format|output_config|structured output)",
    re.IGNORECASE | re.DOTALL,
)


def _flawed(outcome: Outcome, reply: Reply, kind: Flaw, why: str) -> Outcome:
    """The outcome of an answer that came whole, but is not what was asked for: it is paid for all the same."""
    flawed = signals.unusable(kind, why, partial=reply.text, announced=outcome.announced)
    flawed.value, flawed.used = outcome.value, outcome.used
    return flawed


def _unrepeatable(outcome: Outcome, heard: Heard) -> Outcome:
    """The outcome; whoever has seen a part of the answer cannot be given another."""
    if heard.was_told:
        outcome.again = Again.NO
        outcome.elsewhere = False
    return outcome
