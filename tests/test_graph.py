"""Tasks that need each other: order, width, what fails with what, and what ends half-way."""

from __future__ import annotations

import asyncio
import random
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import FakeProvider, Simulate, consume

from llm_fanout import ConfigError, Executor, FanOut, Limits, Run, RunFailed, Stopped, Task, clock
from llm_fanout.graph import Dependencies, Graph

FUZZED = 400  # random graphs that are ended at a random point
PER_TEST = 50


async def give(value: Any) -> Any:
    await asyncio.sleep(1)
    return value


async def add(*numbers: Any) -> Any:
    await asyncio.sleep(1)
    return sum(numbers)


async def add_up(numbers: Sequence[int]) -> int:
    await asyncio.sleep(1)
    return sum(numbers)


async def fail(*_: Any) -> int:
    await asyncio.sleep(1)
    raise ValueError("no good")


def graph_of(*tasks: Task[Any]) -> Graph:
    return Graph(dict(enumerate(tasks)))


def chain(length: int, first: Task[Any]) -> list[Task[Any]]:
    tasks = [first]
    while len(tasks) < length:
        tasks.append(Task(give, tasks[-1]))
    return tasks


# What is given to whom


def test_a_task_as_an_argument_is_its_value(simulate: Simulate[Any]) -> None:
    """The function gets what the other task gave, beside the arguments that are none, and starts when that is there."""

    async def main() -> Any:
        two, three = Task(give, 2), Task(give, 3)
        report = await Executor().run([Task(add, two, 10, three), two, three])
        return report.values, report.summary.elapsed

    assert simulate(main) == ([15, 2, 3], pytest.approx(2))


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_of_tasks_is_a_list_of_values(simulate: Simulate[Any], kind: Any) -> None:
    """In their order, one that is in it twice twice; what is no task in it stays."""

    async def main() -> Any:
        two, three = Task(give, 2), Task(give, 3)
        mixed: Any = kind([three, two, 1, three])
        return (await Executor().run([two, three, Task(give, mixed)])).values

    assert simulate(main) == [2, 3, [3, 2, 1, 3]]


def test_lists_without_tasks_are_handed_on_as_they_are(simulate: Simulate[Any]) -> None:
    """A list of plain values, or an empty one, is the very object that was given; deeper inside nobody looks."""
    task = Task(give, 1)
    plain: list[Any] = [[], [1, 2], (3,), {"deep": [task]}]

    async def main() -> Any:
        return (await Executor().run([Task(give, each) for each in plain])).values

    assert all(value is each for value, each in zip(simulate(main), plain, strict=True))


def test_after_waits_without_a_value(simulate: Simulate[Any]) -> None:
    """A task that comes after others starts when they have succeeded, with its own arguments."""
    order: list[str] = []

    async def note(name: str) -> None:
        order.append(name)
        await asyncio.sleep(1)

    async def main() -> Any:
        first = Task(note, "first")
        second = Task(note, "second", after=[first])
        return (await Executor().run([Task(note, "third", after=(first, second)), second, first])).values

    assert simulate(main) == [None, None, None]
    assert order == ["first", "second", "third"]


def test_one_task_for_many(simulate: Simulate[Any]) -> None:
    """A task that many need, one of them by its value and by `after`, runs once."""
    calls: Counter[str] = Counter()

    async def once(name: str) -> int:
        calls[name] += 1
        return 1

    async def main() -> Any:
        one = Task(once, "one")
        return (await Executor().run([one, *(Task(add, one, one, after=[one]) for _ in range(20))])).values

    assert simulate(main) == [1] + [2] * 20
    assert calls == {"one": 1}


def test_the_same_task_twice_is_run_twice(simulate: Simulate[Any]) -> None:
    """Those that need it get the value of the first."""
    numbers = iter(range(5))

    async def next_number() -> int:
        return next(numbers)

    async def main() -> Any:
        task = Task(next_number)
        return (await Executor(max_concurrency=1).run([task, task, Task(give, task)])).values

    assert simulate(main) == [0, 1, 0]


def test_values_are_let_go_of(simulate: Simulate[Any]) -> None:
    """Once those that need a value have ended, or can never start, nobody keeps it, unless its Result is kept."""

    class Big:
        pass

    alive: list[weakref.ref[Big]] = []

    async def make() -> Big:
        big = Big()
        alive.append(weakref.ref(big))
        return big

    async def use(*_: Any) -> None:
        await asyncio.sleep(1)

    async def main() -> Any:
        one, other, broken = Task(make), Task(make), Task(fail)
        used = Task(use, one)
        lost = Task(use, [other], broken)
        late = Task(count, after=[used])
        async for result in Executor().run([one, other, broken, used, lost, late]):
            if result.index == 5:
                return result.value
        return None

    async def count() -> int:
        await asyncio.sleep(1)
        return sum(each() is not None for each in alive)

    assert simulate(main) == 0


# What fails, and what that takes with it


def test_a_failure_takes_those_with_it_that_need_it(simulate: Simulate[Any]) -> None:
    """They are skipped, through others too, with whose failure it is and what it said; other branches go on."""

    async def main() -> Any:
        one, bad = Task(give, 1), Task(fail, id="bad")
        needs = Task(add, one, bad)
        return await Executor().run([one, bad, needs, Task(give, [needs]), Task(give, 5, after=[needs]), Task(add, one, 1)])

    report = simulate(main)

    assert [result.error and result.error.kind for result in report] == [
        None,
        "exception",
        "skipped",
        "skipped",
        "skipped",
        None,
    ]
    for result in report[2:5]:
        assert isinstance(result.error, Stopped)
        assert result.error.message == "not started, for task 'bad' failed: ValueError: no good"
        assert result.error.__cause__ is report[1].error
        assert result.attempts == 0


def test_a_task_without_a_name_is_told_by_its_place(simulate: Simulate[Any]) -> None:
    """The reason names position and function."""

    async def main() -> Any:
        bad = Task(fail)
        return await Executor().run([bad, Task(give, bad)])

    assert "task 0 (fail) failed" in str(simulate(main)[1].error)


def test_those_that_failed_first_give_the_reason(simulate: Simulate[Any]) -> None:
    """A task that needs two that fail is skipped for the first, and once."""

    async def fail_after(seconds: float) -> None:
        await asyncio.sleep(seconds)
        raise ValueError(f"after {seconds:g} s")

    async def main() -> Any:
        slow, quick = Task(fail_after, 5.0), Task(fail_after, 1.0)
        return await Executor().run([slow, quick, Task(give, [slow, quick])])

    assert simulate(main)[2].error.message.endswith("after 1 s")


def test_retries_come_before_giving_up(simulate: Simulate[Any]) -> None:
    """What needs a task that works when it is tried again gets its value."""
    tries: list[int] = []

    async def second_time(number: int) -> int:
        tries.append(number)
        if len(tries) == 1:
            raise OSError("reset")
        return number

    async def main() -> Any:
        first = Task(second_time, 4)
        return (await Executor().run([first, Task(add, first, 1)])).values

    assert simulate(main) == [4, 5]


@pytest.mark.parametrize("first", [Task(give, 7), Task(fail)], ids=["works", "fails"])
def test_a_long_chain(simulate: Simulate[Any], first: Task[Any]) -> None:
    """Thousands in a row are run, or skipped, without ever going deep."""
    tasks = chain(1_500 if first.fn is give else 10_000, first)

    async def main() -> Any:
        return await Executor(max_retries=0).run(reversed(tasks))

    report = simulate(main)

    assert len(report) == len(tasks)
    assert {result.error.kind if result.error else result.value for result in report[:-1]} <= {7, "skipped"}
    assert len(report.successes) == (len(tasks) if first.fn is give else 0)


# What is refused


def test_a_circle_is_named() -> None:
    """By ids, or position and function; nothing starts."""
    parts: list[Any] = []
    one = Task(give, parts, id="one")
    two = Task(add, one, 1)
    parts.append(two)

    with pytest.raises(ConfigError, match=r"in a circle: .*'one' needs task 1 \(add\)"):
        Executor().run([one, two])


def test_a_task_that_comes_after_itself() -> None:
    """The smallest circle, by changing `after`."""
    task = Task(give, 1, id="me")
    task.after.append(task)

    with pytest.raises(ConfigError, match=r"in a circle: task 'me' needs task 'me'$"):
        Executor().run([task])


def test_a_large_circle_is_named_in_short() -> None:
    """A message names some of the tasks, and where it closes."""
    tasks = chain(10_000, Task(give, 1, id="first"))
    tasks[0].after.append(tasks[-1])

    with pytest.raises(ConfigError, match=r"in a circle: .* needs \.\.\. needs ") as caught:
        Executor().run(tasks)

    assert len(str(caught.value)) < 400


def test_a_dependency_that_is_not_there_is_named() -> None:
    """It says who needs which, and what to do."""
    one = Task(give, 1, id="one")

    with pytest.raises(ConfigError, match=r"task 0 \(give\) needs <Task 'one': give>, which is not among.*add it"):
        Executor().run([Task(give, [one])])
    with pytest.raises(ConfigError, match="task 'late' needs <Task 'one': give>"):
        Executor().run([Task(give, 1), Task(give, 2, id="late", after=[one])])


async def each_of(tasks: Sequence[Task[Any]]) -> AsyncIterator[Task[Any]]:
    for task in tasks:
        await asyncio.sleep(1)
        yield task


@pytest.mark.parametrize("mistake", ["circle", "missing"])
def test_tasks_that_come_one_by_one_are_checked_when_all_are_there(simulate: Simulate[Any], mistake: str) -> None:
    """The run fails by the same error, nothing was started, and each task has a Result that says so."""
    started: list[int] = []

    async def start(number: int) -> None:
        started.append(number)

    async def main() -> Any:
        free, one = Task(start, 1), Task(start, 2)
        one.after.append(one if mistake == "circle" else Task(start, 3))
        await Executor().run(each_of([free, one]))

    with pytest.raises(RunFailed, match="in a circle" if mistake == "circle" else "not among the tasks") as caught:
        simulate(main)

    assert isinstance(caught.value.__cause__, ConfigError)
    assert [result.error.kind for result in caught.value.report] == ["cancelled"] * 2
    assert started == []


# When and how many at once


@pytest.mark.parametrize("how", [iter, each_of])
def test_all_are_read_before_the_first_starts(simulate: Simulate[Any], how: Any) -> None:
    """Tasks from a source of any sort, those that others need last."""
    last = Task(give, 1)
    tasks = [*(Task(add, last, number) for number in range(1_100)), last]  # more than a window

    async def main() -> Any:
        report = await Executor(max_concurrency=10_000).run(how(tasks))
        return report.values, report.summary.elapsed

    values, elapsed = simulate(main)

    assert values == [*range(1, 1_101), 1]
    assert elapsed == pytest.approx(2 if how is iter else 2 + 1_101)


def test_later_changes_do_not_matter(simulate: Simulate[Any]) -> None:
    """A list of tasks that is changed when the run has been made is used as it was."""

    async def main() -> Any:
        parts = [Task(give, 1), Task(give, 2)]
        run = Executor().run([*parts, Task(add_up, parts)])
        parts.append(Task(give, 3))
        parts[0].after.append(parts[0])
        return (await run).values

    assert simulate(main) == [1, 2, 3]


def test_long_chains_go_first(simulate: Simulate[Any]) -> None:
    """With few slots, tasks that many in a row wait for are not kept waiting by tasks that nobody needs."""

    async def main() -> Any:
        free = [Task(give, number) for number in range(30)]
        return (await Executor(max_concurrency=2).run([*free, *chain(30, Task(give, 0))])).summary.elapsed

    assert simulate(main) == pytest.approx(30)


@pytest.mark.parametrize("is_within", [False, True], ids=["outside", "within"])
def test_a_graph_takes_turns_with_other_runs(simulate: Simulate[Any], is_within: bool) -> None:
    """How long its chains are gives it neither a larger share of the slots nor a smaller, also within a call."""

    async def main() -> Any:
        executor = Executor(max_concurrency=4)
        begun = clock.now()

        async def when_done(run: Run[Any]) -> float:
            await run
            return clock.now() - begun

        async def both(_: int) -> list[float]:
            graph = [task for _ in range(8) for task in chain(5, Task(give, 0))]
            return await asyncio.gather(when_done(executor.run(graph)), when_done(executor.map(give, range(40))))

        return (await executor.map(both, [0])).values[0] if is_within else await both(0)

    assert simulate(main) == [pytest.approx(20, abs=2)] * 2


def random_graph(draw: random.Random, number: int, *, near: int) -> tuple[list[list[int]], list[float]]:
    """For each task those that it needs, up to four out of the `near` before it, and how many seconds it takes."""
    needs = [
        draw.sample(range(max(0, at - near), at), min(at, near, draw.randrange(5))) if at else [] for at in range(number)
    ]
    return needs, [ceil(10 * draw.expovariate(1)) / 10 for _ in range(number)]  # the fewer instants, the quicker to simulate


def bound_of(needs: Sequence[Sequence[int]], seconds: Sequence[float], width: float, rate: float) -> float:
    """Nobody is quicker than this: the longest chain, all work on all slots, or all starts at that rate."""
    ends: list[float] = []
    for needed, each in zip(needs, seconds, strict=True):
        ends.append(each + max((ends[at] for at in needed), default=0))
    return max(*ends, sum(seconds) / width, len(seconds) / rate)


@pytest.mark.parametrize(
    ("number", "near", "width", "rpm"),
    [(10_000, 10_000, 200, None), (2_000, 60, 40, None), (2_000, 2_000, 100, 1_500)],
    ids=["wide", "narrow", "rate"],
)
def test_random_graphs_are_run_in_order_and_in_time(
    simulate: Simulate[Any], number: int, near: int, width: int, rpm: float | None
) -> None:
    """No task starts before those that it needs have ended; it all takes at most a tenth longer than it must."""
    needs, seconds = random_graph(random.Random(8), number, near=near)
    ended: set[int] = set()
    running = most = 0

    async def work(index: int, needed: Sequence[int]) -> int:
        nonlocal running, most
        assert ended.issuperset(needs[index])
        assert list(needed) == needs[index]
        running += 1
        most = max(most, running)
        await asyncio.sleep(seconds[index])
        running -= 1
        ended.add(index)
        return index

    async def main() -> Any:
        tasks: list[Task[int]] = []
        for index in range(number):
            tasks.append(Task(work, index, [tasks[at] for at in needs[index]]))
        rate = None if rpm is None else Limits(rpm=rpm, burst=1)
        return await Executor(max_concurrency=width, rate=rate).run(tasks)

    report = simulate(main)

    assert report.values == list(range(number))
    assert most <= width
    bound = bound_of(needs, seconds, width, float("inf") if rpm is None else rpm / 60)
    assert bound - 0.001 <= report.summary.elapsed <= 1.1 * bound


# Calls from within


@pytest.mark.parametrize("slots", [1, 2])
def test_tasks_may_make_calls_of_their_own(
    simulate: Simulate[Any], provider: FakeProvider, fan_of: Callable[..., FanOut], slots: int
) -> None:
    """A task that waits for a run of the same executor, of another graph, or of a client, lends its slot: one is enough."""

    async def main() -> Any:
        executor = Executor(max_concurrency=slots)

        async def by_map(number: int) -> int:
            return sum((await executor.map(give, range(number))).values)

        async def by_graph(number: int) -> int:
            one = Task(give, number)
            return (await executor.run([Task(by_map, one), one]))[0].value

        async with fan_of(Limits(max_concurrency=slots)) as fan:

            async def by_client(*numbers: int) -> list[str]:
                return (await fan.map([str(number) for number in numbers])).values

            mapped, nested = Task(by_map, 3), Task(by_graph, 4)
            async with asyncio.timeout(1_000):
                report = await executor.run([Task(by_client, mapped, nested), mapped, nested])
            return report.values, executor._quota.slots.in_use

    assert simulate(main) == ([["3", "6"], 3, 6], 0)


# Ended half-way


@pytest.mark.parametrize("first", range(0, FUZZED, PER_TEST))
def test_random_graphs_that_are_ended_at_random_points(simulate: Simulate[Any], first: int) -> None:
    """However and whenever it ends: each task has one Result, none has run before what it needs, nothing is left over."""
    for seed in range(first, first + PER_TEST):
        simulate(lambda: end_half_way(random.Random(seed)))  # noqa: B023  # it is run at once


async def end_half_way(draw: random.Random) -> None:
    number, tasks_before = draw.randrange(1, 40), len(asyncio.all_tasks())
    needs, seconds = random_graph(draw, number, near=draw.choice([3, 40]))
    fails = {index for index in range(number) if draw.random() < 0.1}
    ended: set[int] = set()
    running: set[int] = set()

    async def work(index: int, _: Sequence[int]) -> int:
        assert ended.issuperset(needs[index])
        running.add(index)
        try:
            try:
                await asyncio.sleep(seconds[index])
            finally:
                await asyncio.sleep(draw.choice([0, 0.1]))
        finally:
            running.remove(index)
        if index in fails:
            raise KeyError(index)
        ended.add(index)
        return index

    tasks: list[Task[int]] = []
    for index in range(number):
        tasks.append(Task(work, index, [tasks[at] for at in needs[index]]))
    executor = Executor(max_concurrency=draw.choice([1, 3, 50]))
    run = executor.run(draw.choice([tasks, iter(tasks)]))
    waiting = asyncio.ensure_future(consume(run))
    await asyncio.sleep(draw.choice([0, draw.uniform(0, sum(seconds)), draw.uniform(0, 4)]))
    end = draw.choice(["not", "cancel", "wind down", "interrupt", "deadline"])
    if end == "cancel":
        run.cancel()
    elif end == "wind down":
        run.wind_down()
    elif end == "interrupt":
        waiting.cancel()
    elif end == "deadline":
        run._flow.stop(Stopped("too late", kind="deadline"))
    await asyncio.wait([waiting])

    report = run.report
    good = {result.index for result in report if result.ok}
    skipped = {result.index for result in report if result.error is not None and result.error.kind == "skipped"}
    assert [result.index for result in report] == list(range(number))
    assert good == ended
    assert running == set()
    assert executor._quota.slots.in_use == 0
    assert len(asyncio.all_tasks()) == tasks_before
    assert all(not good.issuperset(needs[index]) for index in skipped)
    if end == "not":
        assert good | skipped | fails == set(range(number))
        assert all(good.issuperset(needs[index]) for index in good | fails - skipped)


# The graph alone


def test_a_graph_says_who_may_start() -> None:
    """First those that need nothing; then, with each success, those that have all they need."""
    a, b = Task(give, 1), Task(give, 2)
    graph = graph_of(a, b, Task(add, a, b), Task(give, 3, after=[a]))

    assert graph.ready() == (0, 1)
    graph.succeeded(0, "a")
    assert graph.ready() == (3,)
    graph.succeeded(1, "b")
    assert graph.ready() == (2,)
    assert graph.take(2) == ("a", "b")
    assert graph.take(3) == (3,)


def test_a_graph_says_what_is_lost() -> None:
    """Each that needs what failed, once; one that was lost already is not lost again, nor told of what it needed."""
    a, b = Task(give, 1), Task(give, 2)
    c = Task(add, a, b)
    graph = graph_of(a, b, c, Task(add, c, a), Task(give, b))

    assert graph.ready() == (0, 1)
    assert graph.failed(0) == [2, 3]
    graph.succeeded(1, 2)
    assert graph.ready() == (4,)
    assert graph.failed(2) == []


def test_the_start_of_an_answer_is_no_value() -> None:
    """Those that need a task wait for its end."""
    gate = Dependencies()
    call: Any = object()

    assert gate.sift([]) == gate.begun(call) == gate.complete() == []


def test_how_late_a_task_may_go() -> None:
    """By the longest chain that begins with it: those of the longest are not to wait, and nobody is to wait for ever."""
    tasks = chain(4, Task(give, 1))
    graph = graph_of(*tasks, Task(give, 5), Task(give, tasks[0]))

    assert [graph.lateness(index) for index in range(6)] == [0, 0.25, 0.5, 0.75, 0.75, 0.75]


@given(st.lists(st.lists(st.integers(0, 30), max_size=4), max_size=30), st.sets(st.integers(0, 29)))
def test_a_graph_names_every_task_once(wanted: list[list[int]], failing: set[int]) -> None:
    """Whatever needs whatever before it, and fails: each task is ready once or lost once, ready after what it needs."""
    needs = [{each for each in some if each < at} for at, some in enumerate(wanted)]
    tasks: list[Task[Any]] = []
    for at, needed in enumerate(needs):
        tasks.append(Task(give, at, after=[tasks[each] for each in needed]))
    graph = graph_of(*tasks)

    ready, lost, done = list(graph.ready()), [], set()
    for at in ready:
        assert done.issuperset(needs[at])
        graph.take(at)
        if at in failing:
            lost += graph.failed(at)
        else:
            graph.succeeded(at, at)
            done.add(at)
            ready += graph.ready()

    assert sorted(ready + lost) == list(range(len(tasks)))
