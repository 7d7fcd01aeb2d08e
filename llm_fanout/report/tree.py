"""A tree of scopes in words: who spent, asked and waited how much; the same for a terminal and for a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..budgets import Unit
from ..clock import in_words
from ..core.budget import Budget
from ..scope import Scope
from ..summary import Summary
from .facts import BINDING, short

HEAD = ("scope", "calls", "failed", "cost", "tokens", "elapsed", "waited")
NAME = 40  # characters of a name
SHOWN = 50  # children of one scope: a long life has thousands of them


def rows_of(scope: Scope) -> Iterator[tuple[int, Sequence[str]]]:
    """How deep a scope is, and its cells under `HEAD`; then its children's, of which there may be too many to show all."""
    rest: list[tuple[int, Scope | int]] = [(0, scope)]
    while rest:
        depth, what = rest.pop()
        if isinstance(what, int):
            yield depth, [f"{what:,} more before", *[""] * (len(HEAD) - 1)]
            continue
        yield depth, _cells(what)
        children = what.children[-SHOWN:]
        rest += [(depth + 1, child) for child in reversed(children)]
        if (more := len(what.children) - len(children)) > 0:
            rest.append((depth + 1, more))


def _cells(scope: Scope) -> Sequence[str]:
    summary = scope.summary
    shares = {unit: _share(budget, unit) for unit, budget in scope.budgets}
    tokens = summary.usage.input_tokens + summary.usage.output_tokens
    return [
        short(scope.name, NAME),
        f"{summary.done:,}",
        f"{summary.failed:,}",
        _cost(summary) + shares.get("usd", ""),
        f"{tokens:,}" + shares.get("tokens", ""),
        in_words(summary.elapsed),
        _waited(summary),
    ]


def _cost(summary: Summary) -> str:
    if not summary.unpriced:
        return f"${summary.cost:,.4f}"
    if summary.unpriced == sum(each.calls for each in summary.spending):
        return "not known"
    return f"${summary.cost:,.4f} and more"


def _share(budget: Budget, unit: Unit) -> str:
    """How much of `budget` is used: also by what its journal knows of earlier runs."""
    limit = f"${budget.limit:,g}" if unit == "usd" else f"{budget.limit:,.0f}"
    return f" ({budget.used / budget.limit:.0%} of {limit})" if budget.limit else f" (of {limit})"


def _waited(summary: Summary) -> str:
    """The queue time of all calls, and what held up the first of them for the longest."""
    limit = BINDING.get(summary.binding, summary.binding).partition(" (")[0]
    return in_words(summary.waited) + ("" if summary.binding == "provider" else f", most for {limit}")
