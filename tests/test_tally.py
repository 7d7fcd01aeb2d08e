"""The running numbers."""

from __future__ import annotations

import pytest

from llm_fanout import Result, Usage, clock
from llm_fanout.core.quota import Quota
from llm_fanout.tally import Tally


def test_time_runs_from_begin_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing before the run starts, and no more once it has ended."""
    now = [100.0]
    monkeypatch.setattr(clock, "now", lambda: now[0])
    tally = Tally(total=4)

    before = tally.summary().elapsed
    tally.begin()
    now[0] = 110.0
    tally.count(Result(index=0, id=0))
    during = tally.summary()
    tally.end()
    now[0] = 999.0

    assert (before, during.elapsed, tally.summary().elapsed) == (0.0, 10.0, 10.0)
    assert during.eta == 30.0


def test_usage_is_kept_by_model_and_size() -> None:
    """Calls of one model are added up by thousands of input tokens, so that steps in its price are seen."""
    tally = Tally()

    for size in (10, 20, 2_500):
        tally.count(Result(index=0, id=0, model="m/x", usage=Usage(size, 1)))

    assert [(each.request_size, each.calls, each.usage.input_tokens) for each in tally.summary().spending] == [
        (0, 2, 30),
        (2_000, 1, 2_500),
    ]


def test_what_held_the_quota_up_before_is_not_this_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only waits since the run first needed a quota count for what binds it."""
    quota = Quota()
    quota.held = {"requests": 500.0}
    tally = Tally()

    tally.waits_for(quota)
    tally.waits_for(quota)
    before = tally.summary().binding
    quota.held = {"requests": 500.0, "concurrency": 2.0}

    assert before == "provider"
    assert tally.summary().binding == "concurrency"
