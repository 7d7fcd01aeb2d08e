"""Rows as lines of JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from ..errors import FanOutError

# What JSON may hold as it is and a file of lines should not: DEL and C1 drive terminals, NEL, LS and PS end lines for
# many readers, and half of a surrogate pair (models cut emoji in two) has no UTF-8.
_TO_ESCAPE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def json_line(row: Mapping[str, object]) -> str:
    """A row as one line of JSON, its line break included; letters of all languages are written as they are."""
    try:
        return json_text(row) + "\n"
    except (TypeError, ValueError) as exc:
        raise FanOutError(f"result {row.get('id')!r} cannot be written as JSON: {exc}; write values that JSON has") from exc


def json_text(value: object) -> str:
    """A value as JSON on one line.

    Raises:
        TypeError, ValueError: It holds what JSON does not have.
    """
    return escaped(_encode(value), _TO_ESCAPE)


def escaped(text: str, unwanted: re.Pattern[str]) -> str:
    r"""The text with its `unwanted` characters as JSON would escape them: \u001b."""
    return unwanted.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
