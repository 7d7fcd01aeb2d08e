"""Makes the runs of one client: what its calls share, and what those of a scope or a run have besides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakSet

from ..budgets import Budgets, Purse, purses_of
from ..core.lanes import DEFAULT, Lane
from ..errors import ConfigError
from ..hedging import Hedging
from ..journal import Journal, OpenJournal
from ..loops import Here
from ..memory import Memory, Reused
from ..providers.schema import Schema
from ..quotas import quotas
from ..results import Report
from ..run import Run, leave_all
from ..scope import SCOPE
from ..sharing import Shared
from ..tally import Totals
from ..warmup import WarmUp
from ..work import Terms
from .calls import PromptCall, digest_of
from .endpoint import Endpoint, Place
from .files import calls_at_once
from .heard import Tell
from .plans import Plans
from .prompt import Prompt, check_figure, prompt_of
from .proxies import is_socks
from .relay import Relay
from .routes import Model, Routes
from .sent import Sent
from .sources import claim_id
from .times import Timeouts, seconds_left, seconds_until
from .wire import AiohttpWire

RELAYED = ("max_retries", "retry_for", "priority")  # options of the client that are no part of what is asked
CALL_RETRY_FOR = 300.0  # seconds: whoever waits for one call wants an answer or an error; a batch wants the row


class Runs:
    """The runs of one client, each in the scope where it is made.

    Args:
        own: The endpoints of the client's own model.
        options: What each call does unless it says otherwise; checked.
        purses: The budgets of the client.

    Attributes:
        wire: What carries its requests.
        routes: The ways to models.
        totals: The numbers of all its calls.
        lane: Whose share calls use that are made outside of scopes.
    """

    def __init__(self, own: Sequence[Endpoint], options: Mapping[str, Any], purses: Sequence[Purse]) -> None:
        self.wire = AiohttpWire()
        self.routes = Routes(own, self.wire)
        self.totals = Totals()
        self.lane = Lane(max_concurrency=calls_at_once(self.routes.own))
        self._calls = Lane(self.lane)  # single calls: one line, beside those of its runs
        self._options = options
        self._purses = purses
        self._shared = Here(Shared)
        self._hedging = Here(Hedging)  # for single calls: each run has its own
        self._runs: WeakSet[Run[Any]] = WeakSet()

    def one(
        self,
        prompt: object,
        model: Model | None,
        options: Mapping[str, Any],
        *,
        schema: Schema[Any] | None = None,
        tell: Tell | None = None,
    ) -> Run[Any]:
        """A run of one call."""
        scope = SCOPE.get()
        lane = self._calls if scope is None else scope.calls
        patience = self.impatient(options)
        return self.many([prompt_of(prompt)], model, patience, lane=lane, schema=schema, tell=tell, hedging=self._hedging)

    def impatient(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """These options and the client's, for calls whose answers somebody waits for."""
        return {"retry_for": CALL_RETRY_FOR, **self._options, **options, "progress": False}

    def relayed(self, sent: Sent, timeouts: Timeouts) -> tuple[Relay, Run[Any]]:
        """A run of one call that an SDK has made, and what passes that on.

        A journal has no place for an answer that is read while it comes: a streamed one is neither kept nor looked for.

        Args:
            sent: What was asked.
            timeouts: How long the SDK would wait.

        Raises:
            ConfigError: It goes where the wire does not lead, or a budget needs a price that is not known.
            Stopped: The scope in which it was made has ended.
        """
        endpoint = self.routes.endpoint_of(sent)
        relay = Relay(sent, self.wire, timeouts, _proxy_to(self.routes.route(endpoint).place))
        own = {name: self._options[name] for name in RELAYED if name in self._options}
        # Headers only to keep what they say out of texts.
        options = {"retry_for": CALL_RETRY_FOR, **own, "extra_headers": sent.headers, "progress": False}
        said: Any = {"type": "relayed", "path": sent.form.path, "body": sent.fields}  # what it is known by in a journal
        prompt = Prompt([said])
        scope = SCOPE.get()
        lane = self._calls if scope is None else scope.calls
        run = self.many([prompt], endpoint, options, lane=lane, api=relay.api, tell=relay.tell, relay=relay)
        return relay, run

    def many(
        self,
        prompts: Any,
        model: Model | None,
        options: Mapping[str, Any],
        *,
        lane: Lane | None = None,
        purses: Sequence[Purse] = (),
        schema: Schema[Any] | None = None,
        api: str | None = None,
        tell: Tell | None = None,
        reuse: Report[Any] | None = None,
        hedging: Here[Hedging] | None = None,
        relay: Relay | None = None,
    ) -> Run[Any]:
        """A run of whatever `prompts` gives.

        Args:
            prompts: Its source.
            model: Another model than the client's own.
            options: All of them, checked.
            lane: Whose share it uses, by default one more of the scope.
            purses: Budgets that it has to keep besides its own, its scopes' and the client's.
            schema: What the answers have to fit, if anything.
            api: What they are asked through, where that is not the endpoint's to say.
            tell: Gets the pieces of streamed answers.
            reuse: An earlier report.
            hedging: Who copies those of its calls that take too long, if that is not the run's own.
            relay: What passes it on, if it is one call that was made elsewhere.
        """
        scope = SCOPE.get()
        own = purses_stated(options, "the run")
        kept = [*own, *purses, *self.purses()]
        budgets = Budgets(kept) if kept else None
        plans = Plans(
            self.routes,
            model,
            options,
            rank=DEFAULT if scope is None or scope.rank is None else scope.rank,
            schema=schema,
            api=api,
            tell=tell,
            relay=relay,
            is_priced=budgets is not None and budgets.is_priced,
        )
        is_live = relay is not None and relay.tell is not None
        memory = _memory(options.get("journal"), reuse, own) or (None if scope is None or is_live else scope.memory)
        lane = lane or Lane(self.lane if scope is None else scope.lane)
        terms = self._terms(plans, options, lane=lane, memory=memory, budgets=budgets, hedging=hedging)
        progress, total = options.get("progress"), options.get("total")
        run: Run[Any] = Run(prompts, _opener(plans), quotas.engine, terms, progress=progress, total=total)
        if scope is not None:
            scope.enter(run)
        self._runs.add(run)
        return run

    def purses(self) -> list[Purse]:
        """The budgets that whatever is asked here and now has to keep: those of the scopes around, and the client's."""
        scope = SCOPE.get()
        return [*([] if scope is None else scope.purses()), *self._purses]

    async def aclose(self) -> None:
        """Cancel what runs on this event loop, close its connections, and let go of the quotas."""
        await leave_all(self._runs, "the client was closed")
        await self.wire.aclose()
        await self.routes.aclose()

    def _terms(
        self,
        plans: Plans,
        options: Mapping[str, Any],
        *,
        lane: Lane,
        memory: Memory | None,
        budgets: Budgets | None,
        hedging: Here[Hedging] | None,
    ) -> Terms:
        """What the calls of a run share."""
        scope, shared, deadline = SCOPE.get(), plans.shared, options.get("deadline")
        seconds_until(deadline)  # refused now, counted from the start
        return Terms(
            lane=lane,
            sources=[step.source for step in shared.steps],
            deadline=lambda: seconds_left(deadline),
            nests=any(shared.provider_on(route).via == "function" for route in shared.routes),  # it may ask us in turn
            counted_in=[self.totals] if scope is None else [self.totals, *(each.totals for each in scope.path())],
            memory=memory,
            budgets=budgets,
            shared=self._shared if options.get("dedupe") else None,
            gate=WarmUp() if options.get("warm_first") else None,
            hedging=hedging,
        )


def purses_stated(stated: Mapping[str, Any], whose: str) -> list[Purse]:
    """The budgets that are stated of something. Raises ConfigError."""
    for name in ("budget", "token_budget"):
        check_figure(name, stated.get(name))
    return purses_of(stated.get("budget"), stated.get("token_budget"), whose)


def _opener(plans: Plans) -> Callable[[int, Any], PromptCall]:
    """Makes calls of the prompts of one run."""
    ids: set[str | int] = set()

    def open(index: int, item: object) -> PromptCall:
        prompt = prompt_of(item)
        claim_id(prompt, ids)
        return PromptCall(prompt, index if prompt.id is None else prompt.id, plans.of(prompt))

    return open


def _proxy_to(place: Place) -> str | None:
    """The proxy on the wire's way to `place`, if there is one. Raises ConfigError for one that it does not speak to."""
    if is_socks(place.proxy):
        raise ConfigError(
            f"{place.base_url} is behind a SOCKS proxy, through which the transport does not lead; name an HTTP proxy, or "
            "list the host in NO_PROXY"
        )
    return place.proxy


def _memory(journal: Any, reuse: Report[Any] | None, purses: Sequence[Purse]) -> Memory | None:
    """What a run is to remember by itself, if anything."""
    if journal is None and reuse is None:
        return None
    reused = None if reuse is None else Reused(reuse, digest_of)
    kept = None if journal is None else OpenJournal(Journal.of(journal), budgeted=bool(purses))
    return Memory(kept, owned=True, reused=reused, purses=purses)
