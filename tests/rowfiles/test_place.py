"""The place of a file that appears whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from llm_fanout import ConfigError
from llm_fanout.rowfiles import place
from llm_fanout.rowfiles.place import Place


@pytest.fixture(params=["with locks", "without"])
def _systems(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Systems with and without locks of files."""
    if request.param == "without":
        monkeypatch.setitem(sys.modules, "fcntl", None)  # importing it raises ImportError


@pytest.mark.usefixtures("_systems")
def test_a_file_appears_when_it_is_put(tmp_path: Path) -> None:
    """Until then what was there stays; then it is what was written, for the owner only, and nothing else is left."""
    path = tmp_path / "out.jsonl"
    path.write_text("old")
    there = Place(path)

    file = there.open()
    file.write(b"new")
    before = path.read_text()
    there.put(file)

    assert (before, path.read_text()) == ("old", "new")
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("_systems")
def test_a_file_that_is_cleared_was_never_there(tmp_path: Path) -> None:
    """What was written so far goes, and what was there stays."""
    path = tmp_path / "out.jsonl"
    path.write_text("old")
    there = Place(path)

    file = there.open()
    file.write(b"new")
    there.clear(file)

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_cannot_write_one_file(tmp_path: Path) -> None:
    """The second is told, and disturbs nothing; when the first is done the place is free."""
    first, second = Place(tmp_path / "out.jsonl"), Place(tmp_path / "out.jsonl")
    file = first.open()
    file.write(b"first")

    with pytest.raises(ConfigError, match="another run is writing it"):
        second.open()
    first.put(file)
    second.put(second.open())

    assert (tmp_path / "out.jsonl").read_text() == ""


def test_a_file_system_without_locks_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the file is written all the same, and only two at once go unnoticed."""

    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refused)
    there = Place(tmp_path / "out.jsonl")
    there.put(there.open())

    assert os.listdir(tmp_path) == ["out.jsonl"]


def test_what_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    """A partial file of a process that is gone is written anew, not added to, whoever could read it."""
    code = f"""
import os, signal
from llm_fanout.rowfiles.place import Place
Place({str(tmp_path / "out.jsonl")!r}).open().write(b"x" * 1_000_000)
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    [left] = tmp_path.iterdir()
    left.chmod(0o644)

    there = Place(tmp_path / "out.jsonl")
    file = there.open()
    file.write(b"new")
    there.put(file)
    [path] = tmp_path.iterdir()

    assert (left.name, path.name, path.read_text()) == (".out.jsonl.part", "out.jsonl", "new")
    assert path.stat().st_mode & 0o777 == 0o600


def _put_in_place(part: Path) -> None:
    part.replace(part.with_name("out.jsonl"))


def _made_anew(part: Path) -> None:
    part.replace(part.with_name("out.jsonl"))
    part.touch()


@pytest.mark.parametrize("happens", [_put_in_place, _made_anew])
def test_a_partial_file_that_moves_while_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, happens: Callable[[Path], None]
) -> None:
    """Another run may put it in place between our opening and our locking it: then we write to another."""
    part = tmp_path / ".out.jsonl.part"
    part.write_text("theirs")
    lock, times = place._lock, [0]

    def late(file: BinaryIO) -> None:
        times[0] += 1
        if times[0] == 1:
            happens(part)
        lock(file)

    monkeypatch.setattr(place, "_lock", late)
    file = Place(tmp_path / "out.jsonl").open()
    file.write(b"ours")
    file.close()

    assert ((tmp_path / "out.jsonl").read_text(), part.read_text()) == ("theirs", "ours")


def test_a_partial_file_that_somebody_removed(tmp_path: Path) -> None:
    """Clearing up what is gone already does nothing."""
    there = Place(tmp_path / "out.jsonl")
    file = there.open()
    (tmp_path / ".out.jsonl.part").unlink()

    there.clear(file)

    assert list(tmp_path.iterdir()) == []


def test_a_link_as_a_partial_file_is_not_followed(tmp_path: Path) -> None:
    """Who else may write to the folder cannot have another file overwritten."""
    (tmp_path / "precious").write_text("kept")
    (tmp_path / ".out.jsonl.part").symlink_to(tmp_path / "precious")

    with pytest.raises(ConfigError, match="cannot write"):
        Place(tmp_path / "out.jsonl").open()

    assert (tmp_path / "precious").read_text() == "kept"


@pytest.mark.parametrize("name", ["nowhere/out.jsonl", "file/out.jsonl", "", "folder", "x" * 300, "zero\0byte"], ids=repr)
def test_a_place_where_no_file_can_be(tmp_path: Path, name: str) -> None:
    """A ConfigError says what is in the way; nothing is left behind."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()

    with pytest.raises(ConfigError, match="cannot write"):
        Place(tmp_path / name).open()

    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


def test_a_device_is_written_to_as_it_is() -> None:
    """It is a stream; it cannot be cleared, and what finds no room at the end is not asked for."""
    there = Place("/dev/full")
    file = there.open()
    file.write(b"x")

    there.clear(file)

    assert there.is_stream
    assert there.folder is None
    assert Path("/dev/full").is_char_device()


def test_a_link_is_written_through(tmp_path: Path) -> None:
    """The file that a link names is replaced, beside itself, and the link stays."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out.jsonl").symlink_to(tmp_path / "elsewhere" / "rows.jsonl")
    there = Place(tmp_path / "out.jsonl")

    file = there.open()
    beside = os.listdir(tmp_path / "elsewhere")
    there.put(file)

    assert beside == [".rows.jsonl.part"]
    assert os.listdir(tmp_path / "elsewhere") == ["rows.jsonl"]
    assert (tmp_path / "out.jsonl").is_symlink()
