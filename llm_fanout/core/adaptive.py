"""How many calls at once the other side can take, learnt from its refusals and from how fast it answers.

Theory of operation. The width doubles in a round (as many successes as it is wide) until something says stop; from then on
it grows by one in a round. These rules keep it honest:

- one cut per episode: calls that were admitted under the same width are one epoch, which every lease remembers. The first
  refusal of an epoch starts the next one. Of the calls in flight at that moment the other side refuses some and takes the
  others, so what it took is the new width: each later refusal from before the cut lowers it by that one call. If it took
  none at all, that says nothing about how many are too many, and the width is cut to three quarters;
- no credit for old successes: a call that was admitted before the cut says nothing about the width after it;
- growth only when the width was in use: else a quiet hour would let it grow without any proof;
- a call that hangs may do so by itself: two in a round (as many successes as it is wide) are as good as a refusal;
- a width that was refused just above is tried again after 1, 2, 4 and then every 8 rounds; once it is passed, growth is
  quick again, for then the other side has changed;
- growing has to pay: a server that never refuses only gets slower. Where time per output token rises so much that a wider
  round brings no more tokens a second, the width goes back to where it did.

Sources: AIMD and slow start of TCP (RFC 5681), growth from 80 % of saturation (inspect-ai 0.3), one cut per epoch and a cut
to 3/4 (NeMo DataDesigner; against 1/2 it cost a third less time on a server that takes four), Netflix concurrency-limits.
"""

from __future__ import annotations

from math import inf

from .limits import Slots

CUT = 0.75
SATURATION = 0.8  # share of the width that must be in use for a success to count
LONGEST_HOLD = 8  # rounds between two tries of a width that was refused
REGROWTH = 0.25  # of the width in a round, once it is clearly above what was refused
GAIN = 0.2  # of a growth in width that must come back as tokens a second for the growth to be kept
REST = 50  # rounds until a growth that did not pay is tried again
STEP = 2.0  # growth in width after which it is asked whether that paid


class Adaptive:
    """Sets the size of `slots`: from `start`, up to `ceiling`.

    Args:
        slots: The slots.
        start: Calls at once to begin with.
        ceiling: Calls at once at the most.
    """

    __slots__ = (
        "_ceiling",
        "_cut",
        "_hold",
        "_plateau",
        "_round",
        "_size",
        "_slots",
        "_spared",
        "_worth",
        "epoch",
        "growth_from",
        "is_unexplained",
        "strain",
    )

    def __init__(self, slots: Slots, start: float, ceiling: float) -> None:
        self.epoch = 0
        # Whether the last episode began at a width that had been taken before, or with one call: then it was not the width.
        self.is_unexplained = False
        self.growth_from = inf  # calls in flight from which a success counts
        self._slots = slots
        self.retune(start, ceiling)

    def retune(self, start: float, ceiling: float) -> None:
        """Begin anew, from other figures: what calls of before meet says nothing about them."""
        self.epoch += 1
        self._ceiling = ceiling
        self._plateau = 0.0  # the width just above which it was refused; 0 while it never was
        self._hold = 0  # rounds to wait at the plateau
        self._round = 0.0  # rounds without a refusal, in parts of one
        self._spared = 0  # calls of the epoch that was cut which are not refused, as far as is known
        self._cut = 1.0  # the width if none of them was taken
        self.strain = 0.0  # calls that hung of late; one in a round may
        self._worth = _Worth()
        self._resize(start)

    @property
    def was_refused(self) -> bool:
        """Whether the other side ever said that there are too many at once."""
        return self._plateau > 0

    def refused(self, epoch: int) -> bool:
        """A call that was admitted in `epoch` met a refusal: fewer at once. True if that was news, a new episode."""
        if epoch == self.epoch:
            self._begin_episode()
            return True
        if epoch < self.epoch and self._spared > 0:
            self._spared -= 1
            self._settle_at(self._spared)
        return False

    def strained(self, epoch: int) -> None:
        """A call that was admitted in `epoch` hung. One in a round may; from the second on it counts as refused."""
        self.strain += 1.0
        if self.strain > 1.0:
            self.refused(epoch)

    def relax(self) -> None:
        """A call was answered: a part of a round has passed since those that hung."""
        self.strain = max(0.0, self.strain - 1.0 / self._size)

    def succeeded(self, epoch: int, pace: float | None = None) -> None:
        """A call that was admitted in `epoch` was answered.

        Args:
            epoch: From its lease.
            pace: Seconds per output token, where they are to govern the width (a server that never refuses).
        """
        size = self._size
        if epoch != self.epoch or self._slots.in_use < self.growth_from:
            return
        grown = size + self._growth(size) if pace is None else self._worth.next_width(size, pace)
        if grown != size:
            self._resize(min(self._ceiling, grown))

    def _begin_episode(self) -> None:
        self.epoch += 1
        self.is_unexplained = self._slots.size <= self._plateau or self._slots.in_use <= 1
        failed_again = self._slots.size <= self._plateau + 1
        self._hold = min(2 * self._hold or 1, LONGEST_HOLD) if failed_again else 1
        self._round = 0.0
        self._spared = self._slots.in_use - 1
        self._cut = max(1.0, min(self._size, self._slots.in_use) * CUT)
        self._settle_at(self._spared)

    def _settle_at(self, spared: int) -> None:
        """So many calls of the last epoch were taken, or else it was cut to three quarters."""
        self._resize(float(min(self._size, spared)) if spared > 0 else self._cut)
        self._plateau = max(1.0, self._slots.size)

    def _growth(self, size: float) -> float:
        """What one success adds to the width."""
        if not self._plateau:
            return 1.0
        if size >= self._plateau + 2:
            return REGROWTH
        if size < self._plateau + 1:
            self._round += 1.0 / size
            return 0.0 if self._round < self._hold else 1.0
        return 1.0 / size

    def _resize(self, size: float) -> None:
        self._size = max(1.0, size)
        self._slots.size = self._size if self._size == inf else float(int(self._size))
        self.growth_from = SATURATION * self._slots.size if self._size < self._ceiling else inf


class _Worth:
    """Whether growing brings more tokens a second: width / (seconds per token), measured over a round at each width."""

    __slots__ = ("_count", "_mark", "_pace", "_rest")

    def __init__(self) -> None:
        self._mark: tuple[float, float] | None = None  # the last width that paid, and its tokens a second
        self._count = 0
        self._pace = 0.0
        self._rest = 0.0  # answers until growing is tried again

    def next_width(self, size: float, pace: float) -> float:
        """Note one answer at width `size`; the width to have now: the same while it is measured, less if it did not pay."""
        if self._mark is not None and size < STEP * self._mark[0]:
            self._rest -= 1
            return size if self._rest > 0 else size + 1.0
        self._count += 1
        if self._count <= size:
            return size  # the first of two rounds still has calls from when it was narrower
        self._pace += pace
        if self._count < 2 * size:
            return size
        speed = size * size / self._pace if self._pace > 0 else inf
        self._count, self._pace = 0, 0.0
        if self._mark is not None and speed < self._mark[1] * (1 + GAIN * (size / self._mark[0] - 1)):
            self._rest = REST * self._mark[0]
            return self._mark[0]
        self._mark = size, speed
        return size
