"""The numbers of a run, live or final."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from typing import Literal, cast

from .errors import ERROR_OF_KIND, Kind, Stopped
from .hooks import hook
from .spending import NO_USAGE, Spending, Usage
from .spread import Spread

Timed = Literal["latency", "queue_time", "service_time", "ttft"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The numbers of a run, live or final.

    Attributes:
        total: Calls in the run; None while the source has not said and has not ended.
        done: Calls that have ended, well or not: `succeeded + failed`.
        failed: Calls that have ended without an answer; `not_done` of them were ended by us.
        in_flight: Attempts under way.
        replayed: Of the `done`, those that an earlier run has answered; what they cost then is not in `spending`.
        attempts: Tries so far, of all calls.
        spending: Tokens by model; what `usage`, `cost` and `unpriced` are read from.
        elapsed: Seconds since the run started, until it ended.
        eta: Seconds until the end at the pace of the last ten seconds or so; None if that cannot be told.
        waited: Seconds that calls have spent in the queue, all together: the sum of `Result.queue_time`.
        binding: What the run waited for most: "requests", "tokens", "concurrency", "permits", "gate" (a refusal's
            told wait), "outage", or "provider" if no limit ever held it up.
        waits_for: What it stands still for just now: "paused", "outage" or "gate" (a refusal's told wait); else empty.
        errors: How many calls failed, by kind, most frequent first.
        examples: What the first of each kind said, and its id.
        times: How the times of the calls that succeeded are spread, by metric; see `quantile`.
        stopped: Why the run ended early, if it did.
    """

    total: int | None = None
    done: int = 0
    succeeded: int = 0
    failed: int = 0
    in_flight: int = 0
    replayed: int = 0
    attempts: int = 0
    spending: Sequence[Spending] = ()
    elapsed: float = 0.0
    eta: float | None = None
    waited: float = 0.0
    binding: str = "provider"
    waits_for: str = ""
    errors: Mapping[Kind, int] = field(default_factory=dict)
    examples: Mapping[Kind, str] = field(default_factory=dict, repr=False)
    times: Mapping[Timed, Spread] = field(default_factory=dict, repr=False, compare=False)
    stopped: Stopped | None = None

    @property
    def usage(self) -> Usage:
        """Tokens of all attempts, as far as they were reported."""
        return sum((each.usage for each in self.spending), NO_USAGE)

    @property
    def cost(self) -> float:
        """USD of all attempts whose cost is known (prices are looked up when this is read)."""
        return sum(each.cost or 0.0 for each in self.spending)

    @property
    def saved(self) -> float:
        """USD that providers' caches have saved: `usage.cached_tokens` at the price of input less that of cached input."""
        return sum(each.saved for each in self.spending)

    @property
    def unpriced(self) -> int:
        """Replies whose cost is not known: there is no price, or no tokens were reported."""
        return sum(each.calls for each in self.spending if each.cost is None)

    @property
    def not_done(self) -> int:
        """Of the `failed`, those that were not, or not fully, attempted: cancelled, or out of time."""
        return sum(count for kind, count in self.errors.items() if ERROR_OF_KIND.get(kind) is Stopped)

    @property
    def failure_ratio(self) -> float:
        """Failed calls per call that has ended; 0 if none has."""
        return self.failed / self.done if self.done else 0.0

    def quantile(self, q: float, metric: Timed = "latency") -> float:
        """The `q`-quantile in seconds of a time of the calls that succeeded, to 1 %; nan if none did. `Report.quantile`,
        which has their Results, is exact.

        Args:
            q: From 0 (the fastest) to 1 (the slowest); 0.5 is the median.
            metric: "latency", "queue_time", "service_time", or, of answers that were streamed, "ttft".
        """
        spread = self.times.get(metric)
        return nan if spread is None else spread.quantile(q)

    def __str__(self) -> str:
        return cast("str", hook("text")(self))

    def _repr_html_(self) -> str:
        return cast("str", hook("html")(self))
