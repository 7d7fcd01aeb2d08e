"""When a provider is down: stop sending, and look once in a while whether it is back.

Theory of operation. Failures that look like an outage (5xx, refused, reset, timeout) of several different calls in a row,
with no answer of any sort between them, open the breaker. It lets one call through after a second, the next after two, then
every three and a half: that probe decides. One that hangs holds nobody up: the next goes three and a half seconds after it.
An answer of any sort, be it a refusal, closes it. A call that always fails by
itself cannot open it, for only the first failure of a call counts. Answers to calls that began before the row of failures
did are old news: one makes up for one failure, and none closes it.

An endpoint that has never answered may be a wrong address: it is not trusted, and calls that can go nowhere else fail there
as they would without a breaker. From its first answer on, a failure during an outage uses up nobody's retries.

Sources: circuit breakers after M. Nygard, "Release It!"; that it pauses and never fails items, because a batch wants its
rows: inspect-ai, NeMo DataDesigner issue 575.
"""

from __future__ import annotations

from math import inf

FAILURES = 6  # different calls in a row; one chance in 64 million at 5 % random faults, one in 64 at 50 %
FIRST_PROBE = 1.0  # seconds
LAST_PROBE = 3.5  # seconds between probes in a long outage: a provider that is back has answered within five
NO_PROBE = 0


class Breaker:
    """Closed while calls are answered; open while they are not, and then one call at a time goes through."""

    __slots__ = ("_failures", "_probe", "_probe_at", "_probes", "_since", "_wait", "calm", "closed", "trusted")

    def __init__(self) -> None:
        self.trusted = False  # whether it ever answered
        self.closed = True  # whether calls may pass freely
        self.calm = False  # whether an answer is no news
        self._failures = 0
        self._wait = FIRST_PROBE
        self._probe = NO_PROBE  # the serial number of the last probe, while that is out
        self._probes = 0
        self._probe_at = -inf
        self._since = inf  # when the row of failures began

    @property
    def is_open(self) -> bool:
        """Whether the other side is taken to be down."""
        return self._failures >= FAILURES

    @property
    def is_doubtful(self) -> bool:
        """Whether the last that was seen of the other side was a failure, be it a single one."""
        return self._failures > 0

    def ready_at(self) -> float:
        """The instant at which the next probe may start. Only while it is not `closed`."""
        return self._probe_at

    def take(self, now: float) -> int:
        """A call starts, and is the probe: its serial number, > 0. Only while it is not `closed`."""
        self._probes += 1
        self._probe = self._probes
        self._probe_at = now + LAST_PROBE  # unless it ends before that: it may have been accepted and never be answered
        return self._probe

    def answered(self, began: float) -> None:
        """Something came back, be it a refusal, for a call that began at the instant `began`."""
        self.trusted = True
        if began >= self._since or self._failures <= 1:
            self.closed = self.calm = True
            self._failures = 0
            self._wait = FIRST_PROBE
            self._probe = NO_PROBE
        elif self.closed:
            self._failures -= 1

    def failed(self, *, probe: int, first: bool, now: float) -> None:
        """A call ended as calls end when the other side is down.

        Args:
            probe: The serial number that `take` gave; `NO_PROBE` if it was none.
            first: Whether it is the first such failure of that call.
            now: Monotonic seconds.
        """
        if probe and probe == self._probe:  # else it was closed meanwhile or is probed anew: a failure like any other
            self._probe = NO_PROBE
            self._wait = min(2 * self._wait, LAST_PROBE)
            self._probe_at = now + self._wait
            return
        self.calm = False
        if self._failures == 0:
            self._since = now
        self._failures += first
        if self.is_open and self.closed:
            self.closed = False
            self._probe_at = now + self._wait

    def released(self, probe: int) -> None:
        """A probe ended without telling anything (it was cancelled): the next call is one, if there is no later one."""
        if probe == self._probe:
            self._probe = NO_PROBE
            self._probe_at = -inf
