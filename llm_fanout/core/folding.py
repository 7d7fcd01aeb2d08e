"""Folding values into one, in a tree: which neighbours are asked about together, so that no question is too large.

Theory of operation. A level takes values in order, into an open group. A value that would not fit closes the group: it is
asked, and its answer is a value of the level above, in the place of its group. When a level has got all its values and they
are one group, that is the last question. Boundaries depend on sizes alone: whenever values come, the same ones make the
same questions.

To size every group as a whole would take time with the square of its text. So each value is sized alone, and together with
the one before it: the difference is what it adds. What is about to be asked is sized as it is, and loses values from its end
until it fits; they begin the next group.

A level of groups of one gets no fewer values, and might go on for ever. So groups of one wait, until the level has a larger
one; if there is none at its end, that is the end of it all, and nothing was asked in vain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Generic, NamedTuple, TypeVar

V = TypeVar("V")
Q = TypeVar("Q")
Weigh = Callable[[Sequence[V]], tuple[Q, int]]


class Unfoldable(Exception):
    """These values cannot be folded within the size that a question may have; the message says why, and what to do."""


class Question(NamedTuple, Generic[Q]):
    """A group that is to be asked about.

    Attributes:
        level: How many joins its values went through: 0 for parts.
        place: Its position among the groups of its level.
        asked: The question, as `weigh` made it.
        is_last: Whether its answer is that of the whole.
    """

    level: int
    place: int
    asked: Q
    is_last: bool = False


class Folding(Generic[V, Q]):
    """A tree of any depth over values that come one after another.

    After `take`, `end` and `answer`, ask what they give, and hand in each answer, in whatever order they come.

    Args:
        weigh: Makes a question of values, and says how large it is; the same for the same values.
        most: How large a question may be.
    """

    def __init__(self, weigh: Weigh[V, Q], most: int) -> None:
        self._weigh = weigh
        self._most = most
        self._levels: list[_Level[V, Q]] = []

    @property
    def taken(self) -> int:
        """Parts that have come."""
        return self._level(0).taken

    def take(self, part: V) -> list[Question[Q]]:
        """The next part; what is to be asked now. Raises Unfoldable."""
        return self._level(0).take(part)

    def end(self) -> list[Question[Q]]:
        """There are no more parts; what is to be asked now. Raises Unfoldable."""
        return self._level(0).end()

    def answer(self, question: Question[Q], value: V) -> list[Question[Q]]:
        """What a question that was not the last was answered with; what is to be asked now. Raises Unfoldable."""
        level, below = self._level(question.level + 1), self._levels[question.level]
        questions = level.arrive(question.place, value)
        # A level that ends asks for one more at least, so it has ended before all its answers are there.
        if below.is_over and level.taken == below.groups:
            questions += level.end()
        return questions

    def _level(self, depth: int) -> _Level[V, Q]:
        if depth == len(self._levels):
            self._levels.append(_Level(depth, self._weigh, self._most))
        return self._levels[depth]


class _Piece(NamedTuple, Generic[V]):
    """A value, the size of a question about it alone, and by how much it enlarges one that ends before it."""

    value: V
    alone: int
    step: int


class _Level(Generic[V, Q]):
    """One level of the tree.

    Attributes:
        taken: Values that have come.
        groups: Groups that were closed.
        is_over: Whether it has got all its values.
    """

    def __init__(self, depth: int, weigh: Weigh[V, Q], most: int) -> None:
        self.taken = 0
        self.groups = 0
        self.is_over = False
        self._depth = depth
        self._weigh = weigh
        self._most = most
        self._open: list[_Piece[V]] = []
        self._size = 0  # of a question about these
        self._early: dict[int, V] = {}  # values whose turn has not come
        self._lone: list[Question[Q]] = []  # groups of one that wait
        self._shrinks = False  # whether a group had more than one
        self._least = inf  # the smallest question about two neighbours

    def arrive(self, place: int, value: V) -> list[Question[Q]]:
        """The value at that place, which is taken once all before it were."""
        self._early[place] = value
        questions: list[Question[Q]] = []
        while self.taken in self._early:
            questions += self.take(self._early.pop(self.taken))
        return questions

    def take(self, value: V) -> list[Question[Q]]:
        """The next value."""
        piece = self._weighed(value)
        self.taken += 1
        questions: list[Question[Q]] = []
        while self._open and self._size + piece.step > self._most:
            questions += self._close()
        self._size += piece.step if self._open else piece.alone
        self._open.append(piece)
        return questions

    def end(self) -> list[Question[Q]]:
        """There are no more values."""
        self.is_over = True
        if self._open and not self.groups:
            asked, number = self._fitting()
            if number == len(self._open):
                return [Question(self._depth, 0, asked, is_last=True)]
        questions: list[Question[Q]] = []
        while self._open:
            questions += self._close()
        if self._lone:
            raise Unfoldable(
                f"of {self.taken:,} {self._whats} no two neighbours fit into one question: the shortest two make one of "
                f"{self._least:,} tokens, and context={self._most:,}; raise context, lower max_tokens, or make them shorter"
            )
        return questions

    def _weighed(self, value: V) -> _Piece[V]:
        alone = self._weigh([value])[1]
        if alone > self._most:
            raise Unfoldable(
                f"number {self.taken:,} of the {self._whats} makes a question of {alone:,} tokens by itself, and "
                f"context={self._most:,}; raise context, lower max_tokens, or make it shorter"
            )
        if not self._open:
            return _Piece(value, alone, alone)
        last = self._open[-1]
        both = self._weigh([last.value, value])[1]
        self._least = min(self._least, both)
        return _Piece(value, alone, both - last.alone)

    def _close(self) -> list[Question[Q]]:
        """Make a group of what is open, or of as much of it as fits."""
        asked, number = self._fitting()
        del self._open[:number]
        self._size = sum(piece.step for piece in self._open[1:]) + sum(piece.alone for piece in self._open[:1])
        question = Question(self._depth, self.groups, asked)
        self.groups += 1
        self._shrinks = self._shrinks or number > 1
        if not self._shrinks:
            self._lone.append(question)
            return []
        questions, self._lone = [*self._lone, question], []
        return questions

    def _fitting(self) -> tuple[Q, int]:
        """The question about as many of the open values as fit, and how many these are."""
        values = [piece.value for piece in self._open]
        number = len(values)
        asked, size = self._weigh(values)
        while size > self._most and number > 1:
            number = max(1, min(number - 1, number * self._most // size))
            asked, size = self._weigh(values[:number])
        return asked, number

    @property
    def _whats(self) -> str:
        return "parts" if not self._depth else f"answers of level {self._depth}"
