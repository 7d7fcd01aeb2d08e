"""Kills a run again and again, and shows that it survives: the provider in a box is the witness.

A history is the life of one journal. A process (tests/mortal.py) asks some hundred prompts, is killed at a random instant,
and is started again with the same journal, until it was killed often enough and ends by itself. What has to hold at each
death, by a copy of the journal that is made then, and in the end:

- whatever the process had said to have is in the journal, and no key is there twice;
- what is in the journal is never asked again;
- what was paid for and is not in the journal is no more than was in flight and not yet committed;
- the last process gives each row once, with its own answer, and asks for exactly those that were missing.

Two dozen kills are part of the test run; more are made by hand, and the resume of a large run that was killed half-way:

    uv run python tests/crashes.py --kills 200 --seed 7
    uv run python tests/crashes.py --rows 100000
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from urllib.parse import urlsplit

import mortal
from mortal import answer_to, text_of

from llm_fanout.sim import Box, SimConfig
from llm_fanout.sim.stats import NEWEST_TEXTS, key_of

# Processes are forked off one that has imported everything and done nothing: starting one anew takes longer than its life.
NURSERY = multiprocessing.get_context("forkserver")
NURSERY.set_forkserver_preload(["mortal", "llm_fanout.llm.client", "llm_fanout.journal.file"])
TCP = Path("/proc/net/tcp")
ESTABLISHED, SYN_RECEIVED, CLOSE_WAIT = "01", "03", "08"  # states in there
UNCOMMITTED = 64  # results that may be on their way to the disk
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
PHASE = 0.02  # seconds over which the instant of a kill is spread
PATIENCE = 30.0  # seconds after which a process that was told to end hangs
AT_ONCE = 2  # histories


@dataclass(frozen=True)
class Kill:
    """A kill by `signal`, `phase` seconds after the process has had `after` answers, replayed ones included if said so; and
    by the same once more, as by somebody who is impatient.
    """

    signal: signal.Signals
    after: int
    phase: float = 0.0
    counts_replayed: bool = False
    again: bool = False

    @property
    def name(self) -> str:
        """How it is called in figures."""
        return f"{self.signal.name} twice" if self.again else self.signal.name

    def carry_out(self, pid: int) -> None:
        """Kill the process."""
        for _ in range(1 + self.again):
            time.sleep(self.phase)
            with suppress(ProcessLookupError):
                os.kill(pid, self.signal)


@dataclass(frozen=True)
class Plan:
    """A history: what is asked, how, and what becomes of its processes but the last."""

    rows: int
    width: int
    kills: Sequence[Kill]
    config: SimConfig


@dataclass
class Life:
    """What one process said, and how it ended."""

    answers: list[tuple[int, str, str]] = field(default_factory=list)  # row, source, text
    numbers: tuple[int, ...] = ()
    was_killed: bool = False
    errors: list[str] = field(default_factory=list)
    _asked: int = 0

    def hear(self, line: str) -> None:
        """It said `line`."""
        match line.split():
            case ["row", row, source, text]:
                self.answers.append((int(row), source, text))
                self._asked += source != "journal"
            case ["ended", *numbers]:
                self.numbers = tuple(map(int, numbers))
            case ["begun"]:
                pass
            case _:
                self.errors.append(line)

    def had(self, *, counts_replayed: bool) -> int:
        """How many answers it has had."""
        return len(self.answers) if counts_replayed else self._asked


@dataclass
class Figures:
    """What came of histories."""

    kills: Counter[str] = field(default_factory=Counter)
    histories: int = 0
    paid: int = 0
    paid_twice: int = 0
    bound: int = 0
    most: int = 0  # answers that one kill has cost
    seconds: float = 0.0

    def add(self, other: Figures) -> None:
        """Count another's, too."""
        self.kills += other.kills
        self.histories += other.histories
        self.paid += other.paid
        self.paid_twice += other.paid_twice
        self.bound += other.bound
        self.most = max(self.most, other.most)

    def __str__(self) -> str:
        kills = ", ".join(f"{count} {name}" for name, count in sorted(self.kills.items()))
        return (
            f"{self.kills.total()} kills ({kills}) in {self.histories} histories, {self.seconds:.1f} s\n"
            f"{self.paid:,} answers were paid, {self.paid_twice:,} of them twice; the bound is {self.bound:,}\n"
            f"the costliest kill lost {self.most}"
        )


class Witness:
    """What is known at the deaths of one history, of the box and of the journal."""

    def __init__(self, plan: Plan, box: Box, journal: Path) -> None:
        self.figures = Figures(histories=1)
        self._plan = plan
        self._box = box
        self._journal = journal
        self._lost = 0  # answers that were given and are in no record, so far
        self._recorded: set[int] = set()
        self._arrivals: dict[str, int] = {}  # of the texts whose answers were recorded, when they were
        self._asked = 0

    def see_death(self, life: Life, kill: Kill) -> None:
        """A process was killed."""
        self._see(life)
        given = self._box.stats["answered"]
        lost = given - len(self._recorded) - self._lost
        bound = self._plan.width + UNCOMMITTED
        assert 0 <= lost <= bound, f"{kill} has cost {lost} answers, more than {bound}"
        self._lost += lost
        figures = self.figures
        figures.kills[kill.name] += 1
        figures.bound += bound
        figures.most = max(figures.most, lost)

    def see_end(self, life: Life) -> None:
        """A process has ended by itself."""
        rows, known = self._plan.rows, len(self._recorded)
        asked_before, recorded = self._asked, self._recorded
        self._see(life)
        assert (life.numbers, life.errors) == ((rows, rows), [])
        assert sorted(life.answers) == [
            (row, "journal" if row in recorded else "provider", answer_to(row)) for row in range(rows)
        ]
        assert self._recorded == set(range(rows))
        if not self._plan.config.faults:
            assert self._asked - asked_before == rows - known, "it asked for more than was missing"
        self.figures.paid = self._box.stats["answered"]
        self.figures.paid_twice = self.figures.paid - rows

    def _see(self, life: Life) -> None:
        """What was delivered is on disk; what was on disk was not asked again."""
        while _is_open_at(self._box.url) or (stats := self._box.stats)["in_flight"]:
            time.sleep(0.005)  # what a process has sent before its death is still being read, and answered
        self._asked = stats["requests"]
        recorded = list(_recorded_in(self._journal))
        assert len(set(recorded)) == len(recorded), "a row is there twice"
        delivered = {row for row, _, _ in life.answers}
        assert delivered <= set(recorded), f"lost: {delivered - set(recorded)}"
        assert self._recorded <= set(recorded), f"gone: {self._recorded - set(recorded)}"
        self._check_arrivals(stats["arrivals"], recorded)
        self._recorded = set(recorded)

    def _check_arrivals(self, arrivals: dict[str, list[float]], recorded: Sequence[int]) -> None:
        if self._plan.rows > NEWEST_TEXTS:
            return  # the box has forgotten some; how many came in all has to do
        for key, before in self._arrivals.items():
            assert len(arrivals[key]) == before, "an answer that was in the journal was asked for again"
        keys = [key_of(text_of(row)) for row in recorded]
        self._arrivals = {key: len(arrivals[key]) for key in keys}


def happen(plan: Plan) -> Figures:
    """One history; what it has cost. Raises AssertionError if something was lost."""
    with tempfile.TemporaryDirectory() as home, Box(plan.config) as box:
        journal = Path(home) / "run.db"
        witness = Witness(plan, box, journal)
        for kill in plan.kills:
            life = live(plan, box, journal, kill)
            if not life.was_killed:
                break
            witness.see_death(life, kill)
        else:
            life = live(plan, box, journal, None)
        witness.see_end(life)
        return witness.figures


def live(plan: Plan, box: Box, journal: Path, kill: Kill | None) -> Life:
    """One process, from its start to its end."""
    life = Life()
    lines, out = NURSERY.Pipe(duplex=False)
    process = NURSERY.Process(target=mortal.begin, args=(out, box.url, str(journal), plan.rows, plan.width))
    process.start()
    out.close()
    guard = Timer(PATIENCE, process.kill)
    with lines, open(lines.fileno(), closefd=False) as said:
        for line in said:
            life.hear(line)
            if kill is not None and not life.was_killed and life.had(counts_replayed=kill.counts_replayed) >= kill.after:
                kill.carry_out(process.pid or 0)
                life.was_killed = True
                guard.start()
    guard.cancel()
    process.join()
    life.was_killed = process.exitcode != 0
    assert not life.was_killed or kill is not None, life.errors
    assert process.exitcode != -signal.SIGKILL or (kill is not None and kill.signal is signal.SIGKILL), f"{kill}: it hung"
    # The second of two interrupts may come while the traceback of the first is written.
    assert not life.errors or (kill and kill.again) or life.errors[-1] == "KeyboardInterrupt\n", life.errors
    process.close()
    return life


def _is_open_at(url: str) -> bool:
    """Whether anybody is connected to that port, or has been and was not noticed to have gone."""
    if not TCP.exists():
        return False  # it takes Linux to know
    port = f":{urlsplit(url).port:04X}"
    rows = (line.split() for line in TCP.read_text().splitlines()[1:])
    return any(row[1].endswith(port) and row[3] in (ESTABLISHED, SYN_RECEIVED, CLOSE_WAIT) for row in rows)


def _recorded_in(journal: Path) -> Iterator[int]:
    """The row of each answer in a copy of `journal`, which stays as the dead have left it."""
    with tempfile.TemporaryDirectory() as home:
        for path in journal.parent.glob(f"{journal.name}*"):
            shutil.copy(path, home)
        copy = Path(home) / journal.name
        if not copy.exists() or not copy.stat().st_size:
            return
        with closing(sqlite3.connect(copy)) as db:
            if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for (body,) in db.execute("SELECT body FROM results WHERE ok = 1"):
                    yield json.loads(body)["id"]


def plans(kills: int, seed: int, rows: int = 400) -> Iterator[Plan]:
    """Histories with so many kills in all, a dozen in each."""
    draw = random.Random(seed)
    while kills > 0:
        some = min(kills, 12)
        kills -= some
        faults = draw.choice([{}, {"500": 0.02}])
        config = SimConfig(latency=draw.choice([0.0, 0.005, 0.02]), seed=draw.getrandbits(16), faults=faults)
        yield Plan(rows, draw.choice([4, 16, 64]), [_kill(draw, rows // some) for _ in range(some)], config)


def _kill(draw: random.Random, most: int) -> Kill:
    told = draw.choice(SIGNALS)
    again = told is signal.SIGINT and draw.random() < 0.5
    return Kill(told, draw.randint(0, most), draw.uniform(0.0, PHASE), counts_replayed=draw.random() < 0.2, again=again)


def half_way(rows: int) -> Plan:
    """A large run, killed when half of it was done."""
    return Plan(rows, 64, [Kill(signal.SIGKILL, rows // 2)], SimConfig(latency=0.0))


def all_of(plans: Sequence[Plan]) -> Figures:
    """What came of them."""
    began = time.monotonic()
    figures = Figures()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for each in pool.map(happen, plans):
            figures.add(each)
    figures.seconds = time.monotonic() - began
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--rows", type=int, help="instead, resume a run of so many rows that was killed half-way")
    options = parser.parse_args()
    figures = all_of([half_way(options.rows)] if options.rows else list(plans(options.kills, options.seed)))
    sys.stdout.write(f"{figures}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
