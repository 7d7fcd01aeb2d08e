"""What the calls of a journal have used in all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import pytest

from llm_fanout import Result
from llm_fanout.journal import Journal, accounts
from llm_fanout.journal.file import JournalFile
from llm_fanout.journal.record import Record
from llm_fanout.spending import Spending, Usage

NUMBERS = count()
PRICE = (1.0, 2.0)  # USD per million tokens
NOTHING = (0.0, 0.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journal is."""
    return tmp_path / "run.db"


@pytest.fixture
def reopened(path: Path) -> Iterator[Callable[[], JournalFile]]:
    """Opens the journal anew, as the next process would."""
    files: list[JournalFile] = []

    def reopen() -> JournalFile:
        if files:
            files[-1].close()
        files.append(JournalFile(Journal(path)))
        return files[-1]

    yield reopen
    files[-1].close()


def used(*tokens: int, price: tuple[float, ...] | None = PRICE) -> list[Spending]:
    return [Spending.of("openai/unheard-of", Usage(each, each), price) for each in tokens]


def add(file: JournalFile, charge: Sequence[float | None] = (), spending: Sequence[Spending] = ()) -> None:
    result: Result[str] = Result(index=0, id=0, prompt="x", error=None, spending=spending, reply=b"{}")
    file.add([(Record.of(b"%020d" % next(NUMBERS), result, charge), None)])


def test_a_new_journal_has_used_nothing(reopened: Callable[[], JournalFile]) -> None:
    """By its records or otherwise."""
    assert accounts.spent(reopened(), wanted=True) == (NOTHING, NOTHING)


def test_charges_add_up(reopened: Callable[[], JournalFile]) -> None:
    """What budgets were charged counts, and not what was reported; failed results count like others."""
    file = reopened()
    add(file, (0.5, 100.0), used(9_999))
    add(file, (0.25, 50.0))

    assert accounts.spent(file, wanted=True) == ((0.75, 150.0), (0.75, 150.0))


def test_nobody_who_has_no_budget_pays_for_looking(reopened: Callable[[], JournalFile]) -> None:
    """Without one, records are not summed up."""
    file = reopened()
    add(file, (0.5, 100.0))

    assert accounts.spent(file, wanted=False) == (NOTHING, NOTHING)


@pytest.mark.parametrize(
    ("charge", "spending", "sums"),
    [
        ((), used(100, 200), (900e-6, 600.0)),  # there was no budget
        ((), used(100, price=None), (0.0, 200.0)),  # nobody knows the price
        ((None, 70.0), used(100), (300e-6, 70.0)),  # a budget in tokens alone
        ((0.0, 0.0), used(100), NOTHING),  # an earlier run's answer
        ((), (), NOTHING),
    ],
)
def test_where_there_was_no_budget_what_was_reported_counts(
    charge: Sequence[float | None],
    spending: Sequence[Spending],
    sums: tuple[float, float],
    reopened: Callable[[], JournalFile],
) -> None:
    """In the records as while it is open."""
    file = reopened()
    add(file, charge, spending)

    assert accounts.charged(charge, spending) == pytest.approx(sums)
    assert accounts.spent(file, wanted=True)[1] == pytest.approx(sums)


@pytest.mark.parametrize("wanted", [True, False])
def test_after_a_kill_all_up_to_the_ceiling_may_have_been_used(wanted: bool, reopened: Callable[[], JournalFile]) -> None:
    """The next process knows the records, and takes the rest for lost; so does one after that, whoever asks."""
    file = reopened()
    accounts.raise_ceiling(file, "usd", 3.0)
    accounts.raise_ceiling(file, "usd", 5.0)
    add(file, (1.0, 10.0))

    second = accounts.spent(reopened(), wanted=wanted)
    third = accounts.spent(reopened(), wanted=True)

    assert second == ((1.0, 10.0), (5.0, 10.0))
    assert third == second


def test_kills_add_up(reopened: Callable[[], JournalFile]) -> None:
    """What was lost before is below the next ceiling, and is not counted twice."""
    accounts.raise_ceiling(reopened(), "usd", 2.0)
    accounts.spent(reopened(), wanted=True)
    file = reopened()
    accounts.raise_ceiling(file, "usd", 2.5)
    add(file, (0.25, 0.0))

    assert accounts.spent(reopened(), wanted=True) == ((0.25, 0.0), (2.5, 0.0))


def test_a_clean_end_gives_back_what_was_not_used(reopened: Callable[[], JournalFile]) -> None:
    """The ceiling goes; what was used and is in no record of this journal stays."""
    file = reopened()
    accounts.raise_ceiling(file, "usd", 5.0)
    accounts.raise_ceiling(file, "tokens", 900.0)
    add(file, (1.0, 10.0))
    accounts.lower_ceilings(file, {"usd": 1.5, "tokens": 10.0}, (1.0, 10.0))

    assert accounts.spent(reopened(), wanted=True) == ((1.0, 10.0), (1.5, 10.0))


def test_who_has_no_budget_leaves_what_was_lost(reopened: Callable[[], JournalFile]) -> None:
    """A run without one, after a kill, forgets nothing."""
    accounts.raise_ceiling(reopened(), "usd", 5.0)
    file = reopened()
    accounts.spent(file, wanted=False)
    accounts.lower_ceilings(file, {}, NOTHING)

    assert accounts.spent(reopened(), wanted=True)[1] == (5.0, 0.0)
