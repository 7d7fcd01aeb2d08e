"""Structured output: what an answer has to fit, how it is asked for, checked, and asked for again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..errors import ConfigError
from . import strictness
from .request import Request

if TYPE_CHECKING:
    from pydantic import ValidationError

M = TypeVar("M")

NAME_LIMIT = 64  # characters; OpenAI, response_format.json_schema.name, as is the pattern
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
FLAWS = 5  # of an answer that are told; the first ones explain the others
FLAW_LIMIT = 200  # characters of each


@dataclass(frozen=True, slots=True, eq=False)
class Schema(Generic[M]):
    """What an answer has to fit: `Schema.of(Invoice)`.

    Attributes:
        model: The pydantic class that checks answers.
        name: Its name, in the characters that providers take.
        plain: The model's JSON schema, as it gives it.
        json: The one that is sent.
        strict: Whether providers can enforce it: then `json` is in the form that they demand. Not so where keys or types
            are left open (`dict[str, int]`, `Any`, tuples).
    """

    model: type[M]
    name: str
    plain: Mapping[str, Any]
    json: Mapping[str, Any]
    strict: bool

    @classmethod
    def of(cls, model: type[M]) -> Schema[M]:
        """The schema of a pydantic model class. Raises ConfigError if it is none, or if its answers are no objects."""
        _check_model(model)
        schema: Schema[M] = _schema_of(model)  # type: ignore[arg-type]  # every class is hashable
        return schema

    def validate(self, text: str) -> M:
        """The instance that `text` is: JSON, alone, in a fenced block, or with prose around it.

        Raises:
            ValueError: It does not fit. The message is short, names the flaws, and fits into a prompt.
        """
        from pydantic import ValidationError

        try:
            instance: M = self.model.model_validate_json(_json_in(text))  # type: ignore[attr-defined]  # `of` checked it
        except ValidationError as exc:
            raise ValueError(_flaws(exc)) from exc
        return instance

    def asked_in_words(self) -> str:
        """What to put into the prompt where a provider cannot enforce the schema."""
        schema = json.dumps(self.json, ensure_ascii=False)
        return f"Answer with one JSON object and nothing else. It must fit this JSON schema:\n{schema}"

    def asked_in(self, messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """`messages`, with the schema asked for in words by a system message after those that come first."""
        first = next((at for at, each in enumerate(messages) if each.get("role") not in INSTRUCTING), len(messages))
        return [*messages[:first], {"role": "system", "content": self.asked_in_words()}, *messages[first:]]


INSTRUCTING = frozenset({"system", "developer"})  # roles that are above the conversation


def repair(request: Request, text: str, flaw: str) -> Request:
    """The request for the next attempt: the conversation as first asked, the bad answer, and what was wrong with it.

    Args:
        request: As first asked; not one that was repaired before, or the conversation grows with every attempt.
        text: The answer that did not fit.
        flaw: Why: the message of the ValueError that `Schema.validate` raised.
    """
    answered = [{"role": "assistant", "content": text}] if text.strip() else []  # Anthropic takes no empty message
    wanted = f"That does not fit the JSON schema: {flaw}. Answer again, with one JSON object that fits and nothing else."
    return replace(request, messages=[*request.messages, *answered, {"role": "user", "content": wanted}])


@lru_cache(maxsize=256)  # milliseconds apiece, and every single call needs its own
def _schema_of(model: Any) -> Schema[Any]:
    plain = _json_schema_of(model)
    name = _NOT_IN_NAMES.sub("_", model.__name__)[:NAME_LIMIT]
    strict = strictness.is_closed(plain)
    return Schema(model, name, plain, strictness.strict_form(plain) if strict else plain, strict)


def _check_model(model: object) -> None:
    from pydantic import BaseModel

    if not isinstance(model, type) or not issubclass(model, BaseModel):
        raise ConfigError(f"response_format must be a pydantic model class, got {model!r}")


def _json_schema_of(model: Any) -> dict[str, Any]:
    from pydantic.errors import PydanticInvalidForJsonSchema

    try:
        plain: dict[str, Any] = model.model_json_schema()
    except PydanticInvalidForJsonSchema as exc:
        raise ConfigError(f"{model.__name__} has a field that no JSON schema can describe: {exc}") from exc
    if strictness.resolved(plain, plain).get("type") != "object":
        raise ConfigError(f"answers in the form of {model.__name__} are no JSON objects; put it into a field of a model")
    return plain


def _json_in(text: str) -> str:
    """The JSON object that begins at the first brace, without what stands around it: prose, or the fence of a block.

    Later braces are not tried: of an answer that was cut off, they may begin an object that is whole and not the answer.
    """
    start = max(text.find("{"), 0)
    try:
        _, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return text[start:]  # its flaw is told by who reads it next
    return text[start:end]


def _flaws(exc: ValidationError) -> str:
    flaws = exc.errors(include_url=False, include_context=False, include_input=False)
    told = [_flaw(each["loc"], each["msg"]) for each in flaws[:FLAWS]]
    more = [f"and {len(flaws) - FLAWS} more"] if len(flaws) > FLAWS else []
    return "; ".join([*told, *more])


def _flaw(place: tuple[int | str, ...], message: str) -> str:
    where = ".".join(map(str, place))
    return (f"{where}: {message}" if where else message)[:FLAW_LIMIT]
