"""A journal as it is asked for: a path, and how it is kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import ConfigError

Durability = Literal["process", "power"]


@dataclass(frozen=True, slots=True)
class Journal:
    """A path with its choices, for `map(..., journal=Journal("run.db", durability="power"))`; a path alone has the defaults.

    Args:
        path: The file; it is made, readable for its owner only, if it is not there. SQLite keeps another beside it
            (`run.db-wal`) while the journal is in use.
        durability: What a result on disk survives: "process" any end of this process, `kill -9` included; "power" also that
            of the machine, at the price of a write to the disk for each transaction.
        store_prompts: Whether prompts are kept beside their results, for whoever looks; False keeps only hashes of them.
        notes: What is said of the journal as a whole, by name, as plain values: it is in the file as soon as that is in use,
            instead of what was said before under that name. The command line keeps there what it was asked for.

    Raises:
        ConfigError: An argument is none of these.
    """

    path: str | os.PathLike[str]
    durability: Durability = "process"
    store_prompts: bool = True
    notes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, kw_only=True, hash=False)

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike) or not os.fspath(self.path):
            raise ConfigError(f"a journal is the path of a file, got {self.path!r}")
        if self.durability not in get_args(Durability):
            raise ConfigError(f"durability must be 'process' or 'power', got {self.durability!r}")

        if not isinstance(self.store_prompts, bool):
            raise ConfigError(f"store_prompts must be True or False, got {self.store_prompts!r}")

    @classmethod
    def of(cls, said: str | os.PathLike[str] | Journal) -> Journal:
        """`said` itself, or that at the path `said`."""
        return said if isinstance(said, Journal) else cls(said)

    @property
    def place(self) -> Path:
        """The file, by its own name, wherever the process goes meanwhile."""
        return Path(self.path).absolute()
