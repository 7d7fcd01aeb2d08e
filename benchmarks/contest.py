"""Callers that take turns, each in a process of its own, against one server: what all comparisons here are made of."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Self

from .environments import FOLDER, ROOT, NotInstalled, python_of, surroundings
from .load_server import LoadServer
from .roster import ALL
from .scores import Score
from .turn import Taken, Turn

LONGEST = 600.0  # seconds that one turn may take
STDERR_KEPT = 2_000  # characters


def cores() -> tuple[int | None, int | None]:
    """One core for the client and another for the server; None twice where there is but one, or no way to choose."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    ours = sorted(os.sched_getaffinity(0))
    return (ours[0], ours[-1]) if len(ours) > 1 else (None, None)


class Player:
    """A caller in its process, which stays for all its turns: its imports are done before the second one.

    Args:
        name: Of the caller, as in the roster.
        python: The interpreter that has its library.
        core: The core that it runs on, and no other.
    """

    def __init__(self, name: str, python: Path, core: int | None) -> None:
        self.name = name
        self._home = tempfile.TemporaryDirectory()
        self._printed = Path(self._home.name, "printed")
        command = [str(python), "-m", "benchmarks.child", name, *([] if core is None else [str(core)])]
        environ = surroundings(Path(self._home.name), fenced=bool(ALL[name].packages))
        with self._printed.open("wb") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, env=environ, text=True
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()
        self._home.cleanup()

    def play(self, turn: Turn) -> Taken:
        """What the turn took.

        Raises:
            RuntimeError: It failed, or took too long; the message has the end of what was printed.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        watch = Timer(LONGEST, self._process.kill)
        watch.start()
        try:
            self._process.stdin.write(json.dumps(asdict(turn)) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            watch.cancel()
        if not line:
            raise RuntimeError(f"{self.name} ended: {self._printed.read_text(errors='replace')[-STDERR_KEPT:]}")
        return Taken(**json.loads(line))


@contextmanager
def players(names: Sequence[str], folder: Path = FOLDER) -> Iterator[list[Player]]:
    """The callers of these names, ready; one whose library cannot be had is told of, and left out."""
    client, _ = cores()
    with ExitStack() as stack:
        ready = []
        for name in names:
            try:
                python = python_of(ALL[name].packages, ALL[name].least_python, folder)
            except NotInstalled as exc:
                print(f"{name} is left out: it {exc}", flush=True)
                continue
            ready.append(stack.enter_context(Player(name, python, client)))
        yield ready


def compete(ready: Sequence[Player], turns: Mapping[str, Turn], server: LoadServer, rounds: int) -> dict[str, Score]:
    """The scores by name: everyone has a turn in every round, after a round that does not count.

    One whose turn fails is told of, and left out from then on.

    Args:
        ready: Who takes part.
        turns: What each is told to do.
        server: Who answers.
        rounds: How many count.
    """
    scores = {player.name: Score(turns[player.name].calls) for player in ready}
    for number in range(rounds + 1):
        for player in ready:
            if player.name not in scores:
                continue
            before = server.seen
            try:
                taken = player.play(turns[player.name])
            except RuntimeError as exc:
                print(f"{player.name} is left out: {exc}", flush=True)
                del scores[player.name]
                continue
            if number:
                score = scores[player.name]
                score.taken.append(taken)
                score.seen += server.seen - before
    return scores
