"""How times are spread, in bounded memory: counts of buckets that grow by the same factor."""

from __future__ import annotations

from math import ceil, log, nan

# DDSketch (Masson, Rim, Lee: VLDB 2019): a time is told from its bucket to within this share of itself.
ACCURACY = 0.01
GROWTH = (1.0 + ACCURACY) / (1.0 - ACCURACY)
PER_LOG = 1.0 / log(GROWTH)
LEAST = 1e-6  # seconds; what is less is none. From there to a year there are 1,554 buckets


class Spread:
    """Times, however many there are, as far as their quantiles need it."""

    __slots__ = ("_counts", "_least", "_most")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._least = 0.0
        self._most = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        counts = self._counts
        if not counts or seconds < self._least:
            self._least = seconds
        if seconds > self._most:
            self._most = seconds
        bucket = bucket_of(seconds)
        counts[bucket] = counts.get(bucket, 0) + 1

    def copy(self) -> Spread:
        """Another with the same times; from any thread."""
        other = Spread()
        other._least, other._most, other._counts = self._least, self._most, self._counts.copy()
        return other

    def merge(self, other: Spread) -> None:
        """Those of `other`, too."""
        theirs = other.copy()
        if theirs._counts:
            self._least = min(self._least, theirs._least) if self._counts else theirs._least
            self._most = max(self._most, theirs._most)
        for bucket, count in theirs._counts.items():
            self._counts[bucket] = self._counts.get(bucket, 0) + count

    def quantile(self, q: float) -> float:
        """The `q`-quantile in seconds, to 1 %; nan if there are no times."""
        rank = q * (sum(self._counts.values()) - 1)
        passed = 0
        for bucket in sorted(self._counts):
            passed += self._counts[bucket]
            if passed > rank:
                return min(max(seconds_of(bucket), self._least), self._most)
        return nan


NOTHING = ceil(log(LEAST) * PER_LOG)


def bucket_of(seconds: float) -> int:
    """The bucket of a time: the longer it is, the higher."""
    return ceil(log(seconds) * PER_LOG) if seconds > LEAST else NOTHING


def least_of(bucket: int) -> float:
    """The time that all in the bucket are longer than."""
    return 0.0 if bucket == NOTHING else float(GROWTH ** (bucket - 1))


def seconds_of(bucket: int) -> float:
    """The time that is as far, in proportion, from both ends of the bucket."""
    return 0.0 if bucket == NOTHING else float(2.0 * GROWTH**bucket / (GROWTH + 1.0))
