"""The prompt cache."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from llm_fanout.sim import prefixes as module
from llm_fanout.sim.asked import TEXT, Asked
from llm_fanout.sim.prefixes import Prefixes


def prompt(*parts: tuple[object, int], model: str = "m") -> Asked:
    """A prompt of such parts, with that many tokens each."""
    return Asked(model, "", sum(tokens for _, tokens in parts), None, TEXT, parts, {})


LONG, QUESTION = ({"role": "system", "content": "rules"}, 1_100), ({"role": "user", "content": "a"}, 100)


def test_what_was_answered_is_cached_up_to_where_it_differs() -> None:
    """By whole messages, in steps of 128 tokens."""
    cache = Prefixes()
    before = cache.cached(prompt(LONG, QUESTION))
    cache.keep(prompt(LONG, QUESTION))

    assert before == 0
    assert cache.cached(prompt(LONG, QUESTION)) == 1_152
    assert cache.cached(prompt(LONG, ({"role": "user", "content": "b"}, 100))) == 1_024


@pytest.mark.parametrize(
    "parts",
    [
        [QUESTION, LONG],
        [({"role": "system", "content": "other rules"}, 1_100)],
        [QUESTION],
    ],
)
def test_other_beginnings_are_not_cached(parts: Sequence[tuple[object, int]]) -> None:
    """In another order, of another text, or too short."""
    cache = Prefixes()
    cache.keep(prompt(LONG, QUESTION))
    cache.keep(prompt(QUESTION))

    assert cache.cached(prompt(*parts)) == 0


def test_every_model_has_its_own() -> None:
    """What one has read, another has not."""
    cache = Prefixes()
    cache.keep(prompt(LONG, model="one"))

    assert cache.cached(prompt(LONG, model="two")) == 0


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many come, a bounded number is kept."""
    monkeypatch.setattr(module, "KEPT", 2)
    cache, prompts = Prefixes(), [prompt((text, 2_048)) for text in "abc"]
    for each in prompts:
        cache.keep(each)

    assert [cache.cached(each) for each in prompts] == [0, 2_048, 2_048]
