"""Whatever happens to the bytes of a journal: it opens or refuses, and what it gives is what was written.

`JOURNAL_DAMAGE=20000 pytest tests/journal/test_damage.py --timeout 0` tries so many damages instead of the quick number.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from llm_fanout import Result
from llm_fanout.errors import JournalError
from llm_fanout.journal import Journal
from llm_fanout.journal.file import JournalFile
from llm_fanout.journal.record import Record

CASES = int(os.environ.get("JOURNAL_DAMAGE", "280"))
ROWS = 150
CHUNKS = 10


def reply(number: int) -> bytes:
    """What the call with this number was answered: short or longer than a page, and nothing twice."""
    return b"answer %d " % number * (700 if number % 29 == 0 else 1 + number % 40)


def key(number: int) -> bytes:
    return number.to_bytes(20, "big")


def write(file: JournalFile, numbers: range) -> None:
    records = [Record.of(key(each), Result(index=each, id=each, reply=reply(each))) for each in numbers]
    file.add([(each, b'"a prompt"') for each in records])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a journal as a killed process leaves it: half of it in the file, and half in the log beside it."""
    folder, other = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("used") / "run.db"
    with closing(JournalFile(Journal(other))) as file:
        for first in range(0, ROWS // 2, 5):
            write(file, range(first, first + 5))
    with closing(JournalFile(Journal(other))) as file:
        for first in range(ROWS // 2, ROWS, 5):
            write(file, range(first, first + 5))
        file.note("budget", {"usd": 1.5})
        for each in other.parent.iterdir():
            shutil.copy(each, folder)
    return folder


def cut(content: bytearray, draw: random.Random) -> None:
    """The end is missing."""
    del content[draw.randrange(len(content)) :]


def flip(content: bytearray, draw: random.Random) -> None:
    """A bit is another; mostly in what says how the file is laid out."""
    at = draw.randrange(len(content))
    if draw.random() < 0.5:
        at = at // 4096 * 4096 + draw.randrange(100)
    content[min(at, len(content) - 1)] ^= 1 << draw.randrange(8)


def blot(content: bytearray, draw: random.Random) -> None:
    """A stretch is zeros, or noise."""
    at, length = draw.randrange(len(content)), draw.choice([8, 512, 4096])
    stretch = bytes(length) if draw.random() < 0.5 else draw.randbytes(length)
    content[at : at + length] = stretch[: len(content) - at]


def shift(content: bytearray, draw: random.Random) -> None:
    """A page is where another was: of an older state, perhaps."""
    pages = max(1, len(content) // 4096)
    one, other = draw.randrange(pages) * 4096, draw.randrange(pages) * 4096
    content[one : one + 4096] = content[other : other + 4096]


DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (cut, flip, flip, blot, shift)


def damaged(whole: Path, folder: Path, seed: int) -> Path:
    """A copy of it, of which one file is damaged once or twice."""
    draw = random.Random(seed)
    shutil.copytree(whole, folder)
    victim = folder / draw.choice(["run.db", "run.db-wal"])
    content = bytearray(victim.read_bytes())
    for _ in range(draw.choice([1, 1, 2])):
        if content:
            draw.choice(DAMAGES)(content, draw)
    victim.write_bytes(content)
    if draw.random() < 0.05:
        victim.unlink()
    return folder / "run.db"


def answers(file: JournalFile) -> Iterator[tuple[bytes, Mapping[str, object]]]:
    """All that it would answer: keys and the fields of the results; as `OpenJournal.read` has it."""
    for key, row in dict(file.finished()).items():
        found = file.read([row])
        if row not in found or found[row].key != key:
            raise JournalError("it is damaged; it says so")
        yield key, found[row].fields()


def use(place: Path) -> str:
    """Open it, read all, write more, and read that, as a run does; what came of it."""
    known = {key(number): number for number in range(ROWS)}
    try:
        with closing(JournalFile(Journal(place))) as file:
            for found, fields in answers(file):
                if found in known:  # else nobody asks for it
                    assert fields["reply"] == reply(known[found])
                    assert fields["error"] is None
            assert file.noted("budget") in ({"usd": 1.5}, {})
            write(file, range(ROWS, ROWS + 5))
            assert {key(number) for number in range(ROWS, ROWS + 5)} <= dict(file.finished()).keys()
    except JournalError as exc:
        return f"refused: {exc}"
    return "opened"


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_it_opens_or_refuses(whole: Path, tmp_path: Path, chunk: int) -> None:
    """Cut, flipped, blotted or mixed up, the file or its log: never a wrong answer, another exception, or a hang."""
    outcomes: list[str] = []
    for seed in range(chunk, CASES, CHUNKS):
        place = damaged(whole, tmp_path / str(seed), seed)
        try:
            outcomes.append(use(place))
        except BaseException as exc:
            exc.add_note(f"seed {seed}")
            raise
        shutil.rmtree(place.parent)

    refusals = [each for each in outcomes if each != "opened"]
    assert 0 < len(refusals) < len(outcomes)  # both do happen
    assert all("; " in each for each in refusals), refusals  # what to do


def test_undamaged_it_has_everything(whole: Path, tmp_path: Path) -> None:
    """Out of the file and out of the log."""
    shutil.copytree(whole, tmp_path / "copy")
    with closing(JournalFile(Journal(tmp_path / "copy" / "run.db"))) as file:
        found = {each: fields["reply"] for each, fields in answers(file)}

    assert found == {key(number): reply(number) for number in range(ROWS)}


def test_a_log_that_was_cut_anywhere_has_what_came_before(whole: Path, tmp_path: Path) -> None:
    """As after a power failure: whole transactions from the first on, and none after one that is missing."""
    log = (whole / "run.db-wal").read_bytes()
    for number, at in enumerate(range(0, len(log), max(1, len(log) // 40))):
        shutil.copytree(whole, tmp_path / str(number))
        place = tmp_path / str(number) / "run.db"
        Path(f"{place}-wal").write_bytes(log[:at])
        with closing(JournalFile(Journal(place))) as file:
            rows = [row for _, row in file.finished()]
        assert rows == list(range(1, len(rows) + 1))
        assert len(rows) >= ROWS // 2
        assert len(rows) % 5 == 0
