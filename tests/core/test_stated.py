"""What a user states of an account, checked once."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout.core.stated import FIRST_WIDTH, MOST_WIDTH, Limits
from llm_fanout.errors import ConfigError


@pytest.mark.parametrize("name", ["max_concurrency", "rpm", "tpm", "itpm", "otpm", "rpd", "burst"])
@pytest.mark.parametrize("value", [0, -1, nan, inf, "60", True])
def test_a_figure_that_cannot_be_is_refused(name: str, value: Any) -> None:
    """Every figure is a finite number above 0, and the error names the one that is not, and what it must be."""
    wanted = {"max_concurrency": "a whole number >= 1", "burst": "a number >= 1 .*"}.get(name, "a number > 0")

    with pytest.raises(ConfigError, match=f"^{name} must be {wanted}, got {value!r}; leave it out for the default$"):
        Limits(**{name: value})


@pytest.mark.parametrize(
    ("figures", "match"),
    [
        ({"max_concurrency": 1.5}, "max_concurrency must be a whole number >= 1, got 1.5"),
        ({"max_concurrency": 0.5}, "max_concurrency must be a whole number >= 1, got 0.5"),
        ({"rpm": 60, "burst": 0.5}, "burst must be a number >= 1"),
        ({"burst": 5}, "burst=5 needs rpm"),
        ({"headroom": 1}, "headroom must be a share from 0 to below 1, got 1"),
        ({"headroom": -0.1}, "headroom"),
        ({"headroom": nan}, "headroom"),
        ({"headroom": "0.3"}, "headroom"),
        ({"headroom": False}, "headroom"),
        ({"adapt": "no"}, "adapt must be True or False, got 'no'"),
        ({"adapt": None}, "adapt must be True or False, got None"),
        ({"adapt": 0}, "adapt must be True or False, got 0"),
        ({"settle": "charged"}, "settle must be 'used' or 'reserved', got 'charged'"),
    ],
)
def test_what_contradicts_itself_is_refused(figures: dict[str, Any], match: str) -> None:
    """A half slot, a burst below one call or of nothing, a share that is none, half a yes, and an unknown way to settle."""
    with pytest.raises(ConfigError, match=match):
        Limits(**figures)


@pytest.mark.parametrize(
    "figures",
    [
        {"max_concurrency": 1},
        {"max_concurrency": 8.0},
        {"rpm": 0.5},
        {"rpm": 60, "burst": 1},
        {"headroom": 0},
        {"headroom": 0.99},
        {"settle": "used"},
        {"settle": "reserved"},
    ],
)
def test_the_edges_of_the_ranges_belong_to_them(figures: dict[str, Any]) -> None:
    """The smallest and the largest that may be said."""
    stated = Limits(**figures)

    assert {name: getattr(stated, name) for name in figures} == figures


@pytest.mark.parametrize(
    ("limits", "first", "most"),
    [
        (Limits(), FIRST_WIDTH, MOST_WIDTH),
        (Limits(max_concurrency=5), 5, 5),
        (Limits(max_concurrency=5_000), 5_000, 5_000),
        (Limits(max_concurrency=5, adapt=False), 5, 5),
        (Limits(adapt=False), inf, inf),
    ],
)
def test_a_stated_width_is_the_start_and_the_ceiling(limits: Limits, first: float, most: float) -> None:
    """Where none is stated it starts at 64 and is learnt up to 1,000; where nothing is learnt there is none."""
    assert (limits.first_width, limits.most_width) == (first, most)


def test_nothing_said_is_nothing_stated() -> None:
    """`Limits()` states no figure, and so joins whatever is there."""
    assert Limits().stated() == {}


def test_only_what_differs_is_stated() -> None:
    """Figures, whether to learn, the headroom and the settling count as stated as soon as they are not the defaults."""
    limits = Limits(rpm=60, burst=None, headroom=0.25, adapt=False, settle="reserved", max_concurrency=3)

    assert limits.stated() == {"max_concurrency": 3, "rpm": 60, "headroom": 0.25, "adapt": False, "settle": "reserved"}


@given(
    limits=st.builds(
        Limits,
        rpm=st.floats(1, 1e9),
        tpm=st.none() | st.floats(1, 1e9),
        burst=st.none() | st.floats(1, 1e3),
        headroom=st.floats(0, 0.9),
        adapt=st.booleans(),
        settle=st.sampled_from([None, "used", "reserved"]),
    )
)
def test_what_is_stated_says_it_all(limits: Limits) -> None:
    """Limits that are made anew from what was stated are the same."""
    assert Limits(**limits.stated()) == limits


def test_limits_do_not_change() -> None:
    """A statement is a value: it can be shared between clients."""
    with pytest.raises(FrozenInstanceError):
        Limits().rpm = 5  # type: ignore[misc]  # the mistake under test
