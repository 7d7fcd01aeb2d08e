"""A journal in use: what is in it, and the thread that reads and writes it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from ..errors import JournalError
from ..results import Result
from . import accounts
from .record import Record, encoded
from .stated import Journal

if TYPE_CHECKING:
    from .file import JournalFile

AT_ONCE = 64  # results in one transaction: so many are not yet safe when the process is killed

Kept = Callable[[Result[Any], JournalError | None], None]
Read = Callable[[Sequence[Mapping[str, Any]] | JournalError], None]
Done = Callable[[JournalError | None], None]
Loop = asyncio.AbstractEventLoop


@dataclass(slots=True, eq=False)
class _Result:
    """One more result to keep, and whom to tell when it is on disk."""

    key: bytes
    result: Result[Any]
    charge: Sequence[float | None]
    loop: Loop
    then: Kept


@dataclass(slots=True, eq=False)
class _Errand:
    """Something else to do with the file, and whom to tell what came of it."""

    do: Callable[[JournalFile], Any]
    loop: Loop
    then: Callable[[Any], None]


class OpenJournal:
    """A journal that one run uses, or all that runs in one scope: from any thread, between `open` and `close`.

    Whoever asks for something is told on its own event loop. Once something went wrong with the file, everything that is
    asked for ends with that JournalError.

    Args:
        journal: The file.
        budgeted: Whether it has to be known what all calls in it have used.

    Attributes:
        spent: USD and tokens that calls had used, or may have used, when it was opened, if that has to be known.
        used: Gives what they have used in all by now, for each unit of which there is a budget.
    """

    def __init__(self, journal: Journal, *, budgeted: bool = False) -> None:
        self._journal = journal
        self._budgeted = budgeted
        self._asked: SimpleQueue[_Result | _Errand | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._occurrences: dict[bytes, int] = {}  # by digest, since it was opened
        self._rows: dict[bytes, int] = {}  # of the results with an answer, by key
        self._failure: JournalError | None = None
        self.spent = (0.0, 0.0)
        self.used: dict[str, Callable[[], float]] = {}
        self._recorded = (0.0, 0.0)  # of that, what is in its records

    def open(self, then: Done) -> None:
        """Open the file and look what is in it."""
        self._ask(self._loaded, then)
        # Not awaited at the end of the process: what it has told is on disk.
        threading.Thread(target=self._serve, name="llm_fanout journal", daemon=True).start()

    def claim(self, digest: bytes) -> bytes:
        """The key of one more call with that digest: the first of several that are alike has another than the second."""
        with self._lock:
            occurrence = self._occurrences.get(digest, 0)
            self._occurrences[digest] = occurrence + 1
        return key_of(digest, occurrence)

    def row(self, key: bytes) -> int | None:
        """Where the answer to that call is, if there was one when the journal was opened. It is asked for once."""
        return self._rows.pop(key, None)

    def read(self, rows: Mapping[int, bytes], then: Read) -> None:
        """The fields of the results in these rows, which are of these keys, in order: see `Record.fields`."""

        def read(file: JournalFile) -> Sequence[Mapping[str, Any]]:
            found = file.read(list(rows))
            if any(row not in found or found[row].key != key for row, key in rows.items()):
                raise JournalError("the journal is damaged: a result is not where it was")
            return [found[row].fields() for row in rows]

        self._ask(read, then)

    def keep(self, key: bytes, result: Result[Any], charge: Sequence[float | None], then: Kept) -> None:
        """Have `result` on disk, of which budgets were charged so many USD and tokens."""
        self._asked.put(_Result(key, result, charge, asyncio.get_running_loop(), then))

    def note(self, name: str, said: Mapping[str, Any], then: Done) -> None:
        """Have on disk what is said of the journal as a whole."""
        self._ask(lambda file: file.note(name, said), then)

    def raise_ceiling(self, unit: str, ceiling: float, then: Done) -> None:
        """Have on disk that calls may have used so many USD, or tokens, should this process end before it can say more."""
        self._ask(lambda file: accounts.raise_ceiling(file, unit, ceiling), then)

    def close(self, then: Done) -> None:
        """Let others have it, after everything that was asked for before."""

        def close(file: JournalFile) -> None:
            accounts.lower_ceilings(file, {unit: used() for unit, used in self.used.items()}, self._recorded)
            file.close()

        self._ask(close, then)
        self._asked.put(None)

    def _ask(self, do: Callable[[JournalFile], Any], then: Callable[[Any], None]) -> None:
        self._asked.put(_Errand(do, asyncio.get_running_loop(), then))

    def _loaded(self, file: JournalFile) -> None:
        self._rows.update(file.finished())
        self._recorded, self.spent = accounts.spent(file, wanted=self._budgeted)

    def _serve(self) -> None:
        """What the thread does."""
        from .file import JournalFile

        file: JournalFile | JournalError
        try:
            file = JournalFile(self._journal)
        except JournalError as exc:
            file = exc
        is_over = False
        while not is_over:
            asked = self._next()
            is_over = asked[-1] is None
            self._keep(file, [each for each in asked if isinstance(each, _Result)])
            for each in asked:
                if isinstance(each, _Errand):
                    _tell(each.loop, each.then, self._tried(file, each.do))

    def _next(self) -> list[_Result | _Errand | None]:
        """What is asked for: at least one, and as many as wait."""
        asked = [self._asked.get()]
        try:
            while len(asked) < AT_ONCE:
                asked.append(self._asked.get_nowait())
        except Empty:
            pass
        return asked

    def _keep(self, file: JournalFile | JournalError, results: list[_Result]) -> None:
        """One transaction, and then the news, once for each event loop."""
        if not results:
            return
        failure = self._tried(file, lambda file: file.add(map(self._row_of, results)))
        for each in results if self._budgeted else ():
            usd, tokens = accounts.charged(each.charge, each.result.spending)
            self._recorded = (self._recorded[0] + usd, self._recorded[1] + tokens)
        for loop in {each.loop for each in results}:
            _tell(loop, _tell_all, [each for each in results if each.loop is loop], failure)

    def _row_of(self, kept: _Result) -> tuple[Record, bytes | None]:
        prompt = encoded(getattr(kept.result.prompt, "content", None)) if self._journal.store_prompts else None
        return Record.of(kept.key, kept.result, kept.charge), prompt

    def _tried(self, file: JournalFile | JournalError, do: Callable[[JournalFile], Any]) -> Any:
        """What `do` gives, or the first thing that went wrong with the file."""
        if isinstance(file, JournalError):
            return file
        if self._failure is None:
            try:
                return do(file)
            except Exception as exc:  # whatever it is, it must not end the thread: somebody waits
                self._failure = exc if isinstance(exc, JournalError) else _unwritable(exc)
                _tried_to_close(file)
        return self._failure


def key_of(digest: bytes, occurrence: int) -> bytes:
    """The key of the call with that digest that comes after so many like it."""
    return digest + occurrence.to_bytes(4, "big")


def _tell_all(results: Iterable[_Result], failure: JournalError | None) -> None:
    for each in results:
        each.then(each.result, failure)


def _tell(loop: Loop, then: Callable[..., None], *said: Any) -> None:
    try:
        loop.call_soon_threadsafe(then, *said)
    except RuntimeError:
        pass  # the loop was closed: nobody is there who waits


def _unwritable(exc: Exception) -> JournalError:
    error = JournalError(f"a result cannot be kept in the journal: {type(exc).__name__}: {exc}")
    error.__cause__ = exc
    return error


def _tried_to_close(file: JournalFile) -> None:
    """Let others have a file that went wrong."""
    try:
        file.close()
    except JournalError:
        pass
