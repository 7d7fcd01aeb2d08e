"""Runs of which something is closed while they go on: what they still do, and what they say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest
from support import Simulate, consume

from llm_fanout import Report, RunFailed, clock
from llm_fanout.core.access import Closure
from llm_fanout.core.job import Choice, Outcome
from llm_fanout.core.lanes import DEFAULT, Lane
from llm_fanout.core.pool import Pool
from llm_fanout.core.quota import Quota
from llm_fanout.core.retry import Again, RetryPolicy
from llm_fanout.core.source import Source
from llm_fanout.core.stated import Limits
from llm_fanout.engine import Engine
from llm_fanout.errors import CallError, Rejected, Stopped, Unavailable
from llm_fanout.openings import Openings
from llm_fanout.results import Result
from llm_fanout.run import Run
from llm_fanout.work import Terms, Timing

REASON = "402 from the provider: no credit is left; top up the account"
WELL = Outcome()


def closing(*, at_once: bool = True) -> Outcome:
    """An answer that closes its credential."""
    return Outcome(closes="credential", closes_at_once=at_once, error=Rejected(REASON, kind="credit"))


Answer = Callable[[Quota, int], Outcome]
Asked = list[tuple[float, Quota, int]]  # when, where, which number


class Ask:
    """One item: asked of the first of its `choices` that takes it, it is answered after a second."""

    rank = DEFAULT
    hedge = 0.0
    is_first = False
    timeout = None
    retry = RetryPolicy()

    def __init__(self, number: int, choices: Sequence[Choice], answer: Answer, asked: Asked) -> None:
        self.choices = choices
        self._number = number
        self._answer = answer
        self._asked = asked

    async def perform(self, quota: Quota) -> Outcome:
        self._asked.append((clock.now(), quota, self._number))
        outcome = self._answer(quota, self._number)
        await asyncio.sleep(outcome.value if isinstance(outcome.value, float) else 1.0)
        return outcome

    def late(self) -> Outcome:
        raise NotImplementedError

    def result(self, index: int, outcome: Outcome, timing: Timing) -> Result[int]:
        error: Any = outcome.error
        return Result(index=index, id=index, error=error, attempts=timing.attempts, returned=self._number)


class Account:
    """An engine with runs on it."""

    def __init__(self, answer: Answer) -> None:
        self.engine = Engine()
        self.answer = answer
        self.asked: Asked = []

    def run(self, source: Any, *choices: Source, of: Callable[[int], Sequence[Source]] | None = None) -> Run[int]:
        """A run over numbers on these, but for those of which `of` says something else."""
        terms = Terms(lane=Lane(), sources=choices)

        def open(index: int, number: int) -> Ask:
            sources = choices if of is None else of(number)
            return Ask(number, [Choice(each) for each in sources], self.answer, self.asked)

        return Run(source, open, self.engine, terms)


def kinds(report: Iterable[Result[int]]) -> list[str]:
    """How the items ended."""
    return ["ok" if result.error is None else result.error.kind for result in report]


def numbers(count: int) -> Iterator[int]:
    """A source that does not say how much it has."""
    yield from range(count)


async def slowly(count: int) -> AsyncIterator[int]:
    """The same, and each takes a moment."""
    for number in range(count):
        await asyncio.sleep(0.1)
        yield number


@pytest.mark.parametrize("at_once", [True, False])
def test_a_run_on_a_closed_account_ends_at_once(simulate: Simulate[Any], at_once: bool) -> None:
    """200 items, 32 at once: at most 32 requests; each has its Result, the rest as not attempted, and why."""
    account, quota = Account(lambda quota, number: closing(at_once=at_once)), Quota(Limits(max_concurrency=32))

    async def main() -> Report[int]:
        return await account.run(list(range(200)), quota)

    report = simulate(main)
    summary, last = report.summary, report[199].error

    assert len(account.asked) == 32
    assert kinds(report) == ["credit"] * 32 + ["not_attempted"] * 168
    assert isinstance(last, Stopped)
    assert REASON in last.message
    assert summary.elapsed == pytest.approx(1.0)
    assert summary.stopped is not None
    assert (summary.stopped.kind, REASON in summary.stopped.message) == ("not_attempted", True)
    assert {result.attempts for result in report[32:]} == {0}


@pytest.mark.parametrize("source", [numbers, slowly])
def test_nothing_more_is_pulled(simulate: Simulate[Any], source: Callable[[int], Any]) -> None:
    """Of a source that may be endless."""
    account, quota = Account(lambda quota, number: closing()), Quota(Limits(max_concurrency=4))

    async def main() -> Report[int]:
        return await account.run(source(10**9), quota)

    report = simulate(main)

    assert kinds(report)[:4] == ["credit"] * 4
    assert len(report) <= 12
    assert report.summary.stopped is not None


def test_what_is_under_way_may_end(simulate: Simulate[Any]) -> None:
    """It may have been paid for: the run waits for it."""
    quota = Quota(Limits(max_concurrency=3))
    account = Account(lambda quota, number: closing() if number == 0 else Outcome(value=5.0))

    async def main() -> Report[int]:
        return await account.run(list(range(9)), quota)

    report = simulate(main)

    assert kinds(report) == ["credit", "ok", "ok"] + ["not_attempted"] * 6
    assert report.summary.elapsed == pytest.approx(5.0)


def test_what_is_under_way_can_still_be_cancelled(simulate: Simulate[Any]) -> None:
    """Whoever cancels then does not wait for it; the run keeps its first reason, the calls say theirs."""
    quota = Quota(Limits(max_concurrency=2))
    account = Account(lambda quota, number: closing() if number == 0 else Outcome(value=500.0))

    async def main() -> Report[int]:
        run = account.run(list(range(4)), quota)
        asyncio.get_running_loop().call_later(10.0, run.cancel)
        return await run

    report = simulate(main)

    assert kinds(report) == ["credit", "cancelled", "not_attempted", "not_attempted"]
    assert report.summary.elapsed == pytest.approx(10.0)
    assert report.summary.stopped is not None
    assert report.summary.stopped.kind == "not_attempted"


def test_a_call_that_backs_off_is_told_as_well(simulate: Simulate[Any]) -> None:
    """It is not tried again; its tries count."""
    refused = Outcome(Again.PUSHBACK, told=60.0, error=Unavailable("later"))
    account = Account(lambda quota, number: [refused, Outcome(value=5.0), closing()][min(number, 2)])
    quota = Quota(Limits(max_concurrency=2))

    async def main() -> Report[int]:
        return await account.run(list(range(5)), quota)

    report = simulate(main)

    assert kinds(report) == ["not_attempted", "ok", "credit", "not_attempted", "not_attempted"]
    assert [result.attempts for result in report] == [1, 1, 1, 0, 0]
    assert report.summary.elapsed == pytest.approx(5.0)


@pytest.mark.parametrize("answer", [WELL, Outcome(error=Rejected("wrong", kind="invalid"))])
def test_a_later_run_sends_one_call_before_the_rest(simulate: Simulate[Any], answer: Outcome) -> None:
    """It is let in: then all go."""
    account, quota = Account(lambda quota, number: answer), Quota(Limits(max_concurrency=10))
    quota.access.close(RuntimeError("no credit"), -1.0)

    async def main() -> Report[int]:
        return await account.run(list(range(11)), quota)

    report = simulate(main)
    times = [at - account.asked[0][0] for at, _, _ in account.asked]

    assert times == [0.0] + [pytest.approx(1.0)] * 10
    assert report.summary.stopped is None


def test_a_later_run_may_find_it_closed(simulate: Simulate[Any]) -> None:
    """One request, and its run ends."""
    account, quota = Account(lambda quota, number: closing()), Quota(Limits(max_concurrency=10))

    async def main() -> Any:
        first = await account.run(list(range(20)), quota)
        before = len(account.asked)
        second = await account.run(list(range(20)), quota)
        return first, second, len(account.asked) - before

    _, second, requests = simulate(main)

    assert requests == 1
    assert kinds(second) == ["credit"] + ["not_attempted"] * 19


def test_rows_that_have_another_model_go_on(simulate: Simulate[Any]) -> None:
    """The others are refused one by one, without another request; the run ends when nothing that it uses is open."""
    default, other = Quota(Limits(max_concurrency=2)), Quota(Limits(max_concurrency=2))
    account = Account(lambda quota, number: closing() if quota is default or number == 99 else WELL)

    async def main() -> Report[int]:
        return await account.run(list(range(200)), default, of=lambda number: [other if number % 2 else default])

    report = simulate(main)

    assert sum(quota is default for _, quota, _ in account.asked) == 2
    assert kinds(report)[1:99:2] == ["ok"] * 49
    assert kinds(report)[99] == "credit"
    assert set(kinds(report)[104:]) == {"not_attempted"}
    assert report.summary.stopped is not None


def test_a_default_that_no_row_uses_counts_as_open(simulate: Simulate[Any]) -> None:
    """Rows that come later may use it."""
    default, other = Quota(Limits(max_concurrency=2)), Quota(Limits(max_concurrency=2))
    account = Account(lambda quota, number: closing() if quota is other else WELL)

    async def main() -> Report[int]:
        return await account.run(list(range(60)), default, of=lambda number: [default if number > 50 else other])

    report = simulate(main)

    assert kinds(report) == ["credit"] * 2 + ["not_attempted"] * 49 + ["ok"] * 9
    assert report.summary.stopped is None


def test_fallbacks_take_over_from_a_closed_account(simulate: Simulate[Any]) -> None:
    """All are answered; later rows begin at the fallback, without a look."""
    first, spare = Quota(Limits(max_concurrency=4)), Quota(Limits(max_concurrency=4))
    account = Account(lambda quota, number: closing() if quota is first else WELL)

    async def main() -> Report[int]:
        return await account.run(numbers(100), first, spare)

    report = simulate(main)

    assert set(kinds(report)) == {"ok"}
    assert sum(quota is first for _, quota, _ in account.asked) == 4
    assert report.summary.waits_for == ""


def test_a_run_ends_when_its_fallback_is_closed_as_well(simulate: Simulate[Any]) -> None:
    """Not before; and it says why."""
    first, spare = Quota(Limits(max_concurrency=4)), Quota(Limits(max_concurrency=4))
    account = Account(lambda quota, number: closing())

    async def main() -> Report[int]:
        return await account.run(list(range(100)), first, spare)

    report = simulate(main)

    assert len(account.asked) == 8
    assert sorted(set(kinds(report))) == ["credit", "not_attempted"]
    assert report.summary.stopped is not None


def test_a_run_looks_once_at_each_member_that_was_closed(simulate: Simulate[Any]) -> None:
    """Of a pool that has others; the call that looked in vain is answered there."""
    good, closed, back = (Quota(Limits(max_concurrency=4)) for _ in range(3))
    for quota in (closed, back):
        quota.access.close(RuntimeError("no credit"), -1.0)
    account = Account(lambda quota, number: closing() if quota is closed else WELL)

    async def main() -> Report[int]:
        return await account.run(list(range(80)), Pool([good, closed, back]))

    report = simulate(main)
    sent = [quota for _, quota, _ in account.asked]

    assert set(kinds(report)) == {"ok"}
    assert sent.count(closed) == 1
    assert sent.count(back) > 30


def test_what_the_source_raises_is_not_lost(simulate: Simulate[Any]) -> None:
    """It breaks in the very step in which the run ends for another reason."""
    quota = Quota(Limits(max_concurrency=4))
    account = Account(lambda quota, number: closing())

    def breaking() -> Iterator[int]:
        yield 0
        quota.access.close(RuntimeError("no credit"), clock.now() + 1.0)
        yield 1
        raise ValueError("the file is cut")

    async def main() -> Report[int]:
        return await account.run(breaking(), quota)

    with pytest.raises(RunFailed, match="the file is cut"):
        simulate(main)


def test_runs_of_other_loops_are_told(simulate: Simulate[Any]) -> None:
    """And one that is cancelled in the same moment has each of its Results once."""
    quota = Quota(Limits(max_concurrency=1))
    account = Account(lambda quota, number: closing())

    async def main() -> Any:
        first, second = account.run([0], quota), account.run([1, 2], quota)
        waiting = [asyncio.ensure_future(consume(run)) for run in (first, second)]
        await asyncio.sleep(0.5)
        calls = list(second._flow._calls.under_way._jobs.items())
        reports = await asyncio.gather(*waiting)
        for call, job in calls:
            call.evicted(job, None, clock.now())
        return reports

    first, second = simulate(main)

    assert (kinds(first), kinds(second)) == (["credit"], ["not_attempted"] * 2)


def test_any_error_may_be_the_reason() -> None:
    """One of this package is quoted by its message, another with its name."""
    one, other = Quota(), Quota()
    openings = Openings([one])
    openings.began = 0.0
    one.access.close(CallError("no credit"), 1.0)
    other.access.close(OSError("gone"), 2.0)

    with pytest.raises(Stopped, match="no credit; OSError: gone") as raised:
        openings.among([Choice(one), Choice(other)])
    assert raised.value.kind == "not_attempted"


def test_only_what_was_closed_since_it_began_is_closed_for_a_run() -> None:
    """A pool counts from the last of its members."""
    openings, early, late = Openings([]), Quota(), Quota()
    openings.began = 5.0
    early.access.close(None, 5.0)
    pool = Pool([early, late])
    before = openings.among([Choice(early), Choice(late)])
    late.access.closure = Closure(6.0, OSError("gone"))

    assert before == [Choice(early), Choice(late)]
    assert openings.among([Choice(early), Choice(pool), Choice(late)]) == [Choice(early)]
