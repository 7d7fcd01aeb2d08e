"""Rows as lines of JSON, and a file of them that appears whole or not at all."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from .errors import FanOutError


def write_rows(path: str | os.PathLike[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows as JSON lines to a new file (mode 0600) that then takes the place of `path`; a link is followed, and what
    is no file (a pipe, a device) is written to as it is.
    """
    place = Path(path)
    if is_stream(place):
        with place.open("w", encoding="utf-8") as stream:
            stream.writelines(map(json_line, rows))
        return
    place = place.resolve()
    number, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    try:
        with open(number, "w", encoding="utf-8") as file:
            file.writelines(map(json_line, rows))
        os.replace(name, place)
    except BaseException:
        os.unlink(name)
        raise


def is_stream(place: Path) -> bool:
    """Whether `place` is there and neither a file nor a folder, but a pipe or a device."""
    return place.exists() and not place.is_file() and not place.is_dir()


# What JSON may hold as it is and a file of lines should not: DEL and C1 drive terminals, NEL, LS and PS end lines for
# many readers, and half of a surrogate pair (models cut emoji in two) has no UTF-8.
_TO_ESCAPE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def json_line(row: Mapping[str, object]) -> str:
    """A row as one line of JSON, its line break included; letters of all languages are written as they are."""
    try:
        line = json.dumps(row, ensure_ascii=False, allow_nan=False)
        return _TO_ESCAPE.sub(lambda found: f"\\u{ord(found[0]):04x}", line) + "\n"
    except (TypeError, ValueError) as exc:
        raise FanOutError(f"result {row.get('id')!r} cannot be written as JSON: {exc}; write values that JSON has") from exc
