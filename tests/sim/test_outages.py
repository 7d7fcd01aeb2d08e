"""When a provider is down."""

from __future__ import annotations

import pytest

from llm_fanout import ConfigError
from llm_fanout.sim.outages import Outage, outages_in


def test_outages_are_written_as_spans() -> None:
    """From-to, of either kind, joined by plus; nothing is no outage."""
    assert outages_in("10-70") == (Outage(10, 70, "refused"),)
    assert outages_in("0-0.5:503 + 2-3:refused") == (Outage(0, 0.5, "503"), Outage(2, 3, "refused"))
    assert outages_in("") == ()


@pytest.mark.parametrize("text", ["10", "10-", "-5-10", "10-70:500", "70-10", "10-10", "10-70+60-80", "10-70,80-90", "a-b"])
def test_nonsense_is_refused(text: str) -> None:
    """What is no span, ends before it begins, or overlaps another is a ConfigError."""
    with pytest.raises(ConfigError, match="outage must"):
        outages_in(text)
