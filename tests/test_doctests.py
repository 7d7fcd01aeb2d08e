"""The examples in docstrings run as they are written, offline."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest
from support import in_thread

import llm_fanout

PACKAGE = Path(llm_fanout.__file__).parent
WITH_EXAMPLES = sorted(path for path in PACKAGE.rglob("*.py") if "    >>> " in path.read_text())


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.stem)
def test_examples_give_what_they_say(path: Path) -> None:
    """Every example of the module, in a thread of its own, where `asyncio.run` meets no other loop."""
    name = ".".join([PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts])

    failed, tried = in_thread(lambda: doctest.testmod(import_module(name)))

    assert failed == 0
    assert tried > 0
