"""`llm-fanout run`: a file of prompts, a file of answers."""

from __future__ import annotations

from typing import Annotated

import typer

from .fulfil import estimate, fulfil
from .options import (
    BaseUrl,
    Budget,
    Deadline,
    Fallback,
    Instructions,
    MaxConcurrency,
    MaxRetries,
    Model,
    Output,
    Rpm,
    Sim,
    Timeout,
    TokenBudget,
    Tpm,
)
from .order import STREAM, Durability, OnBadRow, Order
from .saying import say


def run(  # noqa: PLR0917  # the parameters are the command's options
    prompts: Annotated[
        str,
        typer.Argument(
            metavar="PROMPTS.jsonl", help="A JSON object with 'prompt' or 'messages', or a string, per line; - reads stdin."
        ),
    ],
    model: Model,
    output: Output = STREAM,
    journal: Annotated[
        str | None,
        typer.Option(
            metavar="RUN.db",
            help="A file in which each answer is as soon as it is there: after any end, `llm-fanout resume RUN.db` goes on.",
        ),
    ] = None,
    no_store_prompts: Annotated[
        bool, typer.Option("--no-store-prompts", help="Keep no prompts in the journal, but for the --instructions.")
    ] = False,
    durability: Annotated[
        Durability, typer.Option(help="What the journal survives: any end of the process, or a power cut, too.")
    ] = Durability.process,
    base_url: BaseUrl = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    max_concurrency: MaxConcurrency = None,
    budget: Budget = None,
    token_budget: TokenBudget = None,
    deadline: Deadline = None,
    timeout: Timeout = None,
    max_retries: MaxRetries = None,
    instructions: Instructions = None,
    fallback: Fallback = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Read answers as streams, and report the time to the first token.")
    ] = False,
    dedupe: Annotated[
        bool, typer.Option("--dedupe", help="Ask once where prompts that are under way ask the same.")
    ] = False,
    sim: Sim = None,
    on_bad_row: Annotated[OnBadRow, typer.Option(help="What a bad row does.")] = OnBadRow.fail,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take and cost, and send nothing.")] = False,
) -> None:
    """Ask every prompt of a file and write one row per answer. The key comes from OPENAI_API_KEY, or ANTHROPIC_API_KEY,
    GEMINI_API_KEY, as the model's provider has it.

    Ctrl-C (or SIGTERM) starts no more calls, and lets those under way end; pressed again, it cancels them. Either way what
    is done is written.

    Exit code 0: every call succeeded.
    1: some failed, their rows say why; or the disk, the journal or standard input did, and what was done is kept.
    2: bad input; nothing was sent (of standard input: nothing after it).
    3: its budget or its deadline ended it; what was done is written.
    130: ended by Ctrl-C; 143: by SIGTERM.
    """
    order = Order(
        prompts=prompts,
        model=model,
        output=output,
        journal=journal,
        no_store_prompts=no_store_prompts,
        durability=durability,
        base_url=base_url,
        rpm=rpm,
        tpm=tpm,
        max_concurrency=max_concurrency,
        budget=budget,
        token_budget=token_budget,
        deadline=deadline,
        timeout=timeout,
        max_retries=max_retries,
        instructions=instructions,
        fallback=fallback or None,
        stream=stream,
        dedupe=dedupe,
        sim=sim,
        on_bad_row=on_bad_row,
    )
    if dry_run:
        say(estimate(order), to_stdout=True)
    else:
        raise typer.Exit(fulfil(order))
