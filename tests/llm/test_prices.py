"""Prices per token."""

from __future__ import annotations

import pytest

from llm_fanout.llm.prices import context_window, rates


def test_known_models_have_three_rates() -> None:
    """Fresh input, output and cached input, in USD per token: cached is cheaper, output dearer."""
    found = rates("openai/gpt-4o-mini", 100)

    assert found is not None
    assert found == pytest.approx((0.15e-6, 0.6e-6, 0.075e-6))


@pytest.mark.parametrize("model", ["openai/nobody-knows-it", "nobody/gpt-4o-mini", "sim/gpt-4o-mini"])
def test_unknown_models_have_none(model: str) -> None:
    """No guess is made."""
    assert rates(model, 100) is None


def test_a_step_in_the_price_is_seen() -> None:
    """A model that costs more for long requests does so here."""
    short, long = rates("openai/gpt-5.4", 1_000), rates("openai/gpt-5.4", 500_000)

    assert short is not None
    assert long is not None
    assert long[0] > short[0]


def test_what_a_model_can_have_to_do_with() -> None:
    """Its context window, where the list has one."""
    assert context_window("openai/gpt-4") == 8_192
    assert context_window("openai/nobody-knows-it") is None
    assert context_window("sim/gpt-4") is None
