"""What goes wrong: which request gets which fault, and how late its answer is."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import exp

from .catalogue import ERRORS

# What goes wrong with the connection, or with a body that is answered with 200. Where a request did not ask for a stream,
# a fault of streams is its closest kin.
BODY_FAULTS: Mapping[str, str] = {
    "hang": "nothing is ever answered",
    "reset": "the connection is closed before the answer",
    "cut": "the connection is closed in the middle of the answer",
    "drip": "the answer comes byte by byte, a second each",
    "stall": "the stream stops in the middle, and the connection stays open",
    "keepalive": "the stream has comments that keep it alive, and nothing else, for ever",
    "truncated": "the answer ends without a finish reason",
    "error_event": "the stream ends with an error",
    "bad_chunk": "a chunk of the stream is no JSON",
    "malformed": "the JSON of the answer is cut in half",
    "empty": "the answer has no choices",
    "error200": "the answer is an error, with status 200",
    "bad_utf8": "the answer is not UTF-8",
    "html200": "the answer is a page, with status 200",
}
FAULTS: Mapping[str, str] = {**ERRORS, **BODY_FAULTS}  # from each name to its meaning, in a line
NO_FAULT = "ok"  # in a script, a try that is answered

# What a prompt may ask for by marks in its text, and what comes of it.
MARKS: Mapping[str, str] = {
    "[[fault:500]]": "always meets that fault",
    "[[faults:500,429,ok]]": "meets one after the other, try by try of this very text, and is answered from then on",
    "[[wait:0.4]]": "is told to wait that many seconds, where it is told any",
    "[[latency:2]]": "takes that many seconds",
    "[[answer:yes]]": 'is answered "yes"',
}
_MARK = re.compile(r"\[\[(fault|faults|wait|latency|answer):(.*?)\]\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Fate:
    """What will happen to one request.

    Attributes:
        fault: One of `FAULTS`, or None.
        latency: Seconds until it is answered.
        draw: Its own source of randomness.
        answer: What the answer is to say; None for something made up.
        wait: Seconds that a refusal names, where it names any; None for the usual.
    """

    fault: str | None
    latency: float
    draw: random.Random
    answer: str | None = None
    wait: float | None = None


class Fates:
    """Decides, request by request in the order of their arrival; the same seed decides the same.

    A prompt may ask for its fate by `MARKS` in its text; what makes no sense in them is passed over.

    Args:
        shares: Share of requests by fault.
        latency: Mean seconds; may be changed while it decides.
        jitter: Sigma of the lognormal latencies.
        seed: Decides everything.
    """

    def __init__(self, shares: Mapping[str, float], latency: float, jitter: float, seed: int) -> None:
        self._shares = shares
        self.latency = latency
        self._jitter = jitter
        self._seed = seed
        self._arrivals = 0
        self._tries: Counter[str] = Counter()

    def next(self, text: str) -> Fate:
        """The fate of the next request, whose messages say `text`."""
        self._arrivals += 1
        draw = random.Random(f"{self._seed}/{self._arrivals}")
        fault, latency = self._fault(draw.random()), self._latency_of(draw.gauss(0.0, self._jitter))
        asked = dict(_MARK.findall(text))
        if "faults" in asked:
            fault = self._scripted(text, asked["faults"])
        elif asked.get("fault") in FAULTS:
            fault = asked["fault"]
        slow = _seconds(asked.get("latency"))
        return Fate(fault, latency if slow is None else slow, draw, asked.get("answer"), _seconds(asked.get("wait")))

    def _scripted(self, text: str, script: str) -> str | None:
        """The fault of this try of `text`; None for a try that is answered."""
        steps = [step for step in map(str.strip, script.split(",")) if step in FAULTS or step == NO_FAULT]
        tries, self._tries[text] = self._tries[text], self._tries[text] + 1
        step = steps[tries] if tries < len(steps) else NO_FAULT
        return None if step == NO_FAULT else step

    def _fault(self, drawn: float) -> str | None:
        for fault, share in self._shares.items():
            drawn -= share
            if drawn < 0:
                return fault
        return None

    def _latency_of(self, deviation: float) -> float:
        # exp(N(0, s)) has the mean exp(s * s / 2): divided by it, the mean is as asked for.
        return self.latency * exp(deviation - self._jitter**2 / 2)


def _seconds(text: str | None) -> float | None:
    """The seconds that a mark says, within an hour; None if there is no mark, or no number in it."""
    try:
        return None if text is None else max(0.0, min(float(text), 3600.0))
    except ValueError:
        return None
