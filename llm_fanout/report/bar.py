"""A live bar: in a terminal or in a notebook cell."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from ..clock import in_words
from ..spending import NO_USAGE
from ..summary import Summary


def bar(console: Console | None = None) -> Callable[[Summary], None]:
    """A function that draws the Summary it is given; it takes the bar down when the run has ended.

    Args:
        console: Where to draw; by default standard error, or the cell's output in a notebook.
    """
    console = console or Console(stderr=True)
    return _CellBar().draw if console.is_jupyter else _TerminalBar(console).draw


class _CellBar:
    """A line of HTML, updated in place. Rich's own needs ipywidgets to move, and says so in the cell."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._cost = _Cost()

    def draw(self, summary: Summary) -> None:
        cell = import_module("IPython.display")  # there, for this is a notebook
        line = cell.HTML(_html(summary, self._cost.of(summary)))
        if self._handle is None:
            self._handle = cell.display(line, display_id=True)
        else:
            self._handle.update(line)


def _html(summary: Summary, cost: float) -> str:
    done, share = f"{summary.done:,}", ""
    if summary.total is not None:
        done, share = f"{done}/{summary.total:,}", f' max="{summary.total}" value="{summary.done}"'
    return f"<progress{share}></progress> {', '.join([done, in_words(summary.elapsed), *_says(summary, cost)])}"


class _TerminalBar:
    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[says]}"),
            console=console,
        )
        self._task = self._progress.add_task("", total=None, says="")
        self._ended = False
        self._cost = _Cost()

    def draw(self, summary: Summary) -> None:
        ends = summary.total == summary.done and not summary.in_flight
        if ends and self._ended:
            return  # a run that has ended says so once more
        self._ended = ends
        self._progress.start()
        says = _markup(summary, self._cost.of(summary))
        self._progress.update(self._task, completed=summary.done, total=summary.total, says=says, refresh=True)
        if ends:
            self._progress.stop()


class _Cost:
    """What a run has cost, as soon as the prices are there. To import their list takes a second, which the event loop that
    draws does not have: another thread takes the first look at each model's."""

    def __init__(self) -> None:
        self._models: set[str] = set()
        self._looking = threading.Thread()

    def of(self, summary: Summary) -> float:
        """USD; 0 while that is not known."""
        models = {each.model for each in summary.spending if each.usage != NO_USAGE}
        if not models <= self._models:
            self._models |= models
            # No daemon: an interpreter that ends would cut it off, and Rust, of which pydantic has much, aborts then.
            self._looking = threading.Thread(target=lambda: summary.cost, name="llm_fanout.prices")
            self._looking.start()
        return 0.0 if self._looking.is_alive() else summary.cost


STANDS_STILL = {"paused": "paused", "outage": "the provider is down", "gate": "the provider said to wait"}


def _markup(summary: Summary, cost: float) -> str:
    return ", ".join(f"[red]{part}[/red]" if part.endswith(" failed") else part for part in _says(summary, cost))


def _says(summary: Summary, cost: float = 0.0) -> list[str]:
    parts = [STANDS_STILL.get(summary.waits_for) or f"{summary.in_flight} in flight"]
    if summary.eta:
        parts.append(f"{in_words(summary.eta)} left")
    if failed := summary.failed - summary.not_done:
        parts.append(f"{failed:,} failed")
    if summary.not_done:
        parts.append(f"{summary.not_done:,} not done")
    if cost:
        parts.append(f"${cost:.2f}")
    return parts
