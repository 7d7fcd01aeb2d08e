"""Makes the runs of one client: what its calls share, and what those of a scope or a run have besides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakSet

from ..budgets import Budgets, Purse, purses_of
from ..core.lanes import DEFAULT, Lane
from ..hedging import HedgingHere
from ..journal import Journal, OpenJournal
from ..memory import Memory, Reused
from ..providers.schema import Schema
from ..quotas import quotas
from ..results import Report
from ..run import Run, leave_all
from ..scope import SCOPE
from ..sharing import SharedHere
from ..tally import Totals
from ..warmup import WarmUp
from ..work import Terms
from .calls import PromptCall, digest_of
from .endpoint import Endpoint
from .files import calls_at_once
from .heard import Tell
from .plans import Plans
from .prompt import check_figure, prompt_of
from .routes import Model, Routes
from .sources import claim_id
from .times import seconds_left, seconds_until
from .wire import AiohttpWire

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
        self._shared = SharedHere()
        self._hedging = HedgingHere()  # for single calls: each run has its own
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
        hedging: HedgingHere | None = None,
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
            lane=lane or Lane(self.lane if scope is None else scope.lane),
            sources=[step.source for step in plans.shared.steps],
            deadline=lambda: seconds_left(deadline),
            nests=any(route.provider(api).via == "function" for route in plans.shared.routes),  # it may ask us in turn
            counted_in=[self.totals] if scope is None else [self.totals, *(each.totals for each in scope.path())],
            memory=_memory(options.get("journal"), reuse, own) or (None if scope is None else scope.memory),
            budgets=budgets,
            shared=self._shared if options.get("dedupe") else None,
            gate=WarmUp() if options.get("warm_first") else None,
            hedging=hedging,
        )
        run: Run[Any] = Run(
            prompts, open, quotas.engine, terms, progress=options.get("progress"), total=options.get("total")
        )
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


def purses_stated(stated: Mapping[str, Any], whose: str) -> list[Purse]:
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
