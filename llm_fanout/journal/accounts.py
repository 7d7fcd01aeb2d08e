"""What the calls of a journal have used in all, for budgets that cover its whole life: those too that were never recorded.

A note for each unit says how much calls may have used that are in no record: `lost`, when a process was killed; and while
one runs, `ceiling`, which is always more than what is used and reserved in all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .record import Record

if TYPE_CHECKING:
    from .file import JournalFile

UNITS = ("usd", "tokens")


def spent(file: JournalFile, *, wanted: bool) -> tuple[float, float]:
    """USD and tokens that calls have used, or may have used; looked up if that is wanted, or a process was killed."""
    notes = {unit: file.noted(f"spent {unit}") for unit in UNITS}
    if not wanted and not any(note.get("ceiling") for note in notes.values()):
        return 0.0, 0.0
    usd, tokens = _recorded(file)
    lost = [_lost(file, unit, notes[unit], known) for unit, known in zip(UNITS, (usd, tokens), strict=True)]
    return usd + lost[0], tokens + lost[1]


def raise_ceiling(file: JournalFile, unit: str, ceiling: float) -> None:
    """From now on calls may have used so much."""
    lost = file.noted(f"spent {unit}").get("lost", 0.0)
    file.note(f"spent {unit}", {"lost": lost, "ceiling": ceiling})


def lower_ceilings(file: JournalFile) -> None:
    """All calls have ended, and what they have used is recorded."""
    for unit in UNITS:
        note = file.noted(f"spent {unit}")
        if note.get("ceiling"):
            file.note(f"spent {unit}", {"lost": note["lost"]})


def _lost(file: JournalFile, unit: str, note: dict[str, float], known: float) -> float:
    """What calls may have used that are in no record, now that no process has the journal."""
    lost = note.get("lost", 0.0)
    if (ceiling := note.get("ceiling")) is not None:
        lost = max(lost, ceiling - known)
        file.note(f"spent {unit}", {"lost": lost})
    return lost


def _recorded(file: JournalFile) -> tuple[float, float]:
    charges = [_charge_of(record) for record in file.records()]
    return sum(usd for usd, _ in charges), sum(tokens for _, tokens in charges)


def _charge_of(record: Record) -> tuple[float, float]:
    """What a budget was charged; where there was none, what was reported."""
    charge = record.said()["charge"]
    if charge and charge[0] is not None:
        return charge[0], charge[1]
    spending = record.fields()["spending"]
    tokens = sum(each.usage.input_tokens + each.usage.output_tokens for each in spending)
    return sum(each.cost or 0.0 for each in spending), charge[1] if charge else tokens
