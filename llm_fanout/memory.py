"""What a run remembers: answers of earlier runs, and its own, which are on disk before anybody sees them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

from .budgets import Purse
from .errors import JournalError
from .journal import OpenJournal
from .journal.clerk import Kept
from .journal.opened import Done
from .results import Result
from .work import Repeatable

ASKED = {"index", "id", "prompt", "tag", "returned", "frame"}  # fields of a Result that are about who asked
NOTHING = (0.0, 0.0)  # USD, and tokens
ANSWER = tuple(field.name for field in fields(Result) if field.name not in ASKED)


class Call(Protocol):
    """A call on its way.

    Attributes:
        key: What it is known by in the journal.
    """

    index: int
    work: Repeatable[Any]
    key: bytes


Answered = Callable[[Any, Result[Any] | None], None]  # a call, and its Result; None if what was found cannot be used


class Reused:
    """Results of an earlier report, each of which answers one identical call."""

    def __init__(self, results: Iterable[Result[Any]], digest_of: Callable[[Result[Any]], bytes]) -> None:
        self._results: dict[bytes, deque[Result[Any]]] = {}
        for result in results:
            if result.ok and (digest := digest_of(result)):
                self._results.setdefault(digest, deque()).append(result)

    def take(self, digest: bytes) -> Mapping[str, Any] | None:
        """The fields of the next that answers such a call; None if there is none left."""
        results = self._results.get(digest)
        if not results:
            return None
        return answer_of(results.popleft(), source="journal")


def answer_of(result: Result[Any], **changed: Any) -> dict[str, Any]:
    """The fields of `result` that are about the answer, and not about who asked; some of them changed."""
    return {name: getattr(result, name) for name in ANSWER} | changed


class Memory:
    """What one run remembers, on its event loop.

    Args:
        journal: Where answers are kept.
        owned: Whether it is this run's own, to be opened and closed with it.
        reused: Answers of an earlier report.
        purses: Budgets that cover all that is in the journal.
    """

    def __init__(
        self,
        journal: OpenJournal | None,
        *,
        owned: bool = False,
        reused: Reused | None = None,
        purses: Sequence[Purse] = (),
    ) -> None:
        self._journal = journal
        self._purses = purses
        self._owned = journal if owned else None
        self._reused = reused

    @property
    def place(self) -> Path | None:
        """The file of the journal, if there is one."""
        return None if self._journal is None else self._journal.place

    def open(self, then: Done) -> None:
        """Get ready; `then` is told when it is."""
        journal = self._owned
        if journal is None:
            then(None)
            return

        def opened(failure: JournalError | None) -> None:
            for purse in self._purses if failure is None else ():
                purse.keep_in(journal)
            then(failure)

        journal.open(opened)

    def close(self, then: Done) -> None:
        """Nothing more will be kept; `then` is told when all that was is on disk."""
        if self._owned is None:
            then(None)
        else:
            self._owned.close(then)

    def sift(self, calls: Iterable[Any], answered: Answered, failed: Callable[[JournalError], None]) -> list[Any]:
        """Those of `calls` that nobody has answered yet; `answered` is told of the others, now or later."""
        left, rows = [], {}
        for call in calls:
            digest = call.work.digest
            call.key = digest if self._journal is None else self._journal.claim(digest)
            row = None if self._journal is None else self._journal.row(call.key)
            if row is not None:
                rows[row] = call
            elif (result := self._reusable(call, digest)) is not None:
                answered(call, result)
            else:
                left.append(call)
        if rows:
            self._read(rows, answered, failed)
        return left

    def keep(self, key: bytes, result: Result[Any], charge: Sequence[float | None], then: Kept) -> None:
        """Have `result` on disk, if there is a journal and it is not from there; then tell `then`."""
        if self._journal is None or not key:
            then(result, None)
        elif result.source == "journal":
            self._journal.keep(key, result, NOTHING, then)  # an earlier run's answer: it was paid for there
        else:
            self._journal.keep(key, result, charge, then)

    def _reusable(self, call: Call, digest: bytes) -> Result[Any] | None:
        fields = None if self._reused is None else self._reused.take(digest)
        return None if fields is None else call.work.again(call.index, fields)

    def _read(self, rows: Mapping[int, Any], answered: Answered, failed: Callable[[JournalError], None]) -> None:
        def read(found: Sequence[Mapping[str, Any]] | JournalError) -> None:
            if isinstance(found, JournalError):
                failed(found)
                for call in rows.values():
                    answered(call, None)
                return
            for call, answer in zip(rows.values(), found, strict=True):
                result = call.work.again(call.index, answer)
                if result is not None:
                    call.key = b""  # it is there already
                answered(call, result)

        assert self._journal is not None
        self._journal.read({row: call.key for row, call in rows.items()}, read)
