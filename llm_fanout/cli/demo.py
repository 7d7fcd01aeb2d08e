"""`llm-fanout demo`: what it does, without a key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .ending import Ending
from .saying import bar, say

if TYPE_CHECKING:
    from ..results import Report
    from ..run import Run


def demo(
    calls: Annotated[int, typer.Option(min=100, max=1000, help="How many calls of about a second each.")] = 120,
    seed: Annotated[int, typer.Option(help="Another seed, other faults.")] = 1,
) -> None:
    """A hundred calls and more of about a second each, against a quota, with refusals, hangs and errors: no key needed."""
    from ..core.stated import Limits
    from ..llm.client import fan_out
    from ..llm.endpoint import Endpoint
    from ..sim import Box, SimConfig

    faults = {"429": 0.04, "500": 0.04, "hang": 0.02}
    config = SimConfig(rpm=600, burst=40, latency=1.0, faults=faults, seed=seed)
    say(f"{calls} calls to a simulated provider: {config.rpm:g} requests a minute; 4 % refused, 4 % fail, 2 % hang.")
    with Ending() as ending, Box(config) as box:
        endpoint = Endpoint("sim/demo", base_url=box.url, limits=Limits(rpm=600, burst=30))
        prompts = [f"Say something about the number {number}." for number in range(calls)]
        run = fan_out(prompts, model=endpoint, timeout=4, progress=bar())
        code = ending.of(run, lambda: report_of(run))
        met = _troubles(box.stats)
    report = run.report
    say(report, to_stdout=True)
    say(met, to_stdout=True)
    if report.successes:
        say(_comparison(report), to_stdout=True)
    raise typer.Exit(code)


async def report_of(run: Run[str]) -> Report[str]:
    """What awaiting `run` gives, as a coroutine, which a Run is not."""
    return await run


def _troubles(stats: Mapping[str, Any]) -> str:
    """What the simulated provider did to the calls, by its own count; the report shows how little came of it."""
    faults = stats["faults"]
    refused = stats["refused"] + faults.get("429", 0)
    return f"the provider refused {refused}, failed {faults.get('500', 0)} and left {faults.get('hang', 0)} hanging"


def _comparison(report: Report[str]) -> str:
    """What the same calls would have taken one by one, going by the times that their answers took."""
    from ..clock import in_words

    alone = sum(result.service_time for result in report.successes)
    elapsed = report.summary.elapsed
    return f"one by one about {in_words(alone)}, here {in_words(elapsed)}: {alone / elapsed:.1f} times as fast"
