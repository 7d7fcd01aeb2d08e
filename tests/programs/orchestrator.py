"""2. planner + 8 sub-agents, two frameworks, one key; budget and deadline each; each fans out 50 calls itself."""

import asyncio

from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool
from pydantic import BaseModel
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from llm_fanout import FanOut, Limits, Stopped


class Plan(BaseModel):
    topics: list[str]


async def main(question: str) -> str:
    async with FanOut("openai/gpt-5", limits=Limits(rpm=5_000, tpm=2_000_000), budget=20.0, max_tokens=2_000) as fan:
        client = fan.openai()  # AsyncOpenAI on our quota, whatever its max_retries

        @function_tool
        async def read_sources(topic: str) -> str:  # runs inside the sub-agent's scope: contextvar
            report = await fan.map([f"Source {i} on {topic}" for i in range(50)], model="openai/gpt-5-mini")
            return "\n".join(r.value for r in report.successes)

        async def researcher(topic: str) -> str:
            async with fan.scope(topic, budget=0.50, deadline=90) as scope:
                agent = Agent(name=topic, tools=[read_sources], model=OpenAIChatCompletionsModel("gpt-5", client))
                answer = str((await Runner.run(agent, topic)).final_output)
                print(scope.name, scope.summary.cost)
                return answer

        async with fan.scope("planner", weight=2, priority="interactive"):
            planner = PydanticAgent(
                OpenAIChatModel("gpt-5", provider=OpenAIProvider(openai_client=client)), output_type=Plan
            )
            plan = (await planner.run(question)).output
        notes = await asyncio.gather(*(researcher(t) for t in plan.topics[:8]), return_exceptions=True)
        good = [
            n for n in notes if isinstance(n, str)
        ]  # a scope that ran out raises Stopped at its exit, as anyio.fail_after does
        assert all(isinstance(n, (str, Stopped)) for n in notes)
        return (await fan.call(question + "\n\n" + "\n".join(good), priority="interactive")).value
