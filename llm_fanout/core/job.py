"""One unit of work, its attempts, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from .retry import Again, RetryPolicy, Tries

if TYPE_CHECKING:
    from .access import Reach
    from .announced import Announced, Dimension
    from .lanes import Branch, Lane
    from .quota import Lease
    from .source import Source


class Cost(NamedTuple):
    """What one attempt uses up, besides its slot: tokens (input and output together, and apart), and one request."""

    tokens: float = 0.0
    requests: float = 1.0
    input: float = 0.0
    output: float = 0.0

    @classmethod
    def of(cls, input: float, output: float) -> Cost:
        """One request with so many tokens."""
        return cls(input + output, 1.0, input, output)


TOKENS, REQUESTS, INPUT, OUTPUT = range(4)  # places in a Cost
PLACES: Mapping[Dimension, int] = {"tokens": TOKENS, "requests": REQUESTS, "input": INPUT, "output": OUTPUT}


class Task(Protocol):
    """Whatever carries out an attempt; the core does not look into it."""

    def cancel(self) -> object:
        """Ask it to end."""


ONE_REQUEST = Cost()


class Choice(NamedTuple):
    """One way to have a job done: where its attempts get their capacity, and what each of them reserves."""

    source: Source
    cost: Cost = ONE_REQUEST


DEFAULT_POLICY = RetryPolicy()


class State(Enum):
    """Where a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    PARKED = "parked"
    OVER = "over"


@dataclass(slots=True, eq=False)
class Job:
    """One unit of work: it ends exactly once, after one attempt or several.

    Args:
        source: The limits it needs; those of its present choice.
        cost: What its next attempt reserves.
        retry: How hard it tries.
        payload: The caller's own; never looked at here.
        lane: Whose share it uses.
        rank: The smaller, the sooner within its lane: `lanes.INTERACTIVE`, `DEFAULT`, `BACKGROUND`. A fraction more orders
            those of one class, and is nothing to other lanes.
        deadline: Monotonic seconds; a retry that would start later is not waited for.
        fallbacks: Its other choices, in the order in which they are preferred.
    """

    source: Source
    cost: Cost = ONE_REQUEST
    retry: RetryPolicy = DEFAULT_POLICY
    payload: Any = None
    lane: Lane | None = None
    rank: float = 1
    deadline: float = inf
    fallbacks: tuple[Choice, ...] = ()
    state: State = State.WAITING
    place: int = 0
    attempts: int = 0
    added_at: float = 0.0
    first_start: float = inf  # of its present choice
    tries: Tries | None = None  # what failures have cost it there; most calls have none
    running: Attempt | None = None
    cancelled: bool = False
    branch: Branch | None = None
    charged: float = 0.0  # to each of its payers, for its last attempt
    payers: Sequence[Branch] = ()  # those of its lanes that were not alone when it started

    def replace(self, other: Job) -> None:
        """Be what `other` was, from now on: as urgent, as patient, and as long on its way. Both are of one lane."""
        self.retry, self.rank, self.fallbacks = other.retry, other.rank, other.fallbacks
        self.added_at, self.first_start = other.added_at, other.first_start
        self.tries = None if other.tries is None else replace(other.tries, until=inf)  # its timer is its own


class Attempt:
    """One try of a job: it holds its lease until `Schedule.finish`.

    Attributes:
        job: What is tried.
        lease: What it holds. While its slot is lent, it waits for calls that it has made itself on the same quota.
        started_at: Monotonic seconds.
        ends_at: The instant at which its timeout cuts it off; `inf` for never. Kept by the shell, as the next three are.
        left: Seconds that were left when its timeout was suspended.
        late: Whether its timeout has cut it off.
        unborn: Whether it has ended before its first step: then nobody was asked.
        task: What carries it out.
    """

    __slots__ = ("ends_at", "job", "late", "lease", "left", "started_at", "task", "unborn")

    def __init__(self, job: Job, lease: Lease, started_at: float) -> None:
        self.job = job
        self.lease = lease
        self.started_at = started_at
        self.ends_at = inf
        self.left = inf
        self.late = False
        self.unborn = False
        self.task: Task | None = None


@dataclass(slots=True, eq=False)  # one for each attempt: frozen, it would take three times as long to make
class Outcome:
    """How an attempt ended, as far as scheduling cares, and what it brought. Not changed once it is made.

    Args:
        again: Why it may be tried again; NO ends the job.
        told: Seconds the other side asked to wait, if it did.
        gate: Whether everybody on the quota has to wait: as long as was told, or a moment.
        shrink: Whether it says that there are too many calls at once.
        outage: Whether it would look like this if the other side were down.
        heard: Whether the other side said anything; False for a call that was cancelled.
        elsewhere: Whether another choice may do better, should no try be left here.
        closes: What will take no call any more, as far as this answer knows: its quota, or all that have the same credential
            or endpoint. Empty for nothing.
        closes_at_once: Whether one such answer is enough; else it takes the first answer of all, or several in a row.
        next_cost: What the next attempt reserves, if not the same again.
        announced: What the other side said of its quota, if it did.
        used: What it really used up; None if nobody knows (the reservation stands).
        pace: Seconds per output token, if it is known.
        value: What it brought; carried, not looked at.
        error: Why it failed; carried, not looked at. None is success.
    """

    again: Again = Again.NO
    told: float | None = None
    gate: bool = False
    shrink: bool = False
    outage: bool = False
    heard: bool = True
    elsewhere: bool = False
    closes: Reach | Literal[""] = ""
    closes_at_once: bool = False
    next_cost: Cost | None = None
    announced: Announced | None = None
    used: Cost | None = None
    pace: float | None = None
    value: object = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from an outcome: the job is over, or waits until `retry_at` and holds nothing.

    `too_long` says of a job that is over how many seconds it would have had to wait for another try, where that is why.
    `evicted` are other jobs that are over, too, untried: the outcome has closed all that they could have been tried on.
    """

    retry_at: float | None = None
    too_long: float | None = None
    evicted: Sequence[Job] = ()

    @property
    def over(self) -> bool:
        """Whether the job has ended."""
        return self.retry_at is None


OVER = Verdict()
