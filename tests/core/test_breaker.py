"""When a provider is down: stop sending, and look once in a while whether it is back."""

from __future__ import annotations

from itertools import pairwise

from llm_fanout.core.breaker import FAILURES, FIRST_PROBE, LAST_PROBE, NO_PROBE, Breaker


def trusted() -> Breaker:
    """A breaker whose provider has answered once."""
    breaker = Breaker()
    breaker.answered(0.0)
    return breaker


def fail(breaker: Breaker, times: int, now: float, *, first: bool = True) -> None:
    """So many calls fail, none of them a probe."""
    for _ in range(times):
        breaker.failed(probe=NO_PROBE, first=first, now=now)


def opened(now: float = 100.0) -> Breaker:
    """A breaker that has just opened."""
    breaker = trusted()
    fail(breaker, FAILURES, now)
    return breaker


def test_a_row_of_failures_opens_it() -> None:
    """Six different calls in a row, and not one fewer."""
    breaker = trusted()

    fail(breaker, FAILURES - 1, 100.0)
    nearly = breaker.closed, breaker.is_open
    fail(breaker, 1, 100.0)

    assert nearly == (True, False)
    assert (breaker.closed, breaker.is_open) == (False, True)


def test_an_answer_between_them_starts_the_row_anew() -> None:
    """Failures count only in a row: an answer to a call that began after the first of them wipes them out."""
    breaker = trusted()

    fail(breaker, FAILURES - 1, 100.0)
    breaker.answered(100.0)
    fail(breaker, FAILURES - 1, 101.0)

    assert breaker.closed
    assert not breaker.is_open


def test_one_poison_call_cannot_open_it() -> None:
    """Only the first failure of a call counts: one that always fails fails alone."""
    breaker = trusted()

    fail(breaker, 1, 100.0)
    fail(breaker, 50, 101.0, first=False)

    assert breaker.closed
    assert not breaker.is_open


def test_repeated_failures_do_not_make_the_row_older() -> None:
    """A failure that does not count does not begin a row either: an answer from after the real beginning closes."""
    breaker = trusted()

    fail(breaker, 1, 90.0, first=False)
    fail(breaker, FAILURES, 100.0)
    breaker.answered(95.0)

    assert not breaker.closed


def test_the_row_begins_with_its_first_failure() -> None:
    """An answer to a call that began after that, though before the others failed, is news: it closes."""
    breaker = trusted()
    fail(breaker, 1, 100.0)
    fail(breaker, FAILURES, 103.0)

    breaker.answered(101.0)

    assert breaker.calm


def test_a_new_one_needs_a_whole_row_as_well() -> None:
    """Nothing has failed yet."""
    breaker = Breaker()

    fail(breaker, FAILURES - 1, 100.0)

    assert not breaker.is_open
    assert FAILURES == 6


def test_an_endpoint_that_never_answered_is_not_trusted() -> None:
    """It may be a wrong address; it opens all the same, and is probed, for whoever can go elsewhere."""
    breaker = Breaker()

    fail(breaker, 3 * FAILURES, 100.0)

    assert (breaker.trusted, breaker.is_open, breaker.closed) == (False, True, False)
    assert breaker.ready_at() == 100.0 + FIRST_PROBE


def test_the_first_answer_ever_earns_trust() -> None:
    """From then on a failure during an outage uses up nobody's retries."""
    breaker = Breaker()
    fail(breaker, FAILURES, 100.0)

    breaker.answered(101.0)
    fail(breaker, FAILURES, 102.0)

    assert breaker.trusted
    assert breaker.is_open
    assert not breaker.closed


def test_probes_start_after_one_second_then_two_then_every_three_and_a_half() -> None:
    """The first probe goes a second after it opened; each that fails doubles the wait, up to four."""
    breaker = opened(100.0)

    now, waits = 100.0, []
    for _ in range(5):
        ready = breaker.ready_at()
        waits.append(ready - now)
        probe = breaker.take(ready)
        now = ready + 0.5
        breaker.failed(probe=probe, first=False, now=now)

    assert waits == [FIRST_PROBE, 2.0, LAST_PROBE, LAST_PROBE, LAST_PROBE] == [1.0, 2.0, 3.5, 3.5, 3.5]


def test_one_probe_at_a_time() -> None:
    """While a probe is out, the next one does not go before this one has had some seconds."""
    breaker = opened(100.0)

    probe = breaker.take(101.0)
    while_out = breaker.ready_at()
    breaker.failed(probe=probe, first=False, now=101.1)

    assert while_out == 101.0 + LAST_PROBE
    assert breaker.ready_at() == 103.1


def test_a_probe_that_hangs_is_followed_by_another() -> None:
    """It was accepted and is never answered: the next goes some seconds after it, and so on."""
    breaker = opened(100.0)

    starts = [101.0]
    for _ in range(3):
        breaker.take(starts[-1])
        starts.append(breaker.ready_at())

    assert [later - earlier for earlier, later in pairwise(starts)] == [LAST_PROBE] * 3


def test_the_end_of_an_earlier_probe_does_not_end_the_later_one() -> None:
    """Whether it fails or is cancelled, when the next probe may go is up to the one that went last."""
    breaker = opened(100.0)
    first, second = breaker.take(101.0), breaker.take(104.5)
    third = breaker.take(108.0)

    breaker.failed(probe=first, first=True, now=108.5)
    breaker.released(second)
    stale = breaker.ready_at()
    breaker.failed(probe=third, first=True, now=109.0)

    assert stale == 108.0 + LAST_PROBE
    assert breaker.ready_at() == 111.0


def test_a_probe_of_an_earlier_outage_does_not_end_that_of_the_next() -> None:
    """It hung while the provider came back and went away again."""
    breaker = opened(100.0)
    old = breaker.take(101.0)
    breaker.answered(101.5)
    fail(breaker, FAILURES, 200.0)
    breaker.take(201.0)

    breaker.failed(probe=old, first=True, now=201.5)

    assert breaker.ready_at() == 201.0 + LAST_PROBE


def test_calls_that_were_out_already_do_not_put_off_the_probe() -> None:
    """Failures that come in after it opened change nothing of when the provider is looked at."""
    breaker = opened(100.0)

    fail(breaker, 20, 100.9)

    assert breaker.ready_at() == 101.0


def test_failures_of_others_do_not_end_the_probe() -> None:
    """A call from before the outage that fails is not the probe's answer."""
    breaker = opened(100.0)
    breaker.take(101.0)

    fail(breaker, 3, 101.5)

    assert breaker.ready_at() == 101.0 + LAST_PROBE


def test_the_answer_to_the_probe_closes_it() -> None:
    """Any answer to a call that began during the outage: everybody goes on, and the row is forgotten."""
    breaker = opened(100.0)
    breaker.take(101.0)

    breaker.answered(101.0)

    assert (breaker.closed, breaker.calm, breaker.is_open) == (True, True, False)


def test_the_next_outage_begins_with_a_short_wait_again() -> None:
    """How long the last outage was does not matter to the next."""
    breaker = opened(100.0)
    for now in (101.0, 103.0):
        breaker.failed(probe=breaker.take(now), first=False, now=now)
    breaker.take(106.5)
    breaker.answered(107.0)

    fail(breaker, FAILURES, 200.0)

    assert breaker.ready_at() == 200.0 + FIRST_PROBE


def test_a_probe_that_fails_after_it_was_closed_is_a_failure_like_any_other() -> None:
    """Another answer came first: the probe does not lengthen the wait of the next outage, and counts in its row."""
    breaker = opened(100.0)
    probe = breaker.take(100.2)
    breaker.answered(100.5)

    breaker.failed(probe=probe, first=True, now=102.0)
    fail(breaker, FAILURES - 1, 102.0)

    assert not breaker.closed
    assert breaker.ready_at() == 102.0 + FIRST_PROBE


def test_old_answers_do_not_close_it() -> None:
    """Answers to calls that began before the row did say nothing about now."""
    breaker = opened(100.0)

    for _ in range(2 * FAILURES):
        breaker.answered(99.9)

    assert not breaker.closed
    assert breaker.ready_at() == 101.0


def test_an_old_answer_makes_up_for_one_failure() -> None:
    """While it is still closed, each of them takes back one step, and no more."""
    breaker = trusted()
    fail(breaker, FAILURES - 1, 100.0)

    breaker.answered(99.0)
    breaker.answered(99.0)
    fail(breaker, 2, 100.0)
    held = breaker.closed
    fail(breaker, 1, 100.0)

    assert held
    assert not breaker.closed


def test_a_probe_that_told_nothing_is_followed_by_another_at_once() -> None:
    """It was cancelled: the next call is the probe, without a longer wait."""
    breaker = opened(100.0)
    probe = breaker.take(101.0)

    breaker.released(probe)

    assert breaker.ready_at() <= 101.0


def test_a_single_failure_makes_it_doubtful() -> None:
    """Until the next answer."""
    breaker = trusted()
    before = breaker.is_doubtful
    fail(breaker, 1, 100.0)
    failed = breaker.is_doubtful
    breaker.answered(101.0)

    assert (before, failed, breaker.is_doubtful) == (False, True, False)


def test_it_is_calm_only_without_failures() -> None:
    """An answer is no news where the provider is trusted and nothing has failed since."""
    breaker = Breaker()
    unknown = breaker.calm
    breaker.answered(0.0)
    known = breaker.calm
    fail(breaker, 1, 1.0)

    assert (unknown, known, breaker.calm) == (False, True, False)


def test_one_failure_is_forgotten_with_any_answer() -> None:
    """One makes up for one, however old the answer is: then all is calm again."""
    breaker = trusted()
    fail(breaker, 1, 100.0)

    breaker.answered(99.0)

    assert breaker.calm
