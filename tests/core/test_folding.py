"""Folding: which neighbours are asked about together."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout.core.folding import Folding, Question, Unfoldable

AROUND = 10  # what a question is larger than its values
Text = str
Weigh = Callable[[Sequence[Text]], tuple[Sequence[Text], int]]


def weigh(values: Sequence[Text]) -> tuple[Sequence[Text], int]:
    """A question is its values, and as large as their letters."""
    return tuple(values), AROUND + sum(map(len, values))


def crowded(values: Sequence[Text]) -> tuple[Sequence[Text], int]:
    """The more values there are, the more is said of each: pairs promise less than the whole takes."""
    return tuple(values), AROUND + sum(map(len, values)) + len(values) ** 2


def fold(
    parts: Sequence[Text],
    most: int,
    answer: Callable[[Sequence[Text]], Text],
    *,
    order: random.Random | None = None,
    weigh: Weigh = weigh,
) -> tuple[Text | None, list[Question[Sequence[Text]]]]:
    """What is left of `parts`, and all that was asked; answers come at once, or in any order, between parts."""
    folding: Folding[Text, Sequence[Text]] = Folding(weigh, most)
    asked: list[Question[Sequence[Text]]] = []
    pending: list[Question[Sequence[Text]]] = []

    def ask(questions: list[Question[Sequence[Text]]]) -> None:
        asked.extend(questions)
        pending.extend(questions)

    def answered() -> Text | None:
        question = pending.pop(0 if order is None else order.randrange(len(pending)))
        said = answer(question.asked)
        if question.is_last:
            assert not pending
            return said
        ask(folding.answer(question, said))
        return None

    for part in parts:
        ask(folding.take(part))
        if pending and (order is None or order.random() < 0.5):
            answered()
    ask(folding.end())
    last = None
    while pending:
        last = answered()
    return last, asked


def first_letters(values: Sequence[Text]) -> Text:
    """The beginning of each value, so that order shows."""
    return "".join(value[:1] for value in values)


def joined(values: Sequence[Text]) -> Text:
    """All in order, in brackets: the tree."""
    return f"({' '.join(value[:9] for value in values)})"


def test_all_that_fit_are_one_question() -> None:
    """It is the last one."""
    assert fold(["aa", "bb", "cc"], 16, joined) == ("(aa bb cc)", [Question(0, 0, ("aa", "bb", "cc"), is_last=True)])


def test_one_part_is_asked_about_by_itself() -> None:
    """Also where it is the only one."""
    assert fold(["aa"], 16, joined) == ("(aa)", [Question(0, 0, ("aa",), is_last=True)])


def test_nothing_is_asked_about_nothing() -> None:
    """No parts, no question."""
    assert fold([], 16, joined) == (None, [])


def test_groups_are_as_large_as_fits_and_their_answers_are_joined() -> None:
    """Five of them, two at a time, then three short answers."""
    last, asked = fold(["aaa", "bbb", "ccc", "ddd", "eee"], 16, first_letters)

    assert [question.asked for question in asked] == [("aaa", "bbb"), ("ccc", "ddd"), ("eee",), ("ab", "cd", "e")]
    assert [(question.level, question.place, question.is_last) for question in asked] == [
        (0, 0, False), (0, 1, False), (0, 2, False), (1, 0, True)
    ]  # fmt: skip
    assert last == "ace"


def test_one_that_fits_beside_nobody_is_asked_about_alone() -> None:
    """So that it gets shorter; it waits until the level is known to get fewer values."""
    last, asked = fold(["a" * 6, "bb", "cc", "d" * 6], 16, first_letters)

    assert [question.asked for question in asked] == [("aaaaaa",), ("bb", "cc"), ("dddddd",), ("a", "bc", "d")]
    assert last == "abd"


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(30, 90), st.randoms(use_true_random=False))
def test_what_is_asked_depends_on_sizes_alone(sizes: list[int], most: int, order: random.Random) -> None:
    """However answers come, the same questions are asked, none is too large, and the text keeps its order."""
    parts = [chr(ord("a") + number % 26) * size for number, size in enumerate(sizes)]
    try:
        in_turn = fold(parts, most, first_letters)
    except Unfoldable:
        with pytest.raises(Unfoldable):
            fold(parts, most, first_letters, order=order)
        return
    shuffled = fold(parts, most, first_letters, order=order)

    assert sorted(in_turn[1]) == sorted(shuffled[1])
    assert in_turn[0] == shuffled[0]
    assert all(AROUND + sum(map(len, question.asked)) <= most for question in in_turn[1])
    level = [question.asked for question in sorted(in_turn[1]) if question.level == 0]
    assert [value for group in level for value in group] == parts
    assert all(AROUND + sum(map(len, [*group, after[0]])) > most for group, after in pairwise(level))  # no group too small
    assert sum(question.is_last for question in in_turn[1]) == 1


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_a_question_that_turns_out_too_large_loses_values_from_its_end(sizes: list[int], order: random.Random) -> None:
    """Where a join grows faster than its pairs promise, nothing too large is asked, nothing is lost, and it ends."""
    parts = [chr(ord("a") + number % 26) * size for number, size in enumerate(sizes)]
    last, asked = fold(parts, 45, lambda values: values[0][:1], order=order, weigh=crowded)

    assert all(crowded(question.asked)[1] <= 45 for question in asked)
    assert [value for question in sorted(asked) if question.level == 0 for value in question.asked] == parts
    assert last == "a"


def test_a_tree_is_as_deep_as_it_takes() -> None:
    """Of 27 parts that fit by threes, three levels; groups hold neighbours in their order."""
    parts = [f"{chr(ord('a') + number)}--" for number in range(26)] + ["z--"]
    last, asked = fold(parts, AROUND + 9, lambda values: values[0][:1] + "--")

    assert last == "a--"
    assert [sum(question.level == level for question in asked) for level in range(4)] == [9, 3, 1, 0]


def test_a_value_too_large_by_itself_ends_it() -> None:
    """The message says which, its size, what is allowed and what to do."""
    with pytest.raises(
        Unfoldable, match=r"number 1 of the parts makes a question of 26 tokens .* context=16; raise context"
    ):
        fold(["a", "b" * 16], 16, joined)


def test_an_answer_too_large_by_itself_ends_it() -> None:
    """It is named by its level."""
    with pytest.raises(Unfoldable, match="number 0 of the answers of level 1 makes a question of 110 tokens"):
        fold(["aaa", "bbb", "ccc"], 16, lambda values: "x" * 100)


def test_a_level_that_gets_no_fewer_values_ends_it() -> None:
    """No two neighbours fit: nothing was asked, for it would have been in vain."""
    folding: Folding[Text, Sequence[Text]] = Folding(weigh, 16)
    asked = [question for part in ("aaaaa", "bbbb", "ccccc") for question in folding.take(part)]

    with pytest.raises(Unfoldable, match=r"of 3 parts no two neighbours fit .* one of 19 tokens, and context=16; raise"):
        folding.end()
    assert asked == []


def test_answers_that_get_no_shorter_end_it() -> None:
    """The level above gets as many values as it had: that is noticed, instead of asking for ever."""
    with pytest.raises(Unfoldable, match="of 2 answers of level 1 no two neighbours fit"):
        fold(["aa", "bb", "cc", "dd"], 16, lambda values: "x" * 5)


def test_a_value_is_sized_a_few_times_whatever_its_group() -> None:
    """Sizing takes time with the text: each value is in three questions that are measured, and in one that is asked."""
    weighed = 0

    def counting(values: Sequence[Text]) -> tuple[Sequence[Text], int]:
        nonlocal weighed
        weighed += sum(map(len, values))
        return weigh(values)

    parts = ["x" * 10] * 1_000
    fold(parts, 5_000, lambda values: "y", weigh=counting)

    assert weighed <= 4.2 * sum(map(len, parts))


def test_parts_are_counted() -> None:
    """Those that have come, whether they were asked about or not."""
    folding: Folding[Text, Sequence[Text]] = Folding(weigh, 100)
    for part in ("a", "b"):
        folding.take(part)

    assert folding.taken == 2
