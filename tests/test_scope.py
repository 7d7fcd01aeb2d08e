"""Scopes: shares of a quota, and what happens inside ended and counted as one. In virtual time, over the real engine."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support import FakeProvider, Simulate, consume

from llm_fanout import ConfigError, FanOut, Limits, Stopped, clock
from llm_fanout.run import Run
from llm_fanout.scope import SCOPE, Scope

MakeFan = Callable[..., FanOut]
FOUR = Limits(max_concurrency=4, adapt=False)


def prompts(name: str, count: int) -> list[str]:
    return [f"{name} {number}" for number in range(count)]


@pytest.mark.parametrize(("greedy", "modest"), [(400, 400), (4_000, 100), (100, 4_000)])
def test_weights_are_obeyed(
    simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan, greedy: int, modest: int
) -> None:
    """Two agents of weight 3 and 1 on four slots get three calls and one, however many prompts each throws in."""

    async def main() -> Any:
        async with fan_of(FOUR) as fan:

            async def agent(name: str, weight: float, count: int) -> None:
                async with fan.scope(name, weight=weight):
                    await fan.map(prompts(name, count))

            begun = clock.now()
            agents = [asyncio.ensure_future(agent("heavy", 3, greedy)), asyncio.ensure_future(agent("light", 1, modest))]
            await asyncio.sleep(20.5)
            for each in agents:
                each.cancel()
            await asyncio.wait(agents)
            return begun

    begun = simulate(main)

    assert provider.count("heavy", begun + 20.5) == pytest.approx(63, abs=2)
    assert provider.count("light", begun + 20.5) == pytest.approx(21, abs=2)


def test_an_idle_share_is_everybodys(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """A scope alone has the whole quota, whatever its weight."""

    async def main() -> Any:
        async with fan_of(FOUR) as fan, fan.scope("light", weight=0.01), fan.scope("idle", weight=100):
            pass
        async with fan_of(FOUR) as fan, fan.scope("light", weight=0.01):
            return (await fan.map(prompts("light", 40))).summary.elapsed

    assert simulate(main) == pytest.approx(10)


def test_nested_scopes_share_their_parents_share(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """Nine sub-agents inside one scope have together what the other scope has alone."""

    async def main() -> Any:
        async with fan_of(FOUR) as fan:

            async def alone() -> None:
                async with fan.scope("alone"):
                    await fan.map(prompts("alone", 500))

            async def sub(number: int) -> None:
                async with fan.scope(f"sub {number}"):
                    await fan.map(prompts("many", 500))

            async def many() -> None:
                async with fan.scope("many"):
                    await asyncio.gather(*(sub(number) for number in range(9)))

            begun = clock.now()
            both = [asyncio.ensure_future(alone()), asyncio.ensure_future(many())]
            await asyncio.sleep(30.5)
            for each in both:
                each.cancel()
            await asyncio.wait(both)
            return begun

    begun = simulate(main)

    assert provider.count("alone", begun + 30.5) == pytest.approx(62, abs=3)
    assert provider.count("many", begun + 30.5) == pytest.approx(62, abs=3)


def test_a_scopes_own_bound(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """`max_concurrency` bounds everything inside at any depth; what is outside uses the rest of the quota."""

    async def main() -> Any:
        async with fan_of(FOUR) as fan:

            async def inside() -> float:
                begun = clock.now()
                async with fan.scope("narrow", max_concurrency=1):
                    async with fan.scope("deeper"):
                        await asyncio.gather(fan.map(prompts("narrow", 3)), fan.map(prompts("narrow", 3)))
                    return clock.now() - begun

            return await asyncio.gather(inside(), fan.map(prompts("wide", 20)))

    took, report = simulate(main)

    begun = sorted(at for at, text in provider.asked if text.startswith("narrow"))
    assert all(later - earlier >= 0.999 for earlier, later in itertools.pairwise(begun))
    assert took == pytest.approx(7.0)  # six seconds, and the first one, which went to whoever came first
    assert report.summary.elapsed == pytest.approx(7.0)  # 26 calls on four slots
    assert provider.most == 4


def test_priorities_order_the_work_of_a_scope(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """Within a scope interactive goes before default, and background last, whoever came first."""

    async def main() -> None:
        async with fan_of(Limits(max_concurrency=1, adapt=False)) as fan, fan.scope("agent"):
            calls = [fan.call("first"), fan.call("later", priority="background"), fan.call("default")]
            await asyncio.gather(*calls, fan.call("now", priority="interactive"))

    simulate(main)

    assert [text for _, text in provider.asked] == ["first", "now", "default", "later"]


def test_a_scopes_priority_is_inherited(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """Calls in a background scope, or in a scope inside it, wait for everybody's, unless they say otherwise themselves."""

    async def main() -> None:
        async with fan_of(Limits(max_concurrency=1, adapt=False)) as fan:
            blocker = asyncio.ensure_future(fan.call("first"))
            await asyncio.sleep(0.1)

            async def agent() -> None:
                async with fan.scope("night", priority="background"), fan.scope("inner"):
                    await asyncio.gather(fan.call("later"), fan.call("overruled", priority="default"))

            agents = asyncio.ensure_future(agent())
            await asyncio.sleep(0.1)
            await asyncio.gather(blocker, agents, fan.map(prompts("outside", 3)))

    simulate(main)

    assert provider.asked[-1][1] == "later"
    assert provider.count("outside") == 3


def test_leaving_cancels_what_runs_inside(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """At the end of `async with` the runs of a scope and of its children are over, cleaned up, and have their reports."""
    provider.seconds = 100.0

    async def main() -> Any:
        async with fan_of(FOUR) as fan:
            async with fan.scope("outer"):
                one = asyncio.ensure_future(consume(fan.map(prompts("a", 3))))
                async with fan.scope("inner"):
                    other = asyncio.ensure_future(consume(fan.map(prompts("b", 3))))
                    unused = fan.map(prompts("c", 3))
                    await asyncio.sleep(1)
                running_after_inner = provider.running
                begun = clock.now()
            return await one, await other, unused.summary.stopped, running_after_inner, provider.running, clock.now() - begun

    one, other, unused, after_inner, after, took = simulate(main)

    assert [result.error.kind for result in [*one, *other]] == ["cancelled"] * 6
    assert unused is not None
    assert (after_inner, after) == (3, 0)
    assert took < 0.001


def test_calls_after_leaving_raise_stopped(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """A task that a scope left behind cannot call in it any more, nor in a child of it; outside all goes on."""

    async def main() -> Any:
        async with fan_of() as fan:
            gate = asyncio.Event()

            async def straggler() -> str:
                await gate.wait()
                with pytest.raises(Stopped, match="scope 'gone' has ended"):
                    fan.map(["late"])
                async with fan.scope("child"):
                    with pytest.raises(Stopped, match="scope 'gone' has ended"):
                        await fan.call("late")
                return "refused"

            async with fan.scope("gone"):
                task = asyncio.ensure_future(straggler())
                await asyncio.sleep(0)
            gate.set()
            return await task, (await fan.call("outside")).value

    assert simulate(main) == ("refused", "outside")
    assert provider.count("late") == 0


def test_cancel_ends_everything_inside(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """`scope.cancel()` from outside: every run inside ends with its report, nothing new starts, and the scope says so."""
    provider.seconds = 100.0
    reports: list[Any] = []

    async def main() -> Any:
        async with fan_of(FOUR) as fan:
            scopes: list[Any] = []

            async def agent() -> Any:
                async with fan.scope("agent") as scope:
                    scopes.append(scope)
                    async with fan.scope("helper"):
                        reports.append(await fan.map(prompts("x", 6)))
                    with pytest.raises(Stopped):
                        await fan.call("more")

            task = asyncio.ensure_future(agent())
            await asyncio.sleep(1)
            scopes[0].cancel()
            with pytest.raises(Stopped, match="scope 'agent' was cancelled"):
                await task

    simulate(main)

    assert reports[0].summary.errors == {"cancelled": 6}
    assert str(reports[0].summary.stopped) == "scope 'agent' was cancelled; open another to go on"
    assert provider.count("more") == 0


def test_scopes_are_inherited(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """Whatever is started inside belongs to it, through gather and tasks; two at once do not mix; outside there is none."""

    async def main() -> Any:
        async with fan_of() as fan:

            async def deep(name: str) -> None:
                await asyncio.gather(*(fan.call(f"{name} {number}") for number in range(3)))

            async def agent(name: str) -> tuple[str, int]:
                async with fan.scope(name) as scope:
                    await asyncio.create_task(deep(name))
                    return scope.name, scope.summary.succeeded

            counted = await asyncio.gather(agent("a"), agent("b"))
            await fan.call("outside")
            return counted, SCOPE.get(), fan.summary.succeeded

    assert simulate(main) == ([("a", 3), ("b", 3)], None, 7)


def test_a_scope_reaches_into_threads(provider: FakeProvider, fan_of: MakeFan) -> None:
    """`asyncio.to_thread` takes the scope along: what an event loop there calls is counted inside."""
    provider.seconds = 0.001

    async def main() -> int:
        fan = fan_of()
        async with fan.scope("agent") as scope:
            await asyncio.to_thread(lambda: asyncio.run(consume(fan.map(prompts("x", 5)))))
            return scope.summary.succeeded

    with asyncio.Runner() as runner:
        assert runner.run(main()) == 5


def test_leaving_cancels_what_runs_on_another_loop(provider: FakeProvider, fan_of: MakeFan) -> None:
    """A run that another thread's loop still has under way is cancelled; waiting for it is that thread's business."""
    provider.seconds = 60.0
    reports: list[Any] = []

    async def main() -> None:
        fan = fan_of()
        async with fan.scope("agent"):
            run = fan.map(prompts("x", 5))
            elsewhere = asyncio.ensure_future(asyncio.to_thread(lambda: reports.append(asyncio.run(consume(run)))))
            async with asyncio.timeout(30):
                while provider.running < 5:
                    await asyncio.sleep(0)
        await elsewhere

    with asyncio.Runner() as runner:
        runner.run(main())

    assert reports[0].summary.errors == {"cancelled": 5}


def test_the_summary_and_the_children(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """Numbers of all that was called inside, children included; children in the order in which they were opened."""

    async def main() -> Any:
        async with fan_of() as fan, fan.scope("planner") as planner:
            await fan.call("plan")
            for name in ("one", "two"):
                async with fan.scope(name):
                    await fan.map(prompts(name, 4))
            children = [
                (child.name, child.summary.succeeded, child.summary.usage.output_tokens) for child in planner.children
            ]
            return planner.summary, children, repr(planner)

    summary, children, shown = simulate(main)

    assert (summary.done, summary.succeeded, summary.attempts, summary.usage.output_tokens) == (9, 9, 9, 9)
    assert children == [("one", 4, 4), ("two", 4, 4)]
    assert shown == "<Scope 'planner': 9 calls done>"


def test_a_scope_that_raises_is_left_all_the_same(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """An exception in the body goes on, and what ran inside is cancelled first."""
    provider.seconds = 100.0

    async def main() -> Any:
        async with fan_of() as fan:
            left: list[asyncio.Task[Any]] = []

            async def agent() -> None:
                async with fan.scope("agent"):
                    left.append(asyncio.ensure_future(fan.call("x")))
                    await asyncio.sleep(1)
                    raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await agent()
            return (await left[0]).error, SCOPE.get()

    error, scope = simulate(main)

    assert error.kind == "cancelled"
    assert scope is None


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"weight": 0}, "weight"),
        ({"weight": "2"}, "weight"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"priority": "urgent"}, "'interactive'"),
    ],
)
async def test_bad_figures_are_refused(provider: FakeProvider, fan_of: MakeFan, options: Any, match: str) -> None:
    """A figure out of its range is a ConfigError that names it."""
    with pytest.raises(ConfigError, match=match):
        async with fan_of().scope("x", **options):
            pass


def test_a_thousand_agents(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """1,000 scopes of weight 1 or 3 fan out over one quota: halfway each has its share, to a call, and a weight to 5 %."""
    weights = [1 + 2 * (number % 2) for number in range(1_000)]

    async def main() -> Any:
        async with fan_of(Limits(max_concurrency=1, adapt=False)) as fan:

            async def agent(number: int) -> int:
                async with fan.scope(f"agent {number}", weight=weights[number]):
                    return (await fan.map([f"{number}"] * 4 * weights[number])).summary.succeeded

            blocker = asyncio.ensure_future(fan.call("first"))
            agents = [asyncio.ensure_future(agent(number)) for number in range(1_000)]
            await asyncio.sleep(0.5)  # all of them want more than there is
            fan.limits["openai/fake"] = Limits(max_concurrency=501, adapt=False)
            begun = clock.now()
            done = await asyncio.gather(*agents)
            return (await blocker).ok, done, begun, clock.now() - begun, len(asyncio.all_tasks())

    blocked, done, begun, took, tasks = simulate(main)

    assert (blocked, done) == (True, [4 * weight for weight in weights])
    assert took == pytest.approx(16, abs=0.01)
    assert (tasks, provider.most) == (1, 501)
    halfway = Counter(text for at, text in provider.asked if at < begun + 7.9)  # 4,000 of the 8,000, and a few
    assert all(abs(halfway[str(number)] - 2 * weight) <= 1 for number, weight in enumerate(weights))
    assert sum(halfway[str(number)] for number in range(0, 1_000, 2)) == pytest.approx(1_000, rel=0.05)


def test_a_deadline_ends_what_runs_inside(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """When it passes, calls inside end and later ones raise, by an error that names scope and time; the task goes on."""
    provider.seconds = 60.0
    told: list[Any] = []

    async def main() -> Any:
        async with fan_of(FOUR) as fan, fan.scope("around") as around:
            begun = clock.now()

            async def agent() -> None:
                async with fan.scope("agent", deadline=90):
                    told.append((await fan.map(prompts("x", 10))).summary)
                    told.append(clock.now() - begun)
                    with pytest.raises(Stopped) as refused:
                        await fan.call("more")
                    told.append(refused.value)
                    await asyncio.sleep(10)  # our calls are ended, not the user's code

            with pytest.raises(Stopped) as caught:
                await agent()
            return *told, caught.value, clock.now() - begun, (await fan.call("outside")).ok, around.summary.errors

    summary, ended, refused, caught, left, outside, errors = simulate(main)

    assert str(refused).startswith("the deadline of scope 'agent' has passed, 90 s after it was entered")
    assert (refused.kind, caught, str(summary.stopped)) == ("deadline", refused, str(refused))
    assert (summary.succeeded, summary.errors) == (4, {"deadline": 6})
    assert (ended, left, outside) == (90, 100, True)
    assert errors == {"deadline": 6}
    assert provider.count("more") == 0


def test_the_first_reason_stays(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """A scope that was cancelled after its deadline had passed, and left since, still says that it was out of time."""

    async def main() -> Any:
        async with fan_of() as fan:
            gate = asyncio.Event()

            async def straggler() -> None:
                await gate.wait()
                await fan.call("late")

            async with fan.scope("agent", deadline=5) as scope:
                task = asyncio.ensure_future(straggler())
                await asyncio.sleep(6)
                scope.cancel()
            gate.set()
            await task

    with pytest.raises(Stopped, match="the deadline of scope 'agent'"):
        simulate(main)


def test_a_deadline_that_nobody_met_is_silent(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """It passes after all inside is over, or it ends a run that says so in its Report: nothing was raised, nothing is."""

    async def main() -> Any:
        async with fan_of(FOUR) as fan:
            async with fan.scope("over", deadline=5):
                await fan.call("x")
                await asyncio.sleep(10)
            async with fan.scope("told", deadline=5):
                report = await fan.map(prompts("y", 100))
            async with fan.scope("early", deadline=5):
                pass
            await asyncio.sleep(10)
            return report.summary.stopped

    assert simulate(main).kind == "deadline"


@pytest.mark.parametrize("outer", [True, False])
def test_a_deadline_ends_its_own_scope(
    simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan, outer: bool
) -> None:
    """A nested scope's deadline ends only what is in there; an outer one's all that is inside, and the outer one raises."""
    provider.seconds = 8.0
    seconds = (5.0, 100.0) if outer else (100.0, 5.0)

    async def main() -> Any:
        told: list[Any] = []
        async with fan_of() as fan:

            async def inner() -> Any:
                async with fan.scope("inner", deadline=seconds[1]):
                    result = await fan.call("inside")
                    with suppress(Stopped):
                        await fan.call("later")
                return result

            try:
                async with fan.scope("outer", deadline=seconds[0]):
                    beside, nested = await asyncio.gather(fan.call("beside"), inner(), return_exceptions=True)
                    told += [nested, beside]
            except Stopped as exc:
                told.append(exc)
            return told

    nested, beside, *raised = simulate(main)

    if outer:
        assert [str(each.error).split(",")[0] for each in (beside, nested)] == [
            "the deadline of scope 'outer' has passed"
        ] * 2
        assert [each.kind for each in raised] == ["deadline"]
    else:
        assert str(nested).startswith("the deadline of scope 'inner' has passed")
        assert (beside.ok, raised) == (True, [])


def test_a_deadline_is_noticed_while_the_loop_is_busy(
    simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code that keeps the event loop from turning does not put it off: the next call raises."""

    async def main() -> None:
        async with fan_of() as fan, fan.scope("agent", deadline=5):
            late = clock.now() + 6
            monkeypatch.setattr(clock, "now", lambda: late)  # six seconds in one step
            await fan.call("x")

    with pytest.raises(Stopped, match="the deadline of scope 'agent'"):
        simulate(main)

    assert provider.asked == []


def test_a_deadline_by_the_calendar(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """An aware datetime is an instant, whenever the scope is entered; a naive one, or one that has passed, is refused."""
    provider.seconds = 3600.0

    async def main() -> Any:
        async with fan_of() as fan:
            for wrong in (datetime.now(), datetime.now(UTC) - timedelta(hours=1), -1, "soon"):
                with pytest.raises(ConfigError, match="deadline"):
                    fan.scope("x", deadline=wrong)  # type: ignore[arg-type]
            async with fan.scope("agent", deadline=datetime.now(UTC) + timedelta(seconds=600)):
                return (await fan.map(["x"])).summary

    summary = simulate(main)

    assert summary.errors == {"deadline": 1}
    assert summary.elapsed == pytest.approx(600, abs=60)


def test_a_scope_inside_threads_is_ended_by_its_deadline(provider: FakeProvider, fan_of: MakeFan) -> None:
    """A run on another thread's loop ends by it, too, with its Report."""
    provider.seconds = 60.0
    reports: list[Any] = []

    async def main() -> None:
        async with fan_of() as fan, fan.scope("agent", deadline=0.2):
            await asyncio.to_thread(lambda: reports.append(asyncio.run(consume(fan.map(prompts("x", 3))))))

    with asyncio.Runner() as runner:
        runner.run(main())

    assert reports[0].summary.errors == {"deadline": 3}


class Framework(Exception):
    """What an agent framework makes of an error."""


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_spent_scope_says_so_through_a_framework(
    simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan, wrapped: bool
) -> None:
    """A Stopped that a transport raised into the body, and noted: swallowed or wrapped there, the scope raises it."""

    async def main() -> Any:
        async with fan_of() as fan, fan.scope("around"):
            async with fan.scope("agent", token_budget=5):
                async with fan.scope("tool", token_budget=1_000_000):
                    result = await fan.call("x" * 100)
                    assert isinstance(result.error, Stopped)
                    current = SCOPE.get()
                    assert current is not None
                    current.note(result.error)  # as what raises it does
                if wrapped:
                    try:
                        raise result.error
                    except Stopped as exc:
                        raise Framework from exc
            return "not reached"

    with pytest.raises(Stopped, match="the budget of scope 'agent'") as caught:
        simulate(main)

    assert isinstance(caught.value.__cause__, Framework if wrapped else type(None))


def test_a_note_goes_to_the_scope_that_has_ended(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """Raised inside another scope, the error of a deadline is raised again where the scope ends whose deadline it is."""
    provider.seconds = 60.0
    left: list[str] = []

    async def main() -> None:
        async with fan_of() as fan, fan.scope("around"), fan.scope("agent", deadline=1):
            async with fan.scope("tool") as tool:
                error = (await fan.call("x")).error
                assert isinstance(error, Stopped)
                tool.note(error)
            left.append("tool")

    with pytest.raises(Stopped, match="the deadline of scope 'agent'"):
        simulate(main)

    assert left == ["tool"]


def test_a_bound_that_is_nobodys_is_noted_innermost(
    simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan
) -> None:
    """Whose bound it was cannot be told, such as that of the client: the scope in which it was raised raises it."""

    async def main() -> Any:
        async with fan_of() as fan, fan.scope("outer") as outer:
            with pytest.raises(Stopped, match="the client's"):
                async with fan.scope("inner") as inner:
                    inner.note(Stopped("the client's budget is spent", kind="budget"))
            inner.note(Stopped("too late", kind="budget"))
            return outer.summary.done

    assert simulate(main) == 0


def test_leaving_elsewhere_leaves_that_context_alone(
    simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan
) -> None:
    """A scope that is left in a task that is in a scope of its own does not take that task out of it."""

    async def main() -> Any:
        async with fan_of() as fan:
            one = fan.scope("one")
            await asyncio.create_task(one.__aenter__())
            entered = SCOPE.get()
            async with fan.scope("other") as other:
                await one.__aexit__(None, None, None)
                return entered, SCOPE.get() is other, (await fan.call("x")).ok

    assert simulate(main) == (None, True, True)


def test_leaving_out_of_order(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """The outer of two scopes may be left first: what runs in the inner one ends with it, and no scope is current after."""
    provider.seconds = 60.0

    async def main() -> Any:
        async with fan_of() as fan:
            outer, inner = fan.scope("outer"), fan.scope("inner")
            await outer.__aenter__()
            await inner.__aenter__()
            task = asyncio.ensure_future(fan.call("x"))
            await asyncio.sleep(1)
            await outer.__aexit__(None, None, None)
            between = SCOPE.get()
            await inner.__aexit__(None, None, None)
            return (await task).error, between, SCOPE.get()

    error, *current = simulate(main)

    assert str(error).startswith("scope 'outer' has ended")
    assert current == [None, None]


def test_ten_scopes_deep_are_left_at_once(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """Runs at every depth, whose objects only their consumers hold, end with the outermost scope, cleaned up."""
    provider.seconds = 100.0

    async def main() -> Any:
        async with fan_of() as fan:
            tasks: list[asyncio.Task[Any]] = []

            async def level(left: int) -> None:
                async with fan.scope(f"level {left}") as scope:
                    tasks.append(asyncio.ensure_future(consume(fan.map(prompts("x", 2)))))
                    if left:
                        tasks.append(asyncio.ensure_future(level(left - 1)))
                        await asyncio.sleep(1)
                        gc.collect()
                        if left < 9:
                            await asyncio.sleep(1000)
                    else:
                        await asyncio.sleep(1000)
                    assert scope.summary.in_flight == 20

            begun = clock.now()
            await level(9)
            running, took = provider.running, clock.now() - begun
            await asyncio.sleep(1)
            reports = [task.result() for task in tasks if task.done()]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            return running, took, [report.summary.errors for report in reports]

    running, took, errors = simulate(main)

    assert (running, took) == (0, 1)
    assert errors == [{"cancelled": 2}] * 10


def test_a_scope_that_was_left_keeps_its_numbers_only(
    simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan
) -> None:
    """A service opens one for each request: `children` grows without being copied, and lanes and budgets are let go."""

    async def main() -> Any:
        async with fan_of() as fan, fan.scope("service") as service:
            children, lanes = service.children, []
            for number in range(3):
                async with fan.scope(f"request {number}", token_budget=100_000, deadline=60) as request:
                    lanes.append(weakref.ref(request.lane))
                    await fan.call("x")
            gc.collect()
            return children, [lane() for lane in lanes], request.purses(), service.purses()

    children, lanes, *purses = simulate(main)

    assert [(child.name, child.summary.succeeded) for child in children] == [(f"request {number}", 1) for number in range(3)]
    assert (lanes, purses) == ([None] * 3, [[], []])


def test_a_scope_that_was_left_is_not_kept_for_its_deadline(
    simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan
) -> None:
    """Nothing waits for the deadline of a scope that was left before: it is gone when nobody has it."""

    async def main() -> Any:
        async with fan_of() as fan:
            async with fan.scope("gone", deadline=3600):
                await fan.call("x")
            gc.collect()
            return [each.name for each in gc.get_objects() if isinstance(each, Scope) and each.name == "gone"]

    assert simulate(main) == []


class Chaos:
    """Agents that open scopes, ask in them and leave them as it comes; everything of it may be cancelled at any moment."""

    def __init__(self, fan: FanOut, seed: int) -> None:
        self.draw = random.Random(seed)
        self.scopes: list[Scope] = []
        self._fan = fan

    async def agent(self, left: int) -> None:
        draw = self.draw
        bounds: Any = {
            "deadline": draw.choice([None, 0.5, 3.0]),
            "token_budget": draw.choice([None, 10_000, 1_000_000]),
            "max_concurrency": draw.choice([None, 1, 3]),
        }
        with suppress(Stopped):
            async with self._fan.scope(f"scope {left}", **bounds) as scope:
                self.scopes.append(scope)
                await draw.choice([self.wait, self.leave_behind, self.pause, self.iterate])()
                if left:
                    await asyncio.gather(*(self.agent(left - 1) for _ in range(draw.randrange(4))))
                await self.wait()

    async def wait(self) -> None:
        await self._run()

    async def leave_behind(self) -> None:
        self.task = asyncio.ensure_future(self.guarded(consume(self._run())))
        await asyncio.sleep(self.draw.random())

    async def pause(self) -> None:
        run = self._run()
        self.task = asyncio.ensure_future(self.guarded(consume(run)))
        await asyncio.sleep(self.draw.random())
        run.pause()
        await asyncio.sleep(self.draw.random())
        self.draw.choice([run.resume, run.cancel, lambda: None])()

    async def iterate(self) -> None:
        async for _ in self._run():
            if self.draw.random() < 0.3:
                break

    async def guarded(self, step: Coroutine[Any, Any, object]) -> None:
        with suppress(Stopped):
            await step

    def _run(self) -> Run[str]:
        return self._fan.map(prompts("x", self.draw.randrange(1, 9)), max_tokens=1_000)


@pytest.mark.parametrize("seed", range(4))
def test_cancelling_scopes_at_any_moment_leaks_nothing(
    simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan, seed: int
) -> None:
    """Trees of scopes, ended at random moments from above, within and beside: no task, slot or budget is left over."""

    async def main() -> Any:
        async with fan_of(Limits(max_concurrency=5, adapt=False), token_budget=100_000_000) as fan:
            chaos = Chaos(fan, seed)
            draw, slowest, reserved = chaos.draw, 0.0, 0.0
            for _ in range(40):
                chaos.scopes.clear()
                agent = asyncio.ensure_future(chaos.agent(2))
                await asyncio.sleep(draw.choice([0.0, 0.01, 1.0, 5.0]) * draw.random())
                ended = draw.choice([agent, *chaos.scopes])
                ended.cancel()
                await asyncio.sleep(draw.choice([0.0, 0.1, 1.0]))
                agent.cancel()
                begun = clock.now()
                await asyncio.wait([agent])
                assert agent.cancelled() or agent.exception() is None
                slowest = max(slowest, clock.now() - begun)
                await asyncio.sleep(0.01)  # tasks that were left behind hear of it
                assert (provider.running, len(asyncio.all_tasks())) == (0, 1)
                reserved += sum(budget.reserved for scope in chaos.scopes for _, budget in scope.budgets)
            whole = await fan.map(prompts("y", 20))
            return slowest, reserved, whole.summary.succeeded, whole.summary.elapsed

    assert simulate(main) == (0.0, 0.0, 20, pytest.approx(4.0))


def test_cancel_from_another_thread(provider: FakeProvider, fan_of: MakeFan) -> None:
    """`scope.cancel()` may be called from any thread; the loop of each run inside hears of it."""
    provider.seconds = 60.0

    async def main() -> Any:
        async with fan_of() as fan, fan.scope("agent") as scope:
            waiting = asyncio.ensure_future(consume(fan.map(prompts("x", 3))))
            elsewhere = asyncio.ensure_future(asyncio.to_thread(lambda: asyncio.run(consume(fan.map(prompts("x", 3))))))
            while provider.running < 6:
                await asyncio.sleep(0)
            await asyncio.to_thread(scope.cancel)
            return [report.summary.errors for report in (await waiting, await elsewhere)]

    with asyncio.Runner() as runner:
        assert runner.run(main()) == [{"cancelled": 3}] * 2


def test_runs_made_while_a_scope_is_cancelled(provider: FakeProvider, fan_of: MakeFan) -> None:
    """A run that another thread makes at that moment is refused, or ends with the others: none goes on."""
    provider.seconds = 60.0

    def ask(fan: FanOut) -> None:
        while True:
            run = fan.map(["x"])
            assert asyncio.run(consume(run)).summary.not_done == 1

    async def main() -> None:
        async with fan_of() as fan, fan.scope("agent") as scope:
            threads = [asyncio.ensure_future(asyncio.to_thread(ask, fan)) for _ in range(4)]
            while provider.running < 2:
                await asyncio.sleep(0)
            scope.cancel()
            refused = await asyncio.gather(*threads, return_exceptions=True)
            assert {type(each) for each in refused} == {Stopped}

    with asyncio.Runner() as runner, pytest.raises(Stopped, match="was cancelled"):  # which was told inside
        runner.run(main())


def test_cancel_from_within_a_progress_function(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """Whoever is told of a run may end it, or the scope around it: what is done is kept."""

    async def main() -> Any:
        async with fan_of(Limits(max_concurrency=1, adapt=False)) as fan, fan.scope("agent") as scope:
            run: Run[str] = fan.map(prompts("x", 9), progress=lambda summary: summary.done == 3 and run.cancel())
            report = await run
            other = await fan.map(prompts("y", 9), progress=lambda summary: summary.done == 2 and scope.cancel())
            return report.summary.not_done, other.summary.not_done, provider.running

    assert simulate(main) == (6, 7, 0)


def test_a_paused_run_ends_with_its_scope(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """Leaving does not wait for somebody to resume what is paused, begun or not."""

    async def main() -> Any:
        async with fan_of(FOUR) as fan:
            async with fan.scope("agent"):
                runs = [fan.map(prompts("x", 8)), fan.map(prompts("y", 8))]
                runs[1].pause()
                waiting = [asyncio.ensure_future(consume(run)) for run in runs]
                await asyncio.sleep(1.5)
                runs[0].pause()
                begun = clock.now()
            return [(await each).summary.errors for each in waiting], clock.now() - begun

    assert simulate(main) == ([{"cancelled": 4}, {"cancelled": 8}], 0.0)
