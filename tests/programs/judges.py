"""Three judges over many answers: agreement, and what it cost."""

import asyncio
from collections import Counter

from llm_fanout import Endpoint, FanOut, Prompt

JUDGES = ("sim/judge-a", "sim/judge-b", "sim/judge-c")


async def main(answers: dict[str, str], url: str) -> tuple[float, float]:
    """The share of unanimous verdicts, and USD."""
    prompts = [Prompt(text, id=key) for key, text in answers.items()]
    judges = [Endpoint(judge, base_url=url) for judge in JUDGES]
    async with FanOut(judges[0], instructions="Grade the answer.", max_tokens=300) as fan:
        panel = await asyncio.gather(*(fan.map(prompts, model=judge) for judge in judges))
    unanimous = 0
    for ballot in zip(*panel, strict=True):  # input order, exactly one Result each: zip is the join
        grades = [result.value for result in ballot if result.ok]
        unanimous += bool(grades) and Counter(grades).most_common(1)[0][1] == len(JUDGES)
    return unanimous / len(prompts), fan.summary.cost
