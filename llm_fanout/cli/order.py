"""What `llm-fanout run` was asked for, so that it can be asked for again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from ..errors import ConfigError

STREAM = "-"  # standard input, or output


class OnBadRow(StrEnum):
    """What a bad row does: it ends the command before anything is sent, or is left out."""

    fail = "fail"
    skip = "skip"


class Durability(StrEnum):
    """What a result in a journal survives: the end of the process, or that of the machine, too."""

    process = "process"
    power = "power"


@dataclass(frozen=True, kw_only=True)
class Order:
    """The argument and the options of `llm-fanout run`, by their names there; it has neither keys nor variables."""

    __pydantic_config__: ClassVar[dict[str, Literal["forbid"]]] = {"extra": "forbid"}  # a newer one has meant something

    prompts: str
    model: str
    output: str = STREAM
    journal: str | None = None
    no_store_prompts: bool = False
    durability: Durability = Durability.process
    base_url: str | None = None
    rpm: float | None = None
    tpm: float | None = None
    max_concurrency: int | None = None
    budget: float | None = None
    token_budget: int | None = None
    deadline: float | None = None
    timeout: float | None = None
    max_retries: int | None = None
    instructions: str | None = None
    fallback: list[str] | None = None
    stream: bool = False
    dedupe: bool = False
    sim: str | None = None
    on_bad_row: OnBadRow = OnBadRow.fail

    @classmethod
    def of_note(cls, note: Mapping[str, Any], journal: str) -> Self:
        """That which was noted in a journal.

        Raises:
            ConfigError: It is none that this version can carry out.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(cls).validate_python({**note, "journal": journal})
        except ValidationError as exc:
            first = exc.errors()[0]
            what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise ConfigError(
                f"the command in {journal} is none of this version of llm-fanout ({what}); upgrade it"
            ) from exc

    def note(self) -> dict[str, Any]:
        """What is to be noted: all that was said. Not the journal: it may be moved."""
        return {name: value for name, value in self._said() if name != "journal"}

    @property
    def line(self) -> str:
        """The command, quoted for a shell."""
        words = [word for name, value in self._said() if name != "prompts" for word in _words(name, value)]
        return shlex.join(["llm-fanout", "run", _placed(self.prompts), *words])

    def _said(self) -> Iterator[tuple[str, Any]]:
        """What is not as it is where nobody says anything, wherever it is said again."""
        for each in fields(self):
            value = getattr(self, each.name)
            if value != each.default:
                yield each.name, _placed(value) if each.name in ("prompts", "output") else value


def given(**options: Any) -> dict[str, Any]:
    """The options that were said."""
    return {name: value for name, value in options.items() if value is not None}


def _placed(path: str) -> str:
    return path if path == STREAM else str(Path(path).absolute())


def _words(name: str, value: Any) -> list[str]:
    option = f"--{name.replace('_', '-')}"
    if value is True:
        return [option]
    values = value if isinstance(value, list) else [value]
    return [f"{option}={_word(each)}" for each in values]


def _word(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
