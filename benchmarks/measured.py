"""What every script here says of its figures: when, with what, where; medians, spreads, ratios, and what must be reached."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any


def parser_of(doc: str | None, rounds: int | None = 5) -> argparse.ArgumentParser:
    """One with what all scripts take: `--json`, and `--rounds`, so many unless said, where they have rounds at all."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0] if doc else None)
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    return parser


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle and the ends of the figures of some rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """That of `values`, which are one at least."""
        return cls(statistics.median(values), min(values), max(values))

    def times(self, factor: float) -> Spread:
        """The same in another unit."""
        return Spread(self.median * factor, self.least * factor, self.most * factor)

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} ({self.least:{spec}} to {self.most:{spec}})"


def ratio(values: Sequence[float], base: Sequence[float]) -> Spread:
    """How many times its base each round is: contenders take turns, so the noise of a minute meets both."""
    return Spread.of([value / other for value, other in zip(values, base, strict=True)])


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio that must be reached.

    Attributes:
        what: For the table.
        of: The contender whose figure is above the line.
        to: The one below it.
        must: What the ratio is held to.
        aim: What it should be; None if nothing is said.
        sign: "<=" or ">=".
    """

    what: str
    of: str
    to: str
    must: float
    aim: float | None = None
    sign: str = "<="

    def row(self, figures: Mapping[str, Sequence[float]]) -> list[str] | None:
        """Its row of a table: what, ratio, must, aim, verdict; None if one of the two was not measured."""
        if self.of not in figures or self.to not in figures:
            return None
        found = ratio(figures[self.of], figures[self.to])
        reached = found.median <= self.must if self.sign == "<=" else found.median >= self.must
        aim = "" if self.aim is None else f"{self.aim:g}"
        return [self.what, f"{found:.2f}", f"{self.sign} {self.must:g}", aim, "" if reached else "MISSED"]


TARGET_HEAD = ("ratio", "median (min to max)", "must reach", "aim", "")


def target_rows(targets: Sequence[Target], figures: Mapping[str, Sequence[float]]) -> list[list[str]]:
    """The rows of all targets whose contenders were measured."""
    return [row for target in targets if (row := target.row(figures)) is not None]


def setting(*packages: str) -> dict[str, Any]:
    """Date, command, versions and machine: printed, and given back for the file of figures."""
    run: dict[str, Any] = {
        "date": str(datetime.date.today()),
        "command": shlex.join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}, {processor()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("llm-fanout", *packages)},
    }
    print(f"{run['date']}  {run['command']}")
    print(f"Python {run['python']}, {', '.join(f'{name} {number}' for name, number in run['versions'].items())}")
    print(f"{run['machine']}\n", flush=True)
    return run


def processor() -> str:
    """The processor's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown that reads well unrendered, too; the first column leans left, the others right."""
    widths = [max(2, *(len(row[column]) for row in (head, *rows))) for column in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_line(cells, widths) for cells in (head, rule, *rows))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return f"| {' | '.join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])} |"


def write(path: Path | None, run: Mapping[str, Any], **figures: Any) -> None:
    """The figures, with how they came about, as JSON in the file `path`; nothing if there is none."""
    if path is not None:
        path.write_text(json.dumps({**run, **figures}, indent=1, default=asdict), encoding="utf-8")
