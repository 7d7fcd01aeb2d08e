"""The file: what is in it, who may have it, and what is said when it cannot be used."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from llm_fanout import Rejected, Result
from llm_fanout.errors import JournalError
from llm_fanout.journal import Journal
from llm_fanout.journal.file import APPLICATION, CHUNK, FORMAT, JournalFile
from llm_fanout.journal.record import Record


def record(number: int, *, ok: bool = True, reply: bytes = b"{}") -> Record:
    """That of the call with this number."""
    error = None if ok else Rejected("no", kind="invalid")
    return Record.of(key(number), Result(index=number, id=number, error=error, reply=reply if ok else b""))


def key(number: int) -> bytes:
    return number.to_bytes(20, "big")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


@pytest.fixture
def file(place: Path) -> Iterator[JournalFile]:
    """A new journal."""
    with closing(JournalFile(Journal(place))) as file:
        yield file


def reopened(place: Path) -> list[Record]:
    """What is in the file, for somebody who opens it now."""
    with closing(JournalFile(Journal(place))) as file:
        return list(file.records())


def make_database(place: Path, *statements: str) -> bytes:
    """A database of another application; its bytes."""
    with closing(sqlite3.connect(place)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()
    return place.read_bytes()


def test_what_was_added_is_there(file: JournalFile, place: Path) -> None:
    """Also for the next one who opens it; only what has an answer is finished."""
    records = [record(0), record(1, ok=False), record(2)]
    file.add([(each, b'"prompt"') for each in records])

    assert list(file.records()) == records
    assert list(file.finished()) == [(key(0), 1), (key(2), 3)]
    assert file.read([3, 1, 9]) == {1: records[0], 3: records[2]}
    file.close()
    assert reopened(place) == records


def test_an_answer_asked_for_anew_is_the_later_one(file: JournalFile) -> None:
    """Both are kept, in their order: whoever reads on takes the last."""
    file.add([(record(0), None), (record(0, reply=b"[]"), None)])

    assert dict(file.finished()) == {key(0): 2}


def test_many_rows_are_read_at_once(file: JournalFile) -> None:
    """More than SQLite takes in one statement."""
    number = 2 * CHUNK + 1
    for first in range(0, number, 64):
        file.add([(record(each), None) for each in range(first, min(first + 64, number))])

    assert len(file.read(range(1, number + 1))) == number
    assert file.read([]) == {}


def test_all_of_a_transaction_or_nothing(file: JournalFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks in the middle leaves nothing; the next transaction works."""
    bad = record(1)._replace(body=None)  # type: ignore[arg-type]
    with pytest.raises(JournalError, match="NOT NULL"):
        file.add([(record(0), None), (bad, None)])
    file.add([(record(2), None)])

    assert [each.key for each in file.records()] == [key(2)]


def test_notes(file: JournalFile, place: Path) -> None:
    """The last of each name stays; what was never noted is empty."""
    file.note("budget", {"usd": 1.5})
    file.note("budget", {"usd": 2.5})
    file.close()
    with closing(JournalFile(Journal(place))) as again:
        assert again.noted("budget") == {"usd": 2.5}
        assert again.noted("other") == {}


def test_notes_of_whoever_opens_it(place: Path) -> None:
    """They are there as soon as it is open; those of others stay."""
    with closing(JournalFile(Journal(place, notes={"command": {"rpm": 1}, "who": {"name": "me"}}))):
        pass

    with closing(JournalFile(Journal(place, notes={"command": {"rpm": 2}}))) as file:
        assert file.noted("command") == {"rpm": 2}
        assert file.noted("who") == {"name": "me"}


@pytest.mark.parametrize("change", ["text = CAST('{}' AS BLOB)", "text = '{}'", '"check" = 1'])
def test_a_damaged_note_is_refused(file: JournalFile, place: Path, change: str) -> None:
    """Like a damaged result."""
    file.note("budget", {"usd": 1.5})
    file.close()
    make_database(place, f"UPDATE notes SET {change}")

    with (
        closing(JournalFile(Journal(place))) as again,
        pytest.raises(JournalError, match="'budget' is not what was noted; name another"),
    ):
        again.noted("budget")


def test_purged_prompts_leave_no_trace(file: JournalFile, place: Path) -> None:
    """Neither in the file nor beside it; the results stay."""
    file.add([(record(number), b'"a secret prompt"') for number in range(100)])
    assert b"a secret prompt" in Path(f"{place}-wal").read_bytes()

    assert file.purge() == 100
    assert file.purge() == 0
    file.close()
    assert [each.name for each in place.parent.iterdir()] == [place.name]
    assert b"a secret prompt" not in place.read_bytes()
    assert len(reopened(place)) == 100


def test_only_its_owner_may_read_it(place: Path) -> None:
    """Neither the file nor that beside it, whatever the process allows; and no other file is there."""
    umask = os.umask(0)
    try:
        with closing(JournalFile(Journal(place))) as file:
            file.add([(record(0), None)])
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in place.parent.iterdir()}
    finally:
        os.umask(umask)

    assert modes == {"run.db": 0o600, "run.db-wal": 0o600}


def test_nothing_is_left_beside_it(file: JournalFile, place: Path) -> None:
    """Once it is closed, one file has all."""
    file.add([(record(0), None)])
    file.close()

    assert [each.name for each in place.parent.iterdir()] == ["run.db"]


@pytest.mark.parametrize(("durability", "synchronous"), [("process", 1), ("power", 2)])
def test_durability_is_obeyed(place: Path, durability: Any, synchronous: int) -> None:
    """NORMAL leaves a commit to the system, FULL has it on the disk; both write a log."""
    with closing(JournalFile(Journal(place, durability=durability))) as file:
        assert file._db.execute("PRAGMA synchronous").fetchone() == (synchronous,)
        assert file._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_it_says_what_it_is(file: JournalFile, place: Path) -> None:
    """In its header, from the first moment: also if the process ends at once and leaves a log."""
    head = place.read_bytes()[:72]

    assert head[68:72] == APPLICATION.to_bytes(4, "big")
    assert head[60:64] == FORMAT.to_bytes(4, "big")


def test_one_at_a_time(file: JournalFile, place: Path) -> None:
    """Also in the same process; when the first has closed it, the next may have it."""
    with pytest.raises(JournalError, match=r"run\.db is in use by another run; wait for it, or name another file"):
        JournalFile(Journal(place))
    file.add([(record(0), None)])  # to be refused did not lose the lock of the first
    with pytest.raises(JournalError, match="is in use"):
        JournalFile(Journal(place))
    file.close()

    assert len(reopened(place)) == 1


HOLD = """
import sys
from llm_fanout.journal import Journal
from llm_fanout.journal.file import JournalFile
from llm_fanout.errors import JournalError
try:
    file = JournalFile(Journal(sys.argv[1]))
except JournalError as exc:
    print(exc)
else:
    print("open", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_refused(file: JournalFile, place: Path) -> None:
    """Also after somebody of our own process was."""
    with pytest.raises(JournalError, match="is in use"):
        JournalFile(Journal(place))
    other = subprocess.run([sys.executable, "-c", HOLD, place], stdin=subprocess.DEVNULL, capture_output=True, check=True)

    assert b"is in use by another run" in other.stdout


def test_a_killed_process_leaves_no_lock(place: Path) -> None:
    """While it lives the file is its own; after `kill -9` anybody may have it."""
    with subprocess.Popen([sys.executable, "-c", HOLD, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(JournalError, match="is in use"):
            JournalFile(Journal(place))
        other.kill()
        other.wait()

    assert reopened(place) == []


OTHERS = {
    "no tables": ["PRAGMA user_version = 3"],
    "tables": ["CREATE TABLE mine (x)", "INSERT INTO mine VALUES (1)"],
    "our names": ["CREATE TABLE results (x)"],
    "its own number": ["PRAGMA application_id = 7", "CREATE TABLE mine (x)"],
    "a log": ["PRAGMA journal_mode = WAL", "CREATE TABLE mine (x)"],
}


@pytest.mark.parametrize("which", OTHERS)
def test_another_applications_database_is_left_alone(place: Path, which: str) -> None:
    """To the last byte."""
    before = make_database(place, *OTHERS[which])

    with pytest.raises(JournalError, match=r"run\.db is no journal of llm_fanout; name another file"):
        JournalFile(Journal(place))
    assert place.read_bytes() == before
    assert [each.name for each in place.parent.iterdir()] == ["run.db"]


def test_a_log_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    """SQLite would have written it into the database: an application that was killed finds both as they were."""
    place = tmp_path / "theirs.db"
    make_database(place, "PRAGMA journal_mode = WAL", "CREATE TABLE mine (x)")
    with closing(sqlite3.connect(place)) as db:
        db.execute("INSERT INTO mine VALUES (1)")
        db.commit()
        copy = tmp_path / "copy.db"
        copy.write_bytes(place.read_bytes())
        Path(f"{copy}-wal").write_bytes(Path(f"{place}-wal").read_bytes())
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}

    with pytest.raises(JournalError, match="no journal of llm_fanout"):
        JournalFile(Journal(copy))
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


@pytest.mark.parametrize("content", [b"x", b"id,text\n1,Hello\n" * 100, b"SQLite format 3\0", bytes(4096)])
def test_what_is_no_database_is_left_alone(place: Path, content: bytes) -> None:
    """A table, a beginning, or nothing but zeros."""
    place.write_bytes(content)

    with pytest.raises(JournalError, match=r"run\.db is no journal of llm_fanout.*; name another file"):
        JournalFile(Journal(place))
    assert place.read_bytes() == content


def test_a_newer_format_is_refused(file: JournalFile, place: Path) -> None:
    """Somebody upgraded, and went back."""
    file.close()
    make_database(place, f"PRAGMA user_version = {FORMAT + 1}")

    with pytest.raises(JournalError, match=r"run\.db has format 2, made by a newer llm_fanout; upgrade this one"):
        JournalFile(Journal(place))


def test_a_missing_table_is_damage(file: JournalFile, place: Path) -> None:
    """It says so, and what to do."""
    file.close()
    make_database(place, "DROP TABLE results")

    with closing(JournalFile(Journal(place))) as again, pytest.raises(JournalError, match="is damaged; name another file"):
        list(again.finished())


def test_a_file_that_was_cut_is_damaged(file: JournalFile, place: Path) -> None:
    """Its header is ours, and its end is missing."""
    file.add([(record(number, reply=bytes(5_000)), None) for number in range(50)])
    file.close()
    os.truncate(place, 8192)

    with pytest.raises(JournalError, match=r"run\.db is damaged; name another file, or restore this one from a copy"):
        JournalFile(Journal(place))


def test_an_empty_file_becomes_one(place: Path) -> None:
    """As of `mktemp`."""
    place.touch(mode=0o600)

    assert reopened(place) == []
    assert place.stat().st_size > 0


def test_no_room_for_it(tmp_path: Path) -> None:
    """A folder, a folder that is not there, something that is no file, and a link that leads nowhere."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "run.db")
    said = {
        tmp_path: "is no file; name a file for the journal",
        tmp_path / "pipe": "is no file; name a file for the journal",
        Path("/dev/null"): "is no file; name a file for the journal",
        tmp_path / "nowhere" / "run.db": "No such file or directory; name a file that you may write",
        tmp_path / "link": "No such file or directory; name a file that you may write",
        tmp_path / ("x" * 300): "File name too long; name a file that you may write",
    }

    for place, match in said.items():
        with pytest.raises(JournalError, match=match):
            JournalFile(Journal(place))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link", "pipe"]


def test_names_may_have_anything_in_them(tmp_path: Path) -> None:
    """What means something in an address is only a letter here."""
    place = tmp_path / "100% of it?mode=memory#1 é.db"
    with closing(JournalFile(Journal(place))) as file:
        file.add([(record(0), None)])

    assert len(reopened(place)) == 1
    assert [each.name for each in tmp_path.iterdir()] == [place.name]


NO_ROOM = """
import resource, signal, sys
from llm_fanout import Result
from llm_fanout.errors import JournalError
from llm_fanout.journal import Journal
from llm_fanout.journal.file import JournalFile
from llm_fanout.journal.record import Record
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = JournalFile(Journal(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
added = 0
try:
    while True:
        file.add([(Record.of(added.to_bytes(20, "big"), Result(index=0, id=0, reply=b"x" * 1000)), None)])
        added += 1
except JournalError as exc:
    print(added, exc)
"""


def test_a_full_disk(place: Path) -> None:
    """All that was added before is there, and can be gone on with."""
    other = subprocess.run([sys.executable, "-c", NO_ROOM, place], capture_output=True, check=True, text=True)
    added, _, said = other.stdout.partition(" ")

    assert int(added) > 10
    assert "the disk of the journal" in said
    assert "then run the same again to go on" in said
    assert len(reopened(place)) == int(added)


AS_NOBODY = """
import os, sys
from llm_fanout.errors import JournalError
from llm_fanout.journal import Journal
from llm_fanout.journal.file import JournalFile

if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)  # whom permissions bind
for path in sys.argv[1:]:
    try:
        JournalFile(Journal(path))
        print("opened")
    except JournalError as exc:
        print(exc)
"""


def test_a_place_that_may_not_be_written_to() -> None:
    """Neither a new file nor one that is there."""
    with TemporaryDirectory() as folder:  # not below `tmp_path`, which others may not enter
        new, old = Path(folder) / "new.db", Path(folder) / "old.db"
        old.touch(0o444)
        Path(folder).chmod(0o555)
        command = [sys.executable, "-c", AS_NOBODY, new, old]
        said = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
        Path(folder).chmod(0o755)

    assert "Permission denied; name a file that you may write" in said[0]
    assert "cannot write the journal" in said[1]
    assert "; name a file that you may write" in said[1]
