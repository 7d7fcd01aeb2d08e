"""`fan.limits`: read, written while calls are under way, taken back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from support import FakeProvider, Simulate, consume

from llm_fanout import ConfigError, Endpoint, FanOut, Limits

MakeFan = Callable[..., FanOut]
MODEL = "openai/fake"
URL = "http://127.0.0.1:1/v1"


async def test_what_is_in_force_can_be_read(provider: FakeProvider, fan_of: MakeFan) -> None:
    """By model: what was stated, and the calls at once as of now; a model that nobody used has none."""
    fan = fan_of(Limits(rpm=600))

    assert dict(fan.limits) == {MODEL: Limits(rpm=600, max_concurrency=64)}
    assert (len(fan.limits), list(fan.limits)) == (1, [MODEL])
    assert repr(fan.limits) == repr(dict(fan.limits))
    assert "openai/other" not in fan.limits
    with pytest.raises(KeyError, match=r"no limits of 'openai/other'.*there are those of \['openai/fake'\]"):
        fan.limits["openai/other"]
    with pytest.raises(KeyError, match="openai/fake"):
        del fan.limits["openai/other"]


async def test_a_named_quota_has_its_name(provider: FakeProvider) -> None:
    """Models that share a quota are one entry, under the quota's name."""
    one = Endpoint("openai/a", base_url=URL, api_key="key-of-pool", quota="pool")
    other = Endpoint("openai/b", base_url=URL, api_key="key-of-pool", quota="pool")
    fan = FanOut(one)
    await fan.call("x", model=other)

    fan.limits["pool"] = Limits(rpm=77)

    assert list(fan.limits) == ["pool"]
    assert fan.limits["pool"].rpm == 77
    await fan.aclose()


def test_it_can_be_read_while_routes_are_added(fan_of: MakeFan) -> None:
    """Another thread may use another model in that instant: reading goes on over what was there."""
    fan = fan_of(Limits(rpm=5))
    fan.limits["sim/other"] = Limits(rpm=6)

    names = []
    for name in fan.limits:
        names.append(name)
        fan.limits[f"sim/{len(names)}"] = Limits()

    assert names == [MODEL, "sim/other"]
    assert fan.limits[MODEL].rpm == 5


def test_a_run_speeds_up(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """Ten times the rate, stated while a run waits for it: from then on it goes ten times as fast."""

    async def main() -> Any:
        async with fan_of(Limits(rpm=60, burst=1)) as fan:
            run = fan.map(["x"] * 200)
            waiting = asyncio.ensure_future(consume(run))
            await asyncio.sleep(20.5)
            before = run.summary.attempts
            fan.limits[MODEL] = Limits(rpm=600, burst=1)
            report = await waiting
            return before, report.summary.elapsed, fan.limits[MODEL].rpm

    before, elapsed, rpm = simulate(main)

    assert before == 21
    assert elapsed == pytest.approx(20.5 + 18 + 1, abs=1)
    assert rpm == 600


def test_more_at_once(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """The same for the calls at once: those that wait start in that instant."""

    async def main() -> Any:
        async with fan_of(Limits(max_concurrency=1, adapt=False)) as fan:
            waiting = asyncio.ensure_future(consume(fan.map(["x"] * 20)))
            await asyncio.sleep(0.5)
            fan.limits[MODEL] = Limits(max_concurrency=10, adapt=False)
            await asyncio.sleep(0.01)
            running = provider.running
            await waiting
            return running

    running = simulate(main)

    assert running == 10  # though little had been pulled for one slot
    assert provider.most == 10


def test_up_and_down_while_a_thousand_calls_run(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """From one slot to fifty and back, twice: at once on the way up, as soon as calls have ended on the way down."""

    async def main() -> Any:
        running = []
        async with fan_of(Limits(max_concurrency=1, adapt=False)) as fan:
            run = fan.map(["x"] * 1_000)
            waiting = asyncio.ensure_future(consume(run))
            for _ in range(2):
                await asyncio.sleep(4.5)
                fan.limits[MODEL] = Limits(max_concurrency=50, adapt=False)
                await asyncio.sleep(0.1)
                running.append(provider.running)
                await asyncio.sleep(3.1)
                fan.limits[MODEL] = Limits(max_concurrency=1, adapt=False)
                await asyncio.sleep(1.1)
                running.append(provider.running)
            fan.limits[MODEL] = Limits(max_concurrency=50, adapt=False)
            return running, (await waiting).summary.succeeded

    assert simulate(main) == ([50, 1, 50, 1], 1_000)
    assert provider.most == 50


def test_the_newest_statement_holds_for_both(
    simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan, caplog: pytest.LogCaptureFixture
) -> None:
    """Two clients of one account: whoever spoke last is obeyed by both, with a warning; what it takes back is gone."""

    async def main() -> Any:
        async with fan_of(Limits(rpm=60)) as one, fan_of(Limits(rpm=600)) as other:
            seen = [one.limits[MODEL].rpm, other.limits[MODEL].rpm]
            one.limits[MODEL] = Limits(rpm=1_200)
            seen += [one.limits[MODEL].rpm, other.limits[MODEL].rpm]
            del one.limits[MODEL]
            seen += [one.limits[MODEL].rpm, other.limits[MODEL].rpm]
            del other.limits[MODEL]
            return [*seen, one.limits[MODEL].rpm]

    with caplog.at_level(logging.WARNING, "llm_fanout"):
        seen = simulate(main)

    assert seen == [600, 600, 1_200, 1_200, 600, 600, None]
    assert [record.getMessage() for record in caplog.records] == [
        "rpm of fake changes from 60 to 600 for everybody who uses it",
        "rpm of fake changes from 600 to 1200 for everybody who uses it",
    ]


def test_limits_of_a_model_that_comes_later(
    simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another model may be given its limits before its first call."""
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-later")

    async def main() -> Any:
        async with fan_of() as fan:
            fan.limits["openai/later"] = Limits(rpm=60, burst=1)
            report = await fan.map(["x"] * 5, model="openai/later")
            return report.summary.elapsed, sorted(fan.limits)

    assert simulate(main) == (pytest.approx(5), [MODEL, "openai/later"])


async def test_anything_but_limits_is_refused(provider: FakeProvider, fan_of: MakeFan) -> None:
    """A number is no Limits."""
    with pytest.raises(ConfigError, match="limits must be Limits"):
        fan_of().limits[MODEL] = 5  # type: ignore[assignment]  # the mistake under test
