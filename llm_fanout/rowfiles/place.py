"""The place of a file that appears whole or not at all.

What is to be a file is written beside its place, under a name that is always the same and locked while it is written: a
process that is killed leaves one partial file at the most, which the next one takes over. A link is followed; what is no
file (a pipe, a device) is written to as it is.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import BinaryIO

from ..errors import ConfigError

BUFFER = 2**18  # bytes that are written at once
LOCKLESS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # what file systems say that have no locks: Lustre, FUSE, NFS


Target = str | os.PathLike[str] | BinaryIO


def place_of(target: Target) -> Place | Opened:
    """What `target` says: the place at a path, or an open binary file itself."""
    return Place(target) if isinstance(target, str | os.PathLike) else Opened(target)


class Place:
    """Where a file is to be.

    Raises:
        ConfigError: No file can be there.

    Attributes:
        path: The place, links followed; that of a stream as it is said, for there need be no file behind it.
        is_stream: Whether it is there and neither a file nor a folder, but a pipe or a device.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._said = said = Path(path)
        if os.path.isdir(said):
            raise ConfigError(f"cannot write {said}: it is a folder; name a file")
        if "\0" in os.fspath(said):
            raise ConfigError(f"cannot write {str(said)!r}: no name has a zero byte; name a file")
        self.is_stream = os.path.exists(said) and not os.path.isfile(said)
        self.path = said if self.is_stream else Path(os.path.realpath(said))
        self._part = self.path.with_name(f".{self.path.name}.part")

    @property
    def folder(self) -> Path | None:
        """Where what waits to be written may take its room; None: anywhere."""
        return None if self.is_stream else self.path.parent

    def open(self) -> BinaryIO:
        """The partial file, empty and ours alone (mode 0600); or the stream.

        Raises:
            ConfigError: Nothing can be written there, or somebody else is writing it just now.
        """
        try:
            return self.path.open("wb") if self.is_stream else self._taken_over()
        except BlockingIOError as exc:
            raise ConfigError(f"cannot write {self._said}: another run is writing it; name another file") from exc
        except OSError as exc:
            why = f"{exc.strerror}; name a file in a folder that you may write to"
            raise ConfigError(f"cannot write {self._said}: {why}") from exc

    def _taken_over(self) -> BinaryIO:
        while True:
            file = open(self._part, "ab", BUFFER, opener=_private)  # noqa: SIM115  # whoever asked closes it
            try:
                _lock(file)
                if os.path.samestat(os.stat(self._part), os.fstat(file.fileno())):
                    os.chmod(self._part, 0o600)
                    file.truncate(0)
                    return file
            except FileNotFoundError:
                pass  # whoever held the lock has put it in place or removed it since we opened it, as below
            except BaseException:
                file.close()
                raise
            file.close()

    def put(self, file: BinaryIO) -> None:
        """Close what `open` gave, and put it in place: on disk first, so that a power cut costs no older file."""
        if self.is_stream:
            file.close()
            return
        file.flush()
        os.fsync(file.fileno())
        if not _has_locks():
            file.close()  # such a system does not rename an open file
        os.replace(self._part, self.path)
        file.close()

    def clear(self, file: BinaryIO) -> None:
        """Close what `open` gave, and leave nothing of it; what is in its place stays."""
        if not self.is_stream and _has_locks():
            self._part.unlink(missing_ok=True)  # while it is locked: afterwards it could be somebody else's
        try:
            file.close()
        except OSError:
            pass  # what was still to be written finds no room, and is not wanted
        if not self.is_stream and not _has_locks():
            self._part.unlink(missing_ok=True)


class Opened:
    """A binary file that somebody has opened, standard output say: written to as a stream, and not closed."""

    is_stream = True
    path = Path()
    folder = None

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def open(self) -> BinaryIO:
        """The file."""
        return self._file

    def put(self, file: BinaryIO) -> None:
        """Have everything reach whoever reads it."""
        file.flush()

    def clear(self, file: BinaryIO) -> None:
        """Leave it as it is."""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _has_locks() -> bool:
    try:
        import fcntl  # noqa: F401  # not on Windows
    except ImportError:
        return False
    return True


def _lock(file: BinaryIO) -> None:
    """Lock a file, where there are locks.

    Raises:
        BlockingIOError: Somebody else has locked it.
    """
    if not _has_locks():
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno not in LOCKLESS:
            raise
