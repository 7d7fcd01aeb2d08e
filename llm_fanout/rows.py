"""Prompts as lines of JSON: each checked by itself, each fault told with its line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import ConfigError
from .llm.endpoint import Endpoint
from .llm.prompt import Prompt

EXPECTED = '{"id": ..., "prompt": "..."}, {"id": ..., "messages": [...]} or "a string"'


class BadRow(ConfigError):
    """A line that is no prompt."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="allow")
    role: str


class _Row(BaseModel):
    """What a row may say. It can set neither a base URL, nor headers, nor a key: rows come from outside."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    id: str | int | None = None
    prompt: str | None = None
    messages: list[_Message] | None = Field(None, min_length=1)
    model: str | None = None
    instructions: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    seed: int | None = None
    stop: str | list[str] | None = None
    reasoning_effort: str | None = None

    @model_validator(mode="after")
    def _one_question(self) -> _Row:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("needs either 'prompt' or 'messages'")
        return self

    def to_prompt(self) -> Prompt:
        said: dict[str, Any] = self.model_dump(exclude_none=True)
        content = said.pop("prompt", None) or said.pop("messages", "")
        return Prompt(content, **said)


class RowReader:
    """Reads JSON lines one after another, and knows which line it is at.

    Args:
        skip: Leave a bad row out, and note what is wrong with it in `faults`, instead of raising.
        endpoint: Where all rows go: a row may name another model there, but neither another provider nor another place.
    """

    def __init__(self, *, skip: bool = False, endpoint: Endpoint | None = None) -> None:
        self._endpoint = endpoint
        self.faults: list[str] = []
        self._skip = skip
        self._line = 0
        self._ids: dict[str | int, int] = {}

    def read(self, line: str | bytes) -> Prompt | None:
        """The prompt of the next line; None if the line is empty or left out.

        Raises:
            BadRow: With the line's number, what is wrong with it, and what was expected.
        """
        self._line += 1
        try:
            text = _text_of(line)
            if self._line == 1:
                text = text.removeprefix("\ufeff")  # a byte order mark: editors on Windows write one
            return self._claimed(self._placed(_prompt_of(text))) if text.strip() else None
        except BadRow as exc:
            fault = f"line {self._line}: {exc}"
            if not self._skip:
                raise BadRow(fault) from exc
            self.faults.append(fault)
            return None

    def read_all(self, lines: Iterable[str | bytes]) -> Iterator[Prompt]:
        """The prompts of all lines, in order."""
        for line in lines:
            if (prompt := self.read(line)) is not None:
                yield prompt

    def _placed(self, prompt: Prompt) -> Prompt:
        if self._endpoint is None or prompt.model is None:
            return prompt
        own, asked = self._endpoint.model.partition("/")[0], str(prompt.model)
        if asked.partition("/")[0] != own:
            raise BadRow(
                f"model {asked!r} is not one of {own!r}: a row may choose the model, not who is asked with which key"
            )
        prompt.model = replace(self._endpoint, model=asked)
        return prompt

    def _claimed(self, prompt: Prompt) -> Prompt:
        if prompt.id is not None:
            first = self._ids.setdefault(prompt.id, self._line)
            if first != self._line:
                raise BadRow(f"the id {prompt.id!r} was there already, in line {first}; ids must be unique")
        return prompt


def _text_of(line: str | bytes) -> str:
    try:
        return line if isinstance(line, str) else line.decode()
    except UnicodeDecodeError as exc:
        raise _bad("this is not UTF-8", exc.object.decode(errors="backslashreplace")) from exc


def _prompt_of(line: str) -> Prompt:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError) as exc:
        column = f" (column {exc.colno})" if isinstance(exc, json.JSONDecodeError) else ""
        raise _bad(f"this is not JSON{column}", line) from exc
    try:
        if isinstance(said, str):
            return Prompt(said)
        if isinstance(said, dict):
            return _Row.model_validate(said).to_prompt()
    except ValidationError as exc:
        if exc.errors()[0]["type"] == "extra_forbidden":  # not quoted: it may be a key
            raise BadRow(f"{_fault_of(exc)}; expected {EXPECTED}") from exc
        raise _bad(_fault_of(exc), line) from exc
    raise _bad("a row is an object or a string", line)


def _bad(fault: str, line: str) -> BadRow:
    return BadRow(f"{fault}; expected {EXPECTED}, got {line.strip()[:80]!r}")


def _fault_of(exc: ValidationError) -> str:
    """What is wrong with the first field that is wrong, in the words of a row."""
    first, *rest = exc.errors()
    if first["type"] == "extra_forbidden":
        return _unknown(str(first["loc"][0]))
    if not first["loc"]:
        return first["msg"].removeprefix("Value error, ")
    nested = first["loc"][0] == "messages"
    place = ".".join(map(str, first["loc"])) if nested else str(first["loc"][0])
    choices = [first] if nested else [first, *(each for each in rest if each["loc"][0] == first["loc"][0])]
    wanted = " or ".join(each["msg"].removeprefix("Input should be ") for each in choices)
    return f"{place}: {wanted}" + (" is needed" if first["msg"].startswith("Input should be ") else "")


def _unknown(field: str) -> str:
    close = get_close_matches(field, _Row.model_fields, n=1)
    return f"there is no field {field!r}" + (f"; did you mean {close[0]}?" if close else "")
