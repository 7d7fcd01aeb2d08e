"""Which request gets which fault."""

from __future__ import annotations

import json
import random

import pytest

from llm_fanout.sim.faults import STATUSES, Fates, error_answer


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
    """Markers in the text set the fault, the latency and the answer; what makes no sense in them is passed over."""
    fates = Fates({}, 1.0, 0.0, 0)

    asked = fates.next("[[fault:502]] [[latency:0.25]] [[answer:yes, indeed]]")
    nonsense = fates.next("[[fault:none]] [[latency:soon]]")

    assert (asked.fault, asked.latency, asked.answer) == ("502", 0.25, "yes, indeed")
    assert (nonsense.fault, nonsense.latency, nonsense.answer) == (None, 1.0, None)


@pytest.mark.parametrize("fault", STATUSES)
def test_errors_look_like_a_providers(fault: str) -> None:
    """JSON with an error object, or a proxy's page."""
    answer = error_answer(fault, random.Random(1))

    assert 400 <= answer.status < 600
    if answer.headers["Content-Type"] == "text/html":
        assert b"<html>" in answer.body
    else:
        assert json.loads(answer.body)["error"]["message"]


def test_half_of_the_refusals_say_when() -> None:
    """An injected 429 names a wait, or leaves it to the caller."""
    answers = [error_answer("429", random.Random(seed)) for seed in range(100)]

    told = [float(answer.headers["retry-after"]) for answer in answers if "retry-after" in answer.headers]

    assert 30 < len(told) < 70
    assert all(0.5 <= wait <= 1.5 for wait in told)
