"""`llm-fanout purge`: forget what was asked."""

from __future__ import annotations

from .journals import Place, opened
from .saying import say


def purge(journal: Place) -> None:
    """Forget the prompts that a journal keeps. The answers stay, and a run can still be resumed: it needs no more than the
    hashes of its prompts. What the command said stays, too, its --instructions included.
    """
    with opened(journal) as file:
        gone = file.purge()
    say("1 prompt forgotten" if gone == 1 else f"{gone:,} prompts forgotten", to_stdout=True)
