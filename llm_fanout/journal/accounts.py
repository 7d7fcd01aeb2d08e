"""What the calls of a journal have used in all, for budgets that cover its whole life: those too that were never recorded.

A note for each unit says how much calls may have used that are in no record: `lost`, when a process was killed, or a call
had its record elsewhere; and while one runs, `ceiling`, which is always more than what is used and reserved in all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..spending import Spending
from .record import Record, spending_in
from .stated import OURS

if TYPE_CHECKING:
    from .file import JournalFile

UNITS = ("usd", "tokens")
Sums = tuple[float, float]  # USD, and tokens


def spent(file: JournalFile, *, wanted: bool) -> tuple[Sums, Sums]:
    """What calls have used going by their records, and what all have used, or may have; looked up if that is wanted, or a
    process was killed."""
    notes = {unit: file.noted(f"{OURS}{unit}") for unit in UNITS}
    if not wanted and not any(note.get("ceiling") for note in notes.values()):
        return (0.0, 0.0), (0.0, 0.0)
    recorded = _recorded(file)
    lost = [_lost(file, unit, notes[unit], known) for unit, known in zip(UNITS, recorded, strict=True)]
    return recorded, (recorded[0] + lost[0], recorded[1] + lost[1])


def charged(charge: Sequence[float | None], spending: Sequence[Spending]) -> Sums:
    """What a budget was charged for a call; where there was none, what was reported."""
    if charge and charge[0] is not None:
        return charge[0], charge[1] or 0.0
    tokens = sum(each.usage.input_tokens + each.usage.output_tokens for each in spending)
    return sum(each.cost or 0.0 for each in spending), charge[1] or 0.0 if charge else tokens


def raise_ceiling(file: JournalFile, unit: str, ceiling: float) -> None:
    """From now on calls may have used so much."""
    lost = file.noted(f"{OURS}{unit}").get("lost", 0.0)
    file.note(f"{OURS}{unit}", {"lost": lost, "ceiling": ceiling})


def lower_ceilings(file: JournalFile, used: Mapping[str, float], recorded: Sums) -> None:
    """All calls have ended, and have used so much; not all of that is recorded, if some have their records elsewhere."""
    for unit, known in zip(UNITS, recorded, strict=True):
        if unit in used:
            file.note(f"{OURS}{unit}", {"lost": max(0.0, used[unit] - known)})


def _lost(file: JournalFile, unit: str, note: dict[str, float], known: float) -> float:
    """What calls may have used that are in no record, now that no process has the journal."""
    lost = note.get("lost", 0.0)
    if (ceiling := note.get("ceiling")) is not None:
        lost = max(lost, ceiling - known)
        file.note(f"{OURS}{unit}", {"lost": lost})
    return lost


def _recorded(file: JournalFile) -> Sums:
    charges = [_charge_of(record) for record in file.records()]
    return sum(usd for usd, _ in charges), sum(tokens for _, tokens in charges)


def _charge_of(record: Record) -> Sums:
    said = record.said()
    charge = said["charge"]
    return charged(charge, () if charge and charge[0] is not None else spending_in(said))
