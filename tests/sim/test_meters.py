"""How a provider counts."""

from __future__ import annotations

import pytest

from llm_fanout.sim.meters import Bucket, FixedWindow, Meter


def test_a_bucket_is_refilled_all_the_time() -> None:
    """The burst passes, and after it one unit for every second's worth."""
    bucket = Bucket(60, 60, burst=2)
    bucket.take(2, 0.0)

    assert bucket.wait(1, 0.0) == 1.0
    assert bucket.wait(1, 1.0) == 0.0
    assert bucket.full_in(0.5) == 1.5


def test_a_window_counts_from_nothing_at_its_turn() -> None:
    """However late in the window it was used up, the next begins with all of it; nothing comes in between."""
    window = FixedWindow(10, 60, epoch=0.0)
    window.take(10, 59.0)

    assert window.wait(1, 59.5) == 0.5
    assert window.remaining(59.5) == 0
    assert window.wait(10, 60.0) == 0.0


def test_windows_turn_with_the_calendar() -> None:
    """The turn is a multiple of the window since the epoch, whenever the server started."""
    window = FixedWindow(1, 60, epoch=45.0)
    window.take(1, 0.0)

    assert window.full_in(0.0) == 15.0
    assert window.full_in(15.0) == 0.0


def test_a_window_takes_back_only_what_it_was_charged() -> None:
    """Unused tokens of an earlier window do not make room in this one."""
    window = FixedWindow(100, 60, epoch=0.0)
    window.take(80, 50.0)
    window.settle(80, 30, since=50.0, now=55.0)
    remaining_before = window.remaining(55.0)
    window.take(40, 61.0)
    window.settle(80, 0, since=50.0, now=62.0)

    assert remaining_before == 70
    assert window.remaining(62.0) == 60


def test_a_bucket_takes_back_at_any_time() -> None:
    """What was not used can be used by the next."""
    bucket = Bucket(600, 60, burst=100)
    bucket.take(100, 0.0)
    bucket.settle(100, 20, since=0.0, now=1.0)

    assert bucket.remaining(1.0) == 90


@pytest.mark.parametrize("meter", [Bucket(600, 60, 100), FixedWindow(600, 60, 0.0)], ids=["bucket", "window"])
def test_what_was_charged_survives_a_change_of_size(meter: Meter) -> None:
    """As many units are missing after it as before."""
    meter.take(50, 0.0)
    missing = {Bucket: 100, FixedWindow: 600}[type(meter)] - meter.remaining(0.0)

    meter.resize(60, 20, 0.0)

    assert missing == pytest.approx(50)
    assert {Bucket: 20, FixedWindow: 60}[type(meter)] - meter.remaining(0.0) == pytest.approx(50)
    assert meter.most == 60
