"""JSON from outside, read without trust.

What has the wrong type was not said. Whatever the bytes are, only ValueError is raised: nesting that overflows the stack
and numbers that Python refuses are errors of the server, not of ours.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    from pydantic import BaseModel

T = TypeVar("T", bound="BaseModel")

SANE_TOKENS = 10**9  # a count above is an error of the server; booked as a debt it would stop the quota for years


def document(raw: bytes | str) -> dict[str, Any]:
    """The JSON object in `raw`. Raises ValueError if it is none, or is nested too deep to be read."""
    try:
        value = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        value = _tolerantly(raw)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _tolerantly(raw: bytes | str) -> Any:
    """What is no JSON to the letter, but is to Python, and so to servers that are written in it: NaN, say."""
    try:
        return json.loads(raw)
    except RecursionError as exc:
        raise ValueError("the JSON is nested too deep") from exc


def encoded(value: object) -> bytes:
    """`value` as JSON. Raises TypeError if it cannot be, ValueError if it is nested too deep to be written."""
    try:
        return msgspec.json.encode(value)
    except RecursionError as exc:
        raise ValueError("the JSON is nested too deep") from exc
    except (TypeError, UnicodeEncodeError):  # half a surrogate pair, or a kind of text of somebody's own: Python writes them
        return json.dumps(value).encode()


def mapping(value: object) -> dict[str, Any]:
    """`value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def rows(value: object) -> list[dict[str, Any]]:
    """The JSON objects in `value`, if it is a list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def text(value: object) -> str:
    """`value` if it is text, else none."""
    return value if isinstance(value, str) else ""


def text_of(content: object) -> str:
    """The text of a message's content: itself, or that of its parts."""
    if isinstance(content, str):
        return content
    return "".join(text(part.get("text")) or text(part.get("refusal")) for part in rows(content))


def count(value: object) -> int:
    """`value` if it is a number of tokens that can be, else 0."""
    return value if isinstance(value, int) and 0 <= value <= SANE_TOKENS else 0


def sdk_object(model: type[T], raw: bytes) -> T:
    """The SDK's own object of an answer, fields that the SDK does not know included.

    Where its types refuse the answer it is built unchecked, as the SDK itself does.
    """
    try:
        return model.model_validate_json(raw)
    except ValueError:
        return model.model_construct(**document(raw))
