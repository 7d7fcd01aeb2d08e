"""Several endpoints for one call, over real sockets: balanced, standing in for each other, closed when they are no use."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from support import consume

from llm_fanout import ConfigError, Endpoint, FanOut, Limits, Prompt, Report, Stopped
from llm_fanout.errors import Kind
from llm_fanout.providers import Request
from llm_fanout.sim import Box, SimConfig
from llm_fanout.sim.outages import OutageKind

# The signals that close a credential, a quota or an endpoint, and what the calls that met them end as.
CLOSING: dict[str, Kind] = {
    **dict.fromkeys(("insufficient_quota", "credit_balance_exhausted", "spend_limit", "usage_limit", "402"), "credit"),
    **dict.fromkeys(("429-anthropic-spend", "403-budget"), "credit"),
    **dict.fromkeys(("401", "403-region", "403-permission"), "auth"),
    **dict.fromkeys(("404-model", "404-url", "405", "415", "307"), "invalid"),
    "429-gemini-day": "rate_limited",
}
WIDE = Limits(max_concurrency=32)


def failing(fault: str) -> Box:
    return Box(SimConfig(latency=0.05, faults={fault: 1.0}))


@pytest.fixture
def good() -> Iterator[Box]:
    """A provider without faults."""
    with Box(SimConfig(latency=0.03)) as box:
        yield box


def at(box: Box, model: str = "sim/x", **more: object) -> Endpoint:
    return Endpoint(model, base_url=box.url, **more)  # type: ignore[arg-type]  # the fields of an Endpoint


def kinds(report: Report[str]) -> Counter[str]:
    return Counter(result.error.kind for result in report if result.error is not None)


@pytest.mark.parametrize("fault", CLOSING)
async def test_what_closes_a_quota_ends_the_run(fault: str) -> None:
    """Of 200 prompts, 32 at once, no more than 32 are sent; the others say that they were not attempted, and why."""
    with failing(fault) as box:
        async with FanOut(at(box), limits=WIDE) as fan:
            report = await fan.map([f"Number {number}" for number in range(200)], progress=False)
        requests = box.stats["requests"]

    assert requests <= 32
    assert kinds(report) == {CLOSING[fault]: requests, "not_attempted": 200 - requests}
    assert report.summary.stopped is not None
    last = report[199].error
    assert isinstance(last, Stopped)
    assert str(report[0].error) in str(last)


async def test_a_later_run_sends_one_probe_first() -> None:
    """Closed again, one request was made; open again, everybody goes on."""
    with failing("401") as box:
        async with FanOut(at(box), limits=WIDE) as fan:
            await fan.map(["a"] * 50, progress=False)
            before = box.stats["requests"]
            again = await fan.map(["b"] * 50, progress=False)
            probes = box.stats["requests"] - before
    with Box(SimConfig(latency=0.02), port=int(box._url.split(":")[-1].split("/")[0])) as healed:
        async with FanOut(Endpoint("sim/x", base_url=healed.url), limits=WIDE) as fan:
            fine = await fan.map(["c"] * 50, progress=False)

    assert (probes, kinds(again)) == (1, {"auth": 1, "not_attempted": 49})
    assert fine.summary.succeeded == 50


# By how a provider dies: answers that it may have sent into connections which it then cut, at most one for each slot.
@pytest.mark.parametrize(("death", "lost"), [("503", 0), ("refused", 32)])
async def test_a_provider_that_dies_half_way(good: Box, death: OutageKind, lost: int) -> None:
    """With a fallback all of 400 are answered, none of them twice; each Result says by whom."""
    with Box(SimConfig(latency=0.05)) as first:
        async with FanOut(at(first, "sim/first"), limits=WIDE, fallbacks=[at(good, "sim/spare")]) as fan:
            run = fan.map([f"Number {number}" for number in range(400)], progress=False)
            task = asyncio.ensure_future(consume(run))
            while first.stats["answered"] < 150:
                await asyncio.sleep(0.02)
            first.fail(death)
            report = await task
        by_first, by_spare = first.stats["answered"], good.stats["answered"]

    assert report.summary.succeeded == 400
    assert 400 <= by_first + by_spare <= 400 + lost  # complete answers, by the boxes' own count
    models = Counter(result.model for result in report)
    assert models["sim/spare"] == by_spare
    assert by_first - lost <= models["sim/first"] <= by_first
    assert {result.endpoint for result in report if result.model == "sim/spare"} == {good.url}
    assert "answered by" in str(report)


@pytest.mark.parametrize("fault", CLOSING)
async def test_a_closed_provider_is_stood_in_for(good: Box, fault: str) -> None:
    """Whatever closed it: the others answer everything, and it is asked no more than once for each slot."""
    with failing(fault) as box:
        async with FanOut(at(box), limits=WIDE, fallbacks=[at(good, "sim/spare")]) as fan:
            report = await fan.map([f"Number {number}" for number in range(100)], progress=False)
        requests = box.stats["requests"]

    assert (report.summary.succeeded, report.summary.stopped) == (100, None)
    assert requests <= 32


async def test_the_fault_of_a_call_is_not_carried_elsewhere(good: Box) -> None:
    """A bad request, and what was filtered, would be so at the other, too."""
    prompts = ["[[fault:400]]", "[[fault:400-filter]]", "[[fault:400-context]]", "fine"]
    with Box(SimConfig(latency=0.02)) as first:
        async with FanOut(at(first), fallbacks=[at(good, "sim/spare")]) as fan:
            report = await fan.map(prompts, progress=False)

    assert kinds(report) == {"invalid": 1, "filtered": 1, "too_large": 1}
    assert good.stats["requests"] == 1  # the long one, for another may have room for it


async def test_fallbacks_go_in_their_order(good: Box) -> None:
    """The second one is asked only where the first is of no use, either; a prompt may have its own."""

    async def mine(request: Request) -> str:
        return "by hand"

    own = Endpoint("mine/x", provider=mine)
    with failing("402") as broke, failing("401") as locked:
        async with FanOut(at(broke), fallbacks=[at(locked, "sim/second"), at(good, "sim/third")]) as fan:
            first = await fan.call("x")
            second = await fan.map([Prompt("y", fallbacks=[own]), Prompt("z", model=own)], progress=False)

    assert (first.model, first.attempts) == ("sim/third", 3)
    assert [result.model for result in second] == ["mine/x", "mine/x"]
    assert (second[1].text, second[1].endpoint) == ("by hand", "")


async def test_keys_are_balanced_by_what_each_has_left() -> None:
    """Two accounts, one with three times the rate of the other, are used in that proportion, and neither is refused."""
    with (
        Box(SimConfig(rpm=1_200, burst=20, latency=0.02)) as small,
        Box(SimConfig(rpm=3_600, burst=60, latency=0.02)) as big,
    ):
        keys = [
            at(small, "sim/x", api_key="key-small", limits=Limits(rpm=1_200, burst=10)),
            at(big, "sim/x", api_key="key-big", limits=Limits(rpm=3_600, burst=30)),
        ]
        async with FanOut(keys) as fan:
            report = await fan.map([f"Number {number}" for number in range(400)], progress=False)
        by_small, by_big = small.stats["answered"], big.stats["answered"]
        refused = small.stats["refused"] + big.stats["refused"]

    assert (report.summary.succeeded, by_small + by_big) == (400, 400)
    assert 2.0 <= by_big / by_small <= 4.5
    assert refused == 0


async def test_a_closed_key_leaves_the_others(good: Box) -> None:
    """One of two keys is wrong: what it refused goes to the other, and the run goes on with that."""
    with failing("401") as wrong:
        async with FanOut([at(wrong, api_key="key-wrong"), at(good, api_key="key-good")], limits=WIDE) as fan:
            report = await fan.map([f"Number {number}" for number in range(200)], progress=False)
        requests = wrong.stats["requests"]

    assert (report.summary.succeeded, report.summary.stopped) == (200, None)
    assert requests <= 32


async def test_what_does_not_go_together_is_refused() -> None:
    """No endpoint at all, the same one twice, or a key said for several."""
    for models, more, match in (
        ([], {}, "must be 'provider/model'"),
        ([5], {}, "must be 'provider/model'"),
        (["sim/a", "sim/a"], {}, "twice"),
        (["sim/a", "sim/b"], {"api_key": "k"}, "say them there"),
        (Endpoint("sim/a"), {"base_url": "http://127.0.0.1:1"}, "say them there"),
        ("sim/a", {"limits": 5}, "limits must be"),
    ):
        with pytest.raises(ConfigError, match=match):
            FanOut(models, **more)  # type: ignore[arg-type]  # the mistakes under test
