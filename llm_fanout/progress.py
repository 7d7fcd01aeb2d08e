"""Telling somebody how a run is getting on."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable

from . import clock
from .hooks import hook
from .summary import Summary
from .tally import Tally

EVERY = 0.1  # seconds between two reports

Progress = bool | Callable[[Summary], None] | None


class Reporter:
    """Calls a function with the Summary of a run, ten times a second at the most.

    Args:
        progress: The function; True for a bar, False for nothing, None for a bar in a notebook and nothing elsewhere.
        tally: The numbers of the run.
    """

    def __init__(self, progress: Progress, tally: Tally) -> None:
        self._tell = _function_of(progress)
        self._tally = tally
        self._told_at = 0.0

    @property
    def wants(self) -> bool:
        """Whether there is anybody to tell."""
        return self._tell is not None

    def say(self, *, final: bool = False) -> None:
        """Report, unless that was done just now. Raises whatever the function raises, and is silent from then on."""
        tell = self._tell
        if tell is None or not (final or clock.now() - self._told_at >= EVERY):
            return
        self._told_at = clock.now()
        self._tell = None
        tell(self._tally.summary())
        self._tell = tell


def _function_of(progress: Progress) -> Callable[[Summary], None] | None:
    if callable(progress):
        return progress
    in_notebook = getattr(builtins, "__IPYTHON__", False) and "ipykernel" in sys.modules
    if progress is True or (progress is None and in_notebook):
        bar: Callable[[Summary], None] = hook("bar")()
        return bar
    return None
