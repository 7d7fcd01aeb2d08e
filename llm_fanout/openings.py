"""What a run may use, and what of that was closed while it ran: that is asked no more."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from .core.access import Closure
from .core.job import Choice
from .core.quota import Quota
from .core.source import Source
from .errors import CallError, Stopped


class Openings:
    """The sources of a run.

    One that was closed before the run began is worth a look, which the schedule sees to; of a pool that is open, one call of
    the run looks at each member that was.

    Args:
        default: The sources that calls use unless they say otherwise.

    Attributes:
        began: The instant at which the run began.
        met: The sources that calls have needed so far.
    """

    def __init__(self, default: Sequence[Source]) -> None:
        self.began = inf
        self.met: set[Source] = set()
        self._default = default
        self._looked_at: set[Quota] = set()

    def among(self, choices: Sequence[Choice]) -> Sequence[Choice]:
        """Those of `choices` that a call may be tried on, in order.

        Raises:
            Stopped: There is none: an answer to another call has closed them.
        """
        for source, _ in choices:
            if source.closure is not None or len(source.members) > 1:
                return self._open(choices)
        return choices

    def end(self) -> Stopped | None:
        """Why nothing more can be done, if everything that the run uses was closed."""
        closures = [self._closed_since(source) for source in {*self._default, *self.met}]
        latest = max((each for each in closures if each is not None), key=lambda each: each.at, default=None)
        return None if latest is None or None in closures else closed_by(latest.by)

    def _open(self, choices: Sequence[Choice]) -> Sequence[Choice]:
        left = [choice for choice in choices if self._closed_since(choice.source) is None]
        if not left:
            raise closed_by(*(closure.by for choice in choices if (closure := choice.source.closure) is not None))
        for source, cost in left:
            for member in source.members if source.closure is None else ():
                if self._is_worth_a_look(member):
                    self._looked_at.add(member)
                    return [Choice(member, cost), *left]
        return left

    def _closed_since(self, source: Source) -> Closure | None:
        """Since when and why `source` lets nobody in, if it did when the run began."""
        closure = source.closure
        return closure if closure is not None and closure.at > self.began else None

    def _is_worth_a_look(self, member: Quota) -> bool:
        return member.closure is not None and self._closed_since(member) is None and member not in self._looked_at


def closed_by(*errors: Exception | None) -> Stopped:
    """What is said of a call that is not made because answers to others, with these errors, have closed what it needs."""
    words = (each.message if isinstance(each, CallError) else f"{type(each).__name__}: {each}" for each in errors)
    return Stopped(f"not attempted, since an earlier call was refused: {'; '.join(words)}", kind="not_attempted")
