"""One item on its way through a run and the engine, and what is said of it where it never gets far."""

from __future__ import annotations

from contextvars import Context
from math import isinf
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .clock import in_words
from .core.job import Attempt, Job, Outcome, Verdict
from .errors import CallError, FanOutError, Rejected, Stopped
from .results import Result

if TYPE_CHECKING:
    from .budgets import Charge
    from .hedging import Copy
    from .passage import Passage
    from .shell import Shell
    from .work import Timing, Work

    Ended = tuple[Outcome, Timing, bool]  # the last: whether another try would have been too late

T = TypeVar("T")


class Call(Generic[T]):
    """One item on its way: the payload of its job.

    Attributes:
        key: What it is known by in the journal; empty if it is not to be kept there.
        leader: The identical call whose answer it waits for, if it does.
        followers: Calls that wait for its answer, in order; None if nobody may.
        is_orphan: Whether only its followers want it still.
        reserved: What of its budgets it may use.
        stopped: Why it was ended, if that is its own affair.
        copy: A second copy of it that is, or was, under way.
        outcome: How it ended, while its copy has not.
    """

    __slots__ = (
        "copy",
        "followers",
        "index",
        "is_orphan",
        "key",
        "leader",
        "outcome",
        "parked",
        "passage",
        "perform",
        "reserved",
        "shell",
        "stopped",
        "timeout",
        "work",
    )

    def __init__(self, passage: Passage[T], index: int, work: Work[T]) -> None:
        self.passage = passage
        self.index = index
        self.work: Any = work  # what its run wants of it besides: see `work`
        self.perform = work.perform
        self.timeout = work.timeout
        self.shell: Shell | None = None
        self.parked = False
        self.key = b""
        self.leader: Call[Any] | None = None
        self.followers: dict[Call[Any], None] | None = None
        self.is_orphan = False
        self.reserved: Charge | None = None
        self.stopped: Stopped | None = None
        self.copy: Copy[T] | None = None
        self.outcome: Ended | None = None

    def late(self) -> Outcome:
        """What is said of an attempt that took longer than its timeout."""
        late: Outcome = self.work.late()
        return late

    def begun(self) -> None:
        """Its answer has begun."""
        self.passage.under_way.begun(self)

    def started(self, attempt: Attempt) -> Context:
        """An attempt begins; the context for it."""
        return self.passage.under_way.started(self, attempt)

    def ended(self, attempt: Attempt, outcome: Outcome, verdict: Verdict, now: float) -> None:
        """An attempt has ended."""
        under_way = self.passage.under_way
        try:
            under_way.ended(self, attempt, outcome, verdict, now)
        except Exception as exc:  # a fault of ours, or in what a user's class does when it is read
            under_way.broke(self, attempt.job, exc)

    def evicted(self, job: Job, error: Exception | None, now: float) -> None:
        """It is over before another try."""
        self.passage.under_way.evicted(self, job, error, now)

    def untried(self, job: Job) -> None:
        """It was cancelled while it waited."""
        self.passage.under_way.untried(self, job)


def refused(index: int, item: Any, error: FanOutError) -> Result[Any]:
    """The Result of an item that is never asked."""
    failure = error if isinstance(error, CallError) else Rejected(str(error), kind="invalid")
    id = getattr(item, "id", None)
    return Result(
        index=index,
        id=index if id is None else id,
        prompt=item,
        tag=getattr(item, "tag", None),
        error=failure,
        source="none",
    )


def too_long(outcome: Outcome, seconds: float) -> Outcome:
    """The outcome of a call whose next try would come too late, with an error that says so."""
    error = outcome.error
    if isinstance(error, CallError) and not isinf(seconds):
        why = f"the next try would have been in {in_words(seconds)}, later than its deadline or retry_for allows"
        outcome.error = error.reading(f"{error.message}; {why}")
    return outcome
