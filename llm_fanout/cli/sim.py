"""`llm-fanout sim`: the provider in a box, to be asked by anybody on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated

import typer

from ..errors import ConfigError
from .order import given
from .saying import say


def sim(  # noqa: PLR0917  # the parameters are the command's options
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 picks a free one.")] = 8000,
    rpm: Annotated[float | None, typer.Option(help="Requests a minute.")] = None,
    tpm: Annotated[float | None, typer.Option(help="Tokens a minute.")] = None,
    burst: Annotated[float | None, typer.Option(help="Requests that may come at once.")] = None,
    latency: Annotated[float, typer.Option(help="Mean seconds of an answer.")] = 1.0,
    chaos: Annotated[
        str,
        typer.Option(
            help="Shares of faults (--faults lists them), and whatever else SimConfig has: 429=0.05,hang=0.01, rpd=, "
            "itpm=, otpm=, max_in_flight=, window=minute, settle=reserved, hints=retry-after|none|nginx, "
            "headers= the name of a provider (azure, anthropic, groq, gemini, mistral, openrouter, litellm) or none, "
            "outage=10-70+90-95:503."
        ),
    ] = "",
    seed: Annotated[int, typer.Option(help="The same seed decides the same faults.")] = 0,
    faults: Annotated[bool, typer.Option("--faults", help="List the faults and what they mean, and exit.")] = False,
) -> None:
    """Run the provider in a box: an OpenAI-compatible server whose answers are simulated. Ctrl-C ends it."""
    from ..sim import SimConfig, serve

    if faults:
        say(_listed_faults(), to_stdout=True)
        return
    stated = given(rpm=rpm, tpm=tpm, burst=burst, latency=latency, seed=seed)
    config = SimConfig.parse(",".join([*(f"{name}={value}" for name, value in stated.items()), *filter(None, [chaos])]))
    try:
        serve(
            config,
            port,
            lambda url: say(f"simulated provider at {url}; try --model sim/x --base-url {url}", to_stdout=True),
        )
    except OSError as exc:
        raise ConfigError(f"cannot serve on port {port}: {os.strerror(exc.errno or 0)}; --port 0 picks a free one") from exc


def _listed_faults() -> str:
    """A line for each fault of the simulated provider, and how to ask for one."""
    from ..sim.faults import FAULTS, MARKS

    return "\n".join(
        [*_columns(FAULTS), "", "A prompt that has such a mark in its text asks for its fate:", *_columns(MARKS)]
    )


def _columns(meanings: Mapping[str, str]) -> list[str]:
    width = max(map(len, meanings))
    return [f"{name:<{width}}  {meaning}" for name, meaning in meanings.items()]
