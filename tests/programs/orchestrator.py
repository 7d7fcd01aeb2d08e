"""A planner and its sub-agents on one key: each has a share, and fans out calls of its own, as deep as code nests."""

import asyncio

from llm_fanout import Endpoint, Executor, FanOut, Limits, Task


async def main(question: str, url: str) -> str:
    """The planner's last answer."""
    endpoint = Endpoint("sim/gpt-5", base_url=url, limits=Limits(rpm=60_000, max_concurrency=4))
    async with FanOut(endpoint, max_tokens=2_000) as fan:

        async def read_sources(topic: str) -> str:
            report = await fan.map([f"Source {number} on {topic}" for number in range(20)])
            return "\n".join(result.value for result in report.successes)

        async def researcher(topic: str, depth: int) -> str:
            async with fan.scope(topic, max_concurrency=2) as scope:
                sources = await read_sources(topic)
                answer = (await fan.call(f"{depth}: {topic}\n{sources}", deadline=90)).value
                print(scope.name, scope.summary.succeeded, scope.summary.cost)
                return answer

        async with fan.scope("planner", weight=2, priority="interactive"):
            plan = (await fan.call(question)).value.split()[:4]
        notes = await Executor(max_concurrency=8, max_retries=0).run([Task(researcher, topic, 1) for topic in plan])
        by_hand = await asyncio.gather(*(researcher(topic, 2) for topic in plan))
        good = [note.value for note in notes.successes] + by_hand
        return (await fan.call(question + "\n\n" + "\n".join(good), priority="interactive")).value
