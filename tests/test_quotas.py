"""The process-wide quotas: who meets whom, whose figures hold, what is forgotten."""

from __future__ import annotations

import asyncio
import gc
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support import job

from llm_fanout import Limits, clock
from llm_fanout.core.access import Reach
from llm_fanout.core.job import Cost, Job, Outcome
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


def keyed(url: str, key: str, model: str) -> QuotaKey:
    """The key for these."""
    return QuotaKey.of(f"https://{url}.example/v1", key, model)


@pytest.mark.parametrize(
    ("reach", "closed"), [("quota", set()), ("credential", {"sibling"}), ("endpoint", {"sibling", "neighbour"})]
)
def test_what_closes_one_quota_reaches_its_kin(reach: Reach, closed: set[str]) -> None:
    """Those of the same credential, or of the same endpoint; the same word as a key at another endpoint is another one."""
    quotas, holder = Quotas(), Holder()
    names = {
        "sibling": ("a", "k", "n"),
        "neighbour": ("a", "l", "m"),
        "namesake": ("b", "k", "m"),
        "stranger": ("b", "l", "n"),
    }
    own = quotas.join(keyed("a", "k", "m"), Limits(), holder).quota
    others = {name: quotas.join(keyed(*words), Limits(), holder).quota for name, words in names.items()}

    kin = list(own.kin(reach))

    assert kin == [others[name] for name in names if name in closed]


def test_kin_come_and_go(now: list[float]) -> None:
    """Whoever has joined by now counts, and nobody who was forgotten."""
    quotas, one, other = Quotas(), Holder(), Holder()
    own = quotas.join(keyed("a", "k", "m"), Limits(), one).quota
    alone = list(own.kin("credential"))
    hold = quotas.join(keyed("a", "k", "n"), Limits(), other)
    joined = list(own.kin("credential"))
    hold.leave()
    len(quotas)

    assert (alone, joined) == ([], [hold.quota])
    assert list(own.kin("credential")) == []


def test_a_closed_quota_is_remembered(now: list[float]) -> None:
    """Also when nobody holds it for a while: the next client sends one call to see, and not as many as it has slots."""
    quotas, one, other = Quotas(), Holder(), Holder()
    hold = quotas.join(KEY, Limits(), one)
    hold.quota.access.close(None, now[0])
    hold.leave()

    kept = len(quotas)
    again = quotas.join(KEY, Limits(), other)

    assert kept == 1
    assert again.quota is hold.quota


def test_closing_and_joining_at_once_lock_nobody_out() -> None:
    """One thread closes a credential, so that the engine asks for kin; others join, restate and retune meanwhile."""
    quotas, holder = Quotas(), Holder()
    hold = quotas.join(keyed("a", "k", "m"), Limits(), holder)
    no_credit = Outcome(closes="credential", closes_at_once=True, error=PermissionError("no credit"))

    async def refused() -> Outcome:
        return no_credit

    async def close() -> None:
        for _ in range(300):
            asked, step = job(hold.quota, refused)
            quotas.engine.hand_in([asked])
            while not step.outcomes:
                await asyncio.sleep(0)

    def join(number: int) -> None:
        for each in range(300):
            joined = quotas.join(keyed("a", "k", f"{number} {each}"), Limits(rpm=60), holder)
            joined.state(Limits(rpm=60 + each))

    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(join, number) for number in range(2)]
        waiting.append(pool.submit(lambda: asyncio.run(close())))
        for each in waiting:
            each.result(timeout=60)

    assert hold.quota.closure is not None
