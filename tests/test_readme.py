"""The README's code runs, and its claims about itself hold."""

from __future__ import annotations

import asyncio
import inspect
import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_every_block_of_python_runs(block: str) -> None:
    """Each block is a program of its own; async functions in it are run, too."""
    names: dict[str, object] = {}

    exec(compile(block, str(README), "exec"), names)
    for value in list(names.values()):
        if inspect.iscoroutinefunction(value) and not inspect.signature(value).parameters:
            asyncio.run(value())

    assert names


def test_it_is_short() -> None:
    """At most 150 lines."""
    assert len(TEXT.splitlines()) <= 150
