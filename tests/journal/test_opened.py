"""A journal in use: what is asked of it is done, in order, and told where it was asked."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import in_thread

from llm_fanout import Prompt, Result
from llm_fanout.errors import JournalError
from llm_fanout.journal import Journal, OpenJournal
from llm_fanout.journal.clerk import AT_ONCE
from llm_fanout.journal.file import JournalFile
from llm_fanout.journal.opened import key_of

D, E = b"d" * 16, b"e" * 16


def told(ask: Callable[..., None], *said: Any) -> Awaitable[Any]:
    """What `ask` tells, and on which thread."""
    answer: Future[Any] = Future()
    ask(*said, lambda *heard: answer.set_result((*heard, threading.current_thread())))
    return asyncio.wrap_future(answer)


def kept(journal: OpenJournal, key: bytes, result: Result[Any]) -> Awaitable[Any]:
    return told(journal.keep, key, result, ())


def answer(number: int, prompt: str = "Hello") -> Result[str]:
    return Result(index=number, id=number, prompt=Prompt(prompt), reply=b"%d" % number)


async def opened(place: Path, **choices: Any) -> OpenJournal:
    journal = OpenJournal(Journal(place, **choices))
    failure, _ = await told(journal.open)
    if failure is not None:
        raise failure
    return journal


async def closed(journal: OpenJournal) -> None:
    failure, _ = await told(journal.close)
    assert failure is None
    for thread in clerks():
        thread.join(10)


def clerks() -> list[threading.Thread]:
    """The threads of journals in use."""
    return [thread for thread in threading.enumerate() if thread.name == "llm_fanout journal"]


def replies(place: Path) -> list[bytes]:
    with closing(JournalFile(Journal(place))) as file:
        return [each.reply for each in file.records()]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


class Slow:
    """Every transaction waits until it may go on; how many results each has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.entered = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        add = JournalFile.add

        def slow(file: JournalFile, records: Iterable[Any]) -> None:
            records = list(records)
            self.sizes.append(len(records))
            self.entered.release()
            assert self.go.acquire(timeout=60)
            add(file, records)

        monkeypatch.setattr(JournalFile, "add", slow)


async def test_what_is_kept_is_found_when_opened_again(place: Path) -> None:
    """By the call's key; each occurrence has its own."""
    journal = await opened(place)
    keys = [journal.claim(D), journal.claim(D), journal.claim(E)]
    assert [journal.row(each) for each in keys] == [None] * 3
    for number, key in enumerate(keys):
        result = answer(number)
        assert await kept(journal, key, result) == (result, None, threading.main_thread())
    await closed(journal)
    again = await opened(place)
    assert [again.claim(D), again.claim(D), again.claim(E)] == keys
    rows = {again.row(key): key for key in reversed(keys)}
    found, thread = await told(again.read, rows)
    await closed(again)

    assert keys == [key_of(D, 0), key_of(D, 1), key_of(E, 0)]
    assert [fields["reply"] for fields in found] == [b"2", b"1", b"0"]
    assert thread is threading.main_thread()
    assert not clerks()


async def test_the_newest_answer_is_found(place: Path) -> None:
    """Of several to the same call: the first one could not be used, so it was asked anew."""
    journal = await opened(place)
    for number in range(2):
        await kept(journal, key_of(D, 0), answer(number))
    await closed(journal)
    again = await opened(place)
    found, _ = await told(again.read, {again.row(key_of(D, 0)): key_of(D, 0)})
    await closed(again)

    assert found[0]["reply"] == b"1"


async def test_a_ceiling_is_there_until_it_is_closed(place: Path) -> None:
    """What calls may have used: a process that is killed leaves it to the next."""
    journal = await opened(place)
    journal.used["usd"] = lambda: 0.0  # as a budget says
    failure, thread = await told(journal.raise_ceiling, "usd", 2.5)
    noted, _ = await told(journal._ask, lambda file: file.noted("spent usd"))
    await closed(journal)

    assert (failure, noted["ceiling"]) == (None, 2.5)
    assert thread is not threading.current_thread()  # whoever waits may be on another event loop than who asked
    with closing(JournalFile(Journal(place))) as file:
        assert "ceiling" not in file.noted("spent usd")


async def test_prompts_are_kept_unless_said_otherwise(place: Path, tmp_path: Path) -> None:
    """For whoever looks; without them only hashes are there."""
    for where, choices in ((place, {}), (tmp_path / "hashes.db", {"store_prompts": False})):
        journal = await opened(where, **choices)
        await kept(journal, key_of(D, 0), answer(1, "my secret wish \ud83d"))
        await closed(journal)

    with_prompts, without = await asyncio.to_thread(lambda: [place.read_bytes(), (tmp_path / "hashes.db").read_bytes()])
    assert b"my secret wish" in with_prompts
    assert b"my secret wish" not in without


async def test_what_waits_is_one_transaction(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk is busy more comes: that goes together, but never more than can be lost."""
    slow = Slow(monkeypatch)
    journal = await opened(place)
    first = kept(journal, key_of(D, 0), answer(0))
    await asyncio.to_thread(slow.entered.acquire)
    others = [kept(journal, key_of(D, number), answer(number)) for number in range(1, 2 * AT_ONCE + 1)]
    for _ in range(3):
        slow.go.release()
    for each in (first, *others):
        assert (await each)[1] is None
    await closed(journal)

    assert slow.sizes == [1, AT_ONCE, AT_ONCE]
    assert replies(place) == [b"%d" % number for number in range(2 * AT_ONCE + 1)]


async def test_each_event_loop_is_told_of_its_own(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two loops in two threads, one transaction: who handed in a result hears of it, on its own thread."""
    slow = Slow(monkeypatch)
    journal = await opened(place)
    first = kept(journal, key_of(D, 0), answer(0))
    await asyncio.to_thread(slow.entered.acquire)
    ours = kept(journal, key_of(D, 1), answer(1))

    async def other() -> tuple[Any, threading.Thread]:
        waiting = kept(journal, key_of(D, 2), answer(2))
        slow.go.release(2)
        return await waiting, threading.current_thread()

    (_, failure, thread), theirs = await asyncio.to_thread(in_thread, lambda: asyncio.run(other()))
    await first
    assert (failure, thread) == (None, theirs)
    assert (await ours)[2] is threading.main_thread()
    await closed(journal)
    assert slow.sizes == [1, 2]


async def test_a_loop_that_is_gone_is_not_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its result is on disk all the same, and the others hear of theirs."""
    slow = Slow(monkeypatch)
    journal = await opened(place)

    async def leave() -> None:
        journal.keep(key_of(D, 0), answer(0), (), lambda *heard: pytest.fail("nobody is there"))

    in_thread(lambda: asyncio.run(leave()))
    slow.go.release(2)
    assert (await kept(journal, key_of(D, 1), answer(1)))[1] is None
    await closed(journal)

    assert replies(place) == [b"0", b"1"]


async def test_after_closing_everything_is_refused(place: Path) -> None:
    """At once, and as if it were told from the thread; nobody waits for ever."""
    journal = await opened(place)
    await closed(journal)
    result = answer(0)
    heard, failure, thread = await kept(journal, key_of(D, 0), result)
    other, _ = await told(journal.close)

    assert (heard, thread) == (result, threading.main_thread())
    assert str(failure) == f"the journal {place} was closed; a scope's is in use until the scope is left"
    assert isinstance(other, JournalError)
    assert replies(place) == []


async def test_one_that_cannot_be_opened_refuses_everything(tmp_path: Path) -> None:
    """With what is wrong with it; its thread ends when it is closed."""
    journal = OpenJournal(Journal(tmp_path))
    failures = [
        (await told(journal.open))[0],
        (await kept(journal, key_of(D, 0), answer(0)))[1],
        (await told(journal.read, {1: key_of(D, 0)}))[0],
        (await told(journal.close))[0],
    ]
    for thread in clerks():
        thread.join(10)

    assert all("is no file; name a file for the journal" in str(each) for each in failures)
    assert not clerks()


async def test_what_goes_wrong_once_is_the_end_of_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes after it, even if the disk has room again: no holes. Others may have the file."""
    journal = await opened(place)
    failing = iter([JournalError("the disk is full")])
    add = JournalFile.add

    def fails_once(file: JournalFile, records: Iterable[Any]) -> None:
        for failure in failing:
            raise failure
        add(file, records)

    monkeypatch.setattr(JournalFile, "add", fails_once)
    failures = [(await kept(journal, key_of(D, number), answer(number)))[1] for number in range(2)]

    assert [str(each) for each in failures] == ["the disk is full"] * 2
    assert replies(place) == []
    assert str((await told(journal.close))[0]) == "the disk is full"


async def test_what_nobody_foresaw_does_not_end_the_thread(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a JournalError with its cause, for everybody who waits; also while it is opened."""

    def fails(*_: Any) -> None:
        raise MemoryError("no room")

    journal = await opened(place)
    with monkeypatch.context() as patch:
        patch.setattr(JournalFile, "add", fails)
        failure = (await kept(journal, key_of(D, 0), answer(0)))[1]
    await told(journal.close)
    monkeypatch.setattr("llm_fanout.journal.file.JournalFile", fails)
    unopened = OpenJournal(Journal(place))
    other = (await told(unopened.open))[0]
    await told(unopened.close)

    assert str(failure) == str(other) == "the journal cannot be used: MemoryError: no room"
    assert isinstance(failure.__cause__, MemoryError)


async def test_a_failure_to_close_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread ends all the same."""

    def fails(file: JournalFile) -> None:
        raise JournalError("the disk failed")

    journal = await opened(place)
    with monkeypatch.context() as patch:
        patch.setattr(JournalFile, "close", fails)
        failure, _ = await told(journal.close)
        for thread in clerks():
            thread.join(10)

    assert str(failure) == "the disk failed"
    assert not clerks()


@pytest.mark.parametrize(
    "change", ["DELETE FROM results", "UPDATE results SET key = x'00'", "UPDATE results SET reply = x'00'"]
)
async def test_damage_is_no_answer(place: Path, change: str) -> None:
    """A row that is gone, another call's, or not what was written, after the journal was opened."""
    journal = await opened(place)
    await kept(journal, key_of(D, 0), answer(0))
    await told(journal._ask, lambda file: file._db.execute(change) and None)
    failure, _ = await told(journal.read, {1: key_of(D, 0)})
    await told(journal.close)

    assert isinstance(failure, JournalError)
    assert "is damaged" in str(failure)
    assert "name another file, or restore this one from a copy" in str(failure)


def test_one_that_was_forgotten_lets_go(place: Path) -> None:
    """Its loop was closed before it was: once it is collected, its thread ends and others may have the file."""

    async def forget() -> None:
        journal = await opened(place)
        journal.keep(key_of(D, 0), answer(0), (), lambda *heard: None)

    in_thread(lambda: asyncio.run(forget()))
    gc.collect()
    for thread in clerks():
        thread.join(10)

    assert not clerks()
    assert replies(place) == [b"0"]


def test_one_whose_loop_was_closed_makes_way(place: Path) -> None:
    """Somebody holds it still: the next one that is opened waits until it has let go, and has what it kept."""
    held: list[OpenJournal] = []

    async def leave_open() -> None:
        held.append(await opened(place))
        held[0].keep(key_of(D, 0), answer(0), (), lambda *heard: None)

    async def go_on() -> int | None:
        journal = await opened(place)
        row = journal.row(key_of(D, 0))
        await closed(journal)
        return row

    in_thread(lambda: asyncio.run(leave_open()))

    assert in_thread(lambda: asyncio.run(go_on())) == 1
    assert not clerks()


async def test_keys_are_claimed_by_threads_at_once(place: Path) -> None:
    """No two calls get the same."""
    journal = OpenJournal(Journal(place))
    many = await asyncio.gather(*(asyncio.to_thread(lambda: [journal.claim(D) for _ in range(500)]) for _ in range(4)))

    assert len({key for keys in many for key in keys}) == 2_000


async def test_a_ceiling_of_what_is_closed_is_refused_later(place: Path) -> None:
    """Not within the step that asks, which may hold a lock that whoever is told needs."""
    journal = await opened(place)
    await closed(journal)
    heard: list[Any] = []
    journal.raise_ceiling("usd", 2.5, heard.append)
    at_once = list(heard)
    await asyncio.sleep(0)

    assert at_once == []
    assert [type(each) for each in heard] == [JournalError]
