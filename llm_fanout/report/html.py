"""A Report, an Estimate, or a tree of scopes, as a notebook cell: plain tables, no script, nothing loaded from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from ..results import Report, Result
from ..scope import Scope
from ..summary import Summary
from ..types import Estimate
from .facts import QUANTILES, facts_of, short
from .tree import HEAD, rows_of

ANSWERS = 5  # results shown
LENGTH = 120  # characters shown of an answer
INDENT = "\N{EM SPACE}"  # of a level: other white space is folded
STYLE = "text-align:left;padding:2px 16px 2px 0"


def render(what: Report[object] | Summary | Estimate | Scope) -> str:
    """What `text.render` says, and the first answers, with everything that came from outside escaped."""
    if isinstance(what, Scope):
        return _table(HEAD, [(INDENT * depth + name, *cells) for depth, (name, *cells) in rows_of(what)])
    facts = facts_of(what)
    parts = [f"<p><b>{escape(facts.headline)}</b></p>", _table((), facts.lines)]
    if facts.times:
        rows = [(label, *times) for label, times in facts.times]
        parts.append(_table(("", *(name for name, _ in QUANTILES)), rows))
    if facts.errors:
        rows = [(kind, f"{count:,}", example) for kind, count, example in facts.errors]
        parts.append(_table(("failed", "calls", "first" if isinstance(what, Report) else ""), rows))
    if isinstance(what, Report) and len(what):
        parts.append(_answers(what))
    return "".join(parts)


def _answers(report: Report[object]) -> str:
    rows = [(short(str(result.id), LENGTH), _said(result)) for result in report[:ANSWERS]]
    more = len(report) - len(rows)
    table = _table(("id", "answer"), rows)
    return table + (f"<p>and {more:,} more</p>" if more else "")


def _said(result: Result[object]) -> str:
    answer = result.returned if result.returned is not None else result.text
    return short(str(result.error or answer), LENGTH)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    header = _row("th", head) if head else ""
    return f"<table style='margin:0 0 12px'>{header}{''.join(_row('td', row) for row in rows)}</table>"


def _row(tag: str, cells: Iterable[str]) -> str:
    filled = (f'<{tag} style="{STYLE}">{escape(cell)}</{tag}>' for cell in cells)
    return f"<tr>{''.join(filled)}</tr>"
