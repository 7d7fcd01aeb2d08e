"""What the server saw: the witness against which a client is judged."""

from __future__ import annotations

from collections import Counter, deque
from hashlib import sha256
from typing import Any

from .asked import Kind

LONGEST_SERIES = 3_600  # seconds that are told apart; of more, the oldest are forgotten
NEWEST_TEXTS = 1_000  # texts whose arrivals are kept
LATEST_ARRIVALS = 100  # of each of them
ARRIVALS, ANSWERS, REFUSALS, FAULTS, TOKENS = range(5)  # the columns of a second


class Stats:
    """Counts what passes. Every figure is of the server's own seeing, and none is the client's word.

    Args:
        begun: Monotonic seconds at which the server started.
    """

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self.in_flight = 0
        self._counts: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._paths: Counter[str] = Counter()
        self._answers: Counter[str] = Counter()
        self._arrivals: dict[str, deque[float]] = {}
        self._second = _Sliding(1.0)
        self._minute = _Sliding(60.0)
        self._tokens = _Sliding(60.0)
        self._peak_in_flight = 0
        self._instants: dict[str, float | None] = dict.fromkeys(("first_arrival", "last_arrival", "last_answer"))
        self._outages: list[dict[str, Any]] = []
        self._series: dict[int, list[int]] = {}

    def arrived(self, now: float, path: str, retry_count: str | None) -> None:
        """A request for `path` has come; `retry_count` is what its `x-stainless-retry-count` says."""
        self._counts["requests"] += 1
        self._paths[path] += 1
        if retry_count not in (None, "0"):
            self._counts["retried_below"] += 1
        self.in_flight += 1
        self._peak_in_flight = max(self._peak_in_flight, self.in_flight)
        self._second.add(now, 1)
        self._minute.add(now, 1)
        self._at(now)[ARRIVALS] += 1
        since = now - self.begun
        if self._instants["first_arrival"] is None:
            self._instants["first_arrival"] = since
        self._instants["last_arrival"] = since
        self._after_outage("first_arrival_after", now)

    def read(self, text: str, arrived: float, *, streams: bool) -> None:
        """A request that came at the instant `arrived` says `text`, and may want its answer as a stream."""
        self._counts["streams"] += streams
        key = key_of(text)
        instants = self._arrivals.get(key)
        if instants is None:
            instants = self._arrivals[key] = deque(maxlen=LATEST_ARRIVALS)
            if len(self._arrivals) > NEWEST_TEXTS:
                del self._arrivals[next(iter(self._arrivals))]
        instants.append(arrived - self.begun)

    def left(self) -> None:
        """A request is over, however."""
        self.in_flight -= 1

    def admitted(self, tokens: float, now: float) -> None:
        """The quota let a request pass, and charged it that many tokens."""
        self._counts["admitted"] += 1
        self._counts["tokens_charged"] += round(tokens)
        self._tokens.add(now, round(tokens))
        self._at(now)[TOKENS] += round(tokens)

    def refused(self, reason: str, now: float) -> None:
        """A quota refused a request: see `Refusal.reason`."""
        self._refused[reason] += 1
        self._at(now)[REFUSALS] += 1

    def gone(self) -> None:
        """A client hung up before its answer."""
        self._counts["disconnected"] += 1

    def cut(self) -> None:
        """An outage cut a request off."""
        self._counts["cut_off"] += 1

    def met(self, fault: str, now: float) -> None:
        """A request met `fault`."""
        self._faults[fault] += 1
        self._at(now)[FAULTS] += 1

    def answered(self, text: str, tokens: int, now: float, kind: Kind = "text") -> None:
        """A complete answer, of `tokens` with its prompt, was given to a request that says `text`; see `Form.kind`."""
        self._counts["answered"] += 1
        self._counts["tokens_answered"] += tokens
        self._counts[f"answers/{kind}"] += 1
        self._answers[key_of(text)] += 1
        self._at(now)[ANSWERS] += 1
        self._instants["last_answer"] = now - self.begun
        self._after_outage("first_answer_after", now)

    def failed(self, kind: str, now: float) -> None:
        """An outage has begun."""
        begin = {"kind": kind, "begin": now - self.begun, "end": None}
        self._outages.append({**begin, "first_arrival_after": None, "first_answer_after": None})

    def recovered(self, now: float) -> None:
        """The outage is over."""
        self._outages[-1]["end"] = now - self.begun

    def snapshot(self) -> dict[str, Any]:
        """All figures. Instants are seconds since the server started.

        Keys:
            requests, admitted (let pass by the quota), answered (complete 200s), disconnected (the client hung up),
            cut_off (by an outage), retried_below (some layer under the client had sent it before)
            refused: 429 of a quota, all together; refused_by: the same by reason: requests, requests_day, tokens,
                input_tokens, output_tokens, in_flight, too_large
            faults: by name; never a quota's refusal. Injected ones, requests that were wrong (400, 401), and "outage" for
                those answered 503 in an outage
            tokens_charged (up front), tokens_answered (prompt and answer of complete answers)
            in_flight, peak_in_flight: requests that have arrived and are not over, refused ones included
            peak_second, peak_minute: most requests in any 1 s and 60 s; peak_minute_tokens: most tokens charged in any 60 s
            first_arrival, last_arrival, last_answer: instants; None if there was none
            outages: kind, begin, end, first_arrival_after, first_answer_after: instants; None if not yet
            answered_twice: texts that got more than one complete answer
            arrivals: by `key_of` a text (all its messages, by lines) the instants at which it came, the latest 100 of each
                of the 1,000 newest texts; requests that were not read (401, in an outage, too many at once) are not there
            series: [second, arrivals, answers, refusals, faults, tokens charged] of each second in which something
                happened, of the latest hour of them
        """
        counted = ("requests", "admitted", "answered", "disconnected", "cut_off", "retried_below", "streams")
        return {
            **{name: self._counts[name] for name in (*counted, "tokens_charged", "tokens_answered")},
            "by_path": dict(self._paths),
            "tool_answers": self._counts["answers/tool"],
            "schema_answers": self._counts["answers/schema"],
            "refused": self._refused.total(),
            "refused_by": dict(self._refused),
            "faults": dict(self._faults),
            "in_flight": self.in_flight,
            "peak_in_flight": self._peak_in_flight,
            "peak_second": self._second.peak,
            "peak_minute": self._minute.peak,
            "peak_minute_tokens": self._tokens.peak,
            **self._instants,
            "outages": [dict(outage) for outage in self._outages],
            "answered_twice": sum(count > 1 for count in self._answers.values()),
            "series": [[second, *row] for second, row in self._series.items()],
            "arrivals": {key: list(instants) for key, instants in self._arrivals.items()},
        }

    def _at(self, now: float) -> list[int]:
        """The row of this second."""
        second = int(now - self.begun)
        row = self._series.get(second)
        if row is None:
            row = self._series[second] = [0] * 5
            if len(self._series) > LONGEST_SERIES:
                del self._series[next(iter(self._series))]
        return row

    def _after_outage(self, what: str, now: float) -> None:
        if self._outages and self._outages[-1]["end"] is not None and self._outages[-1][what] is None:
            self._outages[-1][what] = now - self.begun


def key_of(text: str) -> str:
    """A short name for a text: the beginning of its SHA-256, in hexadecimal digits."""
    return sha256(text.encode(errors="replace")).hexdigest()[:16]


class _Sliding:
    """The most that came in any `seconds`."""

    __slots__ = ("_came", "_seconds", "_sum", "peak")

    def __init__(self, seconds: float) -> None:
        self.peak = 0
        self._seconds = seconds
        self._came: deque[tuple[float, int]] = deque()
        self._sum = 0

    def add(self, now: float, amount: int) -> None:
        """`amount` came."""
        self._came.append((now, amount))
        self._sum += amount
        while self._came[0][0] <= now - self._seconds:
            self._sum -= self._came.popleft()[1]
        self.peak = max(self.peak, self._sum)
