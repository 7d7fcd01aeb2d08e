"""Rows by key."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from llm_fanout.journal.index import KEY, Index

KEYS = st.lists(st.binary(min_size=KEY, max_size=KEY), max_size=50)


@given(KEYS, KEYS)
def test_every_key_has_its_row(keys: list[bytes], others: list[bytes]) -> None:
    """The last of several; what is not there has none."""
    pairs = sorted((key, row) for row, key in enumerate(keys))
    index, rows = Index(pairs), dict(pairs)

    assert [index.row(key) for key in keys] == [rows[key] for key in keys]
    assert [index.row(key) for key in others] == [rows.get(key) for key in others]
    assert len(index) == len(keys)


def test_it_is_small() -> None:
    """As small as its keys and rows themselves, give or take what is kept ready for more."""
    index = Index((number.to_bytes(KEY, "big"), number) for number in range(10_000))
    size = sys.getsizeof(index._keys) + sys.getsizeof(index._rows)

    assert index.row((9_999).to_bytes(KEY, "big")) == 9_999
    assert size < 10_000 * (KEY + 8) * 1.3
