"""The calls of one run from opened to done: asked, or answered otherwise, and kept.

Theory of operation. A call that has to be made is under way. Aside are those that have not to be made, for an earlier run
has answered them and its answer is being read; those that wait for the answer of an identical call, at the gate, or for
room in a budget; and those whose Result is on its way to disk, before anybody sees it. Every call that comes in ends exactly
once, in the flow's `deliver`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, cast

from .budgets import Purse
from .call import Call
from .core.job import Job, Outcome
from .engine import Engine
from .errors import ConfigError, JournalError, Stopped
from .gate import Gate
from .memory import answer_of
from .results import Result
from .sharing import Shared
from .shell import cancelled
from .spending import Spending
from .tally import Tally
from .till import Payer, Till
from .underway import UnderWay
from .work import Repeatable, Terms, Timing

T = TypeVar("T")

UNLIMITED_WIDTH = 1_000  # calls that share a budget where the number of slots is not limited


class Host(Payer, Protocol):
    """The flow whose calls they are.

    Attributes:
        cancelled: Why calls are cancelled, if they are.
        winding_down: Why none is started any more, if that is so.
    """

    cancelled: Stopped | None
    winding_down: Stopped | None

    def deliver(self, result: Result[Any]) -> None:
        """A Result, for good."""

    def left(self) -> None:
        """A call has left the window."""

    def make_room(self) -> None:
        """A call waits out a backoff: it does not count against the window meanwhile."""

    def idle(self) -> None:
        """Nothing is left that waits to be started."""


class Passage(Generic[T]):
    """The calls that are on their way.

    Args:
        engine: Who starts them.
        terms: What they share.
        tally: The numbers of the run.
        host: Whose they are.

    Attributes:
        under_way: Those that are the engine's to start.
    """

    def __init__(self, engine: Engine, terms: Terms, tally: Tally, host: Host) -> None:
        self._terms = terms
        self._tally = tally
        self._host = host
        self._aside: dict[Call[T], None] = {}
        self.under_way: UnderWay[T] = UnderWay(engine, terms, tally, host, self)
        self._gate: Gate | None = terms.gate
        self._shared: Shared | None = None
        self._till = None if terms.budgets is None else Till(terms.budgets, host, self._paid, self._at_once)

    def begin(self, now: float, deadline: float) -> None:
        """The run begins, and ends at `deadline` if it has not ended before."""
        self.under_way.begin(now, deadline)
        self._shared = None if self._terms.shared is None else self._terms.shared.here()

    @property
    def _payers(self) -> tuple[Purse, ...]:
        """Who pays for its calls."""
        return () if self._terms.budgets is None else self._terms.budgets.purses

    def close(self) -> None:
        """All is done."""
        del self._host  # a circle, which only a collection would break
        self.under_way.close()
        self._till = None

    @property
    def waiting(self) -> int:
        """Calls that are not over, as far as they have to be made."""
        return len(self.under_way)

    @property
    def parked(self) -> int:
        """Those of them that wait out a backoff."""
        return self.under_way.parked

    @property
    def in_window(self) -> int:
        """Calls that count against the window."""
        return len(self.under_way) - self.under_way.parked + len(self._aside)

    @property
    def is_empty(self) -> bool:
        """Whether no call is on its way."""
        return not self.under_way and not self._aside

    def enter(self, calls: list[Call[T]]) -> None:
        """Go on with `calls`: those that nobody has answered are asked."""
        if self._terms.memory is not None:
            self._aside.update(dict.fromkeys(calls))
            calls = self._terms.memory.sift(calls, self._answered, partial(self._host.fail, "the journal"))
            for call in calls:
                del self._aside[call]
        self._ask(calls)

    def complete(self) -> None:
        """All calls of the run have come in."""
        if self._gate is None:
            return
        try:
            self._pass(self._gate.complete())
        except ConfigError as exc:
            self._host.fail("the source", exc)

    def begun(self, call: Call[T]) -> None:
        """The answer to `call` has begun."""
        if self._gate is not None:
            self._pass(self._gate.begun(call))

    def resume(self) -> None:
        """The run was paused, and goes on: what waits for room in a budget may find some."""
        if self._till is not None and self._tally.stopped is None:
            self._till.serve()

    def stop(self) -> None:
        """Cancel all, or those that have not begun, if that is what was wished."""
        host = self._host  # with the last call it is let go of
        if self._gate is not None:
            self._pass(self._gate.send_away())
        if self._till is not None:
            self._till.send_away()
        if host.cancelled is not None:
            self._cancel_all()
        elif host.winding_down is not None:
            self.under_way.cancel_waiting()

    def _answered(self, call: Call[T], result: Result[T] | None) -> None:
        """An earlier run has answered `call`; with None, that cannot be used."""
        del self._aside[call]
        if result is not None:
            self._keep(call, result)
        else:
            self._ask([call])

    def _ask(self, calls: list[Call[T]]) -> None:
        """Have `calls` made, or wait for those that are under way and ask the same."""
        if self._shared is not None:
            asked = self._shared.sift(calls, self._payers)
            self._aside.update((call, None) for call in calls if call.leader is not None)
            calls = asked
        if self._gate is None or self._tally.stopped is not None:  # it has sent all away that it held
            self._make(calls)
        else:
            self._aside.update(dict.fromkeys(calls))
            self._pass(self._gate.sift(calls))

    def _pass(self, calls: list[Call[T]]) -> None:
        """The gate lets `calls` go on."""
        self._make(self._called_up(calls))

    def _make(self, calls: Iterable[Call[T]]) -> None:
        """Have `calls` made, if they can be paid for."""
        if self._till is None:
            self.under_way.hand_in(calls)
        else:
            self._pay(calls, self._till)

    def _pay(self, calls: Iterable[Call[T]], till: Till) -> None:
        for call in calls:
            try:
                till.join(call)
            except Stopped as exc:  # one such row costs one row
                self.end(call, Outcome(heard=False, error=exc), Timing())
            else:
                self._aside[call] = None
        if self._tally.stopped is None:
            till.serve()
        else:
            till.send_away()

    def _paid(self, calls: list[Call[T]]) -> None:
        self.under_way.hand_in(self._called_up(calls))

    def _called_up(self, calls: list[Call[T]]) -> Iterator[Call[T]]:
        """`calls`, each aside until it is its turn: if those before it end at once, the run is not over."""
        for call in calls:
            del self._aside[call]
            yield call

    def _at_once(self) -> float:
        return min(self._terms.width, UNLIMITED_WIDTH)

    def extend(self, call: Call[T]) -> bool:
        """Whether another try of `call` can be paid for."""
        return self._till is None or self._till.extend(call)

    def end(self, call: Call[T], outcome: Outcome, timing: Timing, *, too_late: bool = False) -> None:
        """`call` is over; too late if another try of it would have been beyond its deadline."""
        if not outcome.heard and isinstance(outcome.error, Stopped):
            outcome.error = call.stopped or self._host.cancelled or self._host.winding_down or outcome.error
        result = call.work.result(call.index, outcome, timing)
        charge = () if self._till is None else self._till.settle(call)
        followers = [] if self._shared is None else self._shared.over(call)
        if call.is_orphan:
            self._host.left()
        else:
            self._keep(call, result, charge)
        _tell(followers, result, result.spending if call.is_orphan else (), self if too_late else None)
        if self._gate is not None:
            self._pass(self._gate.over(call, result))

    def _keep(self, call: Call[T], result: Result[T], charge: Sequence[float | None] = ()) -> None:
        """Deliver a Result, as soon as it is on disk, if that is wished."""
        if self._terms.memory is None or result.source == "none":
            self._host.deliver(result)
            self._host.left()
        else:
            self._aside[call] = None
            self._terms.memory.keep(call.key, result, charge, partial(self._kept, call))

    def _kept(self, call: Call[T], result: Result[T], failure: JournalError | None) -> None:
        """The Result of `call` is on disk, or cannot be written: then it does not count."""
        del self._aside[call]
        if failure is not None:
            self._host.fail("the journal", failure)
            error = Stopped("the answer could not be written to the journal", kind="cancelled", partial=result.text)
            result = replace(result, error=error, reply=b"", returned=None)
        self._host.deliver(result)
        self._host.left()

    def _cancel_all(self) -> None:
        for call in [call for call in self._aside if call.leader is not None]:
            self._stop_following(call)
        for call in [call for call in self.under_way if call.followers]:
            self._bequeath(call)
        self.under_way.cancel(list(self.under_way))  # and what was left to others may start

    def followed(self, call: Call[T], result: Result[Any] | None, spending: Sequence[Spending]) -> None:
        """The answer that `call` waited for has come; with None there is none."""
        del self._aside[call]
        call.leader = None
        shared = None
        if result is not None:
            fields = answer_of(result, spending=spending, attempts=0, source="shared")
            shared = cast("Repeatable[T]", call.work).again(call.index, fields)
        if shared is not None:
            self._keep(call, shared)
        else:
            self._ask([call])

    def inherit(self, call: Call[Any], job: Job) -> None:
        """`call`, of another run that ends, goes on for ours."""
        call.passage = self
        self.under_way.inherit(call, job)

    def _bequeath(self, call: Call[T]) -> None:
        """Calls of other runs wait for the answer of `call`: it goes on as one of theirs."""
        assert call.followers
        job, timing = self.under_way.give(call)
        next(iter(call.followers)).passage.inherit(call, job)
        if not call.is_orphan:
            call.is_orphan = True
            result = call.work.result(call.index, Outcome(heard=False, error=self._host.cancelled), timing)
            # What is set aside for it stays so: whoever shares it keeps the same budgets, and settles that.
            self._keep(call, replace(result, spending=()))

    def _stop_following(self, call: Call[T]) -> None:
        leader, call.leader = call.leader, None
        assert leader is not None
        assert leader.followers is not None
        del leader.followers[call], self._aside[call]
        self.end(call, cancelled(), Timing())


def _tell(
    followers: list[Call[Any]], result: Result[Any], spending: Sequence[Spending], late_for: Passage[Any] | None
) -> None:
    """The answer that `followers` waited for has come; what it has used is booked to the first of them, if to any.

    One that was cut off by a bound of its run is none; nor is one that came too late for `late_for`, to the others.
    """
    is_cut_off = result.source == "none" or isinstance(result.error, Stopped)
    for follower in followers:
        is_none = is_cut_off or late_for not in (None, follower.passage)
        follower.passage.followed(follower, None if is_none else result, spending)
        spending = ()
