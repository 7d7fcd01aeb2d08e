"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from support import in_thread

import llm_fanout
from llm_fanout.sim import Box, SimConfig
from llm_fanout.sim.box import _embedded

PACKAGE = Path(llm_fanout.__file__).parent
GUIDES = sorted((PACKAGE.parent / "docs").glob("*.md"))
MODULES = [
    ".".join(["llm_fanout", *path.relative_to(PACKAGE).with_suffix("").parts])
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The provider behind `sim/...` answers at once."""
    with Box(SimConfig(latency=0.05)) as box:
        monkeypatch.setitem(_embedded, os.getpid(), box)
        yield


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_the_examples_of_a_guide(path: Path) -> None:
    """Each runs as it stands, from top to bottom, and prints what it says."""
    failed, tried = in_thread(lambda: doctest.testfile(str(path), module_relative=False, encoding="utf-8"))

    assert tried
    assert failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module(name: str) -> None:
    """Each does what it says."""
    failed, _ = in_thread(lambda: doctest.testmod(import_module(name)))

    assert failed == 0
