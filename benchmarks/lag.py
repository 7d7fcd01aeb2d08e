"""How late the event loop gets while 1,000 calls are in flight.

One question: somebody else's task wants to run every millisecond; how late is it in 99 of 100 cases, with us and with plain
aiohttp, when the calls take all of a core, and when they take less than half of it? Every caller is in a process of its own
on one core, nginx on another; they take turns. "waited for" is the part of the time in which the
client was kept from its core: above a few hundredths, wait for a quieter machine.

    uv run python -m benchmarks.lag [--only NAME]... [--rounds 5] [--json FILE]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .contest import compete, cores, players
from .load_server import LoadServer
from .measured import Spread, Target, parser_of, ratio, setting, table, write
from .roster import CALLERS
from .scores import Score, reached
from .turn import Turn

WIDTH = 1_000
USUAL = ("ours", "aiohttp")
HEAD = ("late by, ms", "min to max", "x aiohttp", "core used", "waited for", "server / client")
BESIDE_AIOHTTP = Target("ours / aiohttp", "ours", "aiohttp", 1.2)


@dataclass(frozen=True, slots=True)
class Case:
    """Calls of so long, and what must be reached."""

    latency: float
    calls: int
    targets: tuple[Target, ...]


CASES = {
    "busy": Case(0.05, 10_000, (BESIDE_AIOHTTP,)),
    "at ease": Case(2.0, 4_000, (BESIDE_AIOHTTP, Target("ours, of 20 ms", "ours", "20 ms", 1.0))),
}


def report(name: str, case: Case, scores: Mapping[str, Score]) -> None:
    """The tables of one case."""
    late = {name: [each.late for each in score.taken] for name, score in scores.items()}
    rows = []
    for caller, score in scores.items():
        spread = Spread.of(late[caller]).times(1e3)
        against = f"{ratio(late[caller], late['aiohttp']):.2f}" if "aiohttp" in late else ""
        ends = f"{spread.least:.1f} to {spread.most:.1f}"
        rows.append([caller, f"{spread.median:.1f}", ends, against, *score.core, score.server_share])
    print(table((f"{name}: {case.calls:,} x {case.latency:g} s, {WIDTH:,} wide", *HEAD), rows))
    bound = [0.020] * max((len(each) for each in late.values()), default=0)
    print(reached(case.targets, late | {"20 ms": bound}), flush=True)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--only", action="append", choices=CALLERS, help=f"this caller; may be given again {USUAL}")
    arguments = parser.parse_args()

    run = setting("aiohttp")
    names = arguments.only or USUAL
    figures: dict[str, dict[str, Score]] = {}
    with LoadServer(cores()[1]) as server, players(names) as ready:
        for name, case in CASES.items():
            told = Turn(url=server.url(case.latency), calls=case.calls, width=WIDTH, ticks=True)
            figures[name] = compete(ready, dict.fromkeys(names, told), server, arguments.rounds)
            report(name, case, figures[name])
    write(arguments.json, run, cases=figures)


if __name__ == "__main__":
    main()
