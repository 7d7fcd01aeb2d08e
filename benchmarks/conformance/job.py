"""What a contender is told to do: plain values, for they cross to another process, which may lack everything but Python."""

from __future__ import annotations

from dataclasses import dataclass

ANSWER_TOKENS = 5  # what every probe that counts tokens lets an answer have, and what the witness reports


class NotOffered(Exception):
    """The contender has no such thing; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One task for a contender.

    Args:
        waves: Lists of prompts, asked one list after the other with the same client.
        race: Ask the first prompt of two models, "slow" and "fast", for whichever answers first.
        work: Instead of asking, map a function that does nothing over so many items, for each of the numbers.
        concurrency: Calls at once; None for the contender's default.
        rpm: Requests a minute; None for no limit, or the contender's default.
        tpm: Tokens a minute, likewise.
        retries: Tries after the first; None for the contender's default.
    """

    waves: list[list[str]]
    race: bool = False
    work: list[int]
    concurrency: int | None = None
    rpm: int | None = None
    tpm: int | None = None
    retries: int | None = None
