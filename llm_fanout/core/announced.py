"""What a provider says of a quota in the headers of an answer: how much there is, what is left, when more will come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Dimension = Literal["requests", "tokens", "input", "output"]


@dataclass(frozen=True, slots=True)
class Window:
    """One dimension of a quota, as announced; what was not said, or was said and cannot be true, is None.

    Args:
        limit: Units that a whole window holds, > 0.
        remaining: Units that are left of it, >= 0.
        reset: Seconds from the answer until the window is full again, >= 0.
        per: Seconds that a window lasts, where the provider is known to mean that.
    """

    limit: float | None = None
    remaining: float | None = None
    reset: float | None = None
    per: float | None = None


Announced = Mapping[Dimension, Window]
