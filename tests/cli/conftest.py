"""What the tests of commands share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """Three prompts, in the three forms that a row may have."""
    rows = [
        '{"id": "a", "prompt": "[[answer:one]]"}',
        '{"id": 7, "messages": [{"role": "user", "content": "[[answer:two]]"}], "max_tokens": 5}',
        '"[[answer:three]]"',
        "",
    ]
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(rows))
    return path
