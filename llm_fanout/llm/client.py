"""The client: many prompts, one quota, a Report."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from ..core.folding import Folding
from ..core.lanes import rank_of
from ..core.stated import Limits
from ..journal import Journal
from ..providers.schema import Schema
from ..results import Report, Result
from ..run import Run
from ..scope import SCOPE, Scope, opened
from ..summary import Summary
from .endpoint import Endpoint
from .estimate import Forecast
from .live_limits import LiveLimits
from .plans import Plans
from .prompt import (
    CALL_OPTIONS,
    EFFORT,
    RUN_OPTIONS,
    CallOptions,
    Priority,
    Prompt,
    RunOptions,
    check_options,
)
from .race import Accept, any_answer, first_accepted, starters
from .reduce import Reduction, check_parts, weigh_by
from .routes import NO_LIMITS, own_endpoints
from .runs import Runs, purses_stated
from .sources import check_at_hand, check_source
from .stream import Stream
from .supply import Supply
from .times import seconds_left, seconds_until
from .vote import Poll, Vote, ballot_of, check_votes, stripped, written

if TYPE_CHECKING:
    from datetime import datetime

    from openai.types.chat import ChatCompletionMessageParam as Message
    from pydantic import BaseModel

    from ..types import Estimate

    Promptable = str | Sequence[Message] | Prompt
    Source = Iterable[Promptable] | AsyncIterable[Promptable]
    M = TypeVar("M", bound=BaseModel)
    U = TypeVar("U")


class FanOut:
    """Prompts to one model, under one quota. Everything that uses the same key for the same model shares that quota.

    Legal without `async with`, from several event loops and threads, and again after `aclose`; leaving the context (or
    `aclose`) cancels what still runs on the running loop and closes its connections.

    Args:
        model: Provider and model, "openai/gpt-5-mini", or an Endpoint. "sim/..." is the provider in a box: no key, no
            network, simulated answers. A list of these is balanced: each call goes where the most is left, and where one
            cannot be had the others take over.
        base_url: An OpenAI-compatible server for `model`; by default OPENAI_BASE_URL or OpenAI itself.
        api_key: The key for `model`; by default OPENAI_API_KEY, or that of the model's provider.
        limits: What the account may do with `model`.
        budget: USD that all calls of this client may cost; see `llm_fanout.llm.prompt.RunOptions`.
        token_budget: Tokens that they may use.
        options: The options of every call, which `map`, `call` and Prompts may say otherwise: see
            `llm_fanout.llm.prompt.CallOptions`.

    Raises:
        ConfigError: There is no key, or an argument is unknown or out of its range.
    """

    def __init__(
        self,
        model: str | Endpoint | Sequence[str | Endpoint],
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        limits: Limits = NO_LIMITS,
        budget: float | None = None,
        token_budget: int | None = None,
        **options: Unpack[CallOptions],
    ) -> None:
        check_options(options, CALL_OPTIONS)
        purses = purses_stated({"budget": budget, "token_budget": token_budget}, "the client")
        self._options: Mapping[str, Any] = options
        self._runs = Runs(own_endpoints(model, base_url, api_key, limits), options, purses)
        self._runs.routes.steps(None, options.get("fallbacks") or ())

    @property
    def summary(self) -> Summary:
        """The numbers of all calls of this client so far."""
        return self._runs.totals.summary()

    @property
    def limits(self) -> MutableMapping[str, Limits]:
        """The limits in force, stated and learnt, by model ("openai/gpt-5-mini") or by the name of an Endpoint's quota.

        `fan.limits[model] = Limits(...)` states them anew, also while calls are under way, for everybody who uses that
        account; `del fan.limits[model]` takes back what this client stated.
        """
        return LiveLimits(self._runs.routes)

    @overload
    def map(
        self,
        prompts: Source,
        *,
        model: str | Endpoint | None = None,
        response_format: None = None,
        reuse: Report[str] | None = None,
        **options: Unpack[RunOptions],
    ) -> Run[str]: ...
    @overload
    def map(
        self,
        prompts: Source,
        *,
        model: str | Endpoint | None = None,
        response_format: type[M],
        reuse: Report[M] | None = None,
        **options: Unpack[RunOptions],
    ) -> Run[M]: ...
    def map(
        self,
        prompts: Source,
        *,
        model: str | Endpoint | None = None,
        response_format: type[M] | None = None,
        reuse: Report[Any] | None = None,
        **options: Unpack[RunOptions],
    ) -> Run[Any]:
        """Ask every prompt: a Run, which gives one Result per prompt and starts when it is consumed.

        Args:
            prompts: Text, message lists or Prompts; a list, any iterable, or an async iterable without end. It is pulled
                as answers come in, about two prompts per slot ahead.
            model: Another model for this run.
            response_format: A pydantic model that every answer has to fit; then it is `Result.value`. An answer that does
                not fit is asked for again, twice at the most, with what was wrong with it: each is an attempt, and billed.
                One that calls tools instead is in `Result.tool_calls`, and has no such value.
            reuse: An earlier Report: what it has an answer to, to the same call of the same model with the same options, is
                not asked again. Each of its answers serves once.
            options: See `llm_fanout.llm.prompt.RunOptions`.

        Raises:
            ConfigError: One prompt instead of many, an unknown option, or, in a list, a prompt that is none or an id that
                is there twice. In a source without a length such a prompt costs its own Result only.
        """
        check_options(options, RUN_OPTIONS)
        check_source(prompts)
        schema = None if response_format is None else Schema.of(response_format)
        return self._runs.many(prompts, model, {**self._options, **options}, schema=schema, reuse=reuse)

    @overload
    async def call(
        self,
        prompt: Promptable,
        *,
        model: str | Endpoint | None = None,
        response_format: None = None,
        deadline: float | datetime | None = None,
        **options: Unpack[CallOptions],
    ) -> Result[str]: ...
    @overload
    async def call(
        self,
        prompt: Promptable,
        *,
        model: str | Endpoint | None = None,
        response_format: type[M],
        deadline: float | datetime | None = None,
        **options: Unpack[CallOptions],
    ) -> Result[M]: ...
    async def call(
        self,
        prompt: Promptable,
        *,
        model: str | Endpoint | None = None,
        response_format: type[M] | None = None,
        deadline: float | datetime | None = None,
        **options: Unpack[CallOptions],
    ) -> Result[Any]:
        """Ask one prompt. A failure is in `Result.error` and raised by `Result.value`.

        Args:
            prompt: Text, a list of messages, or a Prompt.
            model: Another model for this call.
            response_format: A pydantic model that the answer has to fit; see `map`.
            deadline: Seconds from now, or an aware datetime, after which the call ends whatever it does.
            options: See `llm_fanout.llm.prompt.CallOptions`.

        Raises:
            ConfigError: An option is unknown or out of its range, or the prompt is none.
            Stopped: The scope in which it was made has ended.
        """
        check_options(options, CALL_OPTIONS)
        schema = None if response_format is None else Schema.of(response_format)
        report = await self._runs.one(prompt, model, {**options, "deadline": deadline}, schema=schema)
        return report[0]

    def stream(
        self, prompt: Promptable, *, model: str | Endpoint | None = None, **options: Unpack[CallOptions]
    ) -> AbstractAsyncContextManager[Stream[str]]:
        """Ask one prompt, and read the answer as it is written: `async with fan.stream(prompt) as pieces`, then
        `async for text in pieces`. Leaving early cancels the call and frees its slot. It is tried again only before the
        first piece; `Stream.result` has the whole.

        Args:
            prompt: Text, a list of messages, or a Prompt.
            model: Another model for this call.
            options: See `llm_fanout.llm.prompt.CallOptions`.

        Raises:
            ConfigError: An option is unknown or out of its range, or the prompt is none.
            Stopped: The scope in which it was made has ended.
        """
        check_options(options, CALL_OPTIONS)
        return self._streamed(prompt, model, options)

    def embed(
        self,
        texts: Iterable[str] | AsyncIterable[str],
        *,
        model: str | Endpoint | None = None,
        **options: Unpack[RunOptions],
    ) -> Run[list[float]]:
        """The vector of every text: a Run, which gives one Result per text, each with a request of its own.

        Args:
            texts: Any iterable or async iterable of texts.
            model: An embedding model, "openai/text-embedding-3-small"; by default the client's own.
            options: See `llm_fanout.llm.prompt.RunOptions`; `extra_body={"dimensions": 256}` makes them shorter.

        Raises:
            ConfigError: The provider has no embeddings, or as for `map`.
        """
        check_options(options, RUN_OPTIONS)
        check_source(texts)
        own = {name: value for name, value in self._options.items() if name in EFFORT}  # the others are about prompts
        return self._runs.many(texts, model, {**own, **options}, api="embeddings")

    def estimate(
        self,
        prompts: Iterable[Promptable],
        *,
        model: str | Endpoint | None = None,
        response_format: type[BaseModel] | None = None,
        **options: Unpack[RunOptions],
    ) -> Estimate:
        """What `map` with the same arguments would take: calls, tokens, cost, the earliest finish, and which limit binds.
        Nothing is sent; the prompts go through the real scheduler in virtual time, from a full quota.

        Limits are those in force, stated and learnt. Answers are taken to be as long, and to take as long, as those that
        this client has had from the model so far; before the first, 500 tokens (or `max_tokens`, if that is less), 0.5
        seconds to the first token and 0.01 seconds for each. So after a `map` of a few prompts it knows better. Retries are
        not in it, nor what a journal would spare, or a budget or a deadline would end; fallbacks are, for what fits nowhere
        before them. It takes 20 to 30 microseconds for each short prompt, in which an event loop stands still: for very
        many, `await asyncio.to_thread(fan.estimate, prompts)`.

        Args:
            prompts: As for `map`, but not async. What can be gone through only once is used up by it.
            model: Another model than the client's.
            response_format: The pydantic model that answers would have to fit; its schema is sent, and paid for.
            options: See `llm_fanout.llm.prompt.RunOptions`.

        Raises:
            ConfigError: As for `map`, or the prompts are an async iterable.
        """
        check_options(options, RUN_OPTIONS)
        check_at_hand(prompts)
        check_source(prompts)
        schema = None if response_format is None else Schema.of(response_format)
        scope = SCOPE.get()
        lane = self._runs.lane if scope is None else scope.lane
        forecast = Forecast(self._runs.routes, model, {**self._options, **options}, schema=schema, lane=lane)
        return forecast.of(prompts)

    async def race(
        self,
        prompts: Iterable[Promptable],
        *,
        accept: Accept = any_answer,
        model: str | Endpoint | None = None,
        **options: Unpack[CallOptions],
    ) -> Result[str]:
        """Ask all prompts at once and take the first good answer: a Result. The others are cancelled, their clean-up done.

        What all of them used is in `FanOut.summary`. If no answer was accepted, the Result has a BadReply of kind "schema"
        that says how many there were; if there was none at all, it is the first prompt's, with its failure.

            >>> import asyncio
            >>> from llm_fanout import FanOut
            >>> async def main() -> str:
            ...     async with FanOut("sim/demo") as fan:
            ...         result = await fan.race(["[[answer:4]] [[latency:9]] 2 + 2?", "[[answer:four]] 2 + 2, in words?"])
            ...         return result.value
            >>> asyncio.run(main())
            'four'

        Args:
            prompts: Different words, or Prompts for different models: `[Prompt(text, model=each) for each in models]`.
            accept: Whether the answer in a Result is good enough; by default any. It is asked of answers only, as they
                come. What it raises is passed on when the calls under way were cancelled.
            model: Another model than the client's.
            options: See `llm_fanout.llm.prompt.CallOptions`.

        Raises:
            ConfigError: There is no prompt, one instead of many, or as for `map`.
            Stopped: The scope in which it was made has ended.
        """
        check_options(options, CALL_OPTIONS)
        run = self._runs.many(starters(prompts), model, self._runs.impatient(options))
        return await first_accepted(run, accept)

    @overload
    async def vote(
        self,
        prompt: Promptable,
        *,
        votes: int,
        lead: int | None = None,
        key: Callable[[str], object] = ...,
        response_format: None = None,
        model: str | Endpoint | None = None,
        **options: Unpack[CallOptions],
    ) -> Vote[str]: ...
    @overload
    async def vote(
        self,
        prompt: Promptable,
        *,
        votes: int,
        response_format: type[M],
        lead: int | None = None,
        key: Callable[[M], object] = ...,
        model: str | Endpoint | None = None,
        **options: Unpack[CallOptions],
    ) -> Vote[M]: ...
    async def vote(
        self,
        prompt: Promptable,
        *,
        votes: int,
        lead: int | None = None,
        key: Callable[[Any], object] | None = None,
        response_format: type[M] | None = None,
        model: str | Endpoint | None = None,
        **options: Unpack[CallOptions],
    ) -> Vote[Any]:
        """Ask one prompt several times and take the most frequent answer (self-consistency): a Vote.

        It ends as soon as no further answer could change the winner, a tie included. Until then only as many calls are
        under way as would end it if all of them agreed: at first half of `votes` and one, or `lead`. None of them is
        wasted; each answer that disagrees may bring one more.

            >>> import asyncio
            >>> from llm_fanout import FanOut, Vote
            >>> async def main() -> Vote[str]:
            ...     async with FanOut("sim/demo") as fan:
            ...         return await fan.vote("[[answer:It is 4.]] What is 2 + 2?", votes=15, key=lambda text: text[-2])
            >>> vote = asyncio.run(main())
            >>> vote.winner, vote.counts, vote.decided, vote.saved
            ('It is 4.', {'4': 8}, True, 7)

        Args:
            prompt: Text, a list of messages, or a Prompt, whose id is not used.
            votes: Calls at the most, >= 1.
            lead: Votes that the leader must be ahead to end it, >= 1, also where the rest could still overturn that: then
                the Vote says `decided=False`.
            key: What of an answer is counted, something hashable, or None for a spoiled vote; it gets the text, or the
                instance of `response_format`. By default the text without the space around it, or the instance as JSON.
                A failed call is a spoiled vote. What it raises is passed on when the calls under way were cancelled.
            response_format: A pydantic model that every answer has to fit; see `map`.
            model: Another model than the client's.
            options: See `llm_fanout.llm.prompt.CallOptions`.

        Raises:
            ConfigError: `votes` or `lead` is less than 1, or as for `call`.
            Stopped: The scope in which it was made has ended.
        """
        check_options(options, CALL_OPTIONS)
        check_votes(votes, lead)
        schema = None if response_format is None else Schema.of(response_format)
        supply = Supply()
        poll: Poll[Any] = Poll(
            supply, ballot_of(prompt), votes=votes, lead=lead, key=key or (stripped if schema is None else written)
        )
        return await poll.take(self._runs.many(supply, model, self._runs.impatient(options), schema=schema))

    @overload
    async def reduce(
        self,
        parts: Run[U] | Iterable[U],
        join: Callable[[Sequence[U | str]], Promptable],
        *,
        context: int,
        response_format: None = None,
        model: str | Endpoint | None = None,
        **options: Unpack[RunOptions],
    ) -> Result[str]: ...
    @overload
    async def reduce(
        self,
        parts: Run[M] | Iterable[M],
        join: Callable[[Sequence[M]], Promptable],
        *,
        context: int,
        response_format: type[M],
        model: str | Endpoint | None = None,
        **options: Unpack[RunOptions],
    ) -> Result[M]: ...
    async def reduce(
        self,
        parts: Run[Any] | Iterable[Any],
        join: Callable[[Sequence[Any]], Promptable],
        *,
        context: int,
        response_format: type[M] | None = None,
        model: str | Endpoint | None = None,
        **options: Unpack[RunOptions],
    ) -> Result[Any]:
        """Join values until there is one, in a tree as deep as it takes: the Result of the last call.

        Neighbours are joined, in their order, as many as fit into `context`; then what came of them. Joining begins while
        the parts still come. Which are joined is decided by their sizes alone, so the same again, with a journal, asks
        nothing that was answered. What all calls used is in `FanOut.summary`; the Result has the last one's own.

            >>> import asyncio
            >>> from llm_fanout import FanOut
            >>> def join(notes):
            ...     return "Merge these notes: " + " ".join(notes)
            >>> async def main() -> int:
            ...     async with FanOut("sim/demo", max_tokens=20) as fan:
            ...         notes = fan.map(f"Summarise page {number}." for number in range(30))
            ...         result = await fan.reduce(notes, join, context=150)
            ...         return result.ok, fan.summary.done > 32
            >>> asyncio.run(main())
            (True, True)

        If a part or a join fails, no more is joined, the calls under way and the run of the parts go on to their end, and
        the Result has a Stopped of kind "skipped" that names what failed. If it cannot be done within `context`, the Result
        has a Rejected of kind "too_large" with the sizes. Of no parts, it has one of kind "invalid".

        Args:
            parts: A run, `fan.map(...)`, which is consumed in input order, or the values themselves.
            join: Makes one prompt of values, neighbours in their order; also called to measure them, so with the same values
                it must give the same. What it raises is passed on when all calls were cancelled.
            context: Tokens that a prompt, its instructions, and `max_tokens` where it is said, may have together, by our own
                estimate (see `estimate`): some tenths less than the model's window.
            response_format: A pydantic model that every answer has to fit, like the parts; see `map`.
            model: Another model than the client's.
            options: See `llm_fanout.llm.prompt.RunOptions`. They are those of the joins: a journal here is another file than
                that of the parts' run, and both may use the one of a scope.

        Raises:
            ConfigError: `context` is less than 1, there are no parts to go through, `join` gives no prompt, or as for `map`.
            RunFailed: The run of the parts is broken, or that of the joins; see `map`.
            Stopped: The scope in which it was made has ended.
        """
        check_options(options, RUN_OPTIONS)
        check_parts(parts, context)
        schema = None if response_format is None else Schema.of(response_format)
        stated = {**self._options, **options}
        plans = Plans(self._runs.routes, model, stated, schema=schema)
        supply = Supply()
        run = self._runs.many(supply, model, stated, schema=schema)
        return await Reduction(parts, Folding(weigh_by(join, plans), context), run, supply).result()

    def scope(
        self,
        name: str,
        *,
        weight: float = 1.0,
        priority: Priority | None = None,
        max_concurrency: int | None = None,
        budget: float | None = None,
        token_budget: int | None = None,
        deadline: float | datetime | None = None,
        journal: str | os.PathLike[str] | Journal | None = None,
    ) -> AbstractAsyncContextManager[Scope]:
        """One agent's share: whatever is called inside `async with fan.scope(...)`, at any depth, belongs to it.

        Scopes that want more than there is get the quota in proportion to their weights, however many prompts each has;
        a scope inside a scope shares its share. Between two starts of a scope of weight w and cost c (in calls, or tokens
        where those are scarcer) each other scope of weight v starts at most c * v / w and one call: that bounds its wait.
        Leaving cancels what still runs inside.

        A deadline that passes, or `cancel`, ends our calls inside, never your tasks: a run gives its Report, which says
        `stopped`, and later calls raise `Stopped`. If that is swallowed, or wrapped by an agent framework, the end of `async
        with` raises it, so that half the work does not pass for all of it.

        Two agents inside a third; `print(planner)` would show who of them asked, spent and waited how much:

            >>> import asyncio
            >>> from llm_fanout import FanOut
            >>> async def main():
            ...     async with FanOut("sim/demo", max_tokens=5) as fan:
            ...         async def research(topic):
            ...             async with fan.scope(topic, deadline=90):
            ...                 report = await fan.map([f"{topic}, part {part}" for part in range(3)])
            ...                 return report.summary.succeeded
            ...
            ...         async with fan.scope("planner", weight=2, token_budget=100_000) as planner:
            ...             await fan.call("Which topics?", priority="interactive")
            ...             print(await asyncio.gather(research("rain"), research("snow")))
            ...             print([(child.name, child.summary.done) for child in planner.children], planner.summary.done)
            >>> asyncio.run(main())
            [3, 3]
            [('rain', 3), ('snow', 3)] 7

        Args:
            name: For reports.
            weight: Its share against its siblings', > 0.
            priority: That of calls inside that name none. It orders the work within this scope; "background" work waits
                for everybody's.
            max_concurrency: Calls at once of everything inside; by default no bound but the quota's.
            budget: USD that everything inside may cost; see `llm_fanout.llm.prompt.RunOptions`.
            token_budget: Tokens that it may use.
            deadline: Seconds from entering, or an aware datetime, after which nothing inside goes on.
            journal: Where the answers of everything inside are kept, and looked for; as for `map`.

        Raises:
            ConfigError: A figure is out of its range.
            JournalError: The journal cannot be used.
            Stopped: At the end: its body was told that it has ended, and went on.
        """
        rank = None if priority is None else rank_of(priority)
        kept = None if journal is None else Journal.of(journal)
        seconds_until(deadline)  # refused now, counted from entering
        purses = purses_stated({"budget": budget, "token_budget": token_budget}, f"scope {name!r}")
        return opened(
            name,
            self._runs.lane,
            weight=weight,
            rank=rank,
            max_concurrency=max_concurrency,
            seconds=lambda: seconds_left(deadline),
            purses=purses,
            journal=kept,
        )

    async def aclose(self) -> None:
        """Cancel what runs on this event loop, close its connections, and let go of the quotas."""
        await self._runs.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<FanOut {', '.join(repr(each.model) for each in self._runs.routes.own)}>"

    @asynccontextmanager
    async def _streamed(
        self, prompt: Promptable, model: str | Endpoint | None, options: Mapping[str, Any]
    ) -> AsyncIterator[Stream[str]]:
        stream: Stream[str] = Stream()
        run = self._runs.one(prompt, model, options, tell=stream.hear)
        following = asyncio.ensure_future(stream.follow(run))
        try:
            yield stream
        finally:
            await run.leave()
            await following


@overload
def fan_out(
    prompts: Source,
    *,
    model: str | Endpoint | Sequence[str | Endpoint],
    limits: Limits = NO_LIMITS,
    response_format: None = None,
    **options: Unpack[RunOptions],
) -> Run[str]: ...
@overload
def fan_out(
    prompts: Source,
    *,
    model: str | Endpoint | Sequence[str | Endpoint],
    limits: Limits = NO_LIMITS,
    response_format: type[M],
    **options: Unpack[RunOptions],
) -> Run[M]: ...
def fan_out(
    prompts: Source,
    *,
    model: str | Endpoint | Sequence[str | Endpoint],
    limits: Limits = NO_LIMITS,
    response_format: Any = None,
    **options: Unpack[RunOptions],
) -> Run[Any]:
    """Ask every prompt, with a client of its own that is closed at the end: `report = await fan_out(prompts, model=...)`.

    Takes what `FanOut` and `FanOut.map` take, gives and raises what `FanOut.map` does.
    """
    fan = FanOut(model, limits=limits)
    run: Run[Any] = fan.map(prompts, response_format=response_format, **options)
    run.close_with(fan.aclose)
    return run
