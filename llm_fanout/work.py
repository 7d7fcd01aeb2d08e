"""What a flow needs to know: of one item, of all of them, and what it says of each in the end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .core.job import Choice, Outcome
from .core.lanes import Lane
from .core.quota import Quota
from .core.retry import RetryPolicy
from .core.source import Source
from .results import Result
from .tally import Totals

if TYPE_CHECKING:
    from .budgets import Budgets
    from .gate import Gate
    from .hedging import Hedging
    from .loops import Here
    from .memory import Memory
    from .sharing import Shared

T_co = TypeVar("T_co", covariant=True)


class Timing:
    """How long one call took, in seconds from handed in to done, and how often it was tried."""

    __slots__ = ("attempts", "latency", "service_time")

    def __init__(self, latency: float = 0.0, service_time: float = 0.0, attempts: int = 0) -> None:
        self.latency = latency
        self.service_time = service_time
        self.attempts = attempts

    @property
    def queue_time(self) -> float:
        """Seconds that were not the last attempt."""
        return self.latency - self.service_time


class Work(Protocol[T_co]):
    """One item, as a flow needs to know it."""

    @property
    def choices(self) -> Sequence[Choice]:
        """The limits that it needs, and what each attempt reserves of them; then its fallbacks, in their order."""

    @property
    def retry(self) -> RetryPolicy:
        """How hard it tries."""

    @property
    def rank(self) -> float:
        """How urgent it is within its lane: the smaller, the sooner."""

    @property
    def hedge(self) -> float:
        """The share of calls like it of which a second copy may be sent; if it is not 0, it is `Hedged`."""

    @property
    def is_first(self) -> bool:
        """Whether others wait for the beginning of its answer; if so, it is `Begun`."""

    @property
    def timeout(self) -> float | None:
        """Seconds that one attempt may take; None for no bound."""

    def perform(self, quota: Quota) -> Coroutine[Any, Any, Outcome]:
        """Try once, on a quota of its choices. A failure is an Outcome; only CancelledError is raised."""

    def late(self) -> Outcome:
        """What is said of an attempt that took longer than its timeout."""

    def result(self, index: int, outcome: Outcome, timing: Timing) -> Result[T_co]:
        """The item's Result, from how its last attempt ended."""


class Repeatable(Protocol[T_co]):
    """Work whose answer may serve again, for whoever asks the same."""

    @property
    def digest(self) -> bytes:
        """What tells it from other work."""

    def again(self, index: int, fields: Mapping[str, Any]) -> Result[T_co] | None:
        """The item's Result, from the fields of one of identical work; None if that cannot be used here."""


class Begun(Protocol):
    """Work whose answer is heard of as soon as it begins.

    Attributes:
        begun: Called then, if that can be told before its end.
    """

    begun: Callable[[], object] | None


class Hedged(Begun, Protocol[T_co]):
    """Work of which a second copy may be tried at the same time."""

    def twin(self) -> Work[T_co]:
        """Its copy; what that uses up is in the books of both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What all calls of a flow share.

    Args:
        lane: Whose share they use.
        sources: What they need unless they say otherwise: where they wait, and its fallbacks.
        deadline: Gives, at the start, the seconds after which nothing goes on; `inf` for no bound.
        nests: Whether the calls run code that may make calls on the same engine.
        counted_in: Numbers of many runs, in which these calls count, too.
        memory: What earlier runs have answered, and where answers are kept, if anywhere.
        budgets: What they have to keep, if anything.
        shared: Calls under way that those who ask the same wait for, if that was wished.
        gate: What holds calls back until something has happened to others, if anything.
        hedging: Who copies those that take too long, where that is more than one run's; by default it is the run's own.
    """

    lane: Lane
    sources: Sequence[Source]
    deadline: Callable[[], float] = lambda: inf
    nests: bool = False
    counted_in: Sequence[Totals] = ()
    memory: Memory | None = None
    budgets: Budgets | None = None
    shared: Here[Shared] | None = None
    gate: Gate | None = None
    hedging: Here[Hedging] | None = None

    @property
    def width(self) -> float:
        """Calls that may be under way at once, as of now, wherever they go; `inf` for no limit."""
        width = self.sources[0].width
        return width if len(self.sources) == 1 else max(source.width for source in self.sources)
