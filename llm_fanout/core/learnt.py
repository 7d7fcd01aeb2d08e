"""Rates that nobody stated: read from what the provider announces, or found out by being refused.

Two cases, one object each:

- `LearntRates`: the provider says in its headers how much there is and what is left. Each dimension becomes a bucket that
  mirrors the provider's own. A figure in a header is a moment old: what was granted since that call began may be missing in
  it, so the truth lies between what is said to remain and that less what was granted since. The mirror is moved into that
  range, and no further;
- `Pace`: the provider refuses and never says why, even at a width that it had taken before, or a single call. Then it is
  not the number of calls that is too high but their rate: calls that start together refuse each other. They are spaced, by
  what got through lately, for that much is surely taken; a little more as long as all is well and calls wait for it; once
  per episode no more than what got through. Where nothing gets through for long, a call goes every few seconds to see, and
  the first that is answered brings back the rate that was taken before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from .announced import Announced, Dimension, Window
from .breaker import LAST_PROBE
from .job import PLACES, Cost
from .limits import DAY, MINUTE, TokenBucket
from .stated import Limits

SPANS = (MINUTE, 3_600.0, DAY)  # seconds that a window may last, the usual first
SPAN_FITS = 0.1  # how far, relatively, the announced reset may be from what a span predicts
STATED_AS: Mapping[Dimension, str] = {"tokens": "tpm", "requests": "rpm", "input": "itpm", "output": "otpm"}


class LearntRates:
    """One bucket for each dimension that the provider announces and that nobody has stated."""

    __slots__ = ("_spans", "buckets")

    def __init__(self) -> None:
        self.buckets: dict[Dimension, TokenBucket] = {}
        self._spans: dict[Dimension, float] = {}  # seconds that a window lasts, as far as is known

    def per_second(self) -> dict[str, float]:
        """The rates by the names under which they could be stated."""
        return {STATED_AS[name]: bucket.rate for name, bucket in self.buckets.items()}

    def hear(self, announced: Announced, granted_since: Cost, limits: Limits, now: float) -> bool:
        """Take in what an answer says. True if there is a bucket now that was not there, or one has another rate.

        Args:
            announced: By dimension.
            granted_since: What was granted after the call that was answered had begun.
            limits: What is stated: that is the truth, and nothing is learnt about it.
            now: Monotonic seconds.
        """
        changed = False
        for name, window in announced.items():
            if window.limit is None or window.remaining is None or getattr(limits, STATED_AS[name]) is not None:
                continue
            changed |= self._mirror(name, window, granted_since[PLACES[name]], 1.0 - limits.headroom, now)
        return changed

    def _mirror(self, name: Dimension, window: Window, granted_since: float, left: float, now: float) -> bool:
        bucket = self.buckets.get(name)
        remaining = window.remaining or 0.0
        span = self._spans[name] = _span_of(window, self._spans.get(name, MINUTE))
        rate = (window.limit or 1.0) / span * left
        if bucket is None:
            bucket = self.buckets[name] = TokenBucket(rate, max(1.0, remaining))
            bucket.set_available(max(0.0, remaining - granted_since), now)
            return True
        changed = abs(bucket.rate - rate) > 0.01 * rate
        available = bucket.available(now)
        if changed or remaining > bucket.burst:
            bucket.rate, bucket.burst = rate, max(bucket.burst, remaining)
            bucket.set_available(available, now)
        within = min(max(available, 0.0, remaining - granted_since), remaining)
        if within != available:
            bucket.set_available(within, now)
        return changed


def _span_of(window: Window, known: float) -> float:
    """Seconds that a window lasts: told, or else it follows from how long the missing part takes to come back.

    Where nothing is missing, that tells nothing, and what is known stays. Where it fits none, it is a window that begins on
    the minute.
    """
    limit, remaining, reset = window.limit or 1.0, window.remaining or 0.0, window.reset
    missing = (limit - remaining) / limit
    if window.per is not None:
        return window.per
    if reset is None or missing <= 0:
        return known
    fitting = [span for span in SPANS if abs(reset - missing * span) <= max(SPAN_FITS * missing * span, 0.02)]
    if known in fitting:
        return known  # so little is missing that several fit
    return fitting[0] if fitting else MINUTE


GROWTH = 0.05  # of the rate in a second without refusal, and twice as much with each second
MOST_GROWTH = 1.0
LONGEST_HOLD = 30.0  # seconds between two tries of a rate that was refused
RECENT = 20  # answers from which the present rate is taken, at the most
LATELY = MINUTE  # seconds after which an answer is no more among them
SLOWEST = 1.0 / LAST_PROBE  # calls a second to which refusals alone may cut: asking more seldom spares little


class Pace:
    """Spaces calls after refusals that the width does not explain; `bucket` is None as long as there were none."""

    __slots__ = ("_accepted", "_answered", "_answers", "_growth", "_hold", "_next", "bucket")

    def __init__(self) -> None:
        self.bucket: TokenBucket | None = None
        self._answers: deque[float] = deque(maxlen=RECENT)
        self._answered = False  # whether anything was since the last cut
        self._accepted = 0.0  # the rate after the last cut before which something was answered
        self._growth = GROWTH
        self._hold = 1.0  # seconds until the rate grows
        self._next = 0.0

    def refused(self, now: float) -> bool:
        """The first refusal of an episode came. True if there is a bucket now that was not there."""
        rate = self._recent(now)
        if self.bucket is None:
            if len(self._answers) < 2:
                return False  # nothing got through yet from which to take a rate
            self.bucket = TokenBucket(rate, 1.0)
            self._accepted = rate
            self._next = now + self._hold
            return True
        self._hold = min(2 * self._hold, LONGEST_HOLD)
        self._next = now + self._hold
        self._growth = GROWTH
        cut = max(rate, self.bucket.rate / 2)
        if self._answered:
            self._accepted = min(self.bucket.rate, cut)
            self._answered = False
        else:
            cut = max(cut, SLOWEST)
        self._retune(min(self.bucket.rate, cut), now)
        return False

    def succeeded(self, now: float) -> None:
        """A call was answered."""
        bucket, answers = self.bucket, self._answers
        if bucket is not None:
            self._answered = True
            if bucket.rate < self._accepted and not (answers and answers[-1] >= now - LATELY):
                self._restore(now)
        answers.append(now)
        if bucket is not None and now >= self._next and not bucket.is_unused(now):
            self._next = now + 1.0
            self._retune(bucket.rate * (1 + self._growth), now)
            if self._growth > GROWTH:
                self._hold = 1.0  # it took more than it refused before: the other side has changed
            self._growth = min(2 * self._growth, MOST_GROWTH)

    def _restore(self, now: float) -> None:
        """The first answer after a long spell of refusals: that spell said nothing of what is taken when any is."""
        self._hold, self._growth = 1.0, GROWTH
        self._next = now + self._hold
        self._retune(self._accepted, now)

    def _recent(self, now: float) -> float:
        """Answers a second, lately: from before a pause they say nothing of what is taken now."""
        answers = self._answers
        while answers and answers[0] < now - LATELY:
            answers.popleft()
        return len(answers) / max(now - answers[0], 1e-3) if answers else 0.0

    def _retune(self, rate: float, now: float) -> None:
        assert self.bucket is not None
        self.bucket.retune(TokenBucket(max(rate, 1e-3), 1.0), now)
