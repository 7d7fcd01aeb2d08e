"""What goes wrong: which request gets which fault, how late, and what it looks like."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import exp

# An HTTP status as its number; `hang` never answers, `reset` closes the connection without an answer; the others answer
# with 200 and a body that is cut (`malformed`), has no choices (`empty`), no finish reason (`truncated`) or an error object
# (`error200`).
STATUSES = {
    "400": ("invalid_request_error", "invalid_request", "The request is not valid."),
    "401": ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    "403": ("permission_error", None, "You have no access to this model."),
    "404": ("invalid_request_error", "model_not_found", "The model does not exist."),
    "408": ("timeout", None, "The request took too long to arrive."),
    "409": ("conflict", None, "The request was in conflict with another."),
    "429": ("requests", "rate_limit_exceeded", "Rate limit reached (simulated). Please try again later."),
    "500": ("server_error", None, "The server had an error while processing your request."),
    "502": None,
    "503": ("server_error", None, "The engine is currently overloaded, please try again later."),
    "504": None,
    "529": ("overloaded_error", None, "Overloaded."),
    "insufficient_quota": ("insufficient_quota", "insufficient_quota", "You exceeded your current quota."),
}
JSON = {"Content-Type": "application/json"}
BODY_FAULTS = (
    "hang",
    "reset",
    "cut",
    "drip",
    "stall",
    "keepalive",
    "truncated",
    "error_event",
    "bad_chunk",
    "malformed",
    "empty",
    "error200",
    "bad_utf8",
    "html200",
)
FAULTS = (*STATUSES, *BODY_FAULTS)

_ASKED_FOR = re.compile(r"\[\[(fault|latency|answer):(.*?)\]\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Fate:
    """What will happen to one request: a fault or none, after how many seconds, and its own source of randomness."""

    fault: str | None
    latency: float
    draw: random.Random
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An answer that is an error."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Fates:
    """Decides, request by request in the order of their arrival; the same seed decides the same.

    A prompt may ask for its fate: `[[fault:500]]` always meets that fault, `[[latency:0.2]]` takes that many seconds,
    `[[answer:yes]]` is answered "yes".

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

    def next(self, text: str) -> Fate:
        """The fate of the next request, whose messages say `text`."""
        self._arrivals += 1
        draw = random.Random(f"{self._seed}/{self._arrivals}")
        fault, latency = self._fault(draw.random()), self._latency_of(draw.gauss(0.0, self._jitter))
        asked = dict(_ASKED_FOR.findall(text))
        if asked.get("fault") in FAULTS:
            fault = asked["fault"]
        if "latency" in asked:
            latency = _seconds(asked["latency"], latency)
        return Fate(fault, latency, draw, asked.get("answer"))

    def _fault(self, drawn: float) -> str | None:
        for fault, share in self._shares.items():
            drawn -= share
            if drawn < 0:
                return fault
        return None

    def _latency_of(self, deviation: float) -> float:
        # exp(N(0, s)) has the mean exp(s * s / 2): divided by it, the mean is as asked for.
        return self.latency * exp(deviation - self._jitter**2 / 2)


def error_answer(fault: str, draw: random.Random) -> ErrorAnswer:
    """How a provider says `fault`, one of `STATUSES`: OpenAI's JSON, or a proxy's page."""
    status = 429 if fault == "insufficient_quota" else int(fault)
    said = STATUSES[fault]
    if said is None:
        return nginx_page(status)
    kind, code, message = said
    headers = dict(JSON)
    if fault == "429" and draw.random() < 0.5:  # half of them say when, half leave it to the caller
        wait = 0.5 + draw.random()
        headers |= {"retry-after": f"{wait:.3f}", "retry-after-ms": str(round(wait * 1000))}
    return ErrorAnswer(status, headers, error_body(message, kind, code))


def nginx_page(status: int) -> ErrorAnswer:
    """What a proxy says in the provider's place: HTML, and nothing else."""
    page = f"<html><head><title>{status}</title></head><body><center>nginx</center></body></html>"
    return ErrorAnswer(status, {"Content-Type": "text/html"}, page.encode())


def error_body(message: str, kind: str, code: str | None) -> bytes:
    """OpenAI's error object."""
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


def _seconds(text: str, default: float) -> float:
    try:
        return max(0.0, min(float(text), 3600.0))
    except ValueError:
        return default
