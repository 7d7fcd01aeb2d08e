"""`llm-fanout mcp`: an agent's own fan-out, over the Model Context Protocol. To a host of agents it is

    {"mcpServers": {"fan_out": {"command": "llm-fanout", "args": ["mcp", "--model", "openai/gpt-5-mini", "--budget", "2"]}}}

and what the agent gets is what `llm_fanout.tool` describes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigError, JournalError
from ..loops import new_event_loop
from .ending import BY_SIGNAL, OK, hearing
from .fulfil import endpoint_of
from .options import (
    BaseUrl,
    Budget,
    Fallback,
    Instructions,
    MaxConcurrency,
    MaxRetries,
    Model,
    Rpm,
    Sim,
    Timeout,
    TokenBudget,
    Tpm,
)
from .order import given

if TYPE_CHECKING:
    from ..llm.client import FanOut


def mcp(  # noqa: PLR0917  # the parameters are the command's options
    model: Model,
    budget: Budget = None,
    token_budget: TokenBudget = None,
    journal: Annotated[
        str | None,
        typer.Option(
            metavar="RUN.db",
            help="A file in which each answer is as soon as it is there: started again, the server knows them, and what "
            "is left of the budget.",
        ),
    ] = None,
    base_url: BaseUrl = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    max_concurrency: MaxConcurrency = None,
    deadline: Annotated[
        float | None, typer.Option(help="Seconds after which a call of the tool ends with what it has.")
    ] = None,
    timeout: Timeout = None,
    max_retries: MaxRetries = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens of each answer at most.")] = None,
    instructions: Instructions = None,
    fallback: Fallback = None,
    most_prompts: Annotated[int, typer.Option(help="Prompts that one call of the tool may have.")] = 100,
    most_characters: Annotated[int, typer.Option(help="Characters of a report; longer answers are cut.")] = 32_000,
    sim: Sim = None,
) -> None:
    """Serve one tool, `fan_out`, to an agent, over standard input and output: many prompts in, a compact report out. The
    budget holds for all its calls together. The key comes from OPENAI_API_KEY, or as the model's provider has it.

    It ends when its input does (exit code 0), or by Ctrl-C (130) or SIGTERM (143); calls under way are cancelled then.
    """
    _check_extra()
    options = given(
        deadline=deadline,
        timeout=timeout,
        max_retries=max_retries,
        max_tokens=max_tokens,
        instructions=instructions,
        fallbacks=fallback or None,
    )
    bounds = given(budget=budget, token_budget=token_budget, journal=journal)
    with ExitStack() as stack:
        from ..core.stated import Limits
        from ..llm.client import FanOut

        limits = Limits(**given(rpm=rpm, tpm=tpm, max_concurrency=max_concurrency))
        fan = FanOut(endpoint_of(model, base_url, sim, stack), limits=limits)
        sizes = (most_prompts, most_characters)
        raise typer.Exit(_run(_served(fan, bounds, options, sizes)))


def _check_extra() -> None:
    try:
        import mcp.server  # noqa: F401  # whether it is there
    except ImportError as exc:
        raise ConfigError("this needs the Model Context Protocol's SDK: pip install 'llm-fanout[mcp]'") from exc


def _run(serving: Coroutine[Any, Any, None]) -> int:
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(_cancelled_by_signals(serving))
    except JournalError as exc:
        raise ConfigError(str(exc)) from exc


async def _served(fan: FanOut, bounds: dict[str, Any], options: dict[str, Any], sizes: tuple[int, int]) -> None:
    """Serve until standard input ends."""
    from ..tool import FanOutTool
    from .serving import serve

    async with fan, fan.scope("mcp", **bounds) as scope:
        # The budget is the scope's, so that its journal keeps it.
        tool = FanOutTool(fan, (), most_prompts=sizes[0], most_characters=sizes[1], options=options)
        await serve(tool, scope)


async def _cancelled_by_signals(serving: Coroutine[Any, Any, None]) -> int:
    """Await `serving`, which signals cancel. The exit code."""
    heard: list[int] = []
    task = asyncio.ensure_future(serving)
    loop = asyncio.get_running_loop()

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        loop.call_soon_threadsafe(task.cancel)

    with hearing(hear):
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return BY_SIGNAL + heard[0] if heard else OK
