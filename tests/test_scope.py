"""Scopes: shares of a quota, and what happens inside ended and counted as one. In virtual time, over the real engine."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from support import FakeProvider, Simulate, consume

from llm_fanout import ConfigError, FanOut, Limits, Stopped, clock
from llm_fanout.scope import SCOPE

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
    assert took <= 8.01  # six seconds, the first one, which went to whoever came first, and a tie
    assert report.summary.elapsed < took
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
    """`scope.cancel()` from outside: every run inside ends with its report, and nothing new starts."""
    provider.seconds = 100.0

    async def main() -> Any:
        async with fan_of(FOUR) as fan:
            scopes: list[Any] = []

            async def agent() -> Any:
                async with fan.scope("agent") as scope:
                    scopes.append(scope)
                    async with fan.scope("helper"):
                        report = await fan.map(prompts("x", 6))
                    with pytest.raises(Stopped):
                        await fan.call("more")
                    return report

            task = asyncio.ensure_future(agent())
            await asyncio.sleep(1)
            scopes[0].cancel()
            return await task

    report = simulate(main)

    assert report.summary.errors == {"cancelled": 6}
    assert str(report.summary.stopped) == "scope 'helper' has ended"


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
    """1,000 scopes that each fan out twenty calls over one quota: all finish, in the time that the quota takes."""

    async def main() -> Any:
        async with fan_of(Limits(max_concurrency=500, adapt=False)) as fan:

            async def agent(number: int) -> int:
                async with fan.scope(f"agent {number}"):
                    return (await fan.map(prompts(f"a{number}", 20))).summary.succeeded

            begun = clock.now()
            done = await asyncio.gather(*(agent(number) for number in range(1_000)))
            return done, clock.now() - begun, len(asyncio.all_tasks())

    done, took, tasks = simulate(main)

    assert done == [20] * 1_000
    assert took == pytest.approx(40, abs=0.01)
    assert tasks == 1
    assert provider.most == 500
