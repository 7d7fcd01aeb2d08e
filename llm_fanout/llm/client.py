"""The client: many prompts, one quota, a Report."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload
from weakref import WeakSet

from ..budgets import Budgets, Purse, purses_of
from ..core.lanes import DEFAULT, Lane, rank_of
from ..core.stated import Limits
from ..journal import Journal, OpenJournal
from ..memory import Memory, Reused
from ..providers.schema import Schema
from ..quotas import quotas
from ..results import Report, Result
from ..run import Run, leave_all
from ..scope import SCOPE, Scope, opened
from ..sharing import SharedHere
from ..summary import Summary
from ..tally import Totals
from ..work import Terms
from .calls import PromptCall, digest_of
from .endpoint import Endpoint
from .estimate import Forecast
from .files import calls_at_once
from .heard import Tell
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
    check_figure,
    check_options,
    prompt_of,
)
from .routes import NO_LIMITS, Routes, own_endpoints
from .sources import check_at_hand, check_source, claim_id
from .stream import Stream
from .times import seconds_left, seconds_until
from .wire import AiohttpWire

if TYPE_CHECKING:
    from datetime import datetime

    from openai.types.chat import ChatCompletionMessageParam as Message
    from pydantic import BaseModel

    from ..types import Estimate

    Promptable = str | Sequence[Message] | Prompt
    Source = Iterable[Promptable] | AsyncIterable[Promptable]
    M = TypeVar("M", bound=BaseModel)

CALL_RETRY_FOR = 300.0  # seconds: whoever waits for one call wants an answer or an error; a batch wants the row


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
        self._purses = _purses({"budget": budget, "token_budget": token_budget}, "the client")
        self._options: Mapping[str, Any] = options
        self._wire = AiohttpWire()
        self._routes = Routes(own_endpoints(model, base_url, api_key, limits), self._wire)
        self._totals = Totals()
        self._lane = Lane(max_concurrency=calls_at_once(self._routes.own))
        self._calls = Lane(self._lane)  # single calls: one line, beside those of its runs
        self._shared = SharedHere()
        self._runs: WeakSet[Run[Any]] = WeakSet()
        self._routes.steps(None, options.get("fallbacks") or ())

    @property
    def summary(self) -> Summary:
        """The numbers of all calls of this client so far."""
        return self._totals.summary()

    @property
    def limits(self) -> MutableMapping[str, Limits]:
        """The limits in force, stated and learnt, by model ("openai/gpt-5-mini") or by the name of an Endpoint's quota.

        `fan.limits[model] = Limits(...)` states them anew, also while calls are under way, for everybody who uses that
        account; `del fan.limits[model]` takes back what this client stated.
        """
        return LiveLimits(self._routes)

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
        return self._run(prompts, model, {**self._options, **options}, self._new_lane(), schema=schema, reuse=reuse)

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
        report = await self._run_one(prompt, model, {**options, "deadline": deadline}, schema=schema)
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
        return self._run(texts, model, {**own, **options}, self._new_lane(), api="embeddings")

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
        lane = self._lane if scope is None else scope.lane
        forecast = Forecast(self._routes, model, {**self._options, **options}, schema=schema, lane=lane)
        return forecast.of(prompts)

    def scope(
        self,
        name: str,
        *,
        weight: float = 1.0,
        priority: Priority | None = None,
        max_concurrency: int | None = None,
        budget: float | None = None,
        token_budget: int | None = None,
        journal: str | os.PathLike[str] | Journal | None = None,
    ) -> AbstractAsyncContextManager[Scope]:
        """One agent's share: whatever is called inside `async with fan.scope(...)`, at any depth, belongs to it.

        Scopes that want more than there is get the quota in proportion to their weights, however many prompts each has;
        a scope inside a scope shares its share. Between two starts of a scope of weight w and cost c (in calls, or tokens
        where those are scarcer) each other scope of weight v starts at most c * v / w and one call: that bounds its wait.
        Leaving cancels what still runs inside.

        Args:
            name: For reports.
            weight: Its share against its siblings', > 0.
            priority: That of calls inside that name none. It orders the work within this scope; "background" work waits
                for everybody's.
            max_concurrency: Calls at once of everything inside; by default no bound but the quota's.
            budget: USD that everything inside may cost; see `llm_fanout.llm.prompt.RunOptions`.
            token_budget: Tokens that it may use.
            journal: Where the answers of everything inside are kept, and looked for; as for `map`.

        Raises:
            ConfigError: A figure is out of its range.
            JournalError: The journal cannot be used.
        """
        rank = None if priority is None else rank_of(priority)
        kept = None if journal is None else Journal.of(journal)
        purses = _purses({"budget": budget, "token_budget": token_budget}, f"scope {name!r}")
        return opened(
            name,
            self._lane,
            weight=weight,
            rank=rank,
            max_concurrency=max_concurrency,
            purses=purses,
            journal=kept,
        )

    async def aclose(self) -> None:
        """Cancel what runs on this event loop, close its connections, and let go of the quotas."""
        await leave_all(self._runs, "the client was closed")
        await self._wire.aclose()
        await self._routes.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<FanOut {', '.join(repr(each.model) for each in self._routes.own)}>"

    @asynccontextmanager
    async def _streamed(
        self, prompt: Promptable, model: str | Endpoint | None, options: Mapping[str, Any]
    ) -> AsyncIterator[Stream[str]]:
        stream: Stream[str] = Stream()
        run = self._run_one(prompt, model, options, tell=stream.hear)
        following = asyncio.ensure_future(stream.follow(run))
        try:
            yield stream
        finally:
            await run.leave()
            await following

    def _new_lane(self) -> Lane:
        """That of one more run, in the scope where it is made."""
        scope = SCOPE.get()
        return Lane(self._lane if scope is None else scope.lane)

    def _run_one(
        self,
        prompt: Promptable,
        model: str | Endpoint | None,
        options: Mapping[str, Any],
        *,
        schema: Schema[Any] | None = None,
        tell: Tell | None = None,
    ) -> Run[Any]:
        """A run of one call."""
        scope = SCOPE.get()
        patience = {"retry_for": CALL_RETRY_FOR, **self._options, **options, "progress": False}
        lane = self._calls if scope is None else scope.calls
        return self._run([prompt_of(prompt)], model, patience, lane, schema=schema, tell=tell)

    def _run(
        self,
        prompts: Any,
        model: str | Endpoint | None,
        options: Mapping[str, Any],
        lane: Lane,
        *,
        schema: Schema[Any] | None = None,
        api: str | None = None,
        tell: Tell | None = None,
        reuse: Report[Any] | None = None,
    ) -> Run[Any]:
        scope = SCOPE.get()
        own = _purses(options, "the run")
        purses = [*own, *([] if scope is None else scope.purses()), *self._purses]
        budgets = Budgets(purses) if purses else None
        plans = Plans(
            self._routes,
            model,
            options,
            rank=DEFAULT if scope is None or scope.rank is None else scope.rank,
            schema=schema,
            api=api,
            tell=tell,
            is_priced=budgets is not None and budgets.is_priced,
        )
        ids: set[str | int] = set()

        def open(index: int, item: object) -> PromptCall:
            prompt = prompt_of(item)
            claim_id(prompt, ids)
            return PromptCall(prompt, index if prompt.id is None else prompt.id, plans.of(prompt))

        deadline = options.get("deadline")
        seconds_until(deadline)  # refused now, counted from the start
        terms = Terms(
            lane=lane,
            sources=[step.source for step in plans.shared.steps],
            deadline=lambda: seconds_left(deadline),
            counted_in=[self._totals] if scope is None else [self._totals, *(each.totals for each in scope.path())],
            memory=_memory(options.get("journal"), reuse, own) or (None if scope is None else scope.memory),
            budgets=budgets,
            shared=self._shared if options.get("dedupe") else None,
        )
        run: Run[Any] = Run(
            prompts, open, quotas.engine, terms, progress=options.get("progress"), total=options.get("total")
        )
        if scope is not None:
            scope.enter(run)
        self._runs.add(run)
        return run


def _purses(stated: Mapping[str, Any], whose: str) -> list[Purse]:
    """The budgets that are stated of something. Raises ConfigError."""
    for name in ("budget", "token_budget"):
        check_figure(name, stated.get(name))
    return purses_of(stated.get("budget"), stated.get("token_budget"), whose)


def _memory(journal: Any, reuse: Report[Any] | None, purses: Sequence[Purse]) -> Memory | None:
    """What a run is to remember by itself, if anything."""
    if journal is None and reuse is None:
        return None
    reused = None if reuse is None else Reused(reuse, digest_of)
    kept = None if journal is None else OpenJournal(Journal.of(journal), budgeted=bool(purses))
    return Memory(kept, owned=True, reused=reused, purses=purses)


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
