"""Second copies of calls that take much longer than others like them: when one is sent, and which of the two counts.

Theory of operation. A copy is a job of its own, with the lowest rank there is: it starts when nobody else on its quota wants
to. Whichever has an answer first, or the first piece of one that is streamed, ends the other, and the call is over when both
have ended, for only then is it known what it has used. A copy that fails leaves the call as it was.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from math import inf
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import clock
from .core.job import Attempt, Job, Outcome, Verdict
from .core.stragglers import Stragglers

if TYPE_CHECKING:
    from .call import Call
    from .core.source import Source
    from .shell import Shell
    from .work import Timing, Work

T = TypeVar("T")


class Copy(Generic[T]):
    """A second copy of a call: the payload of its job.

    Args:
        call: What it is a copy of.
        work: The call's, once more.
        kind: Where it counts.

    Attributes:
        job: Its job, until that is over.
        outcome: How it ended, and how long it took.
    """

    __slots__ = ("call", "job", "kind", "outcome", "perform", "shell", "timeout", "work")

    def __init__(self, call: Call[T], work: Work[T], kind: Stragglers) -> None:
        self.call = call
        self.work: Any = work
        self.kind = kind
        self.perform = work.perform
        self.timeout = work.timeout
        self.shell: Shell | None = None
        self.job: Job | None = None
        self.outcome: tuple[Outcome, Timing] | None = None

    @property
    def attempts(self) -> int:
        """How often it was sent."""
        return self.outcome[1].attempts if self.outcome is not None else 0 if self.job is None else self.job.attempts

    def late(self) -> Outcome:
        """What is said of an attempt that took longer than its timeout."""
        late: Outcome = self.work.late()
        return late

    def begun(self) -> None:
        """Its answer has begun."""
        self.call.passage.under_way.begun(self.call, self)

    def started(self, attempt: Attempt) -> Context:
        """Its attempt begins; the context for it."""
        return self.call.passage.under_way.copy_started(attempt)

    def ended(self, attempt: Attempt, outcome: Outcome, verdict: Verdict, now: float) -> None:
        """Its attempt has ended."""
        under_way = self.call.passage.under_way
        try:
            under_way.copy_ended(self, attempt, outcome, verdict, now)
        except Exception as exc:  # as for a call
            under_way.broke(self.call, attempt.job, exc)

    def evicted(self, job: Job, error: Exception | None, now: float) -> None:
        """It is over before it was sent: what it was for is closed."""
        if self.job is not None:  # else it was called back while this was handed over
            self.untried(job)

    def untried(self, job: Job) -> None:
        """It was called back while it waited."""
        self.call.passage.under_way.copy_untried(self, job)


class Hedging:
    """Has those calls copied that take too long, on one event loop."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[Source, float], Stragglers] = {}
        self._under_way: dict[Call[Any], Stragglers] = {}
        self._timer: asyncio.Handle | None = None
        self._rings_at = inf

    def began(self, call: Call[Any], source: Source, now: float) -> None:
        """An attempt of `call` is under way, which waited for `source`."""
        share = call.work.hedge
        kind = self._kinds.get((source, share))
        if kind is None:
            kind = self._kinds[source, share] = Stragglers(share)
        self._under_way[call] = kind
        kind.began(call, now)
        self._set_timer()

    def answered(self, call: Call[Any]) -> None:
        """The answer to `call` is there, or has begun; this may have been told before."""
        kind = self._under_way.pop(call, None)
        if kind is not None:
            kind.answered(call, clock.now())
            self._look_soon()

    def cut(self, call: Call[Any]) -> None:
        """An attempt of `call` has ended without an answer, or is another run's from now on."""
        kind = self._under_way.pop(call, None)
        if kind is not None:
            kind.cut(call, clock.now())
            self._look_soon()

    def close(self) -> None:
        """No call will take too long any more."""
        self._rings_at = inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_soon(self) -> None:
        """Look in the next turn of the event loop: whoever told us is in the middle of a step, and a copy begins others."""
        if self._rings_at > -inf:
            self.close()
            self._rings_at = -inf
            self._timer = asyncio.get_running_loop().call_soon(self._ring)

    def _look(self) -> None:
        """Copy what is to be copied now, and see to it that we look again when the next is."""
        now = clock.now()
        for kind in tuple(self._kinds.values()):
            for call in kind.overdue(now):
                self._copy(call, kind)
        self._set_timer()

    def _copy(self, call: Any, kind: Stragglers) -> None:
        under_way = call.passage.under_way
        if under_way.may_copy(call):
            kind.copy(call)  # first: with the copy others may begin
            under_way.copy(Copy(call, call.work.twin(), kind))
        else:
            kind.pass_over(call)

    def _set_timer(self) -> None:
        at = min([kind.next_at() for kind in self._kinds.values()], default=inf)
        if at >= self._rings_at:
            return  # it rings early enough, and is set anew then
        self.close()
        self._rings_at = at
        self._timer = asyncio.get_running_loop().call_later(max(0.0, at - clock.now()), self._ring)

    def _ring(self) -> None:
        self._timer, self._rings_at = None, inf
        self._look()
