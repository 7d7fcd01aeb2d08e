"""1. 5,000 tickets -> pydantic -> pandas; bar, failures, rerun of the failures, cost."""

from typing import Literal

import pandas as pd
from pydantic import BaseModel

from llm_fanout import FanOut, Prompt


class Ticket(BaseModel):
    category: Literal["billing", "bug", "how-to", "other"]
    urgency: int


async def notebook() -> None:  # in a notebook: the body, cell by cell (top-level await)
    df = pd.read_csv("tickets.csv", index_col="ticket_id")
    prompts = [Prompt(body, id=i) for i, body in df["body"].items()]  # `id` is the join key
    fan = FanOut(
        "openai/gpt-5-mini", instructions="Classify the support ticket.", max_tokens=200
    )  # no `async with` across cells: must be legal
    # cell 2: the bar is on by itself in a notebook
    report = await fan.map(prompts, response_format=Ticket, budget=5.00, journal="tickets.db")
    print(report)  # counts, cost, percentiles, binding limit, errors by kind
    # cell 3
    for r in report.failures[:5]:
        print(r.id, r.error, r.text[:200])
    # cell 4: same line again = only what failed or is missing (from the journal; or from memory: reuse=report)
    report = await fan.map(prompts, response_format=Ticket, budget=5.00, reuse=report)
    df = df.join(pd.DataFrame(report.to_dicts()).set_index("id"))  # columns: category, urgency, ok, error, cost, ...
    print(df.groupby("category")["urgency"].mean(), f"${report.summary.cost:.2f}")
    category: str = report[0].value.category  # noqa: F841  # typed: Report[Ticket]
