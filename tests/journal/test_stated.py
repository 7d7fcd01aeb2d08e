"""A journal as it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_fanout import ConfigError
from llm_fanout.journal import Journal


def test_a_path_is_a_journal_with_the_defaults(tmp_path: Path) -> None:
    """A text and a Path mean the same; a Journal is itself."""
    said = Journal(tmp_path / "run.db", durability="power", store_prompts=False)

    assert Journal.of(str(tmp_path / "run.db")).place == Journal.of(tmp_path / "run.db").place == said.place
    assert Journal.of(said) is said
    assert (Journal.of("run.db").durability, Journal.of("run.db").store_prompts) == ("process", True)


def test_the_place_does_not_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is meant from where the process is when it is used first."""
    monkeypatch.chdir(tmp_path)

    assert Journal("run.db").place == tmp_path / "run.db"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"path": ""}, "a journal is the path of a file, got ''"),
        ({"path": 3}, "a journal is the path of a file, got 3"),
        ({"path": b"run.db"}, "a journal is the path of a file"),
        ({"path": "run.db", "durability": "full"}, "durability must be 'process' or 'power', got 'full'"),
        ({"path": "run.db", "store_prompts": "no"}, "store_prompts must be True or False, got 'no'"),
        ({"path": "run.db", "notes": None}, "notes must be dicts by name, .*got None"),
        ({"path": "run.db", "notes": {"who": "me"}}, "notes must be dicts by name, .*got {'who': 'me'}"),
        ({"path": "run.db", "notes": {3: {}}}, "notes must be dicts by name, .*got {3: {}}"),
        ({"path": "run.db", "notes": {"spent usd": {"lost": 0.0}}}, "no name beginning with 'spent '"),
    ],
)
def test_what_cannot_work_is_refused(arguments: dict[str, Any], match: str) -> None:
    """Before anything starts, with the value and what to say instead."""
    with pytest.raises(ConfigError, match=match):
        Journal(**arguments)
