"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Output = Annotated[
    str, typer.Option(help="Where the rows go, in input order: x.jsonl, x.csv or x.parquet; - is standard output.")
]
Rpm = Annotated[float | None, typer.Option(help="Requests a minute.")]
Tpm = Annotated[float | None, typer.Option(help="Tokens a minute, input and output together.")]
MaxConcurrency = Annotated[int | None, typer.Option(help="Calls at once; by default 64 and more as they prove useful.")]
Timeout = Annotated[float | None, typer.Option(help="Seconds for one attempt; default 600.")]
MaxRetries = Annotated[int | None, typer.Option(help="Tries after transient failures; default 5.")]
Budget = Annotated[float | None, typer.Option(help="USD that it may cost, with a journal all its runs together.")]
TokenBudget = Annotated[int | None, typer.Option(help="Tokens that it may use, likewise.")]
Deadline = Annotated[float | None, typer.Option(help="Seconds after which the run ends with what it has.")]
