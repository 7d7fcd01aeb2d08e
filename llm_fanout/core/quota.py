"""One account's limits for one model, taken together or not at all, and what is learnt of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Any

from .access import Access, Closure, Reach
from .adaptive import Adaptive
from .announced import Announced
from .breaker import NO_PROBE, Breaker
from .job import INPUT, OUTPUT, PLACES, REQUESTS, TOKENS, Cost
from .learnt import LearntRates, Pace
from .limits import MINUTE, Limit, Permits, RollingWindow, Slots, TokenBucket
from .retry import RetryBudget
from .stated import MOST_WIDTH, Limits
from .waits import Binding, Waits

if TYPE_CHECKING:
    from .source import Source

_Bucket = tuple[int, Limit, Binding]
Kin = Callable[[Reach], "Iterable[Quota]"]
Promise = tuple[float, "Source"]  # from which instant, and to whom


class Signal(Enum):
    """What an attempt says of the other side's capacity: it is enough; nothing; it is not, be it for so many at once or a
    minute; or it was too many at once, and nothing of how many a minute."""

    OK = "ok"
    NEUTRAL = "neutral"
    PUSHBACK = "pushback"
    STRAIN = "strain"


OK, NEUTRAL, PUSHBACK, STRAIN = Signal
FIRST_TOLD = -1  # no refusal has named a time yet
WHOLE = 1.0 + 1e-9  # a minute's tokens, split into burst and rate and summed up again, may be rounded down


class Lease:
    """What one attempt holds until it is given back, and what it must remember of the moment in which it was taken."""

    __slots__ = ("buckets", "calls_before", "cost", "epoch", "probe", "quota", "slot", "tokens_before")

    def __init__(self, quota: Quota, cost: Cost) -> None:
        self.quota = quota
        self.buckets = quota._buckets
        self.cost = cost
        self.epoch = quota.adaptive.epoch
        self.probe = NO_PROBE
        self.calls_before = quota._calls  # all that the quota had ever granted
        self.tokens_before = quota._tokens
        self.slot = True


class Quota:
    """Limits that are asked, taken and given back as one; a gate that a refusal closes for everybody; and what is learnt.

    Args:
        limits: What is stated of it.
        permits: Capacity that somebody else rations, if there is any.
        kin: Gives the other quotas that share its credential, or its endpoint.

    Attributes:
        counts_tokens: Whether the tokens of a cost matter.
    """

    __slots__ = (
        "_buckets",
        "_calls",
        "_calls_when_told",
        "_limits",
        "_permits",
        "_rates",
        "_scarce",
        "_stated",
        "_tokens",
        "access",
        "adaptive",
        "breaker",
        "budget",
        "counts_tokens",
        "gate",
        "kin",
        "pace",
        "promise",
        "slots",
        "waits",
        "why",
    )

    def __init__(self, limits: Limits | None = None, *, permits: Permits | None = None, kin: Kin = lambda _: ()) -> None:
        self._limits = limits or Limits()
        self._permits = permits
        self.slots = Slots(1)
        self.adaptive = Adaptive(self.slots, self._limits.first_width, self._limits.most_width)
        self.breaker = Breaker()
        self.access = Access()
        self.kin = kin
        self.budget = RetryBudget()
        self.pace = Pace()
        self._rates = LearntRates()
        self.gate = -inf
        self.waits = Waits()
        self.why: Binding = "concurrency"
        self.promise: Promise | None = None  # of the next start, where several lines wait
        self._calls = 0
        self._calls_when_told = FIRST_TOLD
        self._tokens = 0.0
        self._stated = _buckets_of(self._limits)
        self._refit()

    @property
    def chosen(self) -> Quota:
        """Itself."""
        return self

    @property
    def members(self) -> Sequence[Quota]:
        """Itself."""
        return (self,)

    @property
    def width(self) -> float:
        """Calls that may be in flight at once, as of now; `inf` if that is not limited."""
        return self.slots.size

    @property
    def tokens_a_minute(self) -> float:
        """Tokens of prompts or answers that pass in a minute, as far as is known; `inf` if that is not limited."""
        if not self.counts_tokens:
            return inf
        rates = (limit.rate for unit, limit, _ in self._buckets if unit != REQUESTS and isinstance(limit, TokenBucket))
        return min(rates, default=inf) * MINUTE

    @property
    def is_full(self) -> bool:
        """Whether every slot is in use."""
        return self.slots.in_use >= self.slots.size

    @property
    def is_trusted(self) -> bool:
        """Whether the other side ever answered."""
        return self.breaker.trusted

    @property
    def is_shut(self) -> bool:
        """Whether the other side is down, or lets nobody in."""
        return self.breaker.is_open or self.access.closure is not None

    @property
    def closure(self) -> Closure | None:
        """Since when and why nobody is let in; None while it is open."""
        return self.access.closure

    @property
    def stands_still_for(self) -> Binding | None:
        """What nothing at all starts for just now, while somebody waits: a told wait or an outage."""
        return self.waits.limit if self.waits.limit in ("gate", "outage") and self.slots.in_use <= 1 else None

    def limits(self) -> Limits:
        """The figures in force: what was stated, and what was learnt where nothing was."""
        left = 1.0 - self._limits.headroom
        learnt: dict[str, Any] = {name: rate * MINUTE / left for name, rate in self._rates.per_second().items()}
        if self.pace.bucket is not None and self._limits.rpm is None:
            learnt["rpm"] = min(self.pace.bucket.rate * MINUTE, learnt.get("rpm", inf))
        width = None if self.slots.size == inf else int(self.slots.size)
        return replace(self._limits, max_concurrency=width, **learnt)

    def twin(self) -> Quota:
        """Another quota with the figures in force, stated and learnt, that is full and nobody's; a width that was refused is
        its ceiling."""
        stated = self._limits
        twin = Quota(replace(self.limits(), max_concurrency=stated.max_concurrency))
        if stated.adapt:
            twin.adaptive.retune(self.width, self.width if self.adaptive.was_refused else stated.most_width)
        return twin

    def is_unused(self, now: float) -> bool:
        """Whether it is open and nothing is in flight or owed: a fresh one admits no more. What it has learnt is its own."""
        if self.gate > now or self.slots.in_use or self.access.closure is not None:
            return False
        return all(limit.is_unused(now) for _, limit, _ in self._buckets)

    def fits_ever(self, cost: Cost) -> bool:
        """Whether `cost` can be granted at all; a call above a whole minute's tokens never is."""
        for unit, limit, _ in self._stated:
            if isinstance(limit, TokenBucket) and cost[unit] > WHOLE * (limit.rate * MINUTE + limit.burst):
                return False
        return True

    def share_of(self, cost: Cost) -> float:
        """How much of the scarcest rate `cost` takes, in calls: what a lane is charged for it."""
        if not self._scarce:
            return 1.0
        share = 0.0
        for unit, weight in self._scarce:
            if cost[unit] * weight > share:
                share = cost[unit] * weight
        return share

    def ready_at(self, cost: Cost, now: float, asker: Source | None = None) -> float:
        """The instant at which every limit and the gate admit `cost`; `inf` if only a `give` can tell.

        The next start may be promised to another source than the `asker`, a pool (by default itself): then not before that.
        """
        latest: float = self.gate
        why: Binding = "gate"
        if self.is_full:
            self.why = "concurrency"
            return inf
        if self.access.probe is not None:
            self.why = "closed"
            return inf
        if self.promise is not None and self.promise[1] is not (asker or self):
            at = self.promise[0]  # if that is now, whoever has the promise is about to be looked at; `why` is the same
            return max(at, latest) if at > now else inf
        breaker = self.breaker
        if not breaker.closed and breaker.trusted and (at := breaker.ready_at()) > latest:
            latest, why = at, "outage"
        for unit, bucket, name in self._buckets:
            at = bucket.ready_at(cost[unit], now)
            if at > latest:
                latest, why = at, name
        # Permits come last: they are asked for only when everything else is there.
        if self._permits is not None and latest <= now and (at := self._permits.ready_at(1.0, now)) > now:
            latest, why = at, "permits"
        if latest > now:
            self.why = why
        return latest

    def probe_at(self) -> float:
        """While it is shut: the instant at which one call may look whether it is so still; `inf` while one is looking."""
        if self.access.probe is not None:
            return inf
        return -inf if self.breaker.closed else self.breaker.ready_at()

    def left(self, cost: Cost, now: float) -> float:
        """The smallest share that is left of any limit which `cost` uses, and one less while calls fail; `inf` if a probe is
        due."""
        if not self.breaker.closed:
            return inf
        width = min(self.slots.size, float(MOST_WIDTH))
        share = (width - self.slots.in_use) / width
        for unit, bucket, _ in self._buckets:
            if cost[unit] > 0 and (left := bucket.left(now)) < share:
                share = left
        return share - 1.0 if self.breaker.is_doubtful else share

    def take(self, cost: Cost, now: float) -> Lease:
        """Take from every limit at once; call it only when `ready_at(cost, now) <= now`."""
        self.slots.in_use += 1
        for unit, bucket, _ in self._buckets:
            bucket.take(cost[unit], now)
        if self._permits is not None:
            self._permits.take(1.0, now)
        lease = Lease(self, cost)
        if self.access.closure is not None:
            self.access.probe = lease
        if not self.breaker.closed:
            lease.probe = self.breaker.take(now)
        self._calls += 1
        self._tokens += cost[0]
        return lease

    def give(self, lease: Lease, used: Cost | None, now: float, signal: Signal = NEUTRAL, pace: float | None = None) -> Cost:
        """Settle a lease with what was really used; None keeps what was reserved, and so does a success where the limits say
        that the reservation is charged.

        A lease settles with the limits that it was taken from, so that a quota can be retuned while calls are out. What
        the attempt says of the other side's capacity makes the number of slots shrink or grow.

        Args:
            lease: From `take`.
            used: What was used, if that is known.
            now: Monotonic seconds.
            signal: What the attempt says of the other side's capacity.
            pace: Seconds per output token, if they are known.
        Returns: What counts as used.
        """
        if signal is not NEUTRAL and self._limits.adapt:
            if signal is OK:
                self._succeeded(lease, now, pace)
            elif signal is PUSHBACK:
                self._refused(lease, now)
            else:
                self.adaptive.strained(lease.epoch)
        if lease.slot:
            self.slots.in_use -= 1
        reserved = lease.cost
        if used is None or (signal is OK and self._limits.settle == "reserved"):
            return reserved
        for unit, bucket, _ in lease.buckets:
            if reserved[unit] != used[unit]:
                bucket.give(reserved[unit], used[unit], now)
        return used

    def told_to_wait(self, lease: Lease, now: float) -> None:
        """The call of `lease` was refused for a told time. Where that happens again, to a call that had begun after the last
        such refusal, and the provider does not announce its rates, then calls are spaced by what gets through."""
        if not self._limits.adapt or self._rates.buckets or lease.calls_before < self._calls_when_told:
            return
        first = self._calls_when_told == FIRST_TOLD
        self._calls_when_told = self._calls
        if not first and self.pace.refused(now):
            self._refit()

    def lend(self, lease: Lease) -> None:
        """Give back the slot alone; `reclaim` takes it again."""
        lease.slot = False
        self.slots.in_use -= 1

    def reclaim(self, lease: Lease) -> bool:
        """Take the slot again that was lent; False if none is free."""
        if self.is_full:
            return False
        lease.slot = True
        self.slots.in_use += 1
        return True

    def hear(self, lease: Lease, announced: Announced, now: float) -> None:
        """What the answer to the call of `lease` says of the quota: where nothing is stated, it is obeyed from now on."""
        if self._limits.adapt and self._rates.hear(announced, self._granted_since(lease), self._limits, now):
            self._refit()

    def close_until(self, until: float) -> None:
        """Admit nobody before `until`. A gate that is closed for longer stays so."""
        self.gate = max(self.gate, until)

    def retune(self, limits: Limits, now: float) -> None:
        """From now on obey `limits`; what is in flight and what is owed still count. What was learnt of rates is
        forgotten, and what was learnt of the width if other widths are stated, or that nothing is to be learnt."""
        owed = {name: bucket for _, bucket, name in self._stated}
        width = _width_of(self._limits)
        self._limits = limits
        self._stated = _buckets_of(limits)
        self._stated = tuple((unit, _carried(owed.get(name), bucket, now), name) for unit, bucket, name in self._stated)
        if width != _width_of(limits):
            self.adaptive.retune(limits.first_width, limits.most_width)
        self._rates = LearntRates()
        self.pace = Pace()
        self._calls_when_told = FIRST_TOLD
        self._refit()

    def _succeeded(self, lease: Lease, now: float, pace: float | None) -> None:
        adaptive = self.adaptive
        self.pace.succeeded(now)
        if adaptive.strain:
            adaptive.relax()
        if self.slots.in_use >= adaptive.growth_from:
            silent = pace is not None and not (self._rates.buckets or adaptive.was_refused)
            adaptive.succeeded(lease.epoch, pace if silent else None)

    def _refused(self, lease: Lease, now: float) -> None:
        if self.adaptive.refused(lease.epoch) and self.adaptive.is_unexplained and self.pace.refused(now):
            self._refit()

    def _granted_since(self, lease: Lease) -> Cost:
        """What was granted after `lease`. Input and output are not counted apart: they share as they do in its own cost."""
        tokens = self._tokens - lease.tokens_before - lease.cost[0]
        share = tokens / lease.cost[0] if lease.cost[0] else 0.0
        return Cost(tokens, self._calls - lease.calls_before - 1.0, share * lease.cost[2], share * lease.cost[3])

    def _refit(self) -> None:
        """What is asked of a call: the limits that were stated, and those that were learnt."""
        learnt: list[_Bucket] = [(PLACES[name], bucket, name) for name, bucket in self._rates.buckets.items()]
        if self.pace.bucket is not None:
            learnt.append((REQUESTS, self.pace.bucket, "requests"))
        self._buckets = (*self._stated, *learnt)
        self.counts_tokens = any(unit != REQUESTS for unit, _, _ in self._buckets)
        self._scarce = _scarcity(self._buckets)


def _width_of(limits: Limits) -> tuple[float, float, bool]:
    """What is stated of calls at once."""
    return limits.first_width, limits.most_width, limits.adapt


def _buckets_of(limits: Limits) -> tuple[_Bucket, ...]:
    """The limits that are stated, one for each rate."""
    burst = None if limits.burst is None or limits.rpm is None else limits.burst / limits.rpm
    found: list[_Bucket] = []
    if limits.rpm is not None:
        found.append((REQUESTS, TokenBucket.per_minute(_left(limits.rpm, limits), limits.burst, unit=1.0), "requests"))
    rates: tuple[tuple[int, float | None, Binding], ...] = (
        (TOKENS, limits.tpm, "tokens"),
        (INPUT, limits.itpm, "input"),
        (OUTPUT, limits.otpm, "output"),
    )
    for unit, rate, name in rates:
        if rate is not None:
            ours = _left(rate, limits)
            found.append((unit, TokenBucket.per_minute(ours, burst and burst * ours), name))
    if limits.rpd is not None:
        found.append((REQUESTS, RollingWindow(max(1.0, _left(limits.rpd, limits))), "day"))
    return tuple(found)


def _left(quantity: float, limits: Limits) -> float:
    """What the headroom leaves of `quantity`. Rounded: a tenth of 100 must not be nine whole requests and 0.99999."""
    left = quantity * (1.0 - limits.headroom)
    return round(left, 9) or left


def _carried(old: Limit | None, new: Limit, now: float) -> Limit:
    """`new`, with what is owed on `old`."""
    if isinstance(old, TokenBucket) and isinstance(new, TokenBucket):
        old.retune(new, now)
        return old
    if isinstance(old, RollingWindow) and isinstance(new, RollingWindow):
        old.retune(new, now)
        return old
    return new


def _scarcity(buckets: tuple[_Bucket, ...]) -> tuple[tuple[int, float], ...]:
    """For each rate, calls per unit: a call counts as one, or as much as its tokens are worth in calls."""
    rates: dict[int, float] = {}
    for unit, bucket, _ in buckets:
        if isinstance(bucket, TokenBucket):
            rates[unit] = min(rates.get(unit, inf), bucket.rate)
    if set(rates) <= {REQUESTS}:
        return ()
    calls = rates.get(REQUESTS, max(rates.values()) / TYPICAL_TOKENS)
    return tuple((unit, calls / rate) for unit, rate in rates.items())


TYPICAL_TOKENS = 1_000.0  # of a call, where only tokens are limited: keeps a lane's tags in calls, whatever is learnt when
