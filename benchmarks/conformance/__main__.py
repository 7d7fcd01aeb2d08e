"""Nineteen probes of fan-out behaviour, on llm_fanout and on its peers: one table.

One question: which of the things that users suffer from happen with which library? A probe is a behaviour with a criterion
in one line. A server on loopback in this process is the witness. Each contender runs in a process of its own; peers in
environments of their own, which uv makes on first use. Nothing leaves the machine but uv's downloads.

    uv run python -m benchmarks.conformance [--only NAME]... [--probe N]... [--json FILE] [--environments FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from ..environments import FOLDER, NotInstalled, python_of
from .contenders import CONTENDERS
from .measure import Finding, measure
from .probes import PROBES, Probe

Findings = dict[str, dict[int, Finding]]


async def run(names: list[str], probes: list[Probe], folder: Path) -> Findings:
    """What every contender did at every probe: one at a time, for they share the machine."""
    findings: Findings = {}
    for name in names:
        print(f"\n{name} {', '.join(CONTENDERS[name].packages)}", flush=True)
        try:
            python = python_of(CONTENDERS[name].packages, CONTENDERS[name].least_python, folder)
        except NotInstalled as exc:
            print(f"  skipped: {exc}", flush=True)
            continue
        findings[name] = {}
        with tempfile.TemporaryDirectory() as home:
            for probe in probes:
                finding = findings[name][probe.number] = await measure(probe, name, python, Path(home))
                print(f"  {probe.number:>2} {probe.name:42} {finding.verdict:5} {finding.note}", flush=True)
    return findings


def table(findings: Findings, probes: list[Probe]) -> str:
    """Markdown: a row per probe, a column per contender, the figure where one failed."""
    rows = [["#", "probe", *findings], ["--:", "---", *("---" for _ in findings)]]
    for probe in probes:
        cells = [_cell(found[probe.number]) for found in findings.values()]
        rows.append([str(probe.number), probe.name, *cells])
    sums = [f"{sum(each.verdict == 'pass' for each in found.values())} / {_asked(found)}" for found in findings.values()]
    rows.append(["", "passed / asked", *sums])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _asked(found: dict[int, Finding]) -> int:
    return sum(each.verdict != "n.a." for each in found.values())


def _cell(finding: Finding) -> str:
    return f"**FAIL** {finding.note}".replace("|", "/") if finding.verdict == "FAIL" else finding.verdict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", action="append", choices=CONTENDERS, help="this contender; may be given again")
    parser.add_argument("--probe", action="append", type=int, help="the probe of this number; may be given again")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--environments", type=Path, default=FOLDER, help="where the peers are installed (%(default)s)")
    arguments = parser.parse_args()

    probes = [probe for probe in PROBES if not arguments.probe or probe.number in arguments.probe]
    names = arguments.only or list(CONTENDERS)
    machine = {
        "date": str(datetime.date.today()),
        "command": " ".join(["python -m benchmarks.conformance", *sys.argv[1:]]),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("llm-fanout", "openai", "aiohttp")},
    }
    print(f"{machine['date']}  {machine['command']}")
    print(f"Python {machine['python']}, {machine['system']}, {machine['versions']}\n")
    for probe in probes:
        print(f"{probe.number:>2} {probe.name}: {probe.criterion}")
    findings = asyncio.run(run(names, probes, arguments.environments))
    print(f"\n{table(findings, probes)}")
    if arguments.json:
        cells = {name: {number: asdict(each) for number, each in found.items()} for name, found in findings.items()}
        arguments.json.write_text(json.dumps({**machine, "findings": cells}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
