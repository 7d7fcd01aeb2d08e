"""One prompt on its way: what it costs, one try at it, and the Result that it makes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .. import clock
from ..core.job import Choice, Cost, Outcome
from ..core.quota import Quota
from ..core.retry import RetryPolicy
from ..errors import CallError, Rejected
from ..quotas import Hold
from ..results import NO_USAGE, Result
from ..work import Timing
from . import reply, signals
from .endpoint import Place
from .lanes import Lane
from .prompt import Prompt, Request, Settings

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
    """A way to a model: where it is, how to get there, and the quota on it."""

    place: Place
    lane: Lane
    hold: Hold
    output: OutputGuess = field(default_factory=OutputGuess)

    def cost_of(self, request: Request, settings: Settings) -> Cost:
        """What one attempt reserves: the input's tokens, and the most (or else the likely) tokens of an answer.

        Raises:
            Rejected: It is more than the quota has in a whole minute, so it could never start.
        """
        if not self.hold.quota.counts_tokens:
            return Cost()
        output = self.output.tokens if settings.max_tokens is None else float(settings.max_tokens)
        cost = Cost.of(float(request.input_tokens()), output)
        if not self.hold.quota.fits_ever(cost):
            raise Rejected(
                f"the call may use {cost.tokens:.0f} tokens ({cost.input:.0f} in, {cost.output:.0f} out), more than passes "
                "in a minute; shorten the prompt, lower max_tokens or raise tpm",
                kind="too_large",
            )
        return cost


@dataclass(slots=True, eq=False)
class PromptCall:
    """One prompt of a run: its `Work`."""

    prompt: Prompt
    id: str | int
    route: Route
    request: Request
    settings: Settings
    cost: Cost
    rank: int

    @property
    def choices(self) -> tuple[Choice]:
        """The limits that it needs, and what each attempt reserves of them."""
        return (Choice(self.route.hold.quota, self.cost),)

    @property
    def retry(self) -> RetryPolicy:
        """How hard it tries."""
        return self.settings.retry

    @property
    def timeout(self) -> float:
        """Seconds that one attempt may take."""
        return self.settings.timeouts.total

    async def perform(self, quota: Quota) -> Outcome:
        """Ask once."""
        begun = clock.now()
        try:
            status, headers, body = await self.route.lane.send(self.request, self.settings.timeouts)
        except Exception as exc:  # whatever an HTTP library or an SDK raises: the table knows it, or says so
            return self._clean(signals.of_exception(exc))
        outcome = reply.outcome_of(status, headers, body)
        if outcome.used is not None and outcome.used.output > 0:
            outcome.pace = (clock.now() - begun) / outcome.used.output
        return self._clean(outcome)

    def late(self) -> Outcome:
        """No answer within the timeout."""
        return signals.timed_out(self.timeout)

    def result(self, index: int, outcome: Outcome, timing: Timing) -> Result[str]:
        """The prompt's Result."""
        answer: Any = outcome.value
        error: Any = outcome.error
        usage = (answer and answer.usage) or NO_USAGE
        if answer and answer.usage:
            self.route.output.learn(usage.output_tokens)
        return Result(
            index=index,
            id=self.id,
            prompt=self.prompt,
            tag=self.prompt.tag,
            error=error,
            model=self.route.place.name,
            endpoint=self.route.place.base_url,
            attempts=timing.attempts,
            usage=usage,
            queue_time=timing.queue_time,
            service_time=timing.service_time,
            latency=timing.latency,
            reply=answer.raw if answer else b"",
        )

    def _clean(self, outcome: Outcome) -> Outcome:
        """The outcome, its error free of the key: some servers quote what they refuse."""
        error = outcome.error
        if isinstance(error, CallError):
            outcome.error = error.reading(self.route.place.without_secrets(error.message))
        return outcome
