"""The plans of a run: one for all prompts that say nothing else, and one for each that does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..core.lanes import DEFAULT
from ..providers.schema import Schema
from .heard import Tell
from .plan import Plan
from .prompt import Prompt, Settings
from .routes import Model, Routes
from .worst import worst_rates

if TYPE_CHECKING:
    from .relay import Relay


class Plans:
    """How the prompts of a run are asked.

    Args:
        routes: The client's ways to models.
        model: Another model than the client's own.
        options: Those of the run, checked, with the client's own.
        rank: How urgent prompts are that do not say.
        schema: What the answers have to fit, if anything.
        api: What they are asked through, where that is not the endpoint's to say.
        tell: Gets the pieces of a streamed answer.
        is_priced: Whether there is a budget in USD.
        relay: What passes the calls on, if they were made elsewhere.

    Attributes:
        shared: That of prompts which say nothing else.

    Raises:
        ConfigError: A model is not known, has no key, no such API, or no price where it needs one.
    """

    def __init__(
        self,
        routes: Routes,
        model: Model | None,
        options: Mapping[str, Any],
        *,
        rank: int = DEFAULT,
        schema: Schema[Any] | None = None,
        api: str | None = None,
        tell: Tell | None = None,
        is_priced: bool = False,
        relay: Relay | None = None,
    ) -> None:
        self._routes = routes
        self._model = model
        self._options = options
        self._rank = rank
        self._schema = schema
        self._api = api
        self._tell = tell
        self._is_priced = is_priced
        self._relay = relay
        self.shared = self._plan(model, Settings.of(options))

    def of(self, prompt: Prompt) -> Plan:
        """How `prompt` is asked. Raises ConfigError, as above."""
        if prompt.model is None and not prompt.options:
            return self.shared
        return self._plan(prompt.model or self._model, Settings.of({**self._options, **prompt.options}))

    def _plan(self, model: Model | None, settings: Settings) -> Plan:
        plan = Plan(
            self._routes.steps(model, settings.fallbacks),
            settings,
            self._rank if settings.rank is None else settings.rank,
            schema=self._schema,
            api=self._api,
            tell=self._tell,
            is_priced=self._is_priced,
            relay=self._relay,
        )
        for route in plan.routes:
            plan.provider_on(route)  # refused now, if it has no such API
        if self._is_priced:
            worst_rates(plan.routes, 0.0)  # or no such price
        return plan
