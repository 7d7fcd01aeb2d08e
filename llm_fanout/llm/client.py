"""The client: many prompts, one quota, a Report."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping, MutableMapping, Sequence, Sized
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack
from weakref import WeakSet

from ..core.lanes import DEFAULT, Lane, rank_of
from ..core.stated import Limits
from ..errors import ConfigError
from ..quotas import quotas
from ..results import Result, Summary
from ..run import Run, leave_all
from ..scope import SCOPE, Scope, opened
from ..tally import Tally
from ..work import Terms
from . import lanes
from .calls import PromptCall, Route
from .endpoint import Endpoint, place_of
from .live_limits import LiveLimits
from .prompt import (
    CALL_OPTIONS,
    RUN_OPTIONS,
    CallOptions,
    Priority,
    Prompt,
    Request,
    RunOptions,
    Settings,
    check_options,
    prompt_of,
)
from .times import seconds_left, seconds_until
from .wire import AiohttpWire

if TYPE_CHECKING:
    from datetime import datetime

    from openai.types.chat import ChatCompletionMessageParam as Message

    Promptable = str | Sequence[Message] | Prompt
    Source = Iterable[Promptable] | AsyncIterable[Promptable]

CALL_RETRY_FOR = 300.0  # seconds: whoever waits for one call wants an answer or an error; a batch wants the row
NO_LIMITS = Limits()


class FanOut:
    """Prompts to one model, under one quota. Everything that uses the same key for the same model shares that quota.

    Legal without `async with`, from several event loops and threads, and again after `aclose`; leaving the context (or
    `aclose`) cancels what still runs on the running loop and closes its connections.

    Args:
        model: Provider and model, "openai/gpt-5-mini", or an Endpoint. "sim/..." is the provider in a box: no key, no
            network, simulated answers.
        base_url: An OpenAI-compatible server for `model`; by default OPENAI_BASE_URL or OpenAI itself.
        api_key: The key for `model`; by default OPENAI_API_KEY.
        limits: What the account may do with `model`.
        options: The options of every call, which `map`, `call` and Prompts may say otherwise: see
            `llm_fanout.llm.prompt.CallOptions`.

    Raises:
        ConfigError: There is no key, or an argument is unknown or out of its range.
    """

    def __init__(
        self,
        model: str | Endpoint,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        limits: Limits = NO_LIMITS,
        **options: Unpack[CallOptions],
    ) -> None:
        check_options(options, CALL_OPTIONS)
        self._options: Mapping[str, Any] = options
        self._model = model
        self._endpoint = _completed(model, base_url, api_key, limits)
        self._wire = AiohttpWire()
        self._tally = Tally()
        self._lane = Lane()
        self._calls = Lane(self._lane)  # single calls: one line, beside those of its runs
        self._runs: WeakSet[Run[str]] = WeakSet()
        self._routes: dict[Endpoint, Route] = {}
        self._route_to(None)

    @property
    def summary(self) -> Summary:
        """The numbers of all calls of this client so far."""
        return self._tally.summary()

    @property
    def limits(self) -> MutableMapping[str, Limits]:
        """The limits in force, stated and learnt, by model ("openai/gpt-5-mini") or by the name of an Endpoint's quota.

        `fan.limits[model] = Limits(...)` states them anew, also while calls are under way, for everybody who uses that
        account; `del fan.limits[model]` takes back what this client stated.
        """
        return LiveLimits(self._routes, self._route_to)

    def map(self, prompts: Source, *, model: str | Endpoint | None = None, **options: Unpack[RunOptions]) -> Run[str]:
        """Ask every prompt: a Run, which gives one Result per prompt and starts when it is consumed.

        Args:
            prompts: Text, message lists or Prompts; a list, any iterable, or an async iterable without end. It is pulled
                as answers come in, about two prompts per slot ahead.
            model: Another model for this run.
            options: See `llm_fanout.llm.prompt.RunOptions`.

        Raises:
            ConfigError: One prompt instead of many, an unknown option, or, in a list, a prompt that is none or an id that
                is there twice. In a source without a length such a prompt costs its own Result only.
        """
        check_options(options, RUN_OPTIONS)
        _check_source(prompts)
        scope = SCOPE.get()
        return self._run(prompts, model, {**self._options, **options}, Lane(self._lane if scope is None else scope.lane))

    async def call(
        self,
        prompt: Promptable,
        *,
        model: str | Endpoint | None = None,
        deadline: float | datetime | None = None,
        **options: Unpack[CallOptions],
    ) -> Result[str]:
        """Ask one prompt. A failure is in `Result.error` and raised by `Result.value`.

        Args:
            prompt: Text, a list of messages, or a Prompt.
            model: Another model for this call.
            deadline: Seconds from now, or an aware datetime, after which the call ends whatever it does.
            options: See `llm_fanout.llm.prompt.CallOptions`.

        Raises:
            ConfigError: An option is unknown or out of its range, or the prompt is none.
            Stopped: The scope in which it was made has ended.
        """
        check_options(options, CALL_OPTIONS)
        patience: Mapping[str, Any] = {"retry_for": CALL_RETRY_FOR, **self._options, **options, "progress": False}
        scope = SCOPE.get()
        lane = self._calls if scope is None else scope.calls
        report = await self._run([prompt_of(prompt)], model, {**patience, "deadline": deadline}, lane)
        return report[0]

    def scope(
        self, name: str, *, weight: float = 1.0, priority: Priority | None = None, max_concurrency: int | None = None
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

        Raises:
            ConfigError: A figure is out of its range.
        """
        rank = None if priority is None else rank_of(priority)
        return opened(name, self._lane, weight=weight, rank=rank, max_concurrency=max_concurrency)

    async def aclose(self) -> None:
        """Cancel what runs on this event loop, close its connections, and let go of the quotas."""
        await leave_all(self._runs, "the client was closed")
        await self._wire.aclose()
        for route in self._routes.values():
            route.hold.leave()
        self._routes.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<FanOut {self._endpoint.model!r}>"

    def _run(self, prompts: Any, model: str | Endpoint | None, options: Mapping[str, Any], lane: Lane) -> Run[str]:
        first = self._route_to(model)
        scope = SCOPE.get()
        shared = Settings.of(options)
        rank = DEFAULT if scope is None or scope.rank is None else scope.rank
        tallies = [self._tally] if scope is None else [self._tally, *(each.tally for each in scope.path())]
        ids: set[str | int] = set()

        def open(index: int, item: object) -> PromptCall:
            prompt = prompt_of(item)
            claim_id(prompt, ids)
            route = first if prompt.model is None else self._route_to(prompt.model)
            settings = Settings.of({**options, **prompt.options}) if prompt.options else shared
            request = Request.of(route.place.model, prompt, settings)
            return PromptCall(
                prompt=prompt,
                id=index if prompt.id is None else prompt.id,
                route=route,
                request=request,
                settings=settings,
                cost=route.cost_of(request, settings),
                rank=rank if settings.rank is None else settings.rank,
            )

        deadline = options.get("deadline")
        seconds_until(deadline)  # refused now, counted from the start
        terms = Terms(
            lane=lane,
            sources=(first.hold.quota,),
            deadline=lambda: seconds_left(deadline),
            counted_in=tallies,
        )
        run: Run[str] = Run(
            prompts, open, quotas.engine, terms, progress=options.get("progress"), total=options.get("total")
        )
        if scope is not None:
            scope.enter(run)
        self._runs.add(run)
        return run

    def _route_to(self, model: str | Endpoint | None) -> Route:
        """The way to `model`, and a hold on its quota, made on first use."""
        own = model is None or model == self._model
        endpoint = self._endpoint if own else model if isinstance(model, Endpoint) else Endpoint(str(model))
        if endpoint not in self._routes:
            place = place_of(endpoint)
            lane: lanes.Lane = lanes.WireLane(self._wire, place) if place.client is None else lanes.SdkLane(place.client)
            self._routes[endpoint] = Route(place, lane, quotas.join(place.quota, endpoint.limits or NO_LIMITS, self))
        return self._routes[endpoint]


def fan_out(
    prompts: Source, *, model: str | Endpoint, limits: Limits = NO_LIMITS, **options: Unpack[RunOptions]
) -> Run[str]:
    """Ask every prompt, with a client of its own that is closed at the end: `report = await fan_out(prompts, model=...)`.

    Takes what `FanOut` and `FanOut.map` take, gives and raises what `FanOut.map` does.
    """
    fan = FanOut(model, limits=limits)
    run = fan.map(prompts, **options)
    run.close_with(fan.aclose)
    return run


def _completed(model: str | Endpoint, base_url: str | None, api_key: str | None, limits: Limits) -> Endpoint:
    if not isinstance(model, str | Endpoint):
        raise ConfigError(f"model must be 'provider/model' or an Endpoint, got {model!r}")
    if not isinstance(limits, Limits):
        raise ConfigError(f"limits must be Limits(...), got {limits!r}")
    endpoint = model if isinstance(model, Endpoint) else Endpoint(model, base_url=base_url, api_key=api_key)
    if endpoint is model and (base_url is not None or api_key is not None):
        raise ConfigError("an Endpoint has its own base_url and api_key; say them there")
    return endpoint if endpoint.limits is not None else replace(endpoint, limits=limits)


def _check_source(prompts: object) -> None:
    """Refuse what is surely a mistake, before anything is sent."""
    if isinstance(prompts, str | Prompt):
        raise ConfigError("this is one prompt; ask it with `await fan.call(prompt)`, or hand in a list of prompts")
    if not isinstance(prompts, Iterable | AsyncIterable):
        raise ConfigError(f"prompts must be a list, an iterable or an async iterable of prompts, got {prompts!r}")
    if isinstance(prompts, Mapping):
        raise ConfigError("a dict is no list of prompts; hand in [Prompt(text, id=key) for key, text in prompts.items()]")
    if isinstance(prompts, Sized) and isinstance(prompts, Iterable):
        _check_rows(prompts)


def _check_rows(rows: Iterable[object]) -> None:
    ids: set[str | int] = set()
    for index, row in enumerate(rows):
        if isinstance(row, Mapping):
            raise ConfigError(
                f"prompt {index} is one message, a dict; a prompt is a list of messages: hand in [[message, ...], ...], "
                "or use `fan.call(messages)` for one conversation"
            )
        try:
            claim_id(prompt_of(row), ids)
        except ConfigError as exc:
            raise ConfigError(f"prompt {index}: {exc}") from exc


def claim_id(prompt: Prompt, taken: set[str | int]) -> None:
    """Note the prompt's own id, if it has one; raises ConfigError if another prompt of the run has it."""
    if prompt.id is None:
        return
    if prompt.id in taken:
        raise ConfigError(f"the id {prompt.id!r} is there twice; ids must be unique within a run")
    taken.add(prompt.id)
