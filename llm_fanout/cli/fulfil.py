"""How an order is carried out: prompts in, rows out, and how it went."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import ConfigError
from .ending import BAD_INPUT, OK, Ending
from .order import STREAM, OnBadRow, Order, given
from .prompts import Prompts
from .saying import bar, say

if TYPE_CHECKING:
    from ..core.stated import Limits
    from ..journal import Journal
    from ..llm.endpoint import Endpoint
    from ..run import Run
    from ..types import Estimate

COMMAND = "command"  # the name under which a journal has the order


def fulfil(order: Order) -> int:
    """Ask what is to be asked, write the rows, and say how it went. The exit code."""
    with Ending() as ending, ExitStack() as stack:
        from ..llm.client import fan_out

        _check_output(order)
        endpoint = endpoint_of(order.model, order.base_url, order.sim, stack)
        prompts = Prompts(order.prompts, endpoint, skip=order.on_bad_row is OnBadRow.skip)
        drawn = bar(over_rows=order.output == STREAM)
        options = _options(order) | given(total=prompts.total, journal=_journal(order))
        run = fan_out(prompts.coming(), model=endpoint, limits=_limits(order), progress=drawn, **options)
        rows = _stdout() if order.output == STREAM else order.output
        code = ending.of(run, lambda: run.sink(rows))
        for fault in prompts.faults:
            say(f"left out: {fault}")
        say(run.summary, to_stdout=order.output != STREAM)
        _say_how_to_go_on(order, run, code)
    return code


def estimate(order: Order) -> Estimate:
    """What it would take, without sending anything."""
    with Ending(), ExitStack() as stack:
        from ..llm.client import FanOut

        endpoint = endpoint_of(order.model, order.base_url, order.sim, stack)
        prompts = Prompts(order.prompts, endpoint, skip=order.on_bad_row is OnBadRow.skip)
        return FanOut(endpoint, limits=_limits(order)).estimate(prompts.at_hand(), **_options(order))


def endpoint_of(model: str, base_url: str | None, sim: str | None, stack: ExitStack) -> Endpoint:
    """Where prompts go; a provider in a box, if `sim` asks for one, is there until `stack` is left.

    Raises:
        ConfigError: The model has no provider, or none that `sim` would be.
    """
    from ..llm.endpoint import Endpoint

    if sim is None:
        return Endpoint(model, base_url=base_url)
    if base_url is not None or not model.startswith("sim/"):
        raise ConfigError(f"--sim starts the simulated provider: use it with --model sim/..., got {model} {base_url or ''}")
    from ..sim import Box, SimConfig

    url = stack.enter_context(Box(SimConfig.parse(sim))).url
    return Endpoint(model, base_url=url, quota="sim")  # a name, for a journal knows it by that: each run has another port


def _check_output(order: Order) -> None:
    """Refuse a place that cannot be written to while nothing has been paid for yet."""
    from ..rowfiles.rowfile import RowFile

    place = Path(order.output)
    if order.output == STREAM:
        return
    for path, what in ((order.prompts, "the prompts are"), (order.journal, "the journal is")):
        if path is not None and _is_same(place, Path(path)):
            raise ConfigError(f"cannot write {place}: {what} in it; name another file")
    with RowFile(place):
        pass


def _is_same(place: Path, path: Path) -> bool:
    """Whether both are one file, or will be: the journal may not be there yet. A device may be read and written at once."""
    if place.exists() and path.exists():
        return place.is_file() and place.samefile(path)
    return place.resolve() == path.resolve()


def _stdout() -> BinaryIO:
    """Standard output for bytes. Our own: with `python -u` that of `sys` may write a part of what it is given, and what it
    still has when its reader is gone would be an error once more at the end of the process."""
    try:
        return open(sys.stdout.fileno(), "wb", closefd=False)
    except OSError:  # it is no file: somebody calls us from within Python
        return sys.stdout.buffer


def _limits(order: Order) -> Limits:
    from ..core.stated import Limits

    return Limits(**given(rpm=order.rpm, tpm=order.tpm, max_concurrency=order.max_concurrency))


def _options(order: Order) -> dict[str, Any]:
    return given(
        budget=order.budget,
        token_budget=order.token_budget,
        deadline=order.deadline,
        timeout=order.timeout,
        max_retries=order.max_retries,
        instructions=order.instructions,
        fallbacks=order.fallback,
        stream=order.stream or None,
        dedupe=order.dedupe or None,
    )


def _journal(order: Order) -> Journal | None:
    from ..journal import Journal

    if order.journal is None:
        return None
    return Journal(
        order.journal,
        durability=order.durability.value,
        store_prompts=not order.no_store_prompts,
        notes={COMMAND: replace(order, base_url=order.base_url or _url_around(order.model)).note()},
    )


def _url_around(model: str) -> str | None:
    """Where calls go by a variable of the shell that we are in: another shell may have none, or another."""
    from ..llm.endpoint import first_set
    from ..providers.vendors import VENDORS

    vendor = VENDORS.get(model.partition("/")[0])
    return None if vendor is None else first_set(vendor.url_in, os.environ)


def _say_how_to_go_on(order: Order, run: Run[Any], code: int) -> None:
    """The very command that does the rest, if there is one, and a journal."""
    if order.journal is None or code == OK or (code == BAD_INPUT and not run.summary.attempts):
        return
    if order.prompts == STREAM:
        say(f"to go on, pipe the same prompts again: ... | {order.line}")
    else:
        say(f"to go on: {shlex.join(['llm-fanout', 'resume', order.journal])}")
