"""Which request gets which fault."""

from __future__ import annotations

import re

import pytest
from support import post_chat

from llm_fanout.sim import Box, SimConfig
from llm_fanout.sim.faults import FAULTS, MARKS, Fates


def test_the_same_seed_decides_the_same() -> None:
    """Two runs with one seed meet the same faults after the same latencies; another seed decides otherwise."""

    def history(seed: int) -> list[tuple[str | None, float]]:
        fates = Fates({"500": 0.3, "hang": 0.2}, 1.0, 0.3, seed)
        return [(fate.fault, fate.latency) for fate in (fates.next("x") for _ in range(50))]

    assert history(1) == history(1)
    assert history(1) != history(2)


def test_shares_are_met() -> None:
    """Of many requests each fault meets about its share, and the mean latency is as asked for."""
    fates = Fates({"500": 0.1, "hang": 0.05}, 2.0, 0.3, 3)

    drawn = [fates.next("x") for _ in range(5_000)]

    assert sum(fate.fault == "500" for fate in drawn) == pytest.approx(500, rel=0.15)
    assert sum(fate.fault == "hang" for fate in drawn) == pytest.approx(250, rel=0.2)
    assert sum(fate.latency for fate in drawn) / len(drawn) == pytest.approx(2.0, rel=0.05)


def test_a_prompt_may_ask_for_its_fate() -> None:
    """Marks in the text set fault, latency, wait and answer; what makes no sense in them is passed over."""
    fates = Fates({}, 1.0, 0.0, 0)

    asked = fates.next("[[fault:502]] [[latency:0.25]] [[wait:0.4]] [[answer:yes, indeed]]")
    nonsense = fates.next("[[fault:none]] [[latency:soon]] [[wait:long]]")

    assert (asked.fault, asked.latency, asked.wait, asked.answer) == ("502", 0.25, 0.4, "yes, indeed")
    assert (nonsense.fault, nonsense.latency, nonsense.wait, nonsense.answer) == (None, 1.0, None, None)


def test_a_prompt_may_script_its_tries() -> None:
    """Each try of the same text meets the next fault, in order, and after the last one it is answered."""
    fates = Fates({}, 1.0, 0.0, 0)
    script = "[[faults:500, 429-retry-after,ok,nonsense,hang]]"

    tries = [fates.next(f"a {script}").fault for _ in range(6)]
    other = fates.next(f"b {script}").fault

    assert tries == ["500", "429-retry-after", None, "hang", None, None]
    assert other == "500"


def test_a_script_is_played_over_the_wire() -> None:
    """Whoever asks again meets what comes next, and the box has counted all of it."""
    with Box(SimConfig(latency=0, jitter=0)) as box:
        statuses = [post_chat(box.url, "[[faults:500,429-date,ok,503]]")[0] for _ in range(5)]
        stats = box.stats

    assert statuses == [500, 429, 200, 503, 200]
    assert stats["faults"] == {"500": 1, "429-date": 1, "503": 1}


def test_a_script_goes_before_chance() -> None:
    """A try that the script answers meets no fault, whatever the shares are."""
    fates = Fates({"500": 1.0}, 1.0, 0.0, 0)

    assert [fates.next("[[faults:ok,503]]").fault for _ in range(3)] == [None, "503", None]
    assert fates.next("no script").fault == "500"


def test_every_fault_has_a_meaning() -> None:
    """One line each; and no name that the parts of a config, or of a script, would break."""
    assert all(meaning and "\n" not in meaning for meaning in FAULTS.values())
    assert all(re.fullmatch(r"[\w-]+", name) for name in FAULTS)


@pytest.mark.parametrize("mark", MARKS)
def test_what_is_said_of_marks_is_so(mark: str) -> None:
    """Each mark that is documented changes the fate."""
    plain = Fates({}, 1.0, 0.0, 0).next("x")

    fate = Fates({}, 1.0, 0.0, 0).next(mark)

    assert (fate.fault, fate.latency, fate.answer, fate.wait) != (plain.fault, plain.latency, plain.answer, plain.wait)
