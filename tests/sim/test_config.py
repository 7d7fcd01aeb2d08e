"""What a simulated provider may be told to be."""

from __future__ import annotations

from typing import Any

import pytest

from llm_fanout import ConfigError
from llm_fanout.sim import SimConfig
from llm_fanout.sim.faults import FAULTS


def test_parse_reads_numbers_and_faults() -> None:
    """Names of fields are fields, other names are faults with their shares."""
    config = SimConfig.parse("rpm=300, burst=20,500=0.05,hang=0.02,latency=0.5,seed=7,answer_tokens=9")

    assert config == SimConfig(rpm=300, burst=20, latency=0.5, seed=7, answer_tokens=9, faults={"500": 0.05, "hang": 0.02})


def test_parse_of_nothing_is_the_default() -> None:
    """An empty text asks for nothing special."""
    assert SimConfig.parse("") == SimConfig()


def test_parse_reads_words() -> None:
    """Fields that are words are read as such, and whole figures are whole."""
    said = "window=minute,window_seconds=2,settle=reserved,hints=nginx,headers=azure,outage=1-2+3-4:503"

    config = SimConfig.parse(f"{said},itpm=10,otpm=20,rpd=30,max_in_flight=4")

    assert config == SimConfig(
        window="minute",
        window_seconds=2,
        settle="reserved",
        hints="nginx",
        headers="azure",
        outage="1-2+3-4:503",
        itpm=10,
        otpm=20,
        rpd=30,
        max_in_flight=4,
    )
    assert isinstance(config.max_in_flight, int)


def test_bursts_default_to_ten_seconds() -> None:
    """Requests that may come at once are what ten seconds bring; a stated burst is as many seconds' worth of tokens."""
    default, stated = SimConfig(rpm=60, tpm=600), SimConfig(rpm=60, tpm=600, burst=30)

    assert (default.request_burst, default.burst_seconds) == (10, 10)
    assert (stated.request_burst, stated.burst_seconds) == (30, 30)
    assert (SimConfig().request_burst, SimConfig(tpm=600).burst_seconds) == (1, 10)


def test_only_groq_makes_up_a_days_requests() -> None:
    """Elsewhere a day has the requests that were stated, or no limit."""
    assert SimConfig(rpm=10).day_requests is None
    assert SimConfig(rpm=10, rpd=5).day_requests == 5
    assert SimConfig(rpm=10, headers="groq").day_requests == 14_400
    assert SimConfig(headers="groq").day_requests is None


def test_a_window_must_hold_a_request() -> None:
    """A calendar window so short that no request ever fits is a mistake."""
    with pytest.raises(ConfigError, match="no whole request"):
        SimConfig(rpm=20, window="minute", window_seconds=2)

    assert SimConfig(rpm=20, window_seconds=2).rpm == 20


@pytest.mark.parametrize("name", ["window", "settle", "hints", "headers"])
def test_words_are_checked(name: str) -> None:
    """A word that is none says which there are."""
    with pytest.raises(ConfigError, match=f"{name} must be one of .*, got 'odd'"):
        SimConfig.parse(f"{name}=odd")


def test_outages_are_checked() -> None:
    """A span that is none is refused when it is said, not when it is due."""
    with pytest.raises(ConfigError, match="outage must"):
        SimConfig(outage="later")


@pytest.mark.parametrize(
    "text", ["rpm", "rpm=many", "=", "nonsense=0.5", "500=1.5", "500=-1", "500=0.6,hang=0.6", "rpm=nan", "rpm=0", "seed=inf"]
)
def test_nonsense_is_refused(text: str) -> None:
    """A part that cannot be is a ConfigError that says what can."""
    with pytest.raises(ConfigError, match=r"number|knows no|between|share"):
        SimConfig.parse(text)


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_has_its_share(name: str) -> None:
    """Each name that is listed can be said, whatever characters it has."""
    assert SimConfig.parse(f"rpm=60,{name}=0.05").faults == {name: 0.05}


def test_a_misspelt_name_is_told_what_is_like_it() -> None:
    """Names that come close are named, and where the others are listed."""
    with pytest.raises(ConfigError, match=r"knows no '429-rest'; known are 429-reset.*sim --faults"):
        SimConfig.parse("429-rest=0.1")
    with pytest.raises(ConfigError, match=r"knows no 'qqqq'; `llm-fanout sim --faults` lists"):
        SimConfig.parse("qqqq=0.1")


@pytest.mark.parametrize(
    "field", [{"latency": -1}, {"jitter": float("inf")}, {"answer_tokens": 0}, {"burst": 0.5}, {"rpm": "x"}]
)
def test_figures_out_of_range_are_refused(field: dict[str, Any]) -> None:
    """Every figure is checked by name."""
    with pytest.raises(ConfigError, match=next(iter(field))):
        SimConfig(**field)
