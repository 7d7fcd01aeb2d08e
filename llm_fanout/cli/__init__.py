"""The command line: it gathers arguments, calls the library, and prints.

What `run` was asked for is an `Order`: it is noted in the journal, and `resume` carries it out again.
"""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from typing import Annotated

import typer

from ..errors import ConfigError
from . import demo, mcp, purge, resume, run, sim
from .ending import BAD_INPUT, OK
from .saying import say

app = typer.Typer(
    help="Hand it any number of LLM calls and one quota.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they show local variables, and with them keys and prompts
)
for command in (run.run, resume.resume, purge.purge, mcp.mcp, demo.demo, sim.sim):
    app.command()(command)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Hand it any number of LLM calls and one quota."""
    if version:
        say(version_of("llm-fanout"), to_stdout=True)
        raise typer.Exit(OK)


def main() -> None:
    """What the console script does, once all this is imported."""
    try:
        app()
    except ConfigError as exc:
        say(f"error: {exc}")
        sys.exit(BAD_INPUT)
