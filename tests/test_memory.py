"""What a run remembers: which calls nobody has to make, and what is told of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llm_fanout import Rejected, Result
from llm_fanout.errors import JournalError
from llm_fanout.journal import Journal, OpenJournal
from llm_fanout.journal.file import JournalFile
from llm_fanout.memory import Memory, Reused, answer_of

ANSWER: dict[str, Any] = {"model": "a/x", "attempts": 2, "latency": 1.5, "reply": b"{}", "source": "provider"}


class Asks:
    """A call, and the work of it, that is known by one letter; `picky` work takes no answer of others."""

    def __init__(self, index: int, letter: str, *, picky: bool = False) -> None:
        self.index = index
        self.digest = letter.encode() * 16
        self.key = b""
        self.work = self
        self.picky = picky

    def again(self, index: int, fields: Mapping[str, Any]) -> Result[Any] | None:
        return None if self.picky else Result(index=index, id=f"own {index}", tag="own", **fields)


class Told:
    """What a memory tells."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.failures: list[JournalError] = []
        self.all = asyncio.Event()

    def answered(self, call: Asks, result: Result[Any] | None) -> None:
        self.answers.append((call.index, None if result is None else result.id))
        self.all.set()


def of(letter: str, **fields: Any) -> Result[Any]:
    return Result(index=0, id=letter, prompt=letter, tag="theirs", returned="x", frame="x", **{**ANSWER, **fields})  # type: ignore[arg-type]


def reused(*results: Result[Any]) -> Reused:
    return Reused(results, lambda result: result.id.encode() * 16)  # type: ignore[union-attr]


async def opened(memory: Memory) -> None:
    ready = asyncio.get_running_loop().create_future()
    memory.open(ready.set_result)
    assert await ready is None


async def closed(memory: Memory) -> Any:
    over = asyncio.get_running_loop().create_future()
    memory.close(over.set_result)
    return await over


async def kept(memory: Memory, call: Asks, result: Result[Any]) -> Any:
    done = asyncio.get_running_loop().create_future()
    memory.keep(call.key, result, (), lambda *said: done.set_result(said))
    return await done


def test_an_answer_is_what_is_not_about_who_asked() -> None:
    """Some of it changed, if that is wished."""
    fields = answer_of(of("a"), source="shared", attempts=0)
    again = Result(index=1, id="mine", **fields)

    assert (again.model, again.latency, again.reply, again.source, again.attempts) == ("a/x", 1.5, b"{}", "shared", 0)
    assert (again.tag, again.returned, again.frame) == (None, None, None)
    assert not {"index", "id", "prompt", "tag", "returned", "frame"} & fields.keys()


def test_each_reused_answer_serves_once() -> None:
    """In their order; failures, and what is no prompt's, serve never."""
    results = reused(of("a", attempts=1), of("b", error=Rejected("no")), of("", attempts=7), of("a", attempts=3))
    a, b = b"a" * 16, b"b" * 16

    assert [(results.take(a) or {}).get("attempts") for _ in range(3)] == [1, 3, None]
    assert results.take(b) is results.take(b"") is None


async def test_without_anything_to_remember_all_have_to_be_made() -> None:
    """Whatever is kept is told at once."""
    memory, told = Memory(None), Told()
    calls = [Asks(0, "a"), Asks(1, "a")]
    await opened(memory)

    assert memory.sift(calls, told.answered, told.failures.append) == calls
    assert await kept(memory, calls[0], result := of("a")) == (result, None)
    assert await closed(memory) is None


async def test_reused_answers_are_told_at_once() -> None:
    """As the Result of who asks now; one that cannot be used is used up, and the call is made."""
    told = Told()
    memory = Memory(None, reused=reused(of("a"), of("b")))
    calls = [Asks(0, "a"), Asks(1, "b", picky=True), Asks(2, "a")]

    assert memory.sift(calls, told.answered, told.failures.append) == calls[1:]
    assert told.answers == [(0, "own 0")]
    assert memory.sift([Asks(3, "b")], told.answered, told.failures.append) != []


async def test_kept_answers_are_told_of_later(tmp_path: Path) -> None:
    """Those that can be used are not kept again; those that cannot are made, and kept in their place."""
    place = Journal(tmp_path / "run.db")
    memory = Memory(OpenJournal(place), owned=True)
    calls = [Asks(0, "a"), Asks(1, "b")]
    await opened(memory)
    assert memory.sift(calls, Told().answered, pytest.fail) == calls
    for call in calls:
        await kept(memory, call, of(call.digest[:1].decode()))
    assert await closed(memory) is None

    memory, told = Memory(OpenJournal(place), owned=True, reused=reused(of("c"))), Told()
    calls = [Asks(0, "a"), Asks(1, "b", picky=True), Asks(2, "c"), Asks(3, "d")]
    await opened(memory)
    left = memory.sift(calls, told.answered, pytest.fail)
    assert (left, told.answers) == ([calls[3]], [(2, "own 2")])
    told.all.clear()
    await told.all.wait()
    await closed(memory)

    assert told.answers[1:] == [(0, "own 0"), (1, None)]
    assert [bool(call.key) for call in calls] == [False, True, True, True]


async def test_what_cannot_be_read_fails_all_that_waited_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure first, so that nobody asks in vain; then each call has no answer, and does not wait for ever."""
    place = Journal(tmp_path / "run.db")
    memory = Memory(OpenJournal(place), owned=True)
    await opened(memory)
    for call in memory.sift([Asks(0, "a"), Asks(1, "b")], Told().answered, pytest.fail):
        await kept(memory, call, of("a"))
    await closed(memory)
    monkeypatch.setattr(JournalFile, "read", lambda file, rows: {})

    memory, told = Memory(OpenJournal(place), owned=True), Told()
    await opened(memory)
    assert memory.sift([Asks(0, "a"), Asks(1, "b")], told.answered, told.failures.append) == []
    await told.all.wait()

    assert "a result is not where it was" in str(told.failures[0])
    assert told.answers == [(0, None), (1, None)]
    assert isinstance(await closed(memory), JournalError)


async def test_a_scopes_journal_is_not_a_runs_to_close(tmp_path: Path) -> None:
    """Ready at once, and over at once, for it goes on in other runs."""
    journal = OpenJournal(Journal(tmp_path / "run.db"))
    owner = Memory(journal, owned=True)
    await opened(owner)
    memory = Memory(journal)
    await opened(memory)
    assert await closed(memory) is None
    call = Asks(0, "a")
    owner.sift([call], Told().answered, pytest.fail)

    assert (await kept(owner, call, of("a")))[1] is None
    assert await closed(owner) is None
