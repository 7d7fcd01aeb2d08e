"""What callers took in their turns, and the table that says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from .load_server import Seen, share
from .measured import TARGET_HEAD, Spread, Target, ratio, table, target_rows
from .turn import Taken

NOTHING = Seen(0, 0, 0.0)
COST_HEAD = ("us a call", "min to max", "x aiohttp", "calls/s", "connections", "server / client", "calls")


@dataclass(slots=True)
class Score:
    """What one caller took in every turn that counts, and what the server saw of these turns."""

    calls: int
    taken: list[Taken] = field(default_factory=list)
    seen: Seen = NOTHING

    @property
    def cpu(self) -> list[float]:
        """Seconds of CPU time a call, by turn."""
        return [each.cpu / self.calls for each in self.taken]

    @property
    def seconds(self) -> list[float]:
        """Of each turn, on the clock."""
        return [each.seconds for each in self.taken]

    @property
    def core(self) -> tuple[str, str]:
        """The part of the time in which it ran, and in which it could have run, had nothing else been on its core."""
        whole = sum(self.seconds)
        return (
            f"{sum(each.cpu for each in self.taken) / whole:.0%}",
            f"{sum(each.waited for each in self.taken) / whole:.0%}",
        )

    def against(self, base: Score | None) -> str:
        """How many times the CPU of `base` a call took, round by round; nothing if there is no base."""
        return "" if base is None else f"{ratio(self.cpu, base.cpu):.2f}"

    @property
    def server_share(self) -> str:
        """What the server took beside it."""
        return share(self.seen, sum(each.cpu for each in self.taken))


def costs(title: str, scores: Mapping[str, Score], base: str) -> str:
    """A row per caller: CPU time a call, against that of `base`, and what the server saw in a round."""
    rows = [[name, *_cost(score), score.against(scores.get(base)), *_seen(score)] for name, score in scores.items()]
    return table((title, *COST_HEAD), rows)


def _cost(score: Score) -> list[str]:
    cost = Spread.of(score.cpu).times(1e6)
    return [f"{cost.median:,.1f}", f"{cost.least:,.1f} to {cost.most:,.1f}"]


def _seen(score: Score) -> list[str]:
    turns = len(score.taken)
    rate, opened = score.calls / median(score.seconds), score.seen.connections / turns
    return [f"{rate:,.0f}", f"{opened:,.0f}", score.server_share, f"{turns} x {score.calls:,}"]


def reached(targets: Sequence[Target], figures: Mapping[str, Sequence[float]]) -> str:
    """The table of what must be reached, with an empty line before it; nothing if nothing of it was measured."""
    rows = target_rows(targets, figures)
    return f"\n{table(TARGET_HEAD, rows)}\n" if rows else ""
