"""A simulated provider that goes down by itself."""

from __future__ import annotations

import pytest
from support import post_chat

from llm_fanout.sim import Box, SimConfig


@pytest.mark.parametrize("outage", ["0-0.05", "0-0.05:503", "0-0.02+0.03-0.05"])
def test_planned_outages_come_and_go_by_themselves(outage: str) -> None:
    """The config says when; after the last one it serves."""
    planned = 1 + outage.count("+")
    with Box(SimConfig(latency=0, outage=outage)) as box:
        while sum(each["end"] is not None for each in box.stats["outages"]) < planned:
            pass
        afterwards = _answered_at_last(box)
        stats = box.stats

    assert afterwards == 200
    assert len(stats["outages"]) == planned
    assert stats["outages"][-1]["first_answer_after"] >= stats["outages"][-1]["end"] > 0.04


def test_an_outage_may_outlast_the_box() -> None:
    """Stopping does not wait for its end."""
    with Box(SimConfig(outage="0-600")) as box:
        while not box.stats["outages"]:
            pass
        seen = box.stats["outages"]

    assert seen[0]["end"] is None


def _answered_at_last(box: Box) -> int:
    """The first status; the end of an outage is noted a moment before the port is open."""
    while True:
        try:
            return post_chat(box.url, "again")[0]
        except ConnectionRefusedError:
            pass
