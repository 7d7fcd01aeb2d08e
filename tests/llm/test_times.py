"""How long things may take: what is said, and that it is kept, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import httpx
import httpx2
import pytest
from support import FakeProvider, Simulate, consume

from llm_fanout import ConfigError, FanOut, Limits, Prompt, Stopped, clock
from llm_fanout.llm.times import Timeouts, seconds_until, timeouts_of

MakeFan = Callable[..., FanOut]


@pytest.mark.parametrize(
    ("timeout", "meant"),
    [
        (None, Timeouts(connect=10.0, idle=None, total=600.0)),
        (3, Timeouts(connect=10.0, idle=None, total=3.0)),
        (httpx2.Timeout(None, connect=2.0, read=7.0), Timeouts(connect=2.0, idle=7.0, total=600.0)),
        (httpx.Timeout(5.0), Timeouts(connect=5.0, idle=5.0, total=600.0)),
        (httpx2.Timeout(None), Timeouts(connect=10.0, idle=None, total=600.0)),
    ],
)
def test_what_a_timeout_says(timeout: Any, meant: Timeouts) -> None:
    """A number is the whole attempt; a Timeout of httpx2 or httpx sets its parts apart."""
    assert timeouts_of(timeout) == meant


@pytest.mark.parametrize(
    "timeout", [0, -1, inf, "5", True, httpx2.Timeout(None, connect=-1.0), httpx2.Timeout(None, read=0.0)]
)
def test_timeouts_out_of_range(timeout: Any) -> None:
    """Each part must be seconds above zero."""
    with pytest.raises(ConfigError, match="must be seconds > 0"):
        timeouts_of(timeout)


def test_what_a_deadline_says() -> None:
    """Seconds, or the seconds that are left until an aware datetime; none is none."""
    assert seconds_until(None) == inf
    assert seconds_until(90) == 90.0
    assert 3_590 < seconds_until(datetime.now(UTC) + timedelta(hours=1)) <= 3_600


@pytest.mark.parametrize(
    ("deadline", "match"),
    [
        (datetime(2099, 1, 1), "has no time zone"),
        (datetime(2001, 1, 1, tzinfo=UTC), r"has passed \d+,\d{3} days ago"),
        (0, "deadline must be seconds > 0"),
        ("tomorrow", "deadline must be seconds > 0"),
    ],
)
async def test_deadlines_that_cannot_be(provider: FakeProvider, fan_of: MakeFan, deadline: Any, match: str) -> None:
    """A naive, past or impossible deadline is refused by `map` and by `call`, before anything is sent."""
    fan = fan_of()

    with pytest.raises(ConfigError, match=match):
        fan.map(["x"], deadline=deadline)
    with pytest.raises(ConfigError, match=match):
        await fan.call("x", deadline=deadline)

    assert provider.asked == []


def test_a_hung_run_ends_at_its_deadline(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """Calls that hang are cut off exactly then; what was done is kept, the rest has Results, and the summary says why."""

    async def main() -> Any:
        async with fan_of(Limits(max_concurrency=2, adapt=False)) as fan:
            begun = clock.now()
            report = await fan.map([f"p{number}" for number in range(50)], deadline=10.5)
            return report, clock.now() - begun

    report, took = simulate(main)

    assert took == pytest.approx(10.5, abs=0.001)
    assert [result.ok for result in report] == [True] * 20 + [False] * 30
    assert report.summary.errors == {"not_attempted": 26, "deadline": 4}
    assert isinstance(report.summary.stopped, Stopped)
    assert report.summary.stopped.kind == "deadline"
    assert "the deadline of 10.5 s has passed" in str(report)


def test_a_hung_call_ends_at_its_deadline(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """`call` gives a Result whose error is the deadline, in that very instant; the same for an aware datetime."""
    provider.seconds = 1_000.0

    async def main() -> Any:
        async with fan_of() as fan:
            begun = clock.now()
            first = await fan.call("x", deadline=3.0)
            took = clock.now() - begun
            second = await fan.call("x", deadline=datetime.now(UTC) + timedelta(seconds=30))
            return first.error, took, second.error, clock.now() - begun - took

    error, took, other, later = simulate(main)

    assert (error.kind, other.kind) == ("deadline", "deadline")
    assert took == pytest.approx(3.0, abs=0.001)
    assert 20 < later <= 30


def test_an_iterated_run_ends_at_its_deadline(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """Whoever iterates an endless source gets what was done, and the loop ends."""

    def endless() -> Iterator[str]:
        while True:
            yield "x"

    async def main() -> Any:
        async with fan_of(Limits(max_concurrency=3, adapt=False)) as fan:
            run = fan.map(endless(), deadline=5.5)
            return [result.ok async for result in run], run.summary

    oks, summary = simulate(main)

    assert sum(oks) == 15
    assert summary.stopped.kind == "deadline"


def test_a_run_in_time_has_no_deadline(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """One that ends before says nothing of it, and leaves no timer."""

    async def main() -> Any:
        async with fan_of() as fan:
            report = await fan.map(["x"] * 3, deadline=100)
        loop: Any = asyncio.get_running_loop()
        return report.summary.stopped, [timer for timer in loop._scheduled if not timer.cancelled()]

    assert simulate(main) == (None, [])


def test_a_told_wait_beyond_the_deadline_fails_at_once(
    simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan
) -> None:
    """Told to come back after the deadline, a call does not wait for it: its error says how long it would have been."""
    provider.answers = [(429, {"retry-after": "90"}, b'{"error": {"message": "slow down"}}')]

    async def main() -> Any:
        async with fan_of() as fan:
            begun = clock.now()
            result = await fan.call("x", deadline=60)
            return result, clock.now() - begun

    result, took = simulate(main)

    assert took == pytest.approx(1.0)
    assert (result.error.kind, result.error.status, result.attempts) == ("rate_limited", 429, 1)
    assert "the next try would have been in 9" in result.error.message
    assert "later than its deadline or retry_for allows" in result.error.message


def test_a_told_wait_before_the_deadline_is_waited_for(
    simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan
) -> None:
    """The same refusal with more time left costs the wait only."""
    provider.answers = [(429, {"retry-after": "50"}, b'{"error": {"message": "slow down"}}')]

    async def main() -> Any:
        async with fan_of() as fan:
            return await fan.call("x", deadline=60)

    assert simulate(main).value == "x"


def test_an_attempts_timeout_is_the_clients(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """`timeout=` bounds each attempt, not the time in line; a Prompt's own word wins."""
    provider.seconds = 5.0

    async def main() -> Any:
        async with fan_of(Limits(max_concurrency=1, adapt=False), timeout=6.0, max_retries=0) as fan:
            return await fan.map(["a", "b", Prompt("c", timeout=2.0)])

    report = simulate(main)

    assert [result.ok for result in report] == [True, True, False]
    assert "2 s" in str(report[2].error)
    assert report[2].service_time == pytest.approx(2.0)
    assert [each.total for each in provider.timeouts] == [6.0, 6.0, 2.0]


def test_parts_of_a_timeout_reach_the_lane(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """An `httpx2.Timeout` as an option sets connect and read apart for each request."""

    async def main() -> None:
        async with fan_of(timeout=httpx2.Timeout(None, connect=2.0, read=7.0)) as fan:
            await fan.call("x")

    simulate(main)

    assert provider.timeouts == [Timeouts(connect=2.0, idle=7.0, total=600.0)]


def test_cancelling_a_call_cancels_its_request(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """The task that awaits `call` is cancelled: nothing of it is left."""
    provider.seconds = 100.0

    async def main() -> Any:
        async with fan_of() as fan:
            task = asyncio.ensure_future(consume(fan.call("x")))
            await asyncio.sleep(1)
            task.cancel()
            await asyncio.wait([task])
            return task.cancelled(), provider.running

    assert simulate(main) == (True, 0)
