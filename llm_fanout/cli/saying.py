"""What a command says: a line, a bar, the report."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ..summary import Summary


def say(what: object, *, to_stdout: bool = False) -> None:
    """Print `what` for whoever watches; on standard output where it is what the command is for."""
    typer.echo(str(what), err=not to_stdout)


def bar(*, over_rows: bool = False) -> Callable[[Summary], None] | bool:
    """What draws progress on standard error, if that is a terminal; not where rows appear on the same one."""
    from ..hooks import hook

    hidden = not is_terminal() or (over_rows and sys.stdout.isatty())
    drawn: Callable[[Summary], None] | bool = False if hidden else hook("bar")()
    return drawn


def is_terminal() -> bool:
    """Whether somebody watches."""
    return sys.stderr.isatty()
