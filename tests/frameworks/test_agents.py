"""Eight agents on two frameworks share a key: nothing is refused, each has its share, a spent budget stops its own agent."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import agents
import pydantic_ai
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from llm_fanout import FanOut, Limits, Stopped
from llm_fanout.scope import Scope
from llm_fanout.sim import Box, SimConfig

# A minute of 600 calls takes six seconds, so that eight agents are done in four: AGENTS_RPM=600 takes the ten times longer.
RPM = float(os.environ.get("AGENTS_RPM", "6000"))
BURST = 10  # a second's worth of 600 a minute
SOURCES = 50
WEIGHTS = dict(zip("abcdefgh", [1, 2, 1, 2, 2, 1, 2, 1], strict=True))

Agent = Callable[[str], Awaitable[str]]


def box_of(rpm: float | None) -> Box:
    """A provider that refuses what is beyond the rate; it forgives that one of us is not scheduled for a second."""
    burst = None if rpm is None else BURST + rpm / 60
    return Box(SimConfig(rpm=rpm, burst=burst, latency=0.02, jitter=0.0, answer_tokens=10))


def client_of(box: Box) -> FanOut:
    """One that knows the rate, and calls a model that has a price."""
    rpm = box.config.rpm
    limits = Limits(max_concurrency=32) if rpm is None else Limits(rpm=rpm, burst=BURST)
    return FanOut("openai/gpt-5-mini", base_url=box.url, api_key="sim", limits=limits, max_tokens=100, max_retries=0)


def sources(name: str) -> list[str]:
    return [f"Source {number} for {name}" for number in range(SOURCES)]


def reader(fan: FanOut, name: str, ready: asyncio.Barrier) -> Callable[[str], Awaitable[str]]:
    """The tool of the agent `name`: it fans out, in whatever scope it is called, when all agents are about to."""

    async def read_sources(topic: str) -> str:
        """Read what there is on a topic."""
        await ready.wait()
        report = await fan.map(sources(name))
        return f"[[answer:{len(report.successes)} read]]"

    return read_sources


def agent_of_openai(fan: FanOut, name: str, ready: asyncio.Barrier) -> Agent:
    model = agents.OpenAIChatCompletionsModel("gpt-5-mini", fan.openai())
    tool = agents.function_tool(reader(fan, name, ready))
    agent = agents.Agent(name=name, tools=[tool], model=model)

    async def run(question: str) -> str:
        return str((await agents.Runner.run(agent, question)).final_output)

    return run


def agent_of_pydantic(fan: FanOut, name: str, ready: asyncio.Barrier) -> Agent:
    model = OpenAIChatModel("gpt-5-mini", provider=OpenAIProvider(openai_client=fan.openai()))
    agent = pydantic_ai.Agent(model, tools=[reader(fan, name, ready)])

    async def run(question: str) -> str:
        return (await agent.run(question)).output

    return run


async def research(fan: FanOut, budgets: dict[str, float]) -> dict[str, tuple[Scope, Any]]:
    """By its name, the scope of each agent, and its answer or what came out of it: half of them on either framework."""
    ready = asyncio.Barrier(len(WEIGHTS))
    scopes: dict[str, Scope] = {}

    async def one(name: str, weight: int, agent: Agent) -> str:
        async with fan.scope(name, weight=weight, budget=budgets.get(name)) as scope:
            scopes[name] = scope
            return await agent(f"What is there on {name}?")

    made = [agent_of_openai if name in "abcd" else agent_of_pydantic for name in WEIGHTS]
    running = [one(name, weight, make(fan, name, ready)) for (name, weight), make in zip(WEIGHTS.items(), made, strict=True)]
    answers = await asyncio.gather(*running, return_exceptions=True)
    return {name: (scopes[name], answer) for name, answer in zip(WEIGHTS, answers, strict=True)}


async def test_eight_agents_on_two_frameworks_share_a_key() -> None:
    """The provider refuses none of 416 calls, and while all agents wait, each gets its share of starts within 5 %."""
    with box_of(RPM) as box:
        async with client_of(box) as fan:
            found = await research(fan, {})
        seen = box.stats
        came = {name: sorted(instant for text in sources(name) for instant in box.arrivals(text)) for name in WEIGHTS}
    begin, end = max(instants[0] for instants in came.values()), min(instants[-1] for instants in came.values())
    starts = {name: sum(begin < instant <= end for instant in instants) for name, instants in came.items()}
    due = {name: weight * sum(starts.values()) / sum(WEIGHTS.values()) for name, weight in WEIGHTS.items()}

    assert [answer for _, answer in found.values()] == ["50 read"] * 8
    assert (seen["refused"], seen["requests"], seen["answered"], seen["tool_answers"]) == (0, 416, 416, 8)
    assert [scope.summary.succeeded for scope, _ in found.values()] == [SOURCES + 2] * 8
    assert sum(starts.values()) > 200
    assert {name: count for name, count in starts.items() if abs(count - due[name]) > max(1.0, 0.05 * due[name])} == {}


async def test_a_spent_budget_comes_out_of_both_frameworks() -> None:
    """As Stopped, of the scope that it is of; the agents in the other scopes read all that they wanted."""
    with box_of(None) as box:
        async with client_of(box) as fan:
            found = await research(fan, {"b": 0.003, "g": 0.003})

    stopped = {name: answer for name, (_, answer) in found.items() if name in "bg"}
    others = [(answer, scope.summary.succeeded) for name, (scope, answer) in found.items() if name not in stopped]

    assert [type(answer) for answer in stopped.values()] == [Stopped] * 2
    assert [answer.kind for answer in stopped.values()] == ["budget"] * 2
    assert all(f"scope {name!r}" in str(answer) for name, answer in stopped.items())
    assert all(0 < found[name][0].summary.cost <= 0.003 for name in stopped)
    assert others == [("50 read", SOURCES + 2)] * 6
