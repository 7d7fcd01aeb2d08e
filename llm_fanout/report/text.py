"""A Report, or an Estimate, as a few lines of plain text."""

from __future__ import annotations

from ..results import Report
from ..summary import Summary
from ..types import Estimate
from .facts import QUANTILES, calls, facts_of, short

WIDTH = 14  # columns of a label
COLUMN = 12  # columns of a time
EXAMPLE = 100  # characters of an error message


def render(what: Report[object] | Summary | Estimate) -> str:
    """Counts, tokens, cost, what the run waited for, percentiles, and errors by kind with an example of each."""
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
