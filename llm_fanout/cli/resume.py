"""`llm-fanout resume`: what a journal says that was asked for, once more."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from ..errors import ConfigError
from .fulfil import COMMAND, fulfil
from .journals import Place, opened
from .options import Budget, Deadline, MaxConcurrency, MaxRetries, Rpm, Timeout, TokenBudget, Tpm
from .order import STREAM, Order, given
from .saying import say


def resume(  # noqa: PLR0917  # the parameters are the command's options
    journal: Place,
    output: Annotated[str | None, typer.Option(help="Another place for the rows.")] = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    max_concurrency: MaxConcurrency = None,
    budget: Budget = None,
    token_budget: TokenBudget = None,
    deadline: Deadline = None,
    timeout: Timeout = None,
    max_retries: MaxRetries = None,
) -> None:
    """Go on with the run that was started with --journal RUN.db: the same command again, with all rows written. What the
    journal has an answer to is not asked again; the rest is, failures included. The prompts are read from where they were,
    and a row that has changed since is asked anew. Options take the place of those that were said then.

    Exit codes are those of `run`.
    """
    order = _order_in(journal)
    changed = given(
        output=output,
        rpm=rpm,
        tpm=tpm,
        max_concurrency=max_concurrency,
        budget=budget,
        token_budget=token_budget,
        deadline=deadline,
        timeout=timeout,
        max_retries=max_retries,
    )
    order = replace(order, **changed)
    if order.prompts == STREAM:
        raise ConfigError(
            f"the prompts of {journal} came from standard input, and are not there now; pipe them again: ... | {order.line}"
        )
    say(f"once more: {order.line}")
    raise typer.Exit(fulfil(order))


def _order_in(journal: str) -> Order:
    with opened(journal) as file:
        note = file.noted(COMMAND)
    if not note:
        raise ConfigError(
            f"no command has made the journal {journal}; run the program that did again, with the same journal"
        )
    return Order.of_note(note, journal)
