"""The key of an endpoint: what carries it, and that no text shows it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout import ConfigError
from llm_fanout.llm.credential import REMEMBERED, SHORTEST_SECRET, Credential

KEY = "sk-0123456789-abcdef"


def changing(*keys: str) -> Credential:
    """One that gives another of `keys` each time it is asked."""
    rest = iter(keys)

    async def valid_now() -> str:
        return next(rest)

    return Credential(valid_now, "openai/x")


async def test_a_key_that_does_not_change_has_its_headers_at_hand() -> None:
    """They are the same each time; those of one that changes are only to be had by asking."""
    credential = Credential(KEY, "openai/x")

    assert await credential.headers() == credential.fixed == {"Authorization": f"Bearer {KEY}"}
    assert await credential.headers() is await credential.headers()
    assert changing(KEY).fixed is None


@pytest.mark.parametrize("key", ["two words", "line\n", "tab\tbed", "schl\u00fcssel"])
async def test_a_key_that_no_header_can_hold(key: str) -> None:
    """It is refused, and not shown: one that is stated at once, one that a function gives when it is asked."""
    with pytest.raises(ConfigError, match="non-ASCII") as stated:
        Credential(key, "openai/x")
    with pytest.raises(ConfigError, match="'openai/x' has a space") as given:
        await changing(key).headers()

    assert key not in f"{stated.value} {given.value}"


async def test_the_last_keys_are_kept_out_of_texts() -> None:
    """Of keys that change as many as are remembered; one that comes again takes the place of no other."""
    keys = [f"sk-{number:02}-{KEY}" for number in range(REMEMBERED)]
    credential = changing(*keys, *[keys[-1]] * REMEMBERED)
    for _ in range(2 * REMEMBERED):
        await credential.headers()

    assert credential.blot(" ".join(keys)) == " ".join(["***"] * REMEMBERED)


def test_what_other_headers_say_is_kept_out_too() -> None:
    """Each word that is long enough to be a key."""
    credential = Credential("none", "openai/x", secrets=["Basic gate-0123456789", "eu"])

    assert credential.blot("none of gate-0123456789 in eu, Basic") == "none of *** in eu, Basic"


@given(st.integers(SHORTEST_SECRET, len(KEY)), st.text("abc "), st.text("abc "))
def test_a_key_that_was_cut_off_is_not_shown(length: int, before: str, after: str) -> None:
    """As soon as what there is of it could tell that it is one, all of that goes, and nothing else."""
    shown = Credential(KEY, "openai/x").blot(f"{before}{KEY[:length]}<{after}")

    assert shown == f"{before}***<{after}"
