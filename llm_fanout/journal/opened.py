"""A journal in use: what is in it, and what it is asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, finalize

from ..errors import JournalError
from ..results import Result
from . import accounts
from .clerk import Clerk, Errand, Kept, ToKeep
from .index import Index
from .record import REMEDY
from .stated import Journal

if TYPE_CHECKING:
    from .file import JournalFile

Read = Callable[[Sequence[Mapping[str, Any]] | JournalError], None]
Done = Callable[[JournalError | None], None]


class OpenJournal:
    """A journal that one run uses, or all that runs in one scope: from any thread, between `open` and `close`.

    Whoever asks for something is told on its own event loop. Once something went wrong with the file, everything that is
    asked for ends with that JournalError. One whose event loop was closed before it was lets go of the file once it is
    collected, or when another journal is opened.

    Args:
        journal: The file.
        budgeted: Whether it has to be known what all calls in it have used.

    Attributes:
        spent: USD and tokens that calls had used, or may have used, when it was opened, if that has to be known.
        used: Gives what they have used in all by now, for each unit of which there is a budget.
    """

    def __init__(self, journal: Journal, *, budgeted: bool = False) -> None:
        self.place = journal.place
        self._budgeted = budgeted
        self.spent = (0.0, 0.0)
        self.used: dict[str, Callable[[], float]] = {}
        self._recorded = (0.0, 0.0)  # of that, what is in its records
        self._clerk = Clerk(journal)
        self._lock = threading.Lock()
        self._is_closed = False
        self._digests: set[bytes] = set()  # of calls since it was opened
        self._again: dict[bytes, int] = {}  # how many more there were, where there were some
        self._index = Index()  # of the results with an answer

    def open(self, then: Done) -> None:
        """Open the file and look what is in it."""
        self._loop = asyncio.get_running_loop()
        self._ask(self._loaded, then)
        with _LOCK:
            forgotten = [each for each in _IN_USE if each._loop.is_closed()]
            _IN_USE.add(self)
        for each in forgotten:
            each._let_go()
        self._clerk.start(after=[each._clerk for each in forgotten])
        finalize(self, self._clerk.asked.put, None).atexit = False

    def claim(self, digest: bytes) -> bytes:
        """The key of one more call with that digest: the first of several that are alike has another than the second."""
        with self._lock:
            occurrence = 0
            if digest in self._digests:
                occurrence = self._again[digest] = self._again.get(digest, 0) + 1
            else:
                self._digests.add(digest)
        return key_of(digest, occurrence)

    def row(self, key: bytes) -> int | None:
        """Where the answer to that call is, if there was one when the journal was opened."""
        return self._index.row(key)

    def read(self, rows: Mapping[int, bytes], then: Read) -> None:
        """The fields of the results in these rows, which are of these keys, in order: see `Record.fields`."""

        def read(file: JournalFile) -> Sequence[Mapping[str, Any]]:
            found = file.read(list(rows))
            if any(row not in found or found[row].key != key for row, key in rows.items()):
                raise JournalError(f"the journal {self.place} is damaged: a result is not where it was; {REMEDY}")
            return [found[row].fields() for row in rows]

        self._ask(read, then)

    def keep(self, key: bytes, result: Result[Any], charge: Sequence[float | None], then: Kept) -> None:
        """Have `result` on disk, of which budgets were charged so many USD and tokens."""
        if self._budgeted:
            usd, tokens = accounts.charged(charge, result.spending)
            with self._lock:
                self._recorded = (self._recorded[0] + usd, self._recorded[1] + tokens)
        self._put(ToKeep(key, result, charge, asyncio.get_running_loop(), then))

    def raise_ceiling(self, unit: str, ceiling: float, then: Done) -> None:
        """Have on disk that calls may have used so many USD, or tokens, should this process end before it can say more.
        `then` is told in any thread: others wait for it, too, who may outlive the event loop of who asks.
        """
        self._put(Errand(lambda file: accounts.raise_ceiling(file, unit, ceiling), None, then))

    def close(self, then: Done) -> None:
        """Let others have it, after everything that was asked for before; whatever comes later ends with a JournalError."""

        def close(file: JournalFile) -> None:
            accounts.lower_ceilings(file, {unit: used() for unit, used in self.used.items()}, self._recorded)
            file.close()

        self._ask(close, then, is_last=True)

    def _ask(self, do: Callable[[JournalFile], Any], then: Callable[[Any], None], *, is_last: bool = False) -> None:
        self._put(Errand(do, asyncio.get_running_loop(), then), is_last=is_last)

    def _put(self, asked: ToKeep | Errand, *, is_last: bool = False) -> None:
        with self._lock:  # so that nothing comes after the last
            if not self._is_closed:
                self._is_closed = is_last
                self._clerk.asked.put(asked)
                if is_last:
                    self._clerk.asked.put(None)
                return
        asked.refuse(JournalError(f"the journal {self.place} was closed; a scope's is in use until the scope is left"))

    def _let_go(self) -> None:
        with self._lock:
            self._is_closed = True
            self._clerk.asked.put(None)

    def _loaded(self, file: JournalFile) -> None:
        self._index = Index(file.finished())
        self._recorded, self.spent = accounts.spent(file, wanted=self._budgeted)


_LOCK = threading.Lock()
_IN_USE: WeakSet[OpenJournal] = WeakSet()  # and those that were closed, as long as somebody holds them


def key_of(digest: bytes, occurrence: int) -> bytes:
    """The key of the call with that digest that comes after so many like it."""
    return digest + occurrence.to_bytes(4, "big")
