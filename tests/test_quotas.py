"""The process-wide quotas: who meets whom, whose figures hold, what is forgotten."""

from __future__ import annotations

import gc
import logging
from typing import Any

import pytest

from llm_fanout import Limits, clock
from llm_fanout.core.job import Cost, Job
from llm_fanout.core.lanes import Lane
from llm_fanout.quotas import QuotaKey, Quotas

KEY = QuotaKey.of("https://api.example/v1/", "sk-secret", "model")


class Holder:
    """Anything that can be collected."""


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock that stands still until it is told otherwise."""
    seconds = [1_000.0]
    monkeypatch.setattr(clock, "now", lambda: seconds[0])
    return seconds


def test_the_same_key_gives_the_same_quota() -> None:
    """Two who name the same place, credential and model share one quota; another model has its own."""
    quotas, one, other = Quotas(), Holder(), Holder()

    first = quotas.join(KEY, Limits(), one)
    second = quotas.join(QuotaKey.of("https://api.example/v1", "sk-secret", "model"), Limits(), other)
    third = quotas.join(QuotaKey.of("https://api.example/v1", "sk-secret", "another"), Limits(), other)

    assert first.quota is second.quota
    assert third.quota is not first.quota


def test_the_key_does_not_hold_the_credential() -> None:
    """A quota's key says nothing of the API key."""
    assert "sk-secret" not in repr(KEY)


def test_the_newest_statement_holds_for_everybody(caplog: pytest.LogCaptureFixture) -> None:
    """A figure that is stated anew retunes the quota, with a warning if another holder said otherwise."""
    quotas, one, other = Quotas(), Holder(), Holder()
    first = quotas.join(KEY, Limits(rpm=60, max_concurrency=5), one)

    with caplog.at_level(logging.WARNING, "llm_fanout"):
        quotas.join(KEY, Limits(rpm=600), other)

    assert first.quota.limits() == Limits(rpm=600, max_concurrency=5)
    assert "rpm of model changes from 60 to 600" in caplog.text


def test_joining_without_figures_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """`Limits()` joins what is there, silently."""
    quotas, one, other = Quotas(), Holder(), Holder()
    first = quotas.join(KEY, Limits(rpm=60, max_concurrency=5), one)

    quotas.join(KEY, Limits(), other)

    assert first.quota.limits() == Limits(rpm=60, max_concurrency=5)
    assert not caplog.records


def test_a_figure_goes_with_its_last_holder(now: list[float]) -> None:
    """What nobody states any more does not hold any more."""
    quotas, one, other = Quotas(), Holder(), Holder()
    first = quotas.join(KEY, Limits(rpm=60), one)
    second = quotas.join(KEY, Limits(max_concurrency=3), other)

    first.leave()
    first.leave()
    len(quotas)

    assert second.quota.limits() == Limits(max_concurrency=3)


def test_a_new_statement_without_other_holders_is_no_change(caplog: pytest.LogCaptureFixture) -> None:
    """Running a notebook cell again with other figures, its old client gone, warns nobody."""
    quotas, one, other = Quotas(), Holder(), Holder()
    first = quotas.join(KEY, Limits(rpm=60), one)
    first.quota.take(Cost(), clock.now())
    first.leave()

    again = quotas.join(KEY, Limits(rpm=6_000), other)

    assert again.quota is first.quota
    assert not caplog.records


def test_a_quota_is_forgotten_when_it_is_as_good_as_new(now: list[float]) -> None:
    """Held by nobody, nothing in flight, buckets full: only then is it forgotten."""
    quotas, one = Quotas(), Holder()
    hold = quotas.join(KEY, Limits(rpm=60), one)
    lease = hold.quota.take(Cost(), now[0])
    assert len(quotas) == 1
    del one
    gc.collect()

    in_flight = len(quotas)
    hold.quota.give(lease, None, now[0])
    not_full = len(quotas)
    now[0] += 1.01
    full = len(quotas)

    assert (in_flight, not_full, full) == (1, 1, 0)


def test_a_quota_that_somebody_waits_for_is_kept(now: list[float]) -> None:
    """Its lane is paused, say: whoever joins meets it, and not a second one with a second burst."""
    quotas, one = Quotas(), Holder()
    hold = quotas.join(KEY, Limits(), one)
    lane = Lane()
    quotas.engine._schedule.pause(lane)
    waiting = Job(hold.quota, lane=lane)
    quotas.engine._schedule.add(waiting, now[0])
    del one
    gc.collect()

    kept = len(quotas)
    quotas.engine._schedule.cancel(waiting)

    assert (kept, len(quotas)) == (1, 0)


def test_closing_and_opening_again_gives_no_second_burst(now: list[float]) -> None:
    """A new client on the same account finds the bucket as the last one left it."""
    quotas = Quotas()
    holder = Holder()
    first = quotas.join(KEY, Limits(rpm=60), holder)
    first.quota.give(first.quota.take(Cost(), now[0]), None, now[0])
    first.leave()

    again = quotas.join(KEY, Limits(rpm=60), holder)

    assert again.quota.ready_at(Cost(), now[0]) > now[0]
