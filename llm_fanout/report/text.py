"""A Report, an Estimate, or a tree of scopes, as a few lines of plain text."""

from __future__ import annotations

from ..results import Report
from ..scope import Scope
from ..summary import Summary
from ..types import Estimate
from .facts import QUANTILES, calls, facts_of, short
from .tree import HEAD, rows_of

WIDTH = 14  # columns of a label
COLUMN = 12  # columns of a time
EXAMPLE = 100  # characters of an error message


def render(what: Report[object] | Summary | Estimate | Scope) -> str:
    """Counts, tokens, cost, what the run waited for, percentiles, and errors by kind with an example of each; of scopes, a
    line for each.
    """
    if isinstance(what, Scope):
        return _tree(what)
    facts = facts_of(what)
    lines = [facts.headline]
    lines += [f"  {label:<{WIDTH}}{text}" for label, text in facts.lines]
    if facts.times:
        lines.append(" " * (WIDTH + 2) + "".join(f"{name:>{COLUMN}}" for name, _ in QUANTILES))
        lines += [f"  {label:<{WIDTH}}" + "".join(f"{time:>{COLUMN}}" for time in times) for label, times in facts.times]
    for kind, count, example in facts.errors:
        first = "first " if count > 1 else ""
        lines.append(f"  {kind:<{WIDTH}}{calls(count)}" + (f", {first}{short(example, EXAMPLE)}" if example else ""))
    return "\n".join(lines)


def _tree(scope: Scope) -> str:
    rows = [HEAD, *(("  " * depth + name, *cells) for depth, (name, *cells) in rows_of(scope))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
