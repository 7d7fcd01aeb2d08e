"""Which calls take so much longer than the others that a second copy of them is worth its price.

Theory of operation. A call is a straggler when it has been under way for longer than all but a share of its kind take, and
much longer than half of them. How long these take is learnt from the calls themselves, and while most of them are still
under way that is not the percentile of those that were answered, which are the quick ones: what is still under way, or was
cut off, took at least as long as it has. So it is the product-limit estimate (Kaplan, Meier 1958) that is asked, which
counts them as far as they have come.

The copies are at most that share of the calls, so a provider that slows down as a whole is not sent twice the traffic. A
client may live long: what it did not copy in its first days it cannot make up for, and times that are long past fade.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from math import inf

from ..spread import bucket_of, least_of

EXACT = 64  # calls under way up to which each answer is worth a new estimate; with more, each such part of them is
LATE = 1.5  # times the median at the least: where all take about as long, a copy, which takes as long again, gains nothing
RECENT = 1_000  # calls that ended, and those under way twice: for so many copies may be saved up
FADING = 2 * RECENT  # ends, after which those that were count half
ROUNDING = 1e-9  # of a product of ratios: nineteen answers of twenty are 0.95 of them


class Stragglers:
    """Calls of one kind: for how long they have been under way, and which of them may be copied.

    Args:
        share: Of the calls, which may be copied: > 0 and < 1. The slowest, by their time, are as many.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._waiting: dict[Hashable, float] = {}  # when they began, in order
        self._copied: dict[Hashable, float] = {}  # the same of those that have a copy, or cannot have one
        self._answered: dict[int, float] = {}  # how many had a time in each bucket
        self._cut: dict[int, float] = {}  # the same of those that ended without an answer
        self._allowed = 0.0  # copies
        self._ended = 0
        self._patience = inf
        self._unheeded = 0  # ends since the last estimate

    def began(self, call: Hashable, now: float) -> None:
        """`call`, no copy, is under way from now on."""
        self._waiting[call] = now
        most = RECENT + 2 * (len(self._waiting) + len(self._copied))
        self._allowed = min(self._allowed + self._share, self._share * most)

    def answered(self, call: Hashable, now: float) -> None:
        """`call` has its answer, or the beginning of it if that is what counts. One that is not under way is passed over."""
        self._end(call, now, self._answered)

    def cut(self, call: Hashable, now: float) -> None:
        """`call` has ended without an answer. One that is not under way is passed over."""
        self._end(call, now, self._cut)

    def copy(self, call: Hashable) -> None:
        """A copy of `call` is on its way."""
        self._allowed -= 1.0
        self._copied[call] = self._waiting.pop(call)

    def pass_over(self, call: Hashable) -> None:
        """No copy of `call` can be made."""
        self._copied[call] = self._waiting.pop(call)

    def spare(self) -> None:
        """A copy was called back before it was sent: it counts no more."""
        self._allowed += 1.0

    def overdue(self, now: float) -> Iterator[Hashable]:
        """The calls that are to be copied now, those that wait for longest first. Of each, `copy` or `pass_over` it."""
        self._learn(now)
        while self.next_at() <= now:
            yield next(iter(self._waiting))

    def next_at(self) -> float:
        """The instant at which the next call will be overdue if nothing happens first; `inf` for none."""
        if self._patience == inf or not self._waiting or not self._may_copy:
            return inf
        return next(iter(self._waiting.values())) + self._patience

    @property
    def _may_copy(self) -> bool:
        return self._allowed + ROUNDING >= 1.0

    def _end(self, call: Hashable, now: float, times: dict[int, float]) -> None:
        calls = self._waiting if call in self._waiting else self._copied
        began = calls.pop(call, None)
        if began is None:
            return
        bucket = bucket_of(now - began)
        times[bucket] = times.get(bucket, 0.0) + 1.0
        self._unheeded += 1
        self._ended += 1
        if self._ended % FADING == 0:
            for faded in (self._answered, self._cut):
                faded.update({bucket: number / 2 for bucket, number in faded.items()})

    def _learn(self, now: float) -> None:
        under_way = len(self._waiting) + len(self._copied)
        if self._unheeded > under_way // EXACT:
            self._unheeded = 0
            self._patience = self._estimate(now)

    def _estimate(self, now: float) -> float:
        """The seconds after which a call is a straggler; `inf` if that cannot be told yet."""
        unanswered = Counter(self._cut)
        for under_way in (self._waiting, self._copied):
            unanswered.update([bucket_of(now - began) for began in under_way.values()])
        longer = sum(self._answered.values()) + unanswered.total()
        left, usual = 1.0, inf
        for bucket in sorted({*self._answered, *unanswered}):
            answered = self._answered.get(bucket, 0.0)
            left *= 1.0 - answered / longer
            if left <= 0.5 and usual == inf:
                usual = least_of(bucket)
            if left <= self._share + ROUNDING:
                return max(least_of(bucket), LATE * min(usual, least_of(bucket)))
            longer -= answered + unanswered[bucket]
        return inf
