"""A vote while it is counted: who leads, whether what is to come can still change that, and how many are worth asking.

Theory of operation. Of n votes r have not been heard; the leader has a, the second b, and a newcomer none. Whatever the r
are, the leader stays alone in front if a > b + r. If the next x all agreed with the leader, that would hold as soon as
a + x > b + (r - x): so x = (b + r - a) // 2 + 1 votes may be under way, and every one of them is needed for any decision.
A vote for the leader makes x one smaller, and is under way no more; any other leaves x as it is or makes it smaller. So when
it is decided, none is under way that would have to be thrown away. The same is true of a lead of k: k - (a - b) are needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable


class Votes:
    """The count of votes.

    Args:
        number: Votes that there may be, >= 1.
        lead: How far ahead the leader is enough, >= 1; None for as far as cannot be made up.

    Attributes:
        counts: Votes by what they are for.
        heard: Votes that have come, spoiled ones included.
    """

    def __init__(self, number: int, lead: int | None = None) -> None:
        self._number = number
        self._lead = lead
        self.counts: Counter[Hashable] = Counter()
        self.heard = 0

    def count(self, key: Hashable) -> None:
        """One more vote; None is for nobody."""
        self.heard += 1
        if key is not None:
            self.counts[key] += 1

    @property
    def leader(self) -> Hashable:
        """What most votes are for, of equals the one that was voted for first; None if there are no votes."""
        return next((key for key, _ in self.counts.most_common(1)), None)

    @property
    def margin(self) -> int:
        """Votes by which the leader is ahead of the second."""
        first, second = self._front()
        return first - second

    @property
    def is_decided(self) -> bool:
        """Whether the leader stays alone in front whatever the votes are that have not come."""
        return self.margin > self._left

    @property
    def wanted(self) -> int:
        """Votes that would end it if all were for the leader, or all that are left, if it can only end with them; 0 if it
        has ended. At most so many should be under way.
        """
        first, second = self._front()
        for_good = (second + self._left - first) // 2 + 1
        for_lead = for_good if self._lead is None else self._lead - (first - second)
        return max(0, min(for_good, for_lead, self._left))

    @property
    def _left(self) -> int:
        return self._number - self.heard

    def _front(self) -> tuple[int, int]:
        """The votes of the leader and of the second."""
        counts = [count for _, count in self.counts.most_common(2)]
        first, second, *_ = [*counts, 0, 0]
        return first, second
