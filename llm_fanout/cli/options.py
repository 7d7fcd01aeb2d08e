"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Output = Annotated[
    str, typer.Option(help="Where the rows go, in input order: x.jsonl, x.csv or x.parquet; - is standard output.")
]
Model = Annotated[
    str,
    typer.Option(help="Provider and model: openai/gpt-5-mini, anthropic/..., gemini/..., or sim/x to try without a key."),
]
BaseUrl = Annotated[str | None, typer.Option(help="An OpenAI-compatible server; default OPENAI_BASE_URL.")]
Instructions = Annotated[str | None, typer.Option(help="A system message before every prompt.")]
Fallback = Annotated[
    list[str] | None,
    typer.Option(metavar="<str>", help="A model to ask where the others cannot be had; may be said several times."),
]
Sim = Annotated[
    str | None,
    typer.Option(help="How the provider in a box is, with a model sim/...: rpm=300,burst=20, 500=0.05,hang=0.02,429=0.05."),
]
Rpm = Annotated[float | None, typer.Option(help="Requests a minute.")]
Tpm = Annotated[float | None, typer.Option(help="Tokens a minute, input and output together.")]
MaxConcurrency = Annotated[int | None, typer.Option(help="Calls at once; by default 64 and more as they prove useful.")]
Timeout = Annotated[float | None, typer.Option(help="Seconds for one attempt; default 600.")]
MaxRetries = Annotated[int | None, typer.Option(help="Tries after transient failures; default 5.")]
Budget = Annotated[float | None, typer.Option(help="USD that it may cost, with a journal all its runs together.")]
TokenBudget = Annotated[int | None, typer.Option(help="Tokens that it may use, likewise.")]
Deadline = Annotated[float | None, typer.Option(help="Seconds after which the run ends with what it has.")]
