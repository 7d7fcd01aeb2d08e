"""`llm-fanout demo`."""

from __future__ import annotations

import re
import signal

import pytest
from commands import invoke

from llm_fanout import Report, Run


def test_demo_ends_without_a_comparison_if_nothing_succeeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted before the first answer, there is nothing to compare and nothing to divide by."""

    async def interrupted(run: Run[str]) -> Report[str]:
        signal.raise_signal(signal.SIGTERM)
        run.cancel()
        return await run

    monkeypatch.setattr("llm_fanout.cli.demo.report_of", interrupted)

    result = invoke("demo")

    assert result.exit_code == 143
    assert "0 succeeded, 0 failed, 120 not done" in result.stdout
    assert "one by one" not in result.stdout


def test_demo_compares_with_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo reports, and says how long the same calls would have taken one by one."""
    result = invoke("demo", "--calls", "100", "--seed", "3")

    assert result.exit_code == 0, result.output
    assert "100 calls in" in result.stdout
    assert "times as fast" in result.stdout
    assert re.search(r"the provider refused \d+, failed [1-9]\d* and left \d+ hanging", result.stdout)
