"""The provider's side of a quota."""

from __future__ import annotations

from typing import Any

import pytest

from llm_fanout.sim import SimConfig
from llm_fanout.sim.account import Account, Charge, Refusal


def account(**config: Any) -> Account:
    return Account(SimConfig(**config), now=0.0)


def remaining(account: Account, name: str, now: float = 0.0) -> float:
    return next(quota.meter.remaining(now) for quota in account.quotas if quota.name == name)


def charged(outcome: Charge | Refusal) -> Charge:
    assert isinstance(outcome, Charge)
    return outcome


def test_requests_beyond_the_burst_are_refused_until_time_has_passed() -> None:
    """The burst passes, the next is refused with the wait, and after it one more passes."""
    asked = account(rpm=60, burst=2)

    outcomes = [asked.admit(0, 0, 10.0) for _ in range(3)]
    later = asked.admit(0, 0, 11.0)

    assert [type(outcome) for outcome in (*outcomes, later)] == [Charge, Charge, Refusal, Charge]
    assert outcomes[2] == Refusal("requests", 60, 1, 1.0)


def test_a_refused_request_costs_nothing() -> None:
    """Requests and tokens are taken together or not at all."""
    asked = account(rpm=60, tpm=600, burst=2)  # twenty tokens at once
    asked.admit(20, 0, 0.0)

    refused = asked.admit(5, 5, 0.0)

    assert refused == Refusal("tokens", 600, 10, 1.0)
    assert remaining(asked, "requests") == 1


@pytest.mark.parametrize(
    ("config", "reason", "requested"),
    [
        ({"rpd": 2}, "requests_day", 1),
        ({"tpm": 600}, "tokens", 40),
        ({"itpm": 240}, "input_tokens", 30),
        ({"otpm": 120}, "output_tokens", 10),
        ({"itpm": 240, "otpm": 6_000}, "input_tokens", 30),
    ],
)
def test_each_quota_refuses_by_its_own_name(config: dict[str, float], reason: str, requested: float) -> None:
    """Requests of a day, tokens together, and tokens in and out apart each count what is theirs."""
    asked = account(**config)

    outcomes = [asked.admit(30, 10, 0.0) for _ in range(4)]
    refusal = next(outcome for outcome in outcomes if isinstance(outcome, Refusal))

    assert (refusal.reason, refusal.requested) == (reason, requested)


def test_a_days_requests_may_come_at_once() -> None:
    """They come back over the day."""
    asked = account(rpd=24)

    outcomes = [asked.admit(0, 0, 0.0) for _ in range(25)]

    assert [type(outcome) for outcome in outcomes].count(Charge) == 24
    assert outcomes[-1] == Refusal("requests_day", 24, 1, pytest.approx(3_600))


def test_calendar_windows_hold_their_part_of_the_minute() -> None:
    """With two-second windows, 300 a minute are ten in each, at once, and ten more after the turn."""
    asked = account(rpm=300, window="minute", window_seconds=2)

    first = [type(asked.admit(0, 0, 1.5)) for _ in range(11)]
    second = [type(asked.admit(0, 0, 2.0)) for _ in range(11)]

    assert first == second == [Charge] * 10 + [Refusal]


def test_a_day_turns_at_midnight() -> None:
    """With calendar windows, whatever their length, a day's requests are counted anew each day."""
    asked = Account(SimConfig(rpd=1, window="minute", window_seconds=2), now=0.0, epoch=86_400.0 - 10)

    first, second, third = (asked.admit(0, 0, now) for now in (0.0, 4.0, 10.0))

    assert [type(first), second, type(third)] == [Charge, Refusal("requests_day", 1, 1, 6.0), Charge]


def test_unused_tokens_come_back() -> None:
    """What was charged and not used can be used by the next; input is used whatever the answer."""
    asked = account(tpm=600, itpm=600, otpm=600)  # bursts of 100
    charge = charged(asked.admit(10, 90, 0.0))

    asked.settle(charge, 20, 0.0)

    assert [remaining(asked, name) for name in ("tokens", "input_tokens", "output_tokens")] == [70, 90, 80]


def test_what_was_reserved_can_stay_charged() -> None:
    """`settle="reserved"` gives nothing back."""
    asked = account(tpm=600, settle="reserved")
    charge = charged(asked.admit(10, 90, 0.0))

    asked.settle(charge, 0, 0.0)

    assert remaining(asked, "tokens") == 0


def test_settling_does_not_touch_requests() -> None:
    """A request that was made stays made."""
    asked = account(rpm=60, burst=1)

    asked.settle(charged(asked.admit(5, 5, 0.0)), 0, 0.0)

    assert remaining(asked, "requests") == 0


@pytest.mark.parametrize("window", ["bucket", "minute"])
def test_a_request_that_can_never_pass_says_so(window: str) -> None:
    """More tokens than a minute has can never fit: there is no time to wait for."""
    refusal = account(tpm=600, window=window).admit(600, 1, 0.0)

    assert refusal == Refusal("too_large", 600, 601, None)


def test_only_so_many_calls_are_served_at_once() -> None:
    """One above `max_in_flight` is refused until another is over."""
    asked = account(max_in_flight=2)

    before = [asked.enter() for _ in range(3)]
    asked.leave()
    after = asked.enter()

    assert before == [None, None, Refusal("in_flight", 2, 3, None)]
    assert after is None


def test_retuning_carries_over_what_is_charged() -> None:
    """A smaller limit misses as much as the larger one did; a new limit begins unused, one that is lifted is gone."""
    asked = account(rpm=60, tpm=600)
    charge = charged(asked.admit(0, 50, 0.0))

    asked.retune(SimConfig(tpm=1_200, otpm=600), 0.0)
    levels = {quota.name: (quota.limit, quota.meter.remaining(0.0)) for quota in asked.quotas}
    asked.settle(charge, 0, 0.0)

    assert levels == {"tokens": (1_200, 150), "output_tokens": (600, 100)}
    assert remaining(asked, "tokens") == 200
    assert remaining(asked, "output_tokens") == 100


def test_calls_under_way_stay_under_way_when_fewer_are_allowed() -> None:
    """A smaller `max_in_flight` fills as calls end."""
    asked = account(max_in_flight=3)
    for _ in range(3):
        asked.enter()

    asked.retune(SimConfig(max_in_flight=2), 0.0)
    asked.leave()
    still_full = asked.enter()
    asked.leave()

    assert still_full == Refusal("in_flight", 2, 3, None)
    assert asked.enter() is None
