"""What comes back: one `Result` per call, a `Report` per run, a `Summary` of the numbers."""

from __future__ import annotations

import json
import os
import re
import reprlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import ceil, floor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast, overload

from .errors import ERROR_OF_KIND, CallError, ConfigError, FanOutError, Kind, Stopped
from .hooks import hook

if TYPE_CHECKING:
    from .llm.prompt import Prompt

T_co = TypeVar("T_co", covariant=True)
Metric = Literal["latency", "queue_time", "service_time"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them; `cached_tokens` are part of the input, `reasoning_tokens` of the output."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool that the model asks for.

    Attributes:
        id: What the tool's result refers to.
        name: The tool's.
        arguments: What it is to be called with; empty if the model wrote no JSON object.
        raw: The arguments as the model wrote them.
    """

    id: str
    name: str
    arguments: Mapping[str, object]
    raw: str

    @classmethod
    def of(cls, id: str, name: str, raw: str) -> ToolCall:
        """The call with its arguments read from what the model wrote, whatever that is."""
        try:
            arguments = json.loads(raw)
        except (ValueError, RecursionError):
            arguments = None
        return cls(id, name, arguments if isinstance(arguments, dict) else {}, raw)


NO_USAGE = Usage()
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100  # characters
NO_PROMPT = cast("Prompt", None)  # of a result that was read back from a row


def cost_of(model: str, usage: Usage, request_size: int | None = None) -> float | None:
    """USD that `usage` costs on `model`; None if the price is not known, never 0 for that.

    Args:
        model: Provider and model, "openai/gpt-5-mini".
        usage: Tokens of one call, or of many of about the same size.
        request_size: Input tokens of one call: some models cost more above a threshold. By default those of `usage`.
    """
    rates = hook("rates")(model, usage.input_tokens if request_size is None else request_size)
    if rates is None:
        return None
    fresh = usage.input_tokens - usage.cached_tokens
    return float(fresh * rates[0] + usage.output_tokens * rates[1] + usage.cached_tokens * rates[2])


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Result(Generic[T_co]):
    """How one call ended: its answer, or why there is none.

    The reply is kept as the bytes that came; `text`, `finish_reason` and `response` are read from them when asked for.

    Attributes:
        index: Position in the input, from 0.
        id: The prompt's or task's own id; its index if it had none.
        prompt: What was asked (for an Executor: the item as handed in).
        tag: The prompt's tag, as handed in.
        error: Why the call failed; None if it did not.
        model: The model as asked for, with its provider; empty for an Executor.
        endpoint: The base URL that answered; empty for an Executor.
        attempts: How many times the call was tried.
        usage: Tokens of the answer, as reported.
        queue_time: Seconds from handed in to done that were not `service_time`: waiting and earlier attempts.
        service_time: Seconds of the last attempt: the one that succeeded, where one did.
        latency: Seconds from handed in to done.
    """

    index: int
    id: str | int
    prompt: Prompt = NO_PROMPT
    tag: object = None
    error: CallError | None = None
    model: str = ""
    endpoint: str = ""
    attempts: int = 0
    usage: Usage = NO_USAGE
    queue_time: float = 0.0
    service_time: float = 0.0
    latency: float = 0.0
    reply: bytes = b""
    returned: object = None

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None

    @property
    def value(self) -> T_co:
        """The answer. Raises the call's error if it failed; look at `ok` or `error` to avoid that."""
        if self.error is not None:
            raise self.error
        return cast("T_co", self.text if self.reply else self.returned)

    @property
    def text(self) -> str:
        """The answer as text; what had arrived before a failure; empty if there is no text."""
        if self.error is not None:
            return self.error.partial
        if self.reply:
            return cast("str", hook("decode")(self.reply).text)
        return self.returned if isinstance(self.returned, str) else ""

    @property
    def finish_reason(self) -> str | None:
        """Why the answer ended: "stop", or "length" if it was cut at its `max_tokens`."""
        return cast("str | None", hook("decode")(self.reply).finish_reason) if self.reply else None

    @property
    def response(self) -> object:
        """The reply as the SDK's own object (`openai.types.chat.ChatCompletion`), built anew at each access; or None."""
        return hook("decode")(self.reply).response() if self.reply else None

    @property
    def cost(self) -> float | None:
        """USD of the answer; None if the model's price is not known or there is no answer."""
        return cost_of(self.model, self.usage) if self.ok and self.model else None

    def __repr__(self) -> str:
        if self.error is not None:
            return f"<Result {self.id!r} failed, {self.error.kind}: {_SHORT.repr(self.error.message)}>"
        return f"<Result {self.id!r}: {_SHORT.repr(self.value)}>"

    def to_dict(self) -> dict[str, object]:
        """A row of plain values that `json.dumps` takes, ready for a file or a data frame.

        Keys, in order: id, index, ok, text, error (None, or kind, status, message, retry_after), model, attempts,
        usage, cost, latency, queue_time, service_time. An executor's result that is not text is under `value`.
        """
        row: dict[str, object] = {"id": self.id, "index": self.index, "ok": self.ok, "text": self.text}
        if self.returned is not None and not isinstance(self.returned, str):
            row["value"] = self.returned
        row |= {
            "error": None if self.error is None else self.error.to_dict(),
            "model": self.model,
            "attempts": self.attempts,
            "usage": asdict(self.usage),
            "cost": self.cost,
            "latency": round(self.latency, 6),
            "queue_time": round(self.queue_time, 6),
            "service_time": round(self.service_time, 6),
        }
        return row

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Result[Any]:
        """The result that `to_dict` wrote down; its prompt, tag and raw reply were not, and are not there."""
        try:
            failure = row["error"]
            return cls(
                index=row["index"],
                id=row["id"],
                error=None if failure is None else _error_of(failure, row["text"]),
                model=row["model"],
                attempts=row["attempts"],
                usage=Usage(**row["usage"]),
                queue_time=row["queue_time"],
                service_time=row["service_time"],
                latency=row["latency"],
                returned=row.get("value", row["text"]),
            )
        except (KeyError, TypeError) as exc:
            raise ConfigError(f"this row is not one that Result.to_dict wrote: {exc!r} in {str(row)[:200]}") from exc


def _error_of(failure: Mapping[str, Any], partial: str) -> CallError:
    kind: Kind = failure["kind"]
    status, retry_after = failure["status"], failure["retry_after"]
    return ERROR_OF_KIND[kind](failure["message"], kind=kind, status=status, retry_after=retry_after, partial=partial)


@dataclass(frozen=True, slots=True)
class Spending:
    """Tokens of the answers of one model, by the size of their requests, for prices may depend on it.

    Attributes:
        model: Provider and model.
        request_size: Input tokens of each of these calls, rounded down to thousands.
        calls: How many answers.
        usage: Their tokens together.
    """

    model: str
    request_size: int
    calls: int
    usage: Usage

    @property
    def cost(self) -> float | None:
        """USD; None if the price is not known."""
        return cost_of(self.model, self.usage, self.request_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The numbers of a run, live or final.

    Attributes:
        total: Calls in the run; None while the source has not said and has not ended.
        done: Calls that have ended, well or not: `succeeded + failed`.
        failed: Calls that have ended without an answer; `not_done` of them were ended by us.
        in_flight: Attempts under way.
        attempts: Tries so far, of all calls.
        spending: Tokens by model; what `usage`, `cost` and `unpriced` are read from.
        elapsed: Seconds since the run started, until it ended.
        eta: Seconds until the end at the pace of the last ten seconds or so; None if that cannot be told.
        binding: What the run waited for most: "requests", "tokens", "concurrency", "permits", "gate" (a refusal's
            told wait), "outage", or "provider" if no limit ever held it up.
        waits_for: What it stands still for just now: "paused", "outage" or "gate" (a refusal's told wait); else empty.
        errors: How many calls failed, by kind, most frequent first.
        stopped: Why the run ended early, if it did.
    """

    total: int | None = None
    done: int = 0
    succeeded: int = 0
    failed: int = 0
    in_flight: int = 0
    attempts: int = 0
    spending: Sequence[Spending] = ()
    elapsed: float = 0.0
    eta: float | None = None
    binding: str = "provider"
    waits_for: str = ""
    errors: Mapping[Kind, int] = field(default_factory=dict)
    stopped: Stopped | None = None

    @property
    def usage(self) -> Usage:
        """Tokens of all answers."""
        return sum((each.usage for each in self.spending), NO_USAGE)

    @property
    def cost(self) -> float:
        """USD of the answers whose price is known (prices are looked up when this is read)."""
        return sum(each.cost or 0.0 for each in self.spending)

    @property
    def unpriced(self) -> int:
        """Answers whose price is not known."""
        return sum(each.calls for each in self.spending if each.cost is None)

    @property
    def not_done(self) -> int:
        """Of the `failed`, those that were not, or not fully, attempted: cancelled, or out of time."""
        return sum(count for kind, count in self.errors.items() if ERROR_OF_KIND.get(kind) is Stopped)

    @property
    def failure_ratio(self) -> float:
        """Failed calls per call that has ended; 0 if none has."""
        return self.failed / self.done if self.done else 0.0

    def __str__(self) -> str:
        return cast("str", hook("text")(self))

    def _repr_html_(self) -> str:
        return cast("str", hook("html")(self))


class Report(Sequence[Result[T_co]], Generic[T_co]):
    """The results of a run in input order, one for each call, and their `summary`.

    Printing it gives counts, cost, percentiles, the binding limit, and the errors by kind.
    """

    __slots__ = ("_results", "summary")

    def __init__(self, results: Iterable[Result[T_co]], summary: Summary) -> None:
        self._results = tuple(results)
        self.summary = summary

    @property
    def values(self) -> list[T_co]:
        """Every answer, in input order; raises an ExceptionGroup of all errors if any call failed."""
        if errors := [result.error for result in self._results if result.error is not None]:
            raise ExceptionGroup(f"{len(errors)} of {len(self)} calls failed; .successes has the others", errors)
        return [result.value for result in self._results]

    @property
    def successes(self) -> list[Result[T_co]]:
        """Results with an answer, in input order."""
        return [result for result in self._results if result.ok]

    @property
    def failures(self) -> list[Result[T_co]]:
        """Results without an answer, in input order."""
        return [result for result in self._results if not result.ok]

    @overload
    def __getitem__(self, i: int) -> Result[T_co]: ...
    @overload
    def __getitem__(self, i: slice) -> list[Result[T_co]]: ...
    def __getitem__(self, i: int | slice) -> Result[T_co] | list[Result[T_co]]:
        return list(self._results[i]) if isinstance(i, slice) else self._results[i]

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[Result[T_co]]:
        return iter(self._results)

    def quantile(self, q: float, metric: Metric = "latency") -> float:
        """The `q`-quantile in seconds of a time of the calls that succeeded, linear between neighbours; nan if none did.

        Args:
            q: From 0 (the fastest) to 1 (the slowest); 0.5 is the median.
            metric: "latency", "queue_time" or "service_time".

        Raises:
            ConfigError: `q` or `metric` is none of these.
        """
        if not 0 <= q <= 1:
            raise ConfigError(f"a quantile lies between 0 and 1, got {q!r}; 0.99 is the 99th percentile")
        if metric not in ("latency", "queue_time", "service_time"):
            raise ConfigError(f"metric must be 'latency', 'queue_time' or 'service_time', got {metric!r}")
        times = sorted(getattr(result, metric) for result in self.successes)
        if not times:
            return float("nan")
        at = q * (len(times) - 1)
        low, high = times[floor(at)], times[ceil(at)]
        return float(low + (high - low) * (at - floor(at)))

    def to_dicts(self) -> list[dict[str, object]]:
        """One plain row per result, in input order (see `Result.to_dict`): what `pandas.DataFrame` takes."""
        return [result.to_dict() for result in self._results]

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write one JSON row per result, in input order; the file appears whole or not at all.

        Raises:
            FanOutError: A value cannot be written as JSON. OSError: the place cannot be written to.
        """
        write_rows(path, self.to_dicts())

    def __repr__(self) -> str:
        if self.summary.total in (None, self.summary.done):
            return f"<Report: {len(self.successes)} of {len(self)} calls succeeded>"
        return f"<Report: {self.summary.done:,} of {self.summary.total:,} calls done, {self.summary.succeeded:,} succeeded>"

    def __str__(self) -> str:
        return cast("str", hook("text")(self))

    def _repr_html_(self) -> str:
        return cast("str", hook("html")(self))


def write_rows(path: str | os.PathLike[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows as JSON lines to a new file (mode 0600) that then takes the place of `path`; a link is followed, and what
    is no file (a pipe, a device) is written to as it is.
    """
    place = Path(path)
    if is_stream(place):
        with place.open("w", encoding="utf-8") as stream:
            stream.writelines(map(json_line, rows))
        return
    place = place.resolve()
    number, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    try:
        with open(number, "w", encoding="utf-8") as file:
            file.writelines(map(json_line, rows))
        os.replace(name, place)
    except BaseException:
        os.unlink(name)
        raise


def is_stream(place: Path) -> bool:
    """Whether `place` is there and neither a file nor a folder, but a pipe or a device."""
    return place.exists() and not place.is_file() and not place.is_dir()


# What JSON may hold as it is and a file of lines should not: DEL and C1 drive terminals, NEL, LS and PS end lines for
# many readers, and half of a surrogate pair (models cut emoji in two) has no UTF-8.
_TO_ESCAPE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def json_line(row: Mapping[str, object]) -> str:
    """A row as one line of JSON, its line break included; letters of all languages are written as they are."""
    try:
        line = json.dumps(row, ensure_ascii=False, allow_nan=False)
        return _TO_ESCAPE.sub(lambda found: f"\\u{ord(found[0]):04x}", line) + "\n"
    except (TypeError, ValueError) as exc:
        raise FanOutError(f"result {row.get('id')!r} cannot be written as JSON: {exc}; write values that JSON has") from exc
