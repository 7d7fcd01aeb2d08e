"""Many texts in little room: short ones whole, long ones cut to what the others leave, and the rest of these later."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from itertools import count

from .rowfiles.lines import json_text

KEPT = 8_000_000  # characters of answers that were cut: the rests of the newest calls, whatever their number
FIELDS = len(', "from": , "answer": "", "characters": , "rest": ".@"') + 5 * 12  # of an entry; numbers of up to 12 digits
_REST = re.compile(r"([0-9]{1,12}\.[0-9]{1,12})@([0-9]{1,12})")

Entry = dict[str, object]


class Excerpts:
    """Cuts texts to a common measure, and keeps those that it has cut. A character counts as often as JSON needs it to."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[int, str]] = OrderedDict()
        self._size = 0
        self._numbers = count(1)

    def cut(self, texts: Sequence[tuple[int, str]], room: int) -> list[Entry]:
        """What is shown of these texts: fields for the entry of each, in their order, `answer` and if it is cut `characters`
        (of the whole) and `rest` (what `read_on` takes).

        Args:
            texts: Indexes and texts.
            room: Characters of all these fields together.
        """
        number = next(self._numbers)
        share = share_of([_size(text) + FIELDS for _, text in texts], room) - FIELDS
        return [self._shown(f"{number}.{index}", index, text, 0, share) for index, text in texts]

    def read_on(self, rest: str, room: int) -> Entry | None:
        """What comes next of a text that was cut: the fields of `cut`, and `from`, where it begins; None if there is no such
        rest, or it was dropped for newer ones.
        """
        found = _REST.fullmatch(rest)
        if found is None or found[1] not in self._kept:
            return None
        index, text = self._kept[found[1]]
        return self._shown(found[1], index, text, int(found[2]), room - FIELDS)

    def _shown(self, key: str, index: int, text: str, start: int, share: int) -> Entry:
        entry: Entry = {"index": index}
        if start:
            entry["from"] = start
        end = start + _fitting(text[start : start + share], share)
        entry["answer"] = text[start:end]
        if end < len(text):
            self._keep(key, index, text)
            entry |= {"characters": len(text), "rest": f"{key}@{end}"}
        return entry

    def _keep(self, key: str, index: int, text: str) -> None:
        if key in self._kept:
            return
        self._kept[key] = (index, text)
        self._size += len(text)
        while self._size > KEPT and len(self._kept) > 1:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._size -= len(dropped)


def share_of(sizes: Sequence[int], room: int) -> int:
    """The most that each may have, if those that need less leave the rest of theirs to the others."""
    for number, size in enumerate(sorted(sizes)):
        share = room // (len(sizes) - number)
        if size > share:
            return share
        room -= size
    return max(sizes, default=0)


def _fitting(text: str, share: int) -> int:
    """How many characters of `text`, from its start, fit."""
    if _size(text) <= share:
        return len(text)
    return bisect_right(range(1, len(text) + 1), share, key=lambda end: _size(text[:end]))


def _size(text: str) -> int:
    return len(json_text(text)) - 2
