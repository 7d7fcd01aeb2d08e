"""What a simulated provider may be told to be."""

from __future__ import annotations

from typing import Any

import pytest

from llm_fanout import ConfigError
from llm_fanout.sim import SimConfig


def test_parse_reads_numbers_and_faults() -> None:
    """Names of fields are fields, other names are faults with their shares."""
    config = SimConfig.parse("rpm=300, burst=20,500=0.05,hang=0.02,latency=0.5,seed=7,answer_tokens=9")

    assert config == SimConfig(rpm=300, burst=20, latency=0.5, seed=7, answer_tokens=9, faults={"500": 0.05, "hang": 0.02})


def test_parse_of_nothing_is_the_default() -> None:
    """An empty text asks for nothing special."""
    assert SimConfig.parse("") == SimConfig()


def test_bursts_default_to_ten_seconds() -> None:
    """Requests and tokens that may come at once are what ten seconds bring; a stated burst scales the tokens' one."""
    default, stated = SimConfig(rpm=60, tpm=600), SimConfig(rpm=60, tpm=600, burst=30)

    assert (default.request_burst, default.token_burst) == (10, 100)
    assert (stated.request_burst, stated.token_burst) == (30, 300)
    assert (SimConfig().request_burst, SimConfig(tpm=600).token_burst) == (1, 100)


@pytest.mark.parametrize(
    "text", ["rpm", "rpm=many", "=", "nonsense=0.5", "500=1.5", "500=-1", "500=0.6,hang=0.6", "rpm=nan", "rpm=0"]
)
def test_nonsense_is_refused(text: str) -> None:
    """A part that cannot be is a ConfigError that says what can."""
    with pytest.raises(ConfigError, match=r"number|known|between|share"):
        SimConfig.parse(text)


@pytest.mark.parametrize(
    "field", [{"latency": -1}, {"jitter": float("inf")}, {"answer_tokens": 0}, {"burst": 0.5}, {"rpm": "x"}]
)
def test_figures_out_of_range_are_refused(field: dict[str, Any]) -> None:
    """Every figure is checked by name."""
    with pytest.raises(ConfigError, match=next(iter(field))):
        SimConfig(**field)
