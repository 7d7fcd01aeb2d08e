"""The file itself: what is in it, and what can go wrong with it. Everything here belongs to one thread, and may wait."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

from ..errors import JournalError
from .record import Record, decoded, encoded
from .stated import Journal

APPLICATION = 0x6C666A6E  # "lfjn", in the header of every SQLite file of ours
FORMAT = 1  # of the tables; a newer one is refused, there is no older one
PRIVATE = 0o600
TABLES = """
CREATE TABLE results (
    row INTEGER PRIMARY KEY,
    key BLOB NOT NULL,
    ok INTEGER NOT NULL,
    "check" INTEGER NOT NULL,
    body BLOB NOT NULL,
    reply BLOB NOT NULL,
    prompt BLOB
);
CREATE TABLE notes (name TEXT PRIMARY KEY, text BLOB NOT NULL, "check" INTEGER NOT NULL);
"""
CHUNK = 500  # rows that are asked for at once; SQLite takes 32,766 parameters, and 999 where it is old


class JournalFile:
    """An open journal. In use by nobody else, as long as it is open: SQLite keeps its lock.

    Raises:
        JournalError: It is in use, damaged, newer, no journal of ours, or cannot be written to; so does every method.
    """

    def __init__(self, journal: Journal) -> None:
        self._place = journal.place
        with self._explained():
            _make(self._place)
            # Autocommit: transactions begin and end where we say.
            self._db = sqlite3.connect(self._place, timeout=0.0, isolation_level=None)
        try:
            with self._explained():
                self._set_up(journal)
        except BaseException:
            self._db.close()
            raise

    def finished(self) -> Iterator[tuple[bytes, int]]:
        """The key of each result with an answer, and its row, oldest first."""
        with self._explained():
            yield from self._db.execute("SELECT key, row FROM results WHERE ok = 1 ORDER BY row")

    def records(self) -> Iterator[Record]:
        """All results, failures and those that were superseded included, oldest first."""
        with self._explained():
            yield from map(Record._make, self._db.execute(f"SELECT {COLUMNS} FROM results ORDER BY row"))

    def read(self, rows: Sequence[int]) -> dict[int, Record]:
        """The results in `rows`, by row."""
        found: dict[int, Record] = {}
        with self._explained():
            for at in range(0, len(rows), CHUNK):
                some = rows[at : at + CHUNK]
                marks = ", ".join("?" * len(some))
                for row, *fields in self._db.execute(f"SELECT row, {COLUMNS} FROM results WHERE row IN ({marks})", some):
                    found[row] = Record._make(fields)
        return found

    def add(self, records: Iterable[tuple[Record, bytes | None]]) -> None:
        """Keep `records`, each with its prompt if that is to be kept, or none of them."""
        values = [value for record, prompt in records for value in (*record, prompt)]
        with self._transaction():
            self._db.execute(_insertion(len(values) // WIDTH), values)

    def note(self, name: str, said: Mapping[str, Any]) -> None:
        """Keep what is said of the journal as a whole, instead of what was said before under that name."""
        with self._transaction():
            self._write(name, said)

    def noted(self, name: str) -> dict[str, Any]:
        """What was noted under that name; nothing if nothing was."""
        with self._explained():
            found = self._db.execute('SELECT text, "check" FROM notes WHERE name = ?', (name,)).fetchone()
        if found is None:
            return {}
        if crc32(found[0]) != found[1]:
            raise JournalError(f"the journal {self._place} is damaged: {name!r} is not what was noted")
        return decoded(found[0])

    def purge(self) -> int:
        """Forget all prompts, so that nothing of them is left in the file; how many there were."""
        with self._explained():
            self._db.execute("PRAGMA secure_delete = ON")
            gone = self._db.execute("UPDATE results SET prompt = NULL WHERE prompt IS NOT NULL").rowcount
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return gone

    def close(self) -> None:
        """Let others have it; the file beside it goes, too."""
        with self._explained():
            self._db.close()

    def _set_up(self, journal: Journal) -> None:
        db = self._db
        # Held from the first look to the end, also against a second connection of this process; it needs no shared memory
        # and so no third file. (SQLite, "Write-Ahead Logging", section 8.)
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        application, version = _number(db, "application_id"), _number(db, "user_version")
        is_empty = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if application != APPLICATION and not (is_empty and application == 0):
            raise JournalError(f"{self._place} is a database, but no journal of llm_fanout; name another file")
        if version > FORMAT:
            raise JournalError(
                f"the journal {self._place} has format {version}, made by a newer llm_fanout; upgrade this one"
            )
        db.execute("PRAGMA journal_mode = WAL")
        # NORMAL: what was committed survives the process; FULL syncs the log at each commit. (SQLite, PRAGMA synchronous)
        db.execute(f"PRAGMA synchronous = {'FULL' if journal.durability == 'power' else 'NORMAL'}")
        db.execute("BEGIN IMMEDIATE")  # whoever cannot write learns it now
        if is_empty:
            for statement in filter(str.strip, TABLES.split(";")):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION}")
            db.execute(f"PRAGMA user_version = {FORMAT}")
        for name, said in journal.notes.items():
            self._write(name, said)
        db.execute("COMMIT")

    def _write(self, name: str, said: Mapping[str, Any]) -> None:
        text = encoded(said)
        self._db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (name, text, crc32(text)))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk may have ended it
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What SQLite and the system raise, in words for the reader."""
        try:
            yield
        except sqlite3.Error as exc:
            raise JournalError(_explanation(exc, self._place)) from exc
        except OSError as exc:
            raise JournalError(
                f"cannot use the journal {self._place}: {exc.strerror}; name a file that you may write"
            ) from exc


COLUMNS = 'key, ok, body, reply, "check"'
WIDTH = 6  # values of a row: these, and the prompt


@lru_cache(maxsize=64)
def _insertion(rows: int) -> str:
    """One statement for all rows of a transaction: SQLite lets go of the interpreter once for each."""
    marks = ", ".join("?" * WIDTH)
    return f"INSERT INTO results ({COLUMNS}, prompt) VALUES {', '.join([f'({marks})'] * rows)}"


def _make(place: Path) -> None:
    """Make an empty file that only its owner can read; SQLite gives those beside it the same mode."""
    try:
        os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_RDWR, PRIVATE))
    except FileExistsError:
        pass


def _number(db: sqlite3.Connection, pragma: str) -> int:
    return int(db.execute(f"PRAGMA {pragma}").fetchone()[0])


_EXPLANATIONS = {
    sqlite3.SQLITE_BUSY: "the journal {} is in use by another run; wait for it, or name another file",
    sqlite3.SQLITE_LOCKED: "the journal {} is in use by another run; wait for it, or name another file",
    sqlite3.SQLITE_NOTADB: "{} is no journal of llm_fanout, or it is damaged; name another file",
    sqlite3.SQLITE_CORRUPT: "the journal {} is damaged; name another file, or restore this one from a copy",
    sqlite3.SQLITE_FULL: "the disk of the journal {} is full; make room, then run the same again to go on",
    sqlite3.SQLITE_READONLY: "cannot write the journal {}; name a file that you may write",
    sqlite3.SQLITE_CANTOPEN: "cannot open the journal {}; name a file in a folder that you may write to",
    sqlite3.SQLITE_IOERR: "the disk of the journal {} failed; see to it, then run the same again to go on",
}


def _explanation(exc: sqlite3.Error, place: Path) -> str:
    code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)  # without one it is a value that no row of ours has
    said = _EXPLANATIONS.get(code & 0xFF, "cannot use the journal {}").format(place)
    return f"{said} (SQLite: {exc})"
