"""3. 3 judges x 400 answers, structured votes, agreement, a provider that dies half-way."""

import asyncio
from collections import Counter
from typing import Literal

from pydantic import BaseModel

from llm_fanout import FanOut, Prompt


class Verdict(BaseModel):
    grade: Literal["good", "bad"]
    reason: str


JUDGES = ["openai/gpt-5", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-pro"]
SPARE = ["openai/gpt-5-mini"]


async def main(answers: dict[str, str]) -> None:
    prompts = [Prompt(text, id=key) for key, text in answers.items()]
    async with FanOut(JUDGES[0], instructions="Grade the answer.", max_tokens=300) as fan:
        panel = await asyncio.gather(
            *(fan.map(prompts, model=judge, fallbacks=SPARE, response_format=Verdict) for judge in JUDGES)
        )
    unanimous = stand_ins = 0
    for ballot in zip(*panel, strict=True):  # input order, exactly one Result each: zip is the join
        grades = [r.value.grade for r in ballot if r.ok]
        stand_ins += sum(r.ok and r.model != judge for r, judge in zip(ballot, JUDGES, strict=True))
        unanimous += bool(grades) and Counter(grades).most_common(1)[0][1] == len(JUDGES)
    print(f"{unanimous / len(prompts):.1%} unanimous, {stand_ins} votes by a stand-in, ${fan.summary.cost:.2f}")
