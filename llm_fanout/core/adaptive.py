"""How many calls at once the other side can take, learnt from its refusals.

Additive increase, multiplicative decrease, with three rules that keep it honest:

- one cut per episode: a burst of refusals that were all admitted under the same width is one piece of news, so every lease
  remembers the epoch in which it was admitted, and only the first refusal of an epoch cuts;
- no credit for old successes: a call that was admitted before the cut says nothing about the width after it;
- growth only when the width was in use: else a quiet hour would let it grow without any proof.

Sources: Netflix concurrency-limits (AIMD), inspect-ai 0.3 (growth from 80 % of saturation, debounced cuts), TCP.
"""

from __future__ import annotations

from .limits import Slots

CUT = 0.75  # of what was in use; against halving it cost a third less time on a server that takes four at once
SATURATION = 0.8  # share of the width that must be in use for a success to count


class Adaptive:
    """Sets the size of `slots`: from what they are given as, downward when refused, and up again, never above.

    Args:
        slots: The slots; their size now is where it starts and its ceiling.
    """

    __slots__ = ("_ceiling", "_peak", "_size", "_slots", "epoch")

    def __init__(self, slots: Slots) -> None:
        self.epoch = 0
        self._slots = slots
        self._ceiling = self._size = slots.size
        self._peak = 0.0

    def admitted(self) -> int:
        """A call has taken its slot; the epoch that its lease must remember."""
        self._peak = max(self._peak, self._slots.in_use)
        return self.epoch

    def refused(self, epoch: int) -> None:
        """A call that was admitted in `epoch` met a refusal: fewer at once, if that is news."""
        if epoch == self.epoch:
            self._resize(max(1.0, min(self._size, self._peak) * CUT))
            self.epoch += 1
            self._peak = self._slots.in_use

    def succeeded(self, epoch: int) -> None:
        """A call that was admitted in `epoch` was answered: one more at once after about as many as there are."""
        if epoch == self.epoch and self._slots.in_use >= SATURATION * self._slots.size:
            self._resize(min(self._ceiling, self._size + 1.0 / self._size))

    def retune(self) -> None:
        """The slots were given another size: that is the new ceiling, and where it starts again."""
        self._ceiling = self._size = self._slots.size

    def _resize(self, size: float) -> None:
        self._size = size
        self._slots.size = float(int(size))
