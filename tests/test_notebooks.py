"""The notebooks run from top to bottom."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
SHOWN = {  # what the outputs of each have in them
    "01_fan_out": ["<table ", "120 calls", "120/120"],
    "02_agents": [
        "<table ",
        "planner",
        "budget - ",
        "Hello from the SDK.",
        "Paris with 5 votes; 10 calls saved",
        "after 2 tries",
        "All of it in one sentence.",
        "chapter 1 with terms; chapter 2 with terms",
        "tokens cached",
        "red",
        "the run was cancelled",
    ],
}


def outputs(notebook: Any) -> str:
    """Everything that the cells wrote, as text."""
    texts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            texts.append(output.get("text", "") + str(output.get("data", "")))
    return "\n".join(texts)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")  # of the kernel's own packages
def test_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell runs, what it is about shows, and nothing is said of things left open."""
    monkeypatch.setenv("IPYTHONDIR", os.fspath(tmp_path))
    notebook = nbformat.read(path, as_version=4)

    NotebookClient(notebook, timeout=100, resources={"metadata": {"path": str(path.parent)}}).execute()
    said = outputs(notebook)

    assert [shown for shown in SHOWN[path.stem] if shown not in said] == []
    assert "ipywidgets" not in said
    assert "nclosed" not in said
    assert "never awaited" not in said
