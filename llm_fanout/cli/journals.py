"""Journals that a command looks into while no run has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError, JournalError

if TYPE_CHECKING:
    from ..journal.file import JournalFile

Place = Annotated[str, typer.Argument(metavar="RUN.db", help="The journal: what `run` was given as --journal.")]


@contextmanager
def opened(path: str) -> Iterator[JournalFile]:
    """The journal at `path`, which is there already.

    Raises:
        ConfigError: It is not, or it cannot be used.
    """
    from ..journal import Journal
    from ..journal.file import JournalFile

    place = Path(path)
    if not place.exists():
        raise ConfigError(f"there is no journal {path}; `llm-fanout run ... --journal {path}` makes one")
    if place.is_file() and not place.stat().st_size:
        raise ConfigError(f"{path} is empty, and no journal; name another file")  # which opening it would make one
    try:
        with closing(JournalFile(Journal(path))) as file:
            yield file
    except JournalError as exc:
        raise ConfigError(str(exc)) from exc
