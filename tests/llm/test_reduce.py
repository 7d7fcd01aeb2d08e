"""Reduces: values are joined by neighbours, and what comes of them again, until there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from scripted import Scripted, after, quota_of
from support import Simulate

from llm_fanout import (
    BadReply,
    ConfigError,
    Endpoint,
    Executor,
    FanOut,
    Limits,
    Prompt,
    Rejected,
    Result,
    RunFailed,
    Stopped,
    Unavailable,
)
from llm_fanout.core.tokens import estimate_tokens
from llm_fanout.errors import JournalError
from llm_fanout.sim import Box, SimConfig

FILLER = " word" * 10  # a value has some 15 tokens


def value(first: int, last: int) -> str:
    """What is known of the pages from one to another."""
    return f"{first}-{last}{FILLER}"


def pages(number: int) -> list[str]:
    return [value(page, page) for page in range(number)]


def join(values: Sequence[str]) -> str:
    """A question about neighbours."""
    return "Merge: " + " / ".join(values)


def merged(text: str) -> str:
    """The answer to it, if they are neighbours in order."""
    spans = [each.split()[0].split("-") for each in text.removeprefix("Merge: ").split(" / ")]
    for (_, last), (first, _) in pairwise(spans):
        assert int(first) == int(last) + 1, text
    return value(int(spans[0][0]), int(spans[-1][1]))


async def answer(text: str) -> str:
    """A page is answered with itself in a second, a join in two; what has "bad" in it fails, "slow" takes ten times that."""
    seconds = 10.0 if "slow" in text else 1.0
    if text.startswith("Merge: "):
        await asyncio.sleep(2 * seconds)
        if "bad" in text:
            raise Rejected("it will not merge", kind="refusal")
        return merged(text.replace(" slow", ""))
    await asyncio.sleep(seconds)
    if text.startswith("bad"):
        raise Rejected("it will not do", kind="refusal")
    return text


class Reduced:
    """What came of a reduce in virtual time.

    Attributes:
        joins: Texts that were joined.
        seconds: How long it took.
    """

    def __init__(self, result: Result[Any], provider: Scripted, seconds: float, usage_calls: int) -> None:
        self.result = result
        self.asked = provider.asked
        self.joins = [text for text in provider.asked if text.startswith("Merge: ")]
        self.provider = provider
        self.seconds = seconds
        self.calls = usage_calls


def reduce(
    simulate: Simulate[Any], prompts: list[str], *, context: int = 60, mapped: bool = True, **options: Any
) -> Reduced:
    """A reduce of the answers to `prompts`, or of them themselves. Nothing is held or under way after it."""
    provider = Scripted(answer)
    limits = options.pop("limits", None)

    async def main() -> tuple[Result[Any], float, int]:
        loop = asyncio.get_running_loop()
        async with provider.fan(limits) as fan:
            began = loop.time()
            parts: Any = fan.map(prompts) if mapped else prompts
            result = await fan.reduce(parts, **{"join": join, "context": context, **options})
            took = loop.time() - began
            assert (provider.running, quota_of(fan).slots.in_use, len(asyncio.all_tasks())) == (0, 0, 1)
            return result, took, fan.summary.done

    result, took, calls = simulate(main)
    return Reduced(result, provider, took, calls)


def test_all_that_fits_is_one_join(simulate: Simulate[Any]) -> None:
    """Its answer is the Result."""
    reduced = reduce(simulate, pages(3), context=100)

    assert reduced.result.value == value(0, 2)
    assert (len(reduced.joins), reduced.seconds, reduced.calls) == (1, 3.0, 4)


def test_a_tree_is_as_deep_as_it_takes_and_keeps_the_order(simulate: Simulate[Any]) -> None:
    """Of 60 pages that fit by threes, four levels of joins: each of neighbours in order, none too large."""
    reduced = reduce(simulate, pages(60))

    assert reduced.result.value == value(0, 59)
    assert [len(text.split(" / ")) for text in reduced.joins].count(3) >= 28
    assert max(map(estimate_tokens, reduced.joins)) <= 60
    assert reduced.calls == 60 + len(reduced.joins) == 60 + 20 + 7 + 3 + 1


def test_values_may_be_at_hand(simulate: Simulate[Any]) -> None:
    """A list instead of a run: the same joins."""
    at_hand, mapped = reduce(simulate, pages(30), mapped=False), reduce(simulate, pages(30))

    assert at_hand.result.value == mapped.result.value == value(0, 29)
    assert sorted(at_hand.joins) == sorted(mapped.joins)


def test_joining_begins_while_the_map_runs(simulate: Simulate[Any]) -> None:
    """The last page is slow: by then all that comes before it is joined."""
    reduced = reduce(simulate, [*pages(29), value(29, 29) + " slow"], limits=Limits(max_concurrency=10))

    assert reduced.result.ok
    assert reduced.asked.index(reduced.joins[0]) < 29
    assert reduced.seconds <= 12 + 20 + 20 + 20  # the slow page, and what it is joined in


def test_which_are_joined_does_not_depend_on_when_they_come(simulate: Simulate[Any]) -> None:
    """With one slot or with a hundred, with a slow page here or there: the same questions."""
    runs = [
        reduce(simulate, pages(40), limits=Limits(max_concurrency=slots, adapt=False)) for slots in (1, 3, 100)
    ]  # fmt: skip

    assert {tuple(sorted(run.joins)) for run in runs} == {tuple(sorted(runs[0].joins))}


def test_one_value_is_joined_by_itself(simulate: Simulate[Any]) -> None:
    """So that the Result is always that of a join."""
    reduced = reduce(simulate, pages(1))

    assert (reduced.result.value, len(reduced.joins)) == (value(0, 0), 1)


def test_no_parts_are_rejected(simulate: Simulate[Any]) -> None:
    """There is nothing to ask about."""
    for mapped in (True, False):
        reduced = reduce(simulate, [], mapped=mapped)

        assert isinstance(reduced.result.error, Rejected)
        assert (reduced.result.error.kind, reduced.asked) == ("invalid", [])


def test_a_failed_part_ends_the_joining_and_not_the_map(simulate: Simulate[Any]) -> None:
    """All pages are asked, no join after the failure; the Result names the page, and has its error as the cause."""
    reduced = reduce(simulate, [*pages(10), "bad page", *pages(40)[11:]], limits=Limits(max_concurrency=1))
    error = reduced.result.error

    assert isinstance(error, Stopped)
    assert error.kind == "skipped"
    assert "part 10 failed, so nothing more was joined: refusal: it will not do" in str(error)
    assert isinstance(error.__cause__, Rejected)
    assert len(reduced.asked) - len(reduced.joins) == 40
    assert reduced.asked.index("bad page") > max(map(reduced.asked.index, reduced.joins))


def test_a_failed_join_ends_the_joining_and_not_the_map(simulate: Simulate[Any]) -> None:
    """The one that failed is named; of the joins under way, what they answer is kept where they are journalled."""
    prompts = pages(60)
    prompts[4] += " bad"
    reduced = reduce(simulate, prompts, limits=Limits(max_concurrency=6))
    error = reduced.result.error

    assert isinstance(error, Stopped)
    assert "join 1 of level 0 failed, so nothing more was joined: refusal: it will not merge" in str(error)
    assert isinstance(error.__cause__, Rejected)
    assert len(reduced.asked) - len(reduced.joins) == 60
    assert len(reduced.joins) < 15


def test_the_last_join_fails_as_it_fails(simulate: Simulate[Any]) -> None:
    """The Result is its own, with its own error."""
    reduced = reduce(simulate, [value(0, 0) + " bad"], mapped=False)

    assert isinstance(reduced.result.error, Rejected)
    assert reduced.result.prompt.content == reduced.joins[0]


def test_a_part_that_is_too_large_is_rejected_with_the_sizes(simulate: Simulate[Any]) -> None:
    """Nothing is joined after it; the map goes on to its end."""
    reduced = reduce(simulate, [value(0, 0), value(1, 1) + FILLER * 5, *pages(30)[2:]])
    error = reduced.result.error

    assert isinstance(error, Rejected)
    assert error.kind == "too_large"
    assert "number 1 of the parts makes a question of 8" in str(error)
    assert "context=60; raise context" in str(error)
    assert len(reduced.asked) - len(reduced.joins) == 30


def test_a_list_is_read_no_further_than_it_helps(simulate: Simulate[Any]) -> None:
    """Values that are at hand cost nothing: after a failure the rest is left alone."""
    read: list[int] = []

    def values() -> Iterator[str]:
        for page in range(1_000):
            read.append(page)
            yield value(page, page) + FILLER * 9 * (page == 3)

    reduced = reduce(simulate, values(), mapped=False)  # type: ignore[arg-type]  # any iterable

    assert isinstance(reduced.result.error, Rejected)
    assert read == [0, 1, 2, 3]


def test_neighbours_that_never_fit_are_rejected_before_any_join(simulate: Simulate[Any]) -> None:
    """A level that would get no shorter is not asked at all."""
    reduced = reduce(simulate, pages(5), context=20)

    assert isinstance(reduced.result.error, Rejected)
    assert "of 5 parts no two neighbours fit into one question" in str(reduced.result.error)
    assert reduced.joins == []


def test_max_tokens_and_instructions_count(simulate: Simulate[Any]) -> None:
    """What the answer may have, and what is put before, is no room for values."""
    plain = reduce(simulate, pages(12), context=90, mapped=False)
    bounded = reduce(simulate, pages(12), context=90, mapped=False, max_tokens=30)
    instructed = reduce(simulate, pages(12), context=90, mapped=False, instructions="Be brief." + FILLER * 2)

    assert (len(plain.joins), len(bounded.joins), len(instructed.joins)) == (4, 7, 7)


def test_a_join_may_give_a_prompt(simulate: Simulate[Any]) -> None:
    """With options of its own, which count, too; the last one's tag comes back."""
    reduced = reduce(
        simulate, pages(12), context=90, mapped=False, join=lambda values: Prompt(join(values), tag="t", max_tokens=30)
    )

    assert (len(reduced.joins), reduced.result.tag) == (7, "t")


@pytest.mark.parametrize("bad", [lambda values: 1 / 0, lambda values: None])
@pytest.mark.parametrize("from_call", [1, 9, 40])
def test_what_join_raises_is_passed_on(simulate: Simulate[Any], bad: Any, from_call: int) -> None:
    """From whichever call: everything is cancelled first, the map, too. So it is if it gives no prompt."""
    calls = 0
    provider = Scripted(answer)

    def breaking(values: Sequence[str]) -> Any:
        nonlocal calls
        calls += 1
        return bad(values) if calls >= from_call else join(values)

    async def main() -> tuple[int, int]:
        async with provider.fan(Limits(max_concurrency=5)) as fan:
            with pytest.raises((ZeroDivisionError, ConfigError)):
                await fan.reduce(fan.map(pages(30)), breaking, context=60)
            return quota_of(fan).slots.in_use, len(asyncio.all_tasks())

    assert simulate(main) == (0, 1)
    assert provider.running == 0
    assert len(provider.asked) < 30


def test_what_values_raise_is_passed_on(simulate: Simulate[Any]) -> None:
    """The user's own generator broke: the joins are cancelled, and its error is seen."""

    def values() -> Iterator[str]:
        yield from pages(10)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        reduce(simulate, values(), mapped=False)  # type: ignore[arg-type]  # any iterable


def test_a_map_whose_source_breaks_is_broken(simulate: Simulate[Any]) -> None:
    """Its RunFailed comes out of the reduce."""

    def prompts() -> Iterator[str]:
        yield from pages(10)
        raise ZeroDivisionError

    async def main() -> None:
        async with Scripted(answer).fan() as fan:
            await fan.reduce(fan.map(prompts()), join, context=60)

    with pytest.raises(RunFailed, match="the source raised ZeroDivisionError"):
        simulate(main)


def test_a_map_that_ends_early_is_no_whole(simulate: Simulate[Any]) -> None:
    """Of a source without a length nobody knows what is missing: it is not taken for all."""

    async def main() -> Result[str]:
        async with Scripted(answer).fan(Limits(max_concurrency=1)) as fan:
            run = fan.map(iter(pages(30)), deadline=10.5)
            return await fan.reduce(run, join, context=1_000)

    error = simulate(main).error

    assert isinstance(error, Stopped)
    assert error.kind == "skipped"


def test_a_map_that_is_cancelled_between_pages_is_no_whole(simulate: Simulate[Any]) -> None:
    """Not one of its Results has failed, and yet there were more to come."""

    async def main() -> Result[str]:
        async with Scripted(answer).fan(Limits(max_concurrency=1)) as fan:

            async def prompts() -> Any:
                yield pages(1)[0]
                await asyncio.sleep(3600)

            run = fan.map(prompts())
            asyncio.get_running_loop().call_later(5, run.cancel)
            return await fan.reduce(run, join, context=1_000)

    error = simulate(main).error

    assert "the run of the parts failed, so nothing more was joined: cancelled" in str(error)


def test_a_deadline_ends_the_map_too(simulate: Simulate[Any]) -> None:
    """Nothing goes on after it: the Result says so at that instant."""
    reduced = reduce(simulate, [value(0, 0) + " slow", *pages(30)[1:]], deadline=4.0)

    assert isinstance(reduced.result.error, Stopped)
    assert reduced.result.error.kind == "deadline"
    assert reduced.seconds == 4.0


def test_a_budget_of_the_joins_is_kept(simulate: Simulate[Any]) -> None:
    """When it is spent the Result says so; the map, which has none, goes on to its end."""
    reduced = reduce(simulate, pages(60), context=3_000, max_tokens=2_940, token_budget=10_000)

    assert isinstance(reduced.result.error, Stopped)
    assert 0 < len(reduced.joins) < 20
    assert len(reduced.asked) - len(reduced.joins) == 60


@pytest.mark.parametrize("mapped", [False, True])
def test_parts_wait_while_joins_are_slow(simulate: Simulate[Any], mapped: bool) -> None:
    """Of a long source only so much is read as the joins have use for: memory stays bounded."""
    most = read = joined = 0

    async def slow(text: str) -> str:
        nonlocal most, joined
        joined += 1
        most = max(most, read - 3 * joined)
        return merged(await after(5.0, text))

    def values() -> Iterator[str]:
        nonlocal read
        for page in range(3_000):
            read += 1
            yield value(page, page)

    async def main() -> Result[str]:
        joins = Endpoint("mine/slow", provider=Scripted(slow), limits=Limits(max_concurrency=4, adapt=False))
        async with Scripted(answer).fan(Limits(max_concurrency=10, adapt=False)) as fan:
            return await fan.reduce(fan.map(values()) if mapped else values(), join, context=60, model=joins)

    assert simulate(main).value == value(0, 2_999)
    assert most <= 100


@pytest.mark.parametrize("mapped", [False, True])
def test_who_waits_to_read_on_is_told_of_a_failure(simulate: Simulate[Any], mapped: bool) -> None:
    """Nobody pulls any more what parts would be turned into: a list is left alone then, and a map read to its end."""
    prompts = pages(300)
    prompts[0] += " bad"
    reduced = reduce(simulate, prompts, mapped=mapped, limits=Limits(max_concurrency=1, adapt=False))

    assert "join 0 of level 0 failed" in str(reduced.result.error)
    assert len(reduced.asked) - len(reduced.joins) == (300 if mapped else 0)
    assert len(reduced.joins) <= 2  # the slot is free a moment before the failure is seen


async def test_others_have_their_turns_while_parts_are_sized() -> None:
    """A long list whose parts all fit holds the event loop up for one part at a time."""
    turns: list[int] = []

    def values() -> Iterator[str]:
        for page in range(50):
            asyncio.get_running_loop().call_soon(turns.append, page)
            assert turns == list(range(page))
            yield value(page, page)

    async with Scripted(lambda text: after(0, merged(text))).fan() as fan:
        assert (await fan.reduce(values(), join, context=10_000)).ok


class Note(BaseModel):
    first: int
    last: int
    said: str = ""


def join_notes(notes: Sequence[Note]) -> str:
    return "Merge: " + " / ".join(f"{note.first}-{note.last}{note.said}" for note in notes)


async def note(text: str) -> str:
    said = merged(await after(1.0, text)) if text.startswith("Merge: ") else text
    first, last = said.split()[0].split("-")
    return Note(first=int(first), last=int(last), said=FILLER).model_dump_json()


def test_structured_parts_are_joined_as_instances(simulate: Simulate[Any]) -> None:
    """`join` gets instances of the model, and the Result is one."""

    async def main() -> Result[Note]:
        async with Scripted(note).fan() as fan:
            notes = fan.map(pages(30), response_format=Note)
            return await fan.reduce(notes, join_notes, context=200, response_format=Note)

    assert simulate(main).value == Note(first=0, last=29, said=FILLER)


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("crash_at", [1, 17, 40, 48])
def test_after_a_crash_nothing_is_asked_twice(
    simulate: Simulate[Any], tmp_path: Path, structured: bool, crash_at: int
) -> None:
    """In a scope with a journal, left after so many answers: the same again asks just what was not answered, and the third
    time nothing; the questions are those of a run that nobody disturbed."""
    kinds: Any = {"response_format": Note} if structured else {}
    joining: Any = join_notes if structured else join

    def once(journal: Path, crash_at: int = 0) -> tuple[list[str], str | None]:
        answered: list[str] = []

        async def noted(text: str) -> str:
            said = await (note if structured else answer)(text)
            answered.append(text)
            if len(answered) == crash_at:
                consumer.cancel()
            return said

        async def book() -> str:
            endpoint = Endpoint("mine/x", provider=Scripted(noted), quota="q", limits=Limits(max_concurrency=7))
            async with FanOut(endpoint) as fan, fan.scope("book", journal=journal):
                parts = fan.map(pages(40), **kinds)
                return str((await fan.reduce(parts, joining, context=200 if structured else 60, **kinds)).value)

        async def main() -> str | None:
            nonlocal consumer
            consumer = asyncio.ensure_future(book())
            await asyncio.wait([consumer])
            return None if consumer.cancelled() else consumer.result()

        consumer: asyncio.Task[str]
        whole = simulate(main)
        return answered, whole

    whole, value_of_whole = once(tmp_path / "undisturbed.db")
    first, nothing = once(tmp_path / "run.db", crash_at)
    again, value_again = once(tmp_path / "run.db")
    third, _ = once(tmp_path / "run.db")

    assert (len(first) >= crash_at, nothing) == (True, None)
    assert sorted([*first, *again]) == sorted(whole)
    assert (third, value_again) == ([], value_of_whole)


def test_journals_of_their_own_are_two_files(simulate: Simulate[Any], tmp_path: Path) -> None:
    """One file has one run at a time: two of them, or that of a scope. Two runs with one file are told so."""

    async def main(first: str, second: str) -> Result[str]:
        async with Scripted(answer).fan() as fan:
            run = fan.map(pages(9), journal=tmp_path / first)
            return await fan.reduce(run, join, context=60, journal=tmp_path / second)

    assert simulate(lambda: main("a.db", "b.db")).ok
    with pytest.raises(JournalError):
        simulate(lambda: main("one.db", "one.db"))


async def test_a_run_that_was_consumed_is_refused() -> None:
    """Its results have gone elsewhere."""
    async with Scripted(lambda text: after(0, text)).fan() as fan:
        run = fan.map(["a", "b"])
        await run
        with pytest.raises(ConfigError, match="consumed already"):
            await fan.reduce(run, join, context=60)


@pytest.mark.parametrize("parts", ["text", Prompt("text"), {"a": "b"}, 7])
async def test_what_are_no_parts_is_refused(parts: Any) -> None:
    """Before anything is sent."""
    async with Scripted(answer).fan() as fan:
        with pytest.raises(ConfigError, match="parts must be a run"):
            await fan.reduce(parts, join, context=60)


@pytest.mark.parametrize("context", [0, 2.5, None])
async def test_a_context_is_a_number_of_tokens(context: Any) -> None:
    """Before anything is sent."""
    async with Scripted(answer).fan() as fan:
        with pytest.raises(ConfigError, match="context must be a whole number"):
            await fan.reduce(["a"], join, context=context)


async def test_an_executors_results_may_be_reduced() -> None:
    """A run is a run, whoever makes it."""

    async def read(page: int) -> str:
        return value(page, page)

    async with Scripted(lambda text: after(0, merged(text))).fan() as fan:
        result = await fan.reduce(Executor().map(read, range(20)), join, context=60)

    assert result.value == value(0, 19)


async def test_a_book_of_chapters_of_pages() -> None:
    """Reduces of maps side by side, and one over what came of them: nested awaits, on one quota."""

    def merge(parts: Sequence[str]) -> str:
        return "Merge these notes:\n\n" + "\n\n".join(parts)

    chapters = {name: [f"page {number} of {name}" for number in range(25)] for name in ("one", "two", "three")}
    with Box(SimConfig(latency=0.01, jitter=0.0, answer_tokens=20)) as box:
        async with FanOut("sim/x", base_url=box.url, limits=Limits(max_concurrency=20), max_tokens=20) as fan:
            glossary = (await fan.call("List the terms:\n" + "\n".join(chapters["one"]))).value

            async def one(pages: list[str]) -> str:
                return (await fan.reduce(fan.map(pages, instructions=glossary), merge, context=150)).value

            whole = await fan.reduce(await asyncio.gather(*map(one, chapters.values())), merge, context=150)
            summary = fan.summary

    assert whole.ok
    assert (summary.failed, summary.in_flight) == (0, 0)
    assert summary.done > 1 + 75 + 3 * 5


async def test_reduce_over_sockets() -> None:
    """A map with failures on its way and its reduce share one quota in the box: every call counts once."""
    with Box(SimConfig(latency=0.01, jitter=0.0, answer_tokens=20)) as box:
        limits = Limits(max_concurrency=20)
        async with FanOut("sim/x", base_url=box.url, limits=limits, max_tokens=20) as fan:
            parts = fan.map(f"page {page} {'[[faults:500,ok]]' * (page % 5 == 0)}" for page in range(60))
            result = await fan.reduce(parts, lambda notes: "Merge: " + " ".join(notes), context=150)
            summary = fan.summary
        requests = box.stats["requests"]

    assert result.ok
    assert summary.failed == 0
    assert summary.attempts == requests == summary.done + 12
    assert 0 < summary.usage.output_tokens <= 20 * summary.done


def test_errors_that_pass_are_tried_again(simulate: Simulate[Any]) -> None:
    """A join is a call like any other: an outage of one does not end the tree."""
    failures = iter([True])

    async def shaky(text: str) -> str:
        if text.startswith("Merge: ") and next(failures, False):
            raise Unavailable("gone for a moment")
        return await answer(text)

    async def main() -> Result[str]:
        async with Scripted(shaky).fan() as fan:
            return await fan.reduce(fan.map(pages(9)), join, context=60)

    assert simulate(main).value == value(0, 8)


def test_a_join_that_breaks_its_schema_ends_the_joining(simulate: Simulate[Any]) -> None:
    """After the tries that it has, it is a failed join."""

    async def main() -> Result[Note]:
        async with Scripted(lambda text: after(1, "no JSON")).fan() as fan:
            notes = [Note(first=page, last=page, said=FILLER) for page in range(9)]
            return await fan.reduce(notes, join_notes, context=200, response_format=Note)

    error = simulate(main).error

    assert isinstance(error, Stopped)
    assert isinstance(error.__cause__, BadReply)
