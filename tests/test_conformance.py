"""The quick ones of the probes that our users' pains became: see benchmarks/conformance. Orders and counts, no times."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.conformance.measure import Finding, measure
from benchmarks.conformance.probes import PROBES, Probe
from benchmarks.conformance.seen import Seen
from benchmarks.conformance.witness import Arrival


def probe(number: int) -> Probe:
    return next(each for each in PROBES if each.number == number)


async def ours(number: int, home: Path) -> dict[str, int]:
    finding = await measure(probe(number), "llm_fanout", Path(sys.executable), home)
    assert finding.verdict != "n.a.", finding.note
    return finding.counts


async def test_untold_refusal(tmp_path: Path) -> None:
    """Of 40 prompts, one refused without a time: all are served, and one request more is sent."""
    assert await ours(5, tmp_path) == {"sent": 41, "served": 40, "peak": 4, "failed": 0}


async def test_told_wait_holds_no_slot(tmp_path: Path) -> None:
    """While the first four calls wait as told, the other 36 are served in the four slots."""
    counts = await ours(7, tmp_path)

    assert counts["served"] >= 36
    assert counts["peak"] == 4


async def test_waits_for_a_slot(tmp_path: Path) -> None:
    """20 calls for 5 slots: all are served, never more than 5 at once."""
    assert await ours(9, tmp_path) == {"sent": 20, "served": 20, "peak": 5, "failed": 0}


async def test_uses_its_concurrency(tmp_path: Path) -> None:
    """30 calls at 10 at once: the server sees 10."""
    assert await ours(16, tmp_path) == {"sent": 30, "served": 30, "peak": 10, "failed": 0}


async def test_healthy_calls_pass_a_refused_one(tmp_path: Path) -> None:
    """With one slot, two healthy calls are served although the first was refused."""
    counts = await ours(17, tmp_path)

    assert counts["served"] >= 2
    assert counts["peak"] == 1


async def test_permits_come_back(tmp_path: Path) -> None:
    """After 25 calls that failed once, all 20 slots are used again, and no more."""
    assert await ours(19, tmp_path) == {"sent": 110, "served": 85, "peak": 20, "failed": 0}


async def test_what_is_not_there_is_not_judged(tmp_path: Path) -> None:
    """A probe of a feature that a contender does not have gives no verdict, and a reason."""
    finding = await measure(probe(12), "llm_fanout", Path(sys.executable), tmp_path)

    assert finding == Finding("n.a.", "no race")


@pytest.mark.parametrize(("after", "passed"), [(0.5, False), (1.05, True)])
def test_a_probe_can_fail(after: float, passed: bool) -> None:
    """A request sent half a second after a refusal that said one second fails the first probe; one after it passes."""
    refused = Arrival(0.0, 1, 0, 1, 1, "x", status=429, left=0.0)
    others = [Arrival(0.0, item + 1, item, 1, 1, "x", status=200, left=0.1) for item in range(1, 40)]
    again = Arrival(after, 41, 0, 2, 1, "x", status=200, left=after + 0.1)

    assert probe(1).judge(Seen([refused, *others, again])).passed is passed
