"""How near to a quota the client keeps, told of it or not, and what trouble costs: against the provider in a box.

One question: how much of what the provider allows is used, and how many requests are refused or sent once more? What is
counted is what the box saw, never the client's word; the one exception is the outage that refuses connections, in which
the box is not there to count, so the client's attempts are counted too. Every row is in SCENARIOS: how many calls, how wide,
which box, and what it must reach. Calls are handed in all at once. The box admits a burst of ten seconds' worth, unless a
row says otherwise; the client, told a rate, takes one second's worth.

    utilisation  starts / (quota x time with work waiting), in calls or true tokens; the time lasts from the first start to
                 the last, which is not counted itself
    steady       the same without the client's burst: the rate that is kept up
    makespan     first arrival to last answer / the bound; the bound is (N - server's burst) / rate + latency, for a cap
                 N * latency / cap
    amplified    requests / answers

    uv run python -m benchmarks.quotas [--only NAME] [--rounds N] [--json FILE]

Without --rounds, short rows run three times (another seed each) and long ones once; rows marked with * only by --only.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from operator import ge, le
from typing import Any

from llm_fanout import FanOut, Limits, Prompt, Report
from llm_fanout.core.tokens import estimate_tokens
from llm_fanout.sim import Box, SimConfig

from .measured import parser_of, setting, write

MODEL = "sim/x"
SIZES = (100.0, 8_000.0)  # true tokens of a call, log-uniform; a quarter of them is the answer
GROWN = 5  # times the width at which it counts as regrown
COMPARE = {">=": ge, "<=": le}


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a row: by its name, how it is to compare to the floor, the floor, and the aim."""

    name: str
    sign: str
    floor: float
    aim: float | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A run, as the box saw it.

    Args:
        row: Its scenario.
        stats: Of the box, after the run.
        report: The client's word.
        tokens: True tokens of each call, in order; empty where they do not matter.
        regrown: Round trips from the change of capacity until the box saw the width again; None without a change.
    """

    row: Scenario
    stats: dict[str, Any]
    report: Report[str]
    tokens: list[int]
    regrown: float | None


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row.

    Args:
        name: For --only.
        box: The provider.
        calls: N.
        figures: What it must reach.
        limits: What the client is told; all of it is stated here.
        bound: Seconds that it must take at the least, by its formula.
        sized: Whether calls have sizes and a `max_tokens` of four times their answer.
        grows: Answers after which the cap is ten times as large; 0 for never.
        rounds: By default.
        extra: Whether it runs only when it is named.
    """

    name: str
    box: SimConfig
    calls: int
    figures: tuple[Figure, ...]
    limits: Limits = field(default_factory=Limits)
    bound: Callable[[Scenario], float] | None = None
    sized: bool = False
    grows: int = 0
    rounds: int = 1
    extra: bool = False


def of_rate(row: Scenario) -> float:
    """(N - burst) / rate + latency."""
    rate = (row.box.rpm or 0.0) / 60
    return (row.calls - row.box.request_burst) / rate + row.box.latency


def of_cap(row: Scenario) -> float:
    """N * latency / cap."""
    return row.calls * row.box.latency / (row.box.max_in_flight or 1)


DONE = Figure("done", ">=", 1.0)
NO_REFUSAL = Figure("refused", "<=", 0.0)
FAULTS = {"500": 0.02, "502": 0.01, "503": 0.01, "reset": 0.005, "truncated": 0.005}
TOKENS = SimConfig(tpm=200_000, latency=1.0, seed=2)
HINTLESS = SimConfig(rpm=600, hints="none", headers="none", latency=1.0, seed=4)
HINTLESS_FIGURES = (DONE, Figure("refused/answer", "<=", 0.3, 0.2), Figure("makespan", "<=", 1.4, 1.1))
CAP = SimConfig(max_in_flight=4, latency=0.12, seed=5, hints="none", headers="none")
OUTAGE = SimConfig(latency=1.0, seed=7)
CAP_FIGURES = (DONE, Figure("refused/answer", "<=", 0.25), Figure("makespan", "<=", 1.5, 1.2))
OUTAGE_FIGURES = (DONE, Figure("extra requests", "<=", 100, 50), Figure("first answer s", "<=", 5.0))

SCENARIOS = (
    Scenario(
        "told-rpm",
        SimConfig(rpm=600, latency=0.5, seed=1),
        300,
        (DONE, Figure("utilisation", ">=", 0.97, 0.98), Figure("steady", ">=", 0.97, 0.98), NO_REFUSAL),
        Limits(rpm=600),
    ),
    Scenario(
        "told-tpm-refund",
        TOKENS,
        80,
        (DONE, Figure("utilisation", ">=", 0.95, 0.98), NO_REFUSAL),
        Limits(tpm=200_000),
        sized=True,
    ),
    Scenario(
        "told-tpm-reserved",
        replace(TOKENS, settle="reserved"),
        50,
        (DONE, NO_REFUSAL),
        Limits(tpm=200_000, settle="reserved"),
        sized=True,
    ),
    Scenario(
        "headers",
        SimConfig(rpm=600, latency=1.0, seed=3),
        400,
        (DONE, Figure("refused/answer", "<=", 0.02), Figure("makespan", "<=", 1.15, 1.05)),
        bound=of_rate,
    ),
    Scenario("no-hints", HINTLESS, 400, HINTLESS_FIGURES, bound=of_rate),
    Scenario("no-hints-burst-2", replace(HINTLESS, burst=2.0), 200, HINTLESS_FIGURES, bound=of_rate, extra=True),
    Scenario("cap-4", CAP, 1_000, CAP_FIGURES, bound=of_cap),
    Scenario("cap-4-of-1s", replace(CAP, latency=1.0), 1_000, CAP_FIGURES, bound=of_cap, extra=True),
    Scenario("regrow", CAP, 2_000, (DONE, Figure("round trips", "<=", 30)), grows=400, rounds=3),
    Scenario(
        "regrow-of-1s", replace(CAP, latency=1.0), 1_200, (DONE, Figure("round trips", "<=", 30)), grows=200, extra=True
    ),
    Scenario(
        "faults",
        SimConfig(latency=0.2, faults=FAULTS, seed=6),
        1_000,
        (DONE, Figure("amplified", "<=", 1.08)),
        rounds=5,
    ),
    Scenario("outage", replace(OUTAGE, outage="10-70"), 1_000, OUTAGE_FIGURES, Limits(max_concurrency=32)),
    Scenario("outage-503", replace(OUTAGE, outage="10-70:503"), 1_000, OUTAGE_FIGURES, Limits(max_concurrency=32)),
)


def measured(seen: Seen) -> dict[str, float]:
    """All figures of a run that it has."""
    stats, row = seen.stats, seen.row
    found = {
        "done": seen.report.summary.succeeded / row.calls,
        "refused": float(stats["refused"]),
        "refused/answer": stats["refused"] / max(1, stats["answered"]),
        "amplified": stats["requests"] / max(1, stats["answered"]),
        "seconds": stats["last_answer"] - stats["first_arrival"],
        "starts s": stats["last_arrival"] - stats["first_arrival"],
    }
    if row.bound is not None:
        found["makespan"] = found["seconds"] / row.bound(row)
    if row.limits.rpm is not None:
        whole = row.limits.rpm / 60 * found["starts s"]
        found["utilisation"] = (stats["admitted"] - 1) / whole
        found["steady"] = (stats["admitted"] - max(1.0, row.limits.rpm / 60)) / whole
    if row.limits.tpm is not None:
        whole = row.limits.tpm / 60 * found["starts s"]
        found["utilisation"] = sum(seen.tokens[:-1]) / whole
    if seen.regrown is not None:
        found["round trips"] = seen.regrown
    if row.box.outage:
        outage = stats["outages"][0]
        attempts = sum(result.attempts for result in seen.report)
        found["extra requests"] = max(attempts, stats["requests"]) - row.calls
        found["first answer s"] = outage["first_answer_after"] - outage["end"]
    return found


def run(row: Scenario, number: int) -> Seen:
    """Run a row once; rounds differ by their seed."""
    prompts, tokens = _prompts(row, random.Random(row.box.seed + number))
    config = replace(row.box, seed=row.box.seed + 100 * number)
    with Box(config) as box:
        report, regrown = asyncio.run(_fan_out(row, box, prompts))
        return Seen(row, box.stats, report, tokens, regrown)


async def _fan_out(row: Scenario, box: Box, prompts: list[Prompt]) -> tuple[Report[str], float | None]:
    async with FanOut(MODEL, base_url=box.url, api_key="sim", limits=row.limits) as fan:
        if not row.grows:
            return await fan.map(prompts), None
        growth = asyncio.create_task(asyncio.to_thread(_grow, row, box))
        report = await fan.map(prompts)
        return report, await growth


def _grow(row: Scenario, box: Box) -> float:
    """Let the cap grow after so many answers; round trips until the box has that many times as many calls in flight."""
    cap = row.box.max_in_flight or 1
    while box.stats["answered"] < row.grows:
        time.sleep(row.box.latency / 4)
    box.retune(max_in_flight=10 * cap)
    begun = time.monotonic()
    while (stats := box.stats)["in_flight"] < GROWN * cap and stats["answered"] < row.calls:
        time.sleep(row.box.latency / 10)
    return (time.monotonic() - begun) / row.box.latency


def _prompts(row: Scenario, draw: random.Random) -> tuple[list[Prompt], list[int]]:
    """The prompts of a row, and the true tokens of each."""
    if not row.sized:
        return [Prompt(f"Say something about the number {number}.") for number in range(row.calls)], []
    prompts, tokens = [], []
    for _ in range(row.calls):
        size = SIZES[0] * (SIZES[1] / SIZES[0]) ** draw.random()
        answer = _words(size / 4)
        text = f"[[answer:{answer}]] {_words(size / 2)}"
        real = estimate_tokens(answer)
        prompts.append(Prompt(text, max_tokens=4 * real))
        tokens.append(estimate_tokens(text) + real)
    return prompts, tokens


def _words(tokens: float) -> str:
    return " ".join(["word"] * max(1, round(tokens / estimate_tokens("word " * 1_000) * 1_000)))


def show(row: Scenario, rounds: list[dict[str, float]]) -> None:
    """One line for each figure that the row must reach."""
    for figure in row.figures:
        values = [each[figure.name] for each in rounds]
        median = statistics.median(values)
        worst = min(values) if figure.sign == ">=" else max(values)
        met = COMPARE[figure.sign](worst, figure.floor)
        aim = "" if figure.aim is None else f"{figure.aim:g}"
        spread = f"{min(values):.3f} - {max(values):.3f}" if len(values) > 1 else ""
        print(
            f"{row.name:18}{figure.name:16}{median:>9.3f}  {spread:18}{figure.sign:>3} {figure.floor:<6g}{aim:8}"
            f"{'' if met else 'MISSED'}",
            flush=True,
        )


def table(rows: Iterable[Scenario]) -> None:
    """What the rows are."""
    print(f"{'':18}{'N':>6}{'width':>10}{'latency':>9}{'bound s':>9}  told / box")
    for row in rows:
        name, bound = row.name + "*" * row.extra, "" if row.bound is None else f"{row.bound(row):.1f}"
        width = str(row.limits.max_concurrency or "64-1,000")
        what = f"{_told(row)} / {_box(row)}{SIZED if row.sized else ''}{GROWS.format(row.grows) if row.grows else ''}"
        print(f"{name:18}{row.calls:>6}{width:>10}{row.box.latency:>9.2f}{bound:>9}  {what}")


SIZED = f"; sizes {SIZES[0]:g} to {SIZES[1]:g} tokens, a quarter of it answer, max_tokens 4x the answer"
GROWS = "; 10x the cap after {} answers"


def _told(row: Scenario) -> str:
    stated = {name: value for name, value in row.limits.stated().items() if name != "max_concurrency"}
    return ", ".join(f"{name}={value}" for name, value in stated.items()) or "nothing"


def _box(row: Scenario) -> str:
    fields = ("rpm", "tpm", "max_in_flight", "burst", "settle", "hints", "headers", "outage", "faults", "seed")
    said = {name: getattr(row.box, name) for name in fields}
    return ", ".join(f"{name}={value}" for name, value in said.items() if value != getattr(DEFAULT, name))


DEFAULT = SimConfig()


def main() -> None:
    parser = parser_of(__doc__, rounds=None)
    parser.add_argument("--only", action="append", choices=[row.name for row in SCENARIOS], help="this row; may be repeated")
    parser.add_argument("--rounds", type=int, help="rounds of each row; another seed each")
    arguments = parser.parse_args()
    rows = [row for row in SCENARIOS if (row.name in arguments.only if arguments.only else not row.extra)]

    origin = setting("aiohttp")
    table(rows)
    print(f"\n{'':18}{'figure':16}{'median':>9}  {'min - max':18}{'floor':>6}    {'aim':8}")
    figures: dict[str, list[dict[str, float]]] = {}
    series: dict[str, Any] = {}
    for row in rows:
        seen = [run(row, number) for number in range(arguments.rounds or row.rounds)]
        figures[row.name] = [measured(each) for each in seen]
        series[row.name] = [each.stats["series"] for each in seen]
        show(row, figures[row.name])
    write(arguments.json, origin, figures=figures, series=series)


if __name__ == "__main__":
    main()
