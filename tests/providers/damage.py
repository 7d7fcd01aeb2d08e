"""Answers that went wrong somewhere: what hostile and broken servers send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st


def _deep(levels: int) -> Any:
    value: Any = {}
    for level in range(levels):
        value = {"content": value} if level % 2 else [value]
    return value


# As JSON, so that each draw is a value of its own.
JUNK = [
    "null",
    "true",
    "-1",
    "0.5",
    "Infinity",
    "1" + "0" * 30,
    '""',
    '"x"',
    '"\\ud800"',
    "[]",
    "{}",
    "[5]",
    '{"a": 1}',
    "[[{}]]",
]
JUNK += ['[{"index": 0}]', json.dumps(_deep(400))]


@st.composite
def damaged(draw: st.DrawFn, whole: Any) -> Any:
    """`whole`, with some of its values replaced by what nobody expects there."""
    whole = [deepcopy(whole)]
    for _ in range(draw(st.integers(1, 4))):
        inside, key = draw(st.sampled_from(list(_places(whole))))
        inside[key] = json.loads(draw(st.sampled_from(JUNK)))
    return whole[0]


def _places(value: Any, depth: int = 12) -> Iterator[tuple[Any, Any]]:
    """Where there is a value: each container and key."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys if depth else ():
        yield value, key
        yield from _places(value[key], depth - 1)
