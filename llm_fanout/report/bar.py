"""A live bar: in a terminal or in a notebook cell."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from ..results import Summary
from .facts import seconds


def bar(console: Console | None = None) -> Callable[[Summary], None]:
    """A function that draws the Summary it is given; it takes the bar down when the run has ended.

    Args:
        console: Where to draw; by default standard error, or the cell's output in a notebook.
    """
    return _Bar(console or Console(stderr=True)).draw


class _Bar:
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

    def draw(self, summary: Summary) -> None:
        ends = summary.total == summary.done and not summary.in_flight
        if ends and self._ended:
            return  # a run that has ended says so once more
        self._ended = ends
        self._progress.start()
        self._progress.update(self._task, completed=summary.done, total=summary.total, says=_says(summary), refresh=True)
        if ends:
            self._progress.stop()


def _says(summary: Summary) -> str:
    parts = [f"{summary.in_flight} in flight"]
    if summary.eta:
        parts.append(f"{seconds(summary.eta)} left")
    if summary.failed:
        parts.append(f"[red]{summary.failed:,} failed[/red]")
    if summary.cost:
        parts.append(f"${summary.cost:.2f}")
    return ", ".join(parts)
