"""How much longer than need be a fan-out takes.

One question: from the first prompt handed in, imports done and no connection open, how long until the last answer, in
multiples of what no client can beat (the calls one width after the other, each as long as the server takes)? Every caller is
in a process of its own on one core, nginx on another; they take turns. "waited for"
is the part of the time in which the client was kept from its core: above a few hundredths, wait for a quieter machine.

    uv run python -m benchmarks.makespan [--only NAME]... [--case NAME]... [--rounds 5] [--json FILE]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from .contest import compete, cores, players
from .load_server import LoadServer
from .measured import Spread, Target, parser_of, ratio, setting, table, write
from .roster import CALLERS
from .scores import Score, reached
from .turn import Turn

USUAL = ("ours", "aiohttp")
HEAD = ("seconds", "min to max", "x ideal", "connections", "core used", "waited for", "server / client")


@dataclass(frozen=True, slots=True)
class Case:
    """So many calls of so long, so many at once; what must be reached, and what is aimed at, as a multiple of the ideal."""

    calls: int
    latency: float
    width: int
    must: float
    aim: float

    @property
    def ideal(self) -> float:
        """Seconds that no client can beat."""
        return ceil(self.calls / self.width) * self.latency

    @property
    def targets(self) -> list[Target]:
        """What must be reached; at 100 at once nobody is asked to beat aiohttp."""
        bound = Target("ours / ideal", "ours", "ideal", self.must, self.aim)
        return [bound, Target("ours / aiohttp", "ours", "aiohttp", 1.0)] if self.width > 100 else [bound]


CASES = {
    "100": Case(100, 1.0, 100, 1.08, 1.03),
    "10000": Case(10_000, 0.2, 500, 1.15, 1.06),
    "1000": Case(1_000, 1.0, 1_000, 1.35, 1.15),
}


def report(case: Case, scores: Mapping[str, Score], rounds: int) -> None:
    """The tables of one case."""
    ideal = [case.ideal] * rounds
    rows = []
    for name, score in scores.items():
        taken = Spread.of(score.seconds)
        opened = f"{score.seen.connections / rounds:,.0f}"
        spread, bound = f"{taken.least:.2f} to {taken.most:.2f}", f"{ratio(score.seconds, ideal):.3f}"
        rows.append([name, f"{taken.median:.2f}", spread, bound, opened, *score.core, score.server_share])
    title = f"{case.calls:,} x {case.latency:g} s, {case.width:,} wide: ideal {case.ideal:g} s"
    print(table((title, *HEAD), rows))
    print(reached(case.targets, {name: score.seconds for name, score in scores.items()} | {"ideal": ideal}), flush=True)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--only", action="append", choices=CALLERS, help=f"this caller; may be given again {USUAL}")
    parser.add_argument("--case", action="append", choices=CASES, help="the case of so many calls; may be given again")
    arguments = parser.parse_args()

    run = setting("aiohttp")
    names = arguments.only or USUAL
    figures: dict[str, dict[str, Score]] = {}
    with LoadServer(cores()[1]) as server, players(names) as ready:
        for key in arguments.case or CASES:
            case = CASES[key]
            told = Turn(url=server.url(case.latency), calls=case.calls, width=case.width)
            figures[key] = compete(ready, dict.fromkeys(names, told), server, arguments.rounds)
            report(case, figures[key], arguments.rounds)
    write(arguments.json, run, cases=figures)


if __name__ == "__main__":
    main()
