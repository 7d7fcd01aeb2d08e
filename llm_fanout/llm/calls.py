"""One prompt on its way: one try at it, what that has cost, and the Result that it makes in the end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

from msgspec import ValidationError, convert

from ..budgets import Charge
from ..core.job import Outcome
from ..core.quota import Quota
from ..core.retry import Again
from ..errors import CallError, Rejected, Stopped
from ..providers.reply import Reply
from ..providers.request import Request
from ..providers.schema import Schema, repair
from ..results import Result
from ..spending import NO_USAGE, Spending, Usage
from ..work import Timing
from . import signals
from .asking import Provider
from .digest import Frame
from .heard import Begun, Heard
from .lengths import Named, named_in
from .plan import Plan, Route
from .prefix import prefix_of
from .prompt import Prompt, plain_content
from .reactions import Flaw
from .worst import Bill, Worst, most_input


class PromptCall:
    """One prompt of a run: its `Work`.

    Args:
        prompt: As handed in.
        id: Its own, or its position.
        plan: How it is asked.

    Raises:
        Rejected: It needs more tokens than pass in a minute anywhere.
    """

    # What most calls never have is not in the instance: there is one for each prompt.
    _route: Route | None = None  # the one that was asked last
    _heard: Heard | None = None
    _provider: Provider | None = None  # of the last attempt
    _failed = False  # whether anything has gone wrong yet
    _instance: object = None  # of the schema
    _spent: Sequence[Spending] = ()
    _bill: Bill | None = None  # where there is a budget
    _twin_of: PromptCall | None = None  # which has the books of both
    begun: Begun | None = None  # called when an answer has begun that is streamed
    is_first = False  # whether others wait for that: then it is streamed

    def __init__(self, prompt: Prompt, id: str | int, plan: Plan) -> None:
        self.prompt = prompt
        self.id = id
        self.rank = plan.rank
        self.retry = plan.settings.retry
        self.timeout = plan.settings.timeouts.total
        self._plan = plan
        self._asked = self._request = plan.request_of(prompt)
        self.choices = plan.choices_for(self._asked)

    @property
    def hedge(self) -> float:
        """The share of calls like it of which a second copy may be sent."""
        return self._plan.settings.hedge

    def twin(self) -> PromptCall:
        """A second copy of it; what that uses up is in the books of both."""
        twin = copy(self)
        twin._route = twin._heard = twin._provider = twin.begun = None
        twin._twin_of = self._books
        return twin

    @property
    def prefix(self) -> bytes | None:
        """What tells its beginning from others, if that is long enough for a provider's cache."""
        return None if self._plan.api == "embeddings" else prefix_of(self._asked, self._plan.frame)

    @property
    def _books(self) -> PromptCall:
        """Who knows what its attempts have used."""
        return self._twin_of or self

    async def perform(self, quota: Quota) -> Outcome:
        """Ask once, on the route that `quota` is of."""
        plan = self._plan
        self._route = route = plan.route_on(quota)
        self._heard = heard = Heard(plan.tell, first_try=not self._failed, begun=self.begun)
        request = self._request_on(route)
        provider = plan.provider_on(route)
        self._provider = provider
        bill = self._books._bill
        if bill is not None:
            bill.open()
        try:
            outcome = await provider.ask(request, plan.settings.timeouts, heard)
        except asyncio.CancelledError:
            self._spend(NO_USAGE, route)  # so many as nobody knows
            raise
        if plan.tell is not None:
            _tell_whole(outcome, heard)
        self._book(outcome, route, heard)
        if bill is not None:
            outcome = self._within_budget(outcome, route, bill)
        if plan.schema is not None:
            outcome = self._checked(outcome, route, plan.schema, request)
        if outcome.error is not None:
            self._failed = True
            self._clean(outcome, route, heard)
        return outcome

    def late(self) -> Outcome:
        """No answer within the timeout."""
        route, heard = self._route, self._heard
        if route is None or heard is None:  # cut off before its first step
            return signals.timed_out(self.timeout)
        self._failed = True
        return _unrepeatable(signals.timed_out(self.timeout, heard.text), heard)

    def result(self, index: int, outcome: Outcome, timing: Timing) -> Result[Any]:
        """The prompt's Result."""
        route, heard, provider = self._route, self._heard, self._provider
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
            model=(route or self._plan.steps[0].routes[0]).place.name,
            endpoint="" if route is None else route.place.base_url,
            via="" if provider is None else provider.via,
            source="provider" if timing.attempts else "none",
            attempts=timing.attempts,
            spending=self._books._spent,
            queue_time=timing.queue_time,
            service_time=timing.service_time,
            latency=timing.latency,
            ttft=None if heard is None else heard.first,
            inter_token=() if heard is None else heard.gaps,
            reply=b"" if reply is None else reply.raw or reply,
            api="" if provider is None or reply is None or not reply.raw else provider.api,
            returned=self._instance if error is None else None,
            frame=self._plan.frame,
        )

    @property
    def digest(self) -> bytes:
        """What tells it from other calls."""
        return self._plan.frame.digest_of(plain_content(self.prompt))

    def again(self, index: int, fields: Mapping[str, Any]) -> Result[Any] | None:
        """The prompt's Result, from the fields of an identical call's; None if its answer cannot be used."""
        own: dict[str, Any] = {
            "index": index,
            "id": self.id,
            "prompt": self.prompt,
            "tag": self.prompt.tag,
            "frame": self._plan.frame,
        }
        result: Result[Any] = Result(**own, **fields)
        if not isinstance(result.reply, bytes | Reply):  # a function's, that was written down
            try:
                result.reply = convert(result.reply, Reply)
            except ValidationError:  # it had what JSON has not: NaN, half a token
                return None
        schema = self._plan.schema
        if schema is not None and result.error is None and not result.tool_calls:
            try:
                result.returned = schema.validate(result.text)
            except Exception:  # a validator of the user's, which has changed: then it has to be asked for again
                return None
        if self._plan.tell is not None and result.text:
            self._plan.tell(result.text)
        return result

    @property
    def least(self) -> Charge:
        """What it must be able to use, to be asked at all."""
        return self._bill_of().worst.least

    def allow(self, room: Charge, at_once: float) -> Charge:
        """Let it use some of `room`: an answer whose length it does not say may have as many tokens as that allows."""
        bill = self._bill_of()
        tokens = bill.worst.allowed(room, at_once)
        if bill.worst.output is None:
            self._limit_to(int(tokens / bill.worst.number), bill)
        return bill.allow(tokens)

    @property
    def attempt(self) -> Charge:
        """What one more attempt uses at most."""
        return self._bill_of().attempt

    @property
    def charged(self) -> Charge:
        """What its attempts have used, or may have used."""
        bill = self._books._bill
        return Charge() if bill is None else bill.charged

    def _bill_of(self) -> Bill:
        books = self._books
        if books._bill is None:
            plan = self._plan
            answers = plan.api != "embeddings"
            books._bill = Bill(Worst.of(self._asked, plan.routes, is_priced=plan.is_priced, answers=answers))
        return books._bill

    def _limit_to(self, tokens: int, bill: Bill) -> None:
        """Ask for no longer an answer, each of them if it asks for several."""
        bill.limit = tokens
        bill.allow(tokens * bill.worst.number)
        params = {**self._asked.params, "max_tokens": tokens}
        is_first = self._request is self._asked
        self._asked = replace(self._asked, params=params)
        self._request = self._asked if is_first else replace(self._request, params=params)
        try:
            self.choices = self._plan.choices_for(self._asked)
        except Rejected:
            pass  # a minute is too short for the most that it may be; for what is likely, it is not

    def _within_budget(self, outcome: Outcome, route: Route, bill: Bill) -> Outcome:
        """The outcome; an answer that was cut where the budget allowed no more is none. A model that can be asked for fewer
        tokens only, as it says, is asked for these, by this call and all that come.
        """
        reply, error = outcome.value, outcome.error
        if bill.limit is None:
            return outcome
        if isinstance(reply, Reply) and reply.finish_reason == "length" and error is None:
            why = (
                f"the answer was cut at {bill.limit:,} tokens, which is what its budget allows; raise it, or say max_tokens"
            )
            outcome.error = Stopped(why, kind="budget", partial=reply.text)
        elif isinstance(error, CallError) and error.kind in ("invalid", "too_large"):
            named = named_in(error.message, bill.limit)
            if named is not None:
                _learn(route, named)
                self._limit_to(named.output, bill)
                outcome.again = Again.REPAIR
        return outcome

    def _request_on(self, route: Route) -> Request:
        """What is asked there: in the words of its model, and of what its API knows."""
        request, model = self._request, route.place.model
        if request.model != model:
            request = replace(request, model=model)
        if request.schema is not None and not route.takes_schemas:
            request = replace(request, messages=request.schema.asked_in(request.messages), schema=None)
        if self.is_first and not request.stream:
            request = replace(request, stream=True)
        return request

    def _book(self, outcome: Outcome, route: Route, heard: Heard) -> None:
        """Note what the attempt has used, and learn from it how long answers are."""
        reply = outcome.value if isinstance(outcome.value, Reply) else None
        if reply is None and outcome.used is not None:  # refused: nothing was used
            if self._books._bill is not None:
                self._books._bill.refused()
            return
        usage = NO_USAGE if reply is None else reply.usage or NO_USAGE
        # Of an answer that broke off, the usage may be what was counted at its beginning.
        self._spend(usage, route, is_whole=reply is not None and reply.finish_reason is not None)
        if usage.output_tokens and outcome.error is None:
            seconds = heard.seconds
            route.output.learn(usage.output_tokens, seconds)
            outcome.pace = seconds / usage.output_tokens

    def _spend(self, usage: Usage, route: Route, *, is_whole: bool = True) -> None:
        """Note what an attempt has used, on the bill too if there is one."""
        books, spending = self._books, Spending.of(route.place.name, usage, route.price)
        books._spent = (*books._spent, spending)
        if books._bill is not None:
            books._bill.book(spending, is_whole=is_whole)

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
            self._request = repair(self._asked, reply.text, str(exc))
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
        if self._books._bill is not None:
            self._books._bill.lengthen(most_input(self._request))
        step = next(step for step in self._plan.steps if self._route in step.routes)
        outcome.next_cost = step.choice_for(self._request).cost
        return outcome

    def _clean(self, outcome: Outcome, route: Route, heard: Heard) -> None:
        """Free the error of the key (some servers quote what they refuse), and keep the text that came."""
        error = outcome.error
        assert isinstance(error, CallError)  # whoever is asked gives no other
        own = self._plan.settings.params.get("extra_headers")
        outcome.error = error.reading(route.blot(error.message, own)).keeping(heard.text)
        _unrepeatable(outcome, heard)


def digest_of(result: Result[Any]) -> bytes:
    """What tells the call of `result` from others; empty if it was no prompt's, or was read back from a row."""
    if not isinstance(result.frame, Frame):
        return b""
    return result.frame.digest_of(plain_content(result.prompt))


# How a server names what it does not know, when it is asked for an answer that fits a schema: each API's own word for it.
NATIVE_SCHEMA = re.compile(
    r"\A(?!.*invalid schema).*?(?:response_format|json_schema|text\.format|output_config|structured output)",
    re.IGNORECASE | re.DOTALL,
)


def _learn(route: Route, named: Named) -> None:
    """What one call was told holds for all that come."""
    if named.together is None:
        route.most_output = min(named.output, route.most_output or named.output)
    else:
        route.most_together = named.together


def _tell_whole(outcome: Outcome, heard: Heard) -> None:
    """Who wants the pieces of an answer that came whole gets it as one."""
    reply = outcome.value
    if outcome.error is None and isinstance(reply, Reply) and not heard.was_told and reply.text:
        heard.hear(reply.text)


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
