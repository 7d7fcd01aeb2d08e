"""Runs with a journal: what was paid for is never asked again, and nothing is delivered that is not on disk."""

from __future__ import annotations

import asyncio
import gc
import pickle
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
from openai.types.chat import ChatCompletionMessage
from pydantic import BaseModel, field_validator
from support import consume, in_thread

from llm_fanout import ConfigError, Endpoint, FanOut, Limits, Prompt, Report, Result, Stopped, Unavailable
from llm_fanout.errors import JournalError
from llm_fanout.journal import Journal
from llm_fanout.journal.file import JournalFile
from llm_fanout.providers import Reply, Request, ToolCall
from llm_fanout.results import Origin
from llm_fanout.sim import Box, SimConfig
from llm_fanout.spending import Usage

FAST = SimConfig(latency=0.005, jitter=0.0, answer_tokens=10)
CHILD = Path(__file__).with_name("journaling.py")
TOOL: Any = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


class Ticket(BaseModel):
    category: str
    urgency: int


@pytest.fixture
def box() -> Iterator[Box]:
    """A quick provider without limits or faults."""
    with Box(FAST) as box:
        yield box


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


def endpoint(box: Box, model: str = "openai/gpt-5-mini", **fields: Any) -> Endpoint:
    """One whose calls are the same whatever the box's port is."""
    return Endpoint(model, **{"base_url": box.url, "api_key": "none", "quota": "q", **fields})


@pytest.fixture
async def fan(box: Box) -> AsyncIterator[FanOut]:
    """A client of that provider."""
    async with FanOut(endpoint(box)) as fan:
        yield fan


def numbers(count: int) -> list[str]:
    return [f"[[answer:number {number}]]" for number in range(count)]


def sources(report: Iterable[Result[Any]]) -> list[Origin]:
    return [result.source for result in report]


def records(place: Path) -> list[Any]:
    """What is in the file."""
    with closing(JournalFile(Journal(place))) as file:
        return [each.said() for each in file.records()]


def clerks() -> list[threading.Thread]:
    """The threads of journals in use; those that are about to end have ended."""
    threads = [thread for thread in threading.enumerate() if thread.name == "llm_fanout journal"]
    return [thread for thread in threads if thread.join(5) or thread.is_alive()]


async def test_the_same_again_sends_exactly_what_is_missing(fan: FanOut, box: Box, place: Path) -> None:
    """Ten of fifteen are there: five more requests, all answers in order, and what they cost is not counted twice."""
    first = await fan.map(numbers(10), journal=place)
    again = await fan.map(numbers(15), journal=str(place))

    assert box.stats["requests"] == 15
    assert again.values == [f"number {number}" for number in range(15)]
    assert sources(again) == ["journal"] * 10 + ["provider"] * 5
    assert (first.summary.replayed, again.summary.replayed, again.summary.succeeded) == (0, 10, 15)
    assert (again.summary.attempts, again.summary.usage.output_tokens) == (5, sum(r.usage.output_tokens for r in again[10:]))
    assert again.summary.cost == pytest.approx(sum(cast("float", result.cost) for result in again[10:]))
    assert again[0].cost == first[0].cost
    assert len(records(place)) == 15  # nothing is written twice
    assert not clerks()


async def test_a_half_finished_run_goes_on(fan: FanOut, box: Box, place: Path) -> None:
    """Left in the middle, from a generator: in the end every prompt was answered once."""
    async with fan.map(iter(numbers(200)), journal=place) as run:
        async for result in run:
            if result.index >= 60:
                break
    done = len([each for each in records(place) if each["error"] is None])
    sent = box.stats["answered"]
    report = await fan.map(iter(numbers(200)), journal=place)

    assert 60 <= done <= sent < 200
    assert report.summary.replayed == done
    assert report.summary.attempts == 200 - done
    assert report.values == [f"number {number}" for number in range(200)]


def test_an_interrupt_while_results_come_from_disk_ends_the_run(tmp_path: Path) -> None:
    """Ctrl-C in the user's own progress: the others that were written with that result are delivered, and nobody hangs."""

    async def answer(request: Request) -> str:
        return "yes"

    def interrupted(summary: Any) -> None:
        if summary.done == 1:
            raise KeyboardInterrupt

    run = FanOut(Endpoint("own/f", provider=answer)).map(["a"] * 5, journal=tmp_path / "run.db", progress=interrupted)

    with pytest.raises(KeyboardInterrupt):
        in_thread(lambda: asyncio.run(consume(run)))
    assert len(run.report) == 5


async def test_failures_are_asked_again(fan: FanOut, box: Box, place: Path) -> None:
    """What has an answer is not; the file keeps what went wrong for whoever looks."""
    prompts = ["[[faults:400]] a", "[[answer:yes]]"]
    first = await fan.map(prompts, journal=place)
    again = await fan.map(prompts, journal=place)

    assert [result.ok for result in first] == [False, True]
    assert [result.ok for result in again] == [True, True]
    assert sources(again) == ["provider", "journal"]
    assert box.stats["requests"] == 3
    assert [each["error"] and each["error"]["kind"] for each in records(place)] == ["invalid", None, None] or [
        each["error"] and each["error"]["kind"] for each in records(place)
    ] == [None, "invalid", None]


async def test_a_changed_prompt_reruns_its_row(fan: FanOut, box: Box, place: Path) -> None:
    """And no other, wherever it stands; changed options rerun all."""
    await fan.map(numbers(5), journal=place)
    prompts = ["[[answer:new]]", *reversed(numbers(5))]
    report = await fan.map(prompts, journal=place)
    other = await fan.map(prompts, journal=place, temperature=0.5)

    assert report.values == ["new", *(f"number {number}" for number in reversed(range(5)))]
    assert sources(report) == ["provider", *["journal"] * 5]
    assert sources(other) == ["provider"] * 6
    assert box.stats["requests"] == 12


async def test_prompts_that_are_alike_are_told_apart(fan: FanOut, box: Box, place: Path) -> None:
    """Each has its own answer, in their order; one more is asked once more."""
    first = await fan.map(["Roll a die."] * 3, journal=place)
    again = await fan.map(["Roll a die."] * 4, journal=place)

    assert again.values[:3] == first.values
    assert len(set(first.values)) > 1
    assert sources(again) == ["journal"] * 3 + ["provider"]
    assert box.stats["requests"] == 4


async def test_who_asks_keeps_what_is_theirs(fan: FanOut, place: Path) -> None:
    """Ids of any size, tags and prompts are those of now, not those of the run that was answered."""
    await fan.map([Prompt("[[answer:a]]", id=2**200, tag="old"), Prompt("[[answer:b]]", id="x")], journal=place)
    prompts = [Prompt("[[answer:b]]", id="\ud83d", tag=object()), Prompt("[[answer:a]]", id=7)]
    report = await fan.map(prompts, journal=place)

    assert [(result.index, result.id, result.text) for result in report] == [(0, "\ud83d", "b"), (1, 7, "a")]
    assert [result.prompt for result in report] == prompts
    assert report[0].tag is prompts[0].tag
    assert sources(report) == ["journal", "journal"]
    assert {each["id"] for each in records(place)} == {2**200, "x"}


async def calls_a_tool(request: Request) -> Reply:
    return Reply("", "tool_calls", Usage(3, 4), [ToolCall.of("1", "add", '{"a": 2}')])


async def says_ok(request: Request) -> str:
    return "ok \U0001f600"


WAYS: dict[str, tuple[Callable[[Box], Endpoint], Callable[[FanOut], Callable[..., Any]], dict[str, Any]]] = {
    "chat": (endpoint, lambda fan: fan.map, {}),
    "stream": (endpoint, lambda fan: fan.map, {"stream": True}),
    "tools": (endpoint, lambda fan: fan.map, {"tools": [TOOL], "tool_choice": "required"}),
    "schema": (endpoint, lambda fan: fan.map, {"response_format": Ticket}),
    "responses": (lambda box: endpoint(box, api="responses"), lambda fan: fan.map, {}),
    "responses, streamed": (lambda box: endpoint(box, api="responses"), lambda fan: fan.map, {"stream": True}),
    "messages": (lambda box: endpoint(box, "anthropic/x", base_url=box.url.removesuffix("/v1")), lambda fan: fan.map, {}),
    "embeddings": (endpoint, lambda fan: fan.embed, {}),
    "function": (lambda box: Endpoint("own/x", provider=says_ok), lambda fan: fan.map, {}),
    "function with tools": (lambda box: Endpoint("own/x", provider=calls_a_tool), lambda fan: fan.map, {}),
}
SEEN = (
    *("value", "text", "usage", "cost", "finish_reason", "model", "endpoint", "via", "api", "attempts"),
    *("queue_time", "service_time", "latency", "ttft"),
)


@pytest.mark.parametrize("way", WAYS)
async def test_an_answer_comes_back_as_it_was(box: Box, place: Path, way: str) -> None:
    """All that a Result shows, whichever API gave it, also to a client that was made later."""
    where, verb, options = WAYS[way]
    reports: list[Report[Any]] = []
    for _ in range(2):
        async with FanOut(where(box)) as fan:
            reports.append(await verb(fan)(["What?", "Why?"], journal=place, **options))
    requests = box.stats["requests"]

    assert requests == (0 if way.startswith("function") else 2)
    assert [sources(report) for report in reports] == [["provider"] * 2, ["journal"] * 2]
    for before, after in zip(*reports, strict=True):
        assert [getattr(after, name) for name in SEEN] == [getattr(before, name) for name in SEEN]
        for name in ("tool_calls", "inter_token"):
            assert list(getattr(after, name)) == list(getattr(before, name))
        assert repr(after.response) == repr(before.response)
        assert after.to_dict() == {**before.to_dict(), "source": "journal"}
    if way == "schema":
        assert all(isinstance(value, Ticket) for value in reports[1].values)


class Strict(Ticket):
    """As it was when the journal was written, and with a validator that came later."""

    limit: ClassVar[int] = 10**9

    @field_validator("urgency")
    @classmethod
    def _small(cls, urgency: int) -> int:
        if urgency > cls.limit:
            raise RuntimeError("too urgent")
        return urgency


async def test_an_answer_that_does_not_fit_any_more_is_asked_for_again(
    fan: FanOut, box: Box, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schema is the same, its validator is not: what it refuses is no answer. The new one counts from then on."""
    prompts = [f'[[answer:{{"category": "a", "urgency": {urgency}}}]]' for urgency in (1, 50)]
    await fan.map(prompts, response_format=Strict, journal=place)
    with monkeypatch.context() as patch:
        patch.setattr(Strict, "limit", 9)
        report = await fan.map(prompts, response_format=Strict, journal=place)
    again = await fan.map(prompts, response_format=Strict, journal=place)

    assert sources(report) == ["journal", "provider"]
    assert report[1].error is not None
    assert sources(again) == ["journal", "journal"]
    assert [value.urgency for value in again.values] == [1, 50]


async def test_what_json_has_not_is_asked_for_again(place: Path) -> None:
    """A function may answer with numbers that no provider has: then what was written down is no answer."""

    async def counts(request: Request) -> Reply:
        return Reply("yes", usage=Usage(cast("int", 1.5), 2))

    async with FanOut(Endpoint("own/x", provider=counts)) as fan:
        reports = [await fan.map(["x"], journal=place) for _ in range(2)]

    assert [(report[0].source, report[0].text) for report in reports] == [("provider", "yes")] * 2


async def test_prompts_of_an_sdk_are_kept(fan: FanOut, box: Box, place: Path) -> None:
    """Its objects in a conversation are the same call as what they say."""
    said = ChatCompletionMessage(role="assistant", content="Yes?")
    ask: Any = {"role": "user", "content": "Hi"}
    await fan.map([[ask, said, ask]], journal=place)
    report = await fan.map([[ask, {"role": "assistant", "content": "Yes?"}, ask]], journal=place)

    assert sources(report) == ["journal"]
    with closing(JournalFile(Journal(place))) as file:
        (kept,) = file._db.execute("SELECT prompt FROM results").fetchone()
    assert b'"Yes?"' in kept


async def test_an_error_with_half_an_emoji_is_kept(place: Path) -> None:
    """What had arrived may have been cut anywhere; it does not break the run."""

    async def breaks(request: Request) -> str:
        raise Unavailable("cut \udc00", kind="connection", partial="a smile \ud83d")

    async with FanOut(Endpoint("own/x", provider=breaks), max_retries=0) as fan:
        report = await fan.map(["x"], journal=place)

    assert report[0].text == "a smile \ud83d"
    assert records(place)[0]["error"]["partial"] == "a smile \ud83d"


SECRET, CANARY = "my secret wish", "sk-canary-0123456789"


async def test_only_what_is_wished_is_written_down(box: Box, place: Path) -> None:
    """No key, in no way; no text of a prompt, if only hashes are wished. Looked for in every byte, also of the log."""
    journal = Journal(place, store_prompts=False)
    prompts: Sequence[Any] = [
        SECRET,
        [{"role": "user", "content": SECRET}],
        f"{SECRET} [[fault:401]]",
        f"{SECRET} [[fault:cut]]",
    ]
    options: Any = {"instructions": f"Grant {SECRET}.", "extra_headers": {"X-Key": CANARY}, "max_retries": 0}
    found: list[bytes] = []

    async with FanOut(endpoint(box, api_key=CANARY)) as fan:
        async for _ in fan.map(prompts, journal=journal, **options):
            found.append(await asyncio.to_thread(content_of, place.parent))
        found.append(await asyncio.to_thread(content_of, place.parent))
        assert not [each for each in found if SECRET.encode() in each or CANARY.encode() in each]

        await fan.map(prompts, journal=place.with_name("other.db"), **options)
    assert SECRET.encode() in content_of(place.parent)
    assert CANARY.encode() not in content_of(place.parent)


def content_of(folder: Path) -> bytes:
    """All bytes of all files in it, but for those that SQLite takes away meanwhile."""
    contents = []
    for each in sorted(folder.iterdir()):
        with suppress(FileNotFoundError):
            contents.append(each.read_bytes())
    return b"".join(contents)


@pytest.mark.parametrize("how", ["awaited", "iterated", "ordered"])
async def test_what_was_seen_is_on_disk(box: Box, fan: FanOut, place: Path, how: str) -> None:
    """A process that kills itself right after it has seen a result leaves that result to the next."""
    command = [sys.executable, str(CHILD), box.url, str(place), how, "40"]
    child = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    seen = dict(line.split(" ", 1) for line in child.stdout.splitlines())
    async with FanOut(endpoint(box, "openai/x")) as again:
        report = await again.map(numbers(40), journal=place)

    assert child.returncode == -9, child.stderr
    assert len(seen) == (40 if how == "awaited" else 1)
    for index, text in seen.items():
        assert (report[int(index)].source, report[int(index)].text) == ("journal", text)
    assert report.values == [f"number {number}" for number in range(40)]
    assert box.stats["requests"] - 40 <= 8 + 64  # in flight and not yet committed


async def test_a_slow_disk_holds_no_slots(box: Box, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing can be written, calls go on up to the window, and nothing is delivered."""
    go, add = threading.Event(), JournalFile.add

    def blocked(file: JournalFile, records: Any) -> None:
        assert go.wait(60)
        add(file, records)

    monkeypatch.setattr(JournalFile, "add", blocked)
    async with FanOut(endpoint(box), limits=Limits(max_concurrency=4, adapt=False)) as fan:
        run = fan.map(numbers(40), journal=place)
        waiting = asyncio.ensure_future(consume(run))
        while box.stats["answered"] < 8 or run.summary.in_flight:
            await asyncio.sleep(0)
        done, sent = run.summary.done, box.stats["requests"]
        go.set()
        report = await waiting

    assert (done, sent) == (0, 8)  # twice the slots
    assert report.summary.succeeded == 40


async def test_a_scope_has_one_for_all_inside(fan: FanOut, box: Box, place: Path, tmp_path: Path) -> None:
    """Runs and single calls; of nested scopes the nearest that has one, and a run's own goes before."""

    async def work() -> list[str]:
        async with fan.scope("outer", journal=place):
            found = [await fan.call("[[answer:outer]]")]
            async with fan.scope("plain"):
                found += await fan.map(["[[answer:inherited]]"])
                async with fan.scope("inner", journal=tmp_path / "inner.db"):
                    found += await fan.map(["[[answer:inner]]"])
                found += await fan.map(["[[answer:own]]"], journal=tmp_path / "own.db")
        return [f"{result.value} {result.source}" for result in found]

    first, again = await work(), await work()

    assert first == ["outer provider", "inherited provider", "inner provider", "own provider"]
    assert again == ["outer journal", "inherited journal", "inner journal", "own journal"]
    assert box.stats["requests"] == 4
    assert [len(records(tmp_path / name)) for name in ("run.db", "inner.db", "own.db")] == [2, 1, 1]


async def test_a_stream_of_an_answer_that_is_there_has_all_of_it(fan: FanOut, box: Box, place: Path) -> None:
    """As one piece, like every answer that comes whole."""

    async def read() -> tuple[str, Origin]:
        async with fan.scope("reads", journal=place), fan.stream("[[answer:one two three four]]") as pieces:
            text = "".join([piece async for piece in pieces])
            return text, pieces.result.source

    assert [await read(), await read()] == [("one two three four", "provider"), ("one two three four", "journal")]
    assert box.stats["requests"] == 1


async def test_a_scopes_journal_serves_other_threads(fan: FanOut, box: Box, place: Path) -> None:
    """Their event loops are others, and so may their turns be: what they asked is there for all the same."""

    async def ask() -> list[Origin]:
        return sources(await fan.map(["a", "b"]))

    async def work() -> list[list[Origin]]:
        async with fan.scope("threads", journal=place):
            return await asyncio.gather(*(asyncio.to_thread(asyncio.run, ask()) for _ in range(3)))

    assert await work() == [["provider"] * 2] * 3
    assert await work() == [["journal"] * 2] * 3
    assert box.stats["requests"] == 6


async def test_in_a_scope_occurrences_go_on(fan: FanOut, box: Box, place: Path) -> None:
    """The second run asks the same and is not the first one's; opened again, both are found in their order."""

    async def work() -> list[Any]:
        async with fan.scope("votes", journal=place):
            return [*await fan.map(["Roll."]), *await fan.map(["Roll."]), await fan.call("Roll.")]

    first, again = await work(), await work()

    assert [each.value for each in again] == [each.value for each in first]
    assert sources(again) == ["journal"] * 3
    assert box.stats["requests"] == 3


async def test_a_scope_with_a_bad_journal_is_not_entered(fan: FanOut, tmp_path: Path) -> None:
    """The error says why, and the scope around it is the current one still."""
    with pytest.raises(JournalError, match="is no file; name a file for the journal"):
        async with fan.scope("bad", journal=tmp_path):
            pytest.fail("entered")

    assert (await fan.call("[[answer:yes]]")).source == "provider"
    assert not clerks()


async def test_one_run_at_a_time(fan: FanOut, box: Box, place: Path) -> None:
    """A second one fails before anything is sent, in this process or another; the first goes on."""
    command = [sys.executable, str(CHILD), box.url, str(place), "small", "2"]
    async with fan.scope("first", journal=place):
        with pytest.raises(JournalError, match=r"run\.db is in use by another run; wait for it, or name") as caught:
            await fan.map(["a", "b"], journal=place)
        other = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
        assert box.stats["requests"] == 0
        first = await fan.call("[[answer:yes]]")

    assert [result.error and result.error.kind for result in caught.value.report] == ["not_attempted"] * 2
    assert other.stdout.startswith("0 2 the journal")
    assert "is in use by another run" in other.stdout
    assert len(records(place)) == 1
    assert first.ok


async def test_an_earlier_report_answers_too(fan: FanOut, box: Box, place: Path) -> None:
    """Each of its answers once; with a journal they are written down there, and a journal's own go first."""
    earlier = await fan.map(["[[answer:a]]", "[[answer:b]]", "[[answer:b]]", "[[faults:400]] c"])
    report = await fan.map(["[[answer:b]]"] * 3 + ["[[faults:400]] c"], reuse=earlier)
    kept = await fan.map(["[[answer:a]]"], reuse=earlier, journal=place)
    again = await fan.map(["[[answer:a]]"], reuse=earlier, journal=place)
    alone = await fan.map(["[[answer:a]]"], journal=place)

    assert sources(report) == ["journal", "journal", "provider", "provider"]
    assert report.values == ["b", "b", "b", report[3].value]
    assert (report.summary.replayed, report.summary.attempts) == (2, 2)
    assert [sources(each) for each in (kept, again, alone)] == [["journal"]] * 3
    assert box.stats["requests"] == 6
    assert len(records(place)) == 1


async def test_a_structured_report_is_reused(fan: FanOut, box: Box) -> None:
    """As instances; another schema is another call, and what does not validate is asked for again."""
    earlier = await fan.map(["a"], response_format=Ticket)
    report = await fan.map(["a"], response_format=Ticket, reuse=earlier)
    other = await fan.map(["a"], reuse=cast("Any", earlier))

    assert report.values == earlier.values
    assert isinstance(report[0].value, Ticket)
    assert sources([*report, *other]) == ["journal", "provider"]


async def test_a_pickled_report_is_reused(fan: FanOut, box: Box) -> None:
    """It has what it needs for that, and no header."""
    earlier = await fan.map(["a", Prompt("b", seed=3)], extra_headers={"X-Key": CANARY})
    pickled = pickle.dumps(earlier)
    report = await fan.map(["a", Prompt("b", seed=3)], reuse=pickle.loads(pickled))

    assert sources(report) == ["journal"] * 2
    assert report.values == earlier.values
    assert CANARY.encode() not in pickled


async def test_a_report_that_was_read_back_from_rows_has_no_prompts(fan: FanOut) -> None:
    """Nothing of it is taken for an answer to anything."""
    earlier = await fan.map(["a"])
    rows = Report([Result.from_dict(row) for row in earlier.to_dicts()], earlier.summary)
    report = await fan.map(["a"], reuse=rows)

    assert sources(report) == ["provider"]


async def test_a_full_disk_ends_the_run(box: Box, place: Path) -> None:
    """It says so with what is done, which is what is on disk; with room again, the rest is asked."""
    command = [sys.executable, str(CHILD), box.url, str(place), "small", "500"]
    child = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    done, rows, said = child.stdout.split(" ", 2)
    on_disk = await asyncio.to_thread(records, place)
    async with FanOut(endpoint(box, "openai/x")) as fan:
        report = await fan.map(numbers(500), journal=place)

    assert 0 < int(done) == len(on_disk) < int(rows) == 500
    assert f"the disk of the journal {place}" in said
    assert "then run the same again to go on" in said
    assert report.summary.replayed == int(done)
    assert report.values == [f"number {number}" for number in range(500)]


async def test_what_could_not_be_written_is_not_done(fan: FanOut, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its Result says so, and has the text that was paid for, and what it cost."""

    def full(file: JournalFile, records: Any) -> None:
        raise JournalError("the disk is full")

    monkeypatch.setattr(JournalFile, "add", full)
    with pytest.raises(JournalError, match="the disk is full") as caught:
        await fan.map(numbers(1), journal=place)
    (result,) = caught.value.report

    assert isinstance(result.error, Stopped)
    assert str(result.error) == "the answer could not be written to the journal"
    assert (result.text, result.usage.output_tokens > 0) == ("number 0", True)
    assert not clerks()


async def test_a_damaged_result_ends_the_run(fan: FanOut, box: Box, place: Path) -> None:
    """Nothing hangs, nothing wrong is delivered, and the message says what to do; the file may be looked at then."""
    await fan.map(numbers(20), journal=place)
    with closing(JournalFile(Journal(place))) as file:
        file._db.execute("UPDATE results SET reply = replace(reply, 'number 7', 'number 8') WHERE row > 3")
    with pytest.raises(JournalError, match=r"is damaged: .*; name another file, or restore this one from a copy") as caught:
        await fan.map(numbers(30), journal=place)

    assert len(caught.value.report) == 30
    assert all(result.text == f"number {result.index}" for result in caught.value.report if result.ok)
    assert len(records_unread(place)) >= 20


def records_unread(place: Path) -> list[Any]:
    with closing(JournalFile(Journal(place))) as file:
        return list(file.records())


async def test_rows_do_not_take_the_journals_place(fan: FanOut, box: Box, place: Path) -> None:
    """Whoever gives both the same name learns it before anything is sent."""
    run = fan.map(["one"], journal=place)

    with pytest.raises(ConfigError, match="the journal of the run is to be there"):
        await run.sink(place)

    assert box.stats["requests"] == 0
    await run.leave()


async def test_a_failure_to_close_is_told(fan: FanOut, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The results are there, but whether all of them are safe is not known."""
    close = JournalFile.close

    def fails(file: JournalFile) -> None:
        close(file)
        raise JournalError("the disk failed")

    with monkeypatch.context() as patch:
        patch.setattr(JournalFile, "close", fails)
        with pytest.raises(JournalError, match="the disk failed") as caught:
            await fan.map(numbers(2), journal=place)

    assert caught.value.report.values == ["number 0", "number 1"]  # type: ignore[attr-defined]
    assert sources(await fan.map(numbers(2), journal=place)) == ["journal"] * 2


async def cancel(waiting: asyncio.Task[Any]) -> None:
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_cancelled_run_lets_go(fan: FanOut, box: Box, place: Path) -> None:
    """What was done is there; the next run has the file at once."""
    run = fan.map([*numbers(3), "[[latency:60]]"], journal=place)
    waiting = asyncio.ensure_future(consume(run))
    while run.summary.done < 3:
        await asyncio.sleep(0)
    await cancel(waiting)

    assert not clerks()
    assert sources(await fan.map(numbers(3), journal=place)) == ["journal"] * 3
    assert [result.ok for result in run.report] == [True] * 3 + [False]


async def test_cancelled_while_it_opens(fan: FanOut, box: Box, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was sent, every prompt has its Result, and nothing is left; a scope likewise."""
    entered, go = threading.Event(), threading.Event()
    finished = JournalFile.finished

    def blocked(file: JournalFile) -> Iterator[tuple[bytes, int]]:
        entered.set()
        assert go.wait(60)
        return finished(file)

    @asynccontextmanager
    async def released() -> AsyncIterator[None]:
        await asyncio.to_thread(entered.wait)
        asyncio.get_running_loop().call_later(0.01, go.set)
        yield
        entered.clear()
        go.clear()

    async def enter() -> None:
        async with fan.scope("x", journal=place):
            pytest.fail("entered")

    monkeypatch.setattr(JournalFile, "finished", blocked)
    run = fan.map(numbers(3), journal=place)
    waiting = asyncio.ensure_future(consume(run))
    async with released():
        await cancel(waiting)
    entering = asyncio.ensure_future(enter())
    async with released():
        await cancel(entering)
    monkeypatch.undo()

    assert len(run.report) == 3
    assert not any(result.ok for result in run.report)
    assert box.stats["requests"] == 0
    gc.collect()
    assert not clerks()
    assert sources(await fan.map(numbers(1), journal=place)) == ["provider"]


def test_a_loop_that_was_closed_leaves_no_lock(place: Path) -> None:
    """Nobody was there to end the run, and somebody holds it still; the next has the file, with what was done."""

    async def says(request: Request) -> str:
        text = request.messages[-1]["content"]
        await asyncio.sleep(60 if text == "slow" else 0)
        return f"said {text}"

    fan = FanOut(Endpoint("own/x", provider=says), limits=Limits(max_concurrency=2, adapt=False))
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # that a call is under way: so it is
    run = fan.map(["a", "b", "slow"], journal=place)

    async def begin() -> None:
        run._flow.start()
        while run.summary.done < 2:
            await asyncio.sleep(0)

    async def again() -> Report[str]:
        return await fan.map(["a", "b"], journal=place)

    in_thread(lambda: loop.run_until_complete(begin()))
    loop.close()
    report = in_thread(lambda: asyncio.run(again()))

    assert sources(report) == ["journal"] * 2
    assert (run.summary.done, len(run.report)) == (2, 2)
    assert not clerks()


@pytest.mark.parametrize("said", ["", 3, object()])
async def test_a_journal_is_a_path(fan: FanOut, said: Any) -> None:
    """Refused where the run is made, or the scope."""
    for make in (fan.map, fan.embed):
        with pytest.raises(ConfigError, match="a journal is the path of a file"):
            make(["a"], journal=said)
    with pytest.raises(ConfigError, match="a journal is the path of a file"):
        fan.scope("x", journal=said)
