"""The file itself: what is in it, and what can go wrong with it. Everything here belongs to one thread, and may wait."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

from ..errors import JournalError
from .index import KEY
from .record import REMEDY, Record, decoded, encoded
from .stated import Journal

APPLICATION = 0x6C666A6E  # "lfjn", in the header of every SQLite file of ours
FORMAT = 1  # of the tables; a newer one is refused, there is no older one
PRIVATE = 0o600
HEADER = {"application_id": APPLICATION, "user_version": FORMAT}
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
            _check_ours(self._place)
            # Autocommit: each statement is a transaction.
            self._db = sqlite3.connect(self._place, timeout=0.0, isolation_level=None)
        try:
            with self._explained():
                self._set_up(journal)
        except BaseException:
            self._db.close()
            raise

    def finished(self) -> Iterator[tuple[bytes, int]]:
        """The key of each result with an answer, and its row, in the order of the keys, and then of the rows."""
        with self._explained():
            # What is no key any more was damaged: its call is made again.
            are_keys = f"typeof(key) = 'blob' AND length(key) = {KEY}"
            yield from self._db.execute(f"SELECT key, row FROM results WHERE ok = 1 AND {are_keys} ORDER BY key, row")

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
        with self._explained():
            self._db.execute(_insertion(len(values) // WIDTH), values)

    def note(self, name: str, said: Mapping[str, Any]) -> None:
        """Keep what is said of the journal as a whole, instead of what was said before under that name."""
        text = encoded(said)
        with self._explained():
            self._db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (name, text, crc32(text)))

    def noted(self, name: str) -> dict[str, Any]:
        """What was noted under that name; nothing if nothing was."""
        with self._explained():
            found = self._db.execute('SELECT text, "check" FROM notes WHERE name = ?', (name,)).fetchone()
        if found is None:
            return {}
        text, check = found
        if not isinstance(text, bytes) or crc32(text) != check:
            raise JournalError(f"the journal {self._place} is damaged: {name!r} is not what was noted; {REMEDY}")
        return decoded(text)

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
        if _number(db, "application_id") != APPLICATION:
            self._make_tables()
        version = _number(db, "user_version")
        if version > FORMAT:
            raise JournalError(
                f"the journal {self._place} has format {version}, made by a newer llm_fanout; upgrade this one"
            )
        db.execute("PRAGMA journal_mode = WAL")
        # NORMAL: what was committed survives the process; FULL syncs the log at each commit. (SQLite, PRAGMA synchronous)
        db.execute(f"PRAGMA synchronous = {'FULL' if journal.durability == 'power' else 'NORMAL'}")
        db.execute("BEGIN IMMEDIATE")  # whoever cannot write learns it now
        for name, said in journal.notes.items():
            self.note(name, said)
        db.execute("COMMIT")

    def _make_tables(self) -> None:
        """Make the empty file one of ours, at once and before the log: so its header alone says whose it is."""
        statements = "".join(f"PRAGMA {name} = {value};" for name, value in HEADER.items())
        self._db.executescript(f"BEGIN IMMEDIATE; {TABLES} {statements} COMMIT;")

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
    """One statement for all rows, and so one transaction: SQLite lets go of the interpreter once for each statement, and to
    get it back costs more than the statement."""
    marks = ", ".join("?" * WIDTH)
    return f"INSERT INTO results ({COLUMNS}, prompt) VALUES {', '.join([f'({marks})'] * rows)}"


def _make(place: Path) -> None:
    """Make an empty file that only its owner can read; SQLite gives those beside it the same mode."""
    try:
        os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_RDWR, PRIVATE))
    except FileExistsError:
        pass


def _check_ours(place: Path) -> None:
    """Look at the header of a file, unless it is empty; nothing is changed.

    To open a database in earnest may change it: SQLite tidies up what another application left beside it. And to open it
    past SQLite would lose the locks that this process has on it. (SQLite, "How To Corrupt", section 2.2)

    Raises:
        JournalError: It is not one of ours. OSError: It is not there.
    """
    found = place.stat()
    if not stat.S_ISREG(found.st_mode):
        raise JournalError(f"{place} is no file; name a file for the journal")
    if not found.st_size:
        return
    db = sqlite3.connect(f"{place.as_uri()}?immutable=1", uri=True)
    try:
        application = _number(db, "application_id")
    except sqlite3.DatabaseError as exc:
        if exc.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            raise
        return  # damaged, or being written to: that will show
    finally:
        db.close()
    if application != APPLICATION:
        raise JournalError(f"{place} is no journal of llm_fanout; name another file")


def _number(db: sqlite3.Connection, pragma: str) -> int:
    return int(db.execute(f"PRAGMA {pragma}").fetchone()[0])


_DAMAGED = f"the journal {{}} is damaged; {REMEDY}"
_EXPLANATIONS = {
    sqlite3.SQLITE_ERROR: _DAMAGED,  # a table is not there, or not as it was
    sqlite3.SQLITE_BUSY: "the journal {} is in use by another run; wait for it, or name another file",
    sqlite3.SQLITE_LOCKED: "the journal {} is in use by another run; wait for it, or name another file",
    sqlite3.SQLITE_NOTADB: "{} is no journal of llm_fanout, or it is damaged; name another file",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_FULL: "the disk of the journal {} is full; make room, then run the same again to go on",
    sqlite3.SQLITE_READONLY: "cannot write the journal {}; name a file that you may write",
    sqlite3.SQLITE_CANTOPEN: "cannot open the journal {}; name a file in a folder that you may write to",
    sqlite3.SQLITE_IOERR: "the disk of the journal {} failed; see to it, then run the same again to go on",
}


def _explanation(exc: sqlite3.Error, place: Path) -> str:
    code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)  # without one it is a value that no row of ours has
    said = _EXPLANATIONS.get(code & 0xFF, "cannot use the journal {}").format(place)
    return f"{said} (SQLite: {exc})"
