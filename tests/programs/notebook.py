"""Tickets in, rows out: structured answers, failures looked at, and asked again."""

from typing import Literal

from pydantic import BaseModel

from llm_fanout import Endpoint, FanOut, Prompt


class Ticket(BaseModel):
    """What is wanted of each."""

    category: Literal["billing", "bug", "how-to", "other"]
    urgency: int


async def main(tickets: dict[int, str], url: str) -> list[dict[str, object]]:
    """What a notebook does cell by cell."""
    prompts = [Prompt(body, id=number) for number, body in tickets.items()]  # `id` is the join key
    fan = FanOut(Endpoint("sim/gpt-5-mini", base_url=url), instructions="Classify the support ticket.", max_tokens=200)
    report = await fan.map(prompts, response_format=Ticket, max_retries=0)
    print(report)  # counts, cost, percentiles, binding limit, errors by kind
    for result in report.failures[:5]:
        print(result.id, result.error, result.text[:200])
    again = await fan.map([result.prompt for result in report.failures], response_format=Ticket)
    category: str = report.successes[0].value.category
    assert category
    await fan.aclose()
    return [*report.to_dicts(), *again.to_dicts()]  # columns: category, urgency, ok, error, cost, ...
