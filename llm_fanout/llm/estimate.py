"""What a run would take, found out without sending anything: the prompts go through the real scheduler in virtual time.

Theory of operation. Every prompt is planned as a run would plan it, and becomes a job with the same reservation; it waits
for the twin of its quota, which has the same figures and is nobody's, so that the live one is not touched. An answer is as
long as answers were so far, and takes as long (`OutputGuess`); then its job has ended, its unused tokens come back, and the
next may start. Prompts are pulled through a window as wide as a run's: a million of them need no more memory than
a thousand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import heappop, heappush
from itertools import islice
from math import inf
from typing import Any, NamedTuple

from ..core.job import ONE_REQUEST, Attempt, Cost, Job, Outcome
from ..core.lanes import Lane
from ..core.pool import Pool
from ..core.quota import Quota
from ..core.schedule import Schedule
from ..core.source import Source
from ..errors import ConfigError, Rejected
from ..flow import UNLIMITED_WINDOW, WINDOW, refill_of
from ..providers.messages import MAX_TOKENS
from ..providers.request import Request
from ..providers.schema import Schema
from ..spending import Usage, cost_of
from ..types import Estimate
from .endpoint import Endpoint
from .plan import Route, Step
from .plans import Plans
from .prices import context_window
from .prompt import Prompt, prompt_of
from .routes import Routes
from .worst import most_input

LONGEST_ANSWER = 128_000  # tokens; GPT-5's model pages say so, and no model of Anthropic's or Google's writes more (2026-11)


class Answer(NamedTuple):
    """What an answer is taken to be: its likely tokens, the most that there may be, and the seconds that it takes."""

    tokens: int
    most: int
    seconds: float


class Forecast:
    """One look at what a run would take.

    Args:
        routes: The client's ways to models.
        model: As for `FanOut.map`.
        options: Those of the run, checked, with the client's own.
        schema: What the answers have to fit, if anything.
        lane: Whose share the run would use.

    Raises:
        ConfigError: A model is not known, has no key, or no such API.
    """

    def __init__(
        self,
        routes: Routes,
        model: str | Endpoint | None,
        options: Mapping[str, Any],
        *,
        schema: Schema[Any] | None,
        lane: Lane,
    ) -> None:
        self._plans = Plans(routes, model, options, schema=schema)
        self._lane = Lane(max_concurrency=_narrowest(lane))
        self._twins: dict[Source, Source] = {}
        self._quotas: dict[Quota, Quota] = {}  # their members
        self._answers: dict[tuple[Step, int | None], Answer] = {}
        self._calls = self._refused = self._input = self._output = 0
        self._likely, self._most = Costs(), Costs()

    def of(self, prompts: Iterable[object]) -> Estimate:
        """The estimate for `prompts`, which are gone through once. What they raise is passed on."""
        finish = last_end(self._jobs(prompts), self._window)
        low, high = self._likely.total(min), self._most.total(max)
        return Estimate(
            calls=self._calls,
            refused=self._refused,
            input_tokens=self._input,
            output_tokens=self._output,
            cost=None if low is None or high is None else (low, high),
            earliest_finish=finish,
            binding=_binding(self._twins.values(), finish),
        )

    def _window(self) -> int:
        """Prompts that a run would have pulled and not yet seen the end of."""
        width = max(self._twin(step.source).width for step in self._plans.shared.steps)
        return UNLIMITED_WINDOW if width == inf else int(WINDOW * width)

    def _jobs(self, prompts: Iterable[object]) -> Iterator[Job]:
        for item in prompts:
            self._calls += 1
            try:
                yield self._job_of(prompt_of(item))
            except (ConfigError, Rejected):  # a run gives it a Result that says so, and goes on
                self._refused += 1

    def _job_of(self, prompt: Prompt) -> Job:
        """What a run would hand to the schedule.

        Raises:
            ConfigError: The prompt's own model is not known.
            Rejected: It needs more tokens than pass in a minute anywhere.
        """
        plan = self._plans.of(prompt)
        request = plan.request_of(prompt)
        source, cost = plan.choices_for(request)[0]
        step = next(step for step in plan.steps if step.source is source)
        answer = self._answer(step, request.max_tokens)
        input = request.input_tokens() if cost is ONE_REQUEST else int(cost.input)
        self._book(request, step, input, answer)
        used = cost if cost is ONE_REQUEST else Cost.of(cost.input, float(answer.tokens))
        end = Outcome(used=used, pace=answer.seconds / max(answer.tokens, 1))
        return Job(self._twin(source), cost, payload=(answer.seconds, end), lane=self._lane, rank=plan.rank)

    def _answer(self, step: Step, most: int | None) -> Answer:
        answer = self._answers.get((step, most))
        if answer is None:
            longest = max(map(_longest, step.routes)) if most is None else most
            guesses = [route.output for route in step.routes]  # which of them will answer is not known: their mean
            tokens = min(round(sum(each.tokens for each in guesses) / len(guesses)), longest)
            seconds = sum(each.seconds_for(tokens) for each in guesses) / len(guesses)
            answer = self._answers[step, most] = Answer(tokens, longest, seconds)
        return answer

    def _book(self, request: Request, step: Step, input: int, answer: Answer) -> None:
        self._input += input
        self._output += answer.tokens
        self._likely.add(step, input, answer.tokens)
        self._most.add(step, int(most_input(request)), answer.most)

    def _twin(self, source: Source) -> Source:
        twin = self._twins.get(source)
        if twin is None:
            quotas = [self._twin_quota(each) for each in source.members]
            twin = self._twins[source] = quotas[0] if isinstance(source, Quota) else Pool(quotas)
        return twin

    def _twin_quota(self, quota: Quota) -> Quota:
        if quota not in self._quotas:
            self._quotas[quota] = quota.twin()
        return self._quotas[quota]


class Costs:
    """Tokens to be paid for, by where they are and by the size of the requests, for prices may depend on it."""

    def __init__(self) -> None:
        self._rows: dict[tuple[Step, int], tuple[int, int]] = {}

    def add(self, step: Step, input: int, output: int) -> None:
        """One call."""
        row = step, input // 1000
        before = self._rows.get(row, (0, 0))
        self._rows[row] = before[0] + input, before[1] + output

    def total(self, which: Callable[[list[float]], float]) -> float | None:
        """USD; where several share the calls, by `which` of their prices. None if a price is not known."""
        total = 0.0
        for (step, size), tokens in self._rows.items():
            prices = [cost_of(each.place.name, Usage(*tokens), 1000 * size, each.price) for each in step.routes]
            known = [price for price in prices if price is not None]
            if len(known) < len(prices):
                return None
            total += which(known)
        return total


def last_end(jobs: Iterator[Job], window: Callable[[], int]) -> float:
    """The virtual seconds after which the last of `jobs` has ended.

    Args:
        jobs: Each with the seconds that its attempt takes, and how it ends, as its payload.
        window: How many of them are there at once.
    """
    schedule = Schedule(lambda: 0.0)  # nothing fails, so nothing is drawn
    ends: list[tuple[float, int, Attempt]] = []
    now, pending, enough = 0.0, 0, 0
    while True:
        if pending <= enough:
            room = window()
            for job in islice(jobs, room - pending):
                schedule.add(job, now)
                pending += 1
            enough = room - refill_of(room)
        while (attempt := schedule.start(now)) is not None:
            heappush(ends, (now + attempt.job.payload[0], attempt.job.place, attempt))
        if not pending:
            return now
        timer = schedule.next_timer()
        if timer is not None and (not ends or timer < ends[0][0]):
            now = timer
            continue
        now, _, attempt = heappop(ends)
        schedule.finish(attempt, attempt.job.payload[1], now)
        pending -= 1


def _binding(sources: Iterable[Source], now: float) -> str:
    """What was waited for most."""
    waits: Counter[str] = Counter()
    for source in sources:
        waits.update(source.waits.held(now))
    longest = waits.most_common(1)
    return longest[0][0] if longest and longest[0][1] > 0 else "provider"


def _longest(route: Route) -> int:
    """Tokens of an answer at the most, where nobody says."""
    form = route.place.formats.get(route.place.api)
    if form is not None and form.name == "messages":
        return MAX_TOKENS  # it is sent with every request
    return min(context_window(route.place.name) or LONGEST_ANSWER, LONGEST_ANSWER)


def _narrowest(lane: Lane) -> int | None:
    """Calls at once that `lane` and those above it allow; None for any number."""
    bounds = [lane.max_concurrency]
    while lane.parent is not None:
        lane = lane.parent
        bounds.append(lane.max_concurrency)
    narrowest = min(bounds)
    return None if narrowest == inf else int(narrowest)
