"""Calls under way, by what they ask."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from support import in_thread

from llm_fanout.loops import Here
from llm_fanout.sharing import Shared


class Work:
    def __init__(self, digest: bytes) -> None:
        self.digest = digest


class Asking:
    """A call that asks what `name` says."""

    def __init__(self, name: str) -> None:
        self.work = Work(name.encode())
        self.leader: Any = None
        self.followers: dict[Any, None] | None = None


def test_the_first_of_those_that_are_alike_is_made() -> None:
    """The others follow it, in their order, also when they come later."""
    shared = Shared()
    first, second, third, other = Asking("a"), Asking("a"), Asking("a"), Asking("b")

    made = shared.sift([first, other, second], ())
    later = shared.sift([third], ())

    assert (made, later) == ([first, other], [])
    assert [second.leader, third.leader, first.leader] == [first, first, None]
    assert shared.over(first) == [second, third]


def test_those_that_others_pay_for_are_made_apart() -> None:
    """Calls that are alike and paid for by different budgets do not wait for each other."""
    shared = Shared()
    first, second = Asking("a"), Asking("a")

    assert shared.sift([first], ("one",)) == [first]
    assert shared.sift([second], ("another",)) == [second]


def test_what_others_pay_for_is_not_shared() -> None:
    """Calls that are alike, of two budgets: each is made, and its followers are those of the same budget."""
    shared = Shared()
    first, second, third = Asking("a"), Asking("a"), Asking("a")

    made = [shared.sift([first], "one"), shared.sift([second], "two"), shared.sift([third], "two")]

    assert made == [[first], [second], []]
    assert (shared.over(first), shared.over(second)) == ([], [third])


def test_after_the_answer_the_next_is_made_anew() -> None:
    """A call that is over leads nobody any more."""
    shared = Shared()
    first, second = Asking("a"), Asking("a")
    shared.sift([first], ())
    shared.over(first)

    assert shared.sift([second], ()) == [second]
    assert second.leader is None


def test_what_is_over_twice_tells_nobody_again() -> None:
    """A second end of a call takes the place of no other."""
    shared = Shared()
    first, second, third = Asking("a"), Asking("a"), Asking("a")
    shared.sift([first], ())
    shared.over(first)
    shared.sift([second], ())

    assert shared.over(first) == []
    assert shared.sift([third], ()) == []
    assert third.leader is second


def test_what_is_asked_is_what_was_asked_at_first() -> None:
    """A prompt that becomes another while it is under way is over as the one that it was."""
    shared = Shared()
    first, second, third = Asking("a"), Asking("a"), Asking("b")
    shared.sift([first, second, third], ())
    first.work.digest = b"b"

    assert shared.over(first) == [second]
    assert shared.sift([Asking("b")], ()) == []


def test_each_event_loop_has_its_own() -> None:
    """The same within one loop, another in the next, and nothing is kept of loops that are gone."""
    here = Here(Shared)

    async def look() -> tuple[Shared, Shared]:
        return here.here(), here.here()

    one, two = in_thread(lambda: asyncio.run(look())), in_thread(lambda: asyncio.run(look()))
    gc.collect()

    assert one[0] is one[1]
    assert two[0] is not one[0]
    assert not here._made
