"""The running numbers of a run, and the Summary they make."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from . import clock
from .core.quota import Binding, Quota
from .errors import Kind, Stopped
from .results import NO_USAGE, Result, Spending, Summary, Usage


@dataclass(slots=True)
class Tally:
    """Counts what happens to the calls of a run, or of a client: `count` and `summary` may be called from any thread."""

    total: int | None = None
    attempts: int = 0
    in_flight: int = 0
    stopped: Stopped | None = None
    _succeeded: int = 0
    _errors: Counter[Kind] = field(default_factory=Counter)
    _usage: dict[tuple[str, int], tuple[int, Usage]] = field(default_factory=dict)
    _quotas: dict[Quota, dict[Binding, float]] = field(default_factory=dict)
    _began: float | None = None
    _ended: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        """The run starts."""
        self._began = clock.now()

    def end(self) -> None:
        """The run has ended."""
        self._ended = clock.now()

    def waits_for(self, quota: Quota) -> None:
        """A call of the run needs `quota`; from now on the run may be held up by it."""
        if quota not in self._quotas:
            self._quotas[quota] = quota.held(clock.now())

    def count(self, result: Result[Any], *, attempts: int = 0) -> None:
        """A call has ended; `attempts` of it were not counted as they began."""
        with self._lock:
            self.attempts += attempts
            if result.error is not None:
                self._errors[result.error.kind] += 1
                return
            self._succeeded += 1
            if result.model:
                # By thousands of input tokens: list prices change at round numbers of them and are linear in between.
                key = result.model, result.usage.input_tokens // 1000
                calls, usage = self._usage.get(key, (0, NO_USAGE))
                self._usage[key] = calls + 1, usage + result.usage

    @property
    def done(self) -> int:
        """Calls that have ended."""
        return self._succeeded + self._errors.total()

    def summary(self) -> Summary:
        """The numbers as of now."""
        failed = self._errors.total()
        elapsed = self._elapsed()
        spending = [Spending(model, size * 1000, *sums) for (model, size), sums in list(self._usage.items())]
        return Summary(
            total=self.total,
            done=self._succeeded + failed,
            succeeded=self._succeeded,
            failed=failed,
            in_flight=self.in_flight,
            attempts=self.attempts,
            spending=spending,
            elapsed=elapsed,
            eta=self._eta(self._succeeded + failed, elapsed),
            binding=self.binding(),
            errors=dict(self._errors.copy().most_common()),
            stopped=self.stopped,
        )

    def _elapsed(self) -> float:
        if self._began is None:
            return 0.0
        return (clock.now() if self._ended is None else self._ended) - self._began

    def _eta(self, done: int, elapsed: float) -> float | None:
        if self.total is None or not done:
            return None
        return elapsed / done * (self.total - done)

    def binding(self) -> str:
        """What was waited for most, so far."""
        waits: Counter[str] = Counter()
        now = clock.now() if self._ended is None else self._ended
        for quota, before in list(self._quotas.items()):
            for limit, seconds in quota.held(now).items():
                waits[limit] += seconds - before.get(limit, 0.0)  # type: ignore[assignment]  # seconds, not a count
        longest = waits.most_common(1)
        return longest[0][0] if longest and longest[0][1] > 0 else "provider"
