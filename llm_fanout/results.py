"""What comes back: one `Result` per call, and a `Report` per run."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import ceil, floor
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast, get_args, overload

from msgspec.structs import asdict

from .errors import ERROR_OF_KIND, CallError, ConfigError, Kind
from .hooks import hook
from .rowfiles.rowfile import RowFile
from .spending import NO_USAGE, Spending, Usage
from .summary import Summary

if TYPE_CHECKING:
    from .llm.prompt import Prompt
    from .providers.reply import Reply

T_co = TypeVar("T_co", covariant=True)
Metric = Literal["latency", "queue_time", "service_time", "ttft", "inter_token"]
Via = Literal["wire", "sdk", "function", ""]
Origin = Literal["provider", "journal", "shared", "none"]


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


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100  # characters
NO_PROMPT = cast("Prompt", None)  # of a result that was read back from a row


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
        via: What carried the last attempt: "wire" (ours), "sdk" (of a ready client), "function"; empty if there was none.
        source: Where it comes from: "provider"; "journal", an earlier run; "shared", an identical call that was in flight;
            "none" if nobody was asked.
        attempts: How many times the call was tried.
        spending: Tokens of every attempt that reported some, failed ones included; what `usage` and `cost` are read from.
        queue_time: Seconds from handed in to done that were not `service_time`: waiting and earlier attempts.
        service_time: Seconds of the last attempt: the one that succeeded, where one did.
        latency: Seconds from handed in to done.
        ttft: Of a streamed answer, the seconds from the start of its attempt to the first piece of text; else None.
        inter_token: Of a streamed answer, the seconds between one piece of text and the next, in order.
    """

    index: int
    id: str | int
    prompt: Prompt = NO_PROMPT
    tag: object = None
    error: CallError | None = None
    model: str = ""
    endpoint: str = ""
    via: Via = ""
    source: Origin = "provider"
    attempts: int = 0
    spending: Sequence[Spending] = ()
    queue_time: float = 0.0
    service_time: float = 0.0
    latency: float = 0.0
    ttft: float | None = None
    inter_token: Sequence[float] = ()
    reply: bytes | Reply = b""
    api: str = ""  # how the reply is to be read
    frame: object = None  # what tells the call from others, besides its prompt: see `llm_fanout.llm.digest`
    returned: object = None

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None

    @property
    def value(self) -> T_co:
        """The answer. Raises the call's error if it failed; look at `ok` or `error` to avoid that."""
        if self.error is not None:
            raise self.error.with_traceback(None)  # or each access would lengthen it
        if self.returned is not None or not self.reply:
            return cast("T_co", self.returned)
        read = self._read()
        return cast("T_co", read.text if read.vector is None else read.vector)

    @property
    def text(self) -> str:
        """The answer as text; what had arrived before a failure; empty if there is no text."""
        if self.error is not None:
            return self.error.partial
        if self.reply:
            return self._read().text
        return self.returned if isinstance(self.returned, str) else ""

    @property
    def finish_reason(self) -> str | None:
        """Why the answer ended: "stop", "tool_calls", or "length" if it was cut at its `max_tokens`."""
        return self._read().finish_reason if self.reply else None

    @property
    def tool_calls(self) -> Sequence[ToolCall]:
        """The tools that the answer calls, in order."""
        return self._read().tool_calls if self.reply else ()

    @property
    def response(self) -> object:
        """The reply as the SDK's own object (`openai.types.chat.ChatCompletion`, `openai.types.responses.Response`,
        `anthropic.types.Message`), built anew at each access; None if there is none. A streamed answer was put together."""
        return hook("response")(self.reply, self.api) if self.reply and isinstance(self.reply, bytes) else None

    @property
    def usage(self) -> Usage:
        """Tokens of all attempts, as far as they were reported."""
        return sum((each.usage for each in self.spending), NO_USAGE)

    @property
    def cost(self) -> float | None:
        """USD of all attempts that were answered; None if that of one is not known, or none was."""
        costs = [each.cost for each in self.spending]
        return None if not costs or None in costs else sum(cost for cost in costs if cost is not None)

    def _read(self) -> Reply:
        return hook("decode")(self.reply, self.api) if isinstance(self.reply, bytes) else self.reply

    def __repr__(self) -> str:
        if self.error is not None:
            return f"<Result {self.id!r} failed, {self.error.kind}: {_SHORT.repr(self.error.message)}>"
        return f"<Result {self.id!r}: {_SHORT.repr(self.value)}>"

    def to_dict(self) -> dict[str, object]:
        """A row of plain values that `json.dumps` takes, ready for a file or a data frame.

        Keys, in order: id, index, ok, the fields of a structured answer (one that has the name of another key here is under
        `value.` and its name), text, error (None, or kind, status, message, retry_after), model, source, attempts, usage,
        cost, latency, queue_time, service_time, and where there are some ttft, finish_reason, tool_calls. A vector, and an
        executor's result that is not text, are under `value`.
        """
        read = self._read() if self.reply else None
        text = read.text if read is not None and self.error is None else self.text
        row: dict[str, object] = {"text": text}
        row |= {
            "error": None if self.error is None else self.error.to_dict(),
            "model": self.model,
            "source": self.source,
            "attempts": self.attempts,
            "usage": asdict(self.usage),
            "cost": self.cost,
            "latency": round(self.latency, 6),
            "queue_time": round(self.queue_time, 6),
            "service_time": round(self.service_time, 6),
        }
        if self.ttft is not None:
            row["ttft"] = round(self.ttft, 6)
        if read is not None and read.finish_reason is not None:
            row["finish_reason"] = read.finish_reason
        if read is not None and read.tool_calls:
            row["tool_calls"] = [{"id": call.id, "name": call.name, "arguments": call.raw} for call in read.tool_calls]
        value = self.returned if read is None or read.vector is None else read.vector
        first = {"id": self.id, "index": self.index, "ok": self.ok}
        return {**first, **_fields(value if self.ok else None, {*first, *row, *_SOMETIMES}), **row}

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
                source=row["source"],
                attempts=row["attempts"],
                spending=_spending_of(row["model"], Usage(**row["usage"])),
                queue_time=row["queue_time"],
                service_time=row["service_time"],
                latency=row["latency"],
                returned=row.get("value", row["text"]),
            )
        except (KeyError, TypeError) as exc:
            raise ConfigError(f"this row is not one that Result.to_dict wrote: {exc!r} in {str(row)[:200]}") from exc


_SOMETIMES = ("value", "ttft", "finish_reason", "tool_calls")  # keys that not every row has


def _fields(value: object, taken: Collection[str]) -> dict[str, object]:
    """What a value adds to a row, where it is more than text."""
    if value is None or isinstance(value, str):
        return {}
    dump = getattr(value, "model_dump_json", None)
    if dump is None:
        return {"value": value}
    fields: dict[str, object] = json.loads(dump())  # as JSON, which has no NaN
    return {f"value.{name}" if name in taken else name: each for name, each in fields.items()}


def _spending_of(model: str, usage: Usage) -> Sequence[Spending]:
    return () if usage == NO_USAGE else [Spending.of(model, usage)]


def _error_of(failure: Mapping[str, Any], partial: str) -> CallError:
    kind: Kind = failure["kind"]
    status, retry_after = failure["status"], failure["retry_after"]
    return ERROR_OF_KIND[kind](failure["message"], kind=kind, status=status, retry_after=retry_after, partial=partial)


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
            metric: "latency", "queue_time" or "service_time"; of answers that were streamed "ttft" (time to first token) or
                "inter_token" (each piece of text after the one before it).

        Raises:
            ConfigError: `q` or `metric` is none of these.
        """
        if not 0 <= q <= 1:
            raise ConfigError(f"a quantile lies between 0 and 1, got {q!r}; 0.99 is the 99th percentile")
        if metric not in get_args(Metric):
            raise ConfigError(f"metric must be one of {', '.join(map(repr, get_args(Metric)))}, got {metric!r}")
        times = sorted(chain.from_iterable(_times(result, metric) for result in self.successes))
        if not times:
            return float("nan")
        at = q * (len(times) - 1)
        low, high = times[floor(at)], times[ceil(at)]
        return float(low + (high - low) * (at - floor(at)))

    def to_dicts(self) -> list[dict[str, object]]:
        """One plain row per result, in input order (see `Result.to_dict`): what `pandas.DataFrame` takes."""
        return [result.to_dict() for result in self._results]

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write one row per result, in input order; the file (mode 0600) appears whole or not at all.

        Args:
            path: Where; the end of its name says of what kind it is to be, as for `Run.sink`.

        Raises:
            ConfigError: The place cannot be written to, or its name does not say of what kind the file is to be.
            FanOutError: A value cannot be written as JSON. OSError: The disk is full.
        """
        with RowFile(path) as rows:
            rows.write(enumerate(self._results))
            rows.put_in_place()

    def __repr__(self) -> str:
        if self.summary.total in (None, self.summary.done):
            return f"<Report: {len(self.successes)} of {len(self)} calls succeeded>"
        return f"<Report: {self.summary.done:,} of {self.summary.total:,} calls done, {self.summary.succeeded:,} succeeded>"

    def __str__(self) -> str:
        return cast("str", hook("text")(self))

    def _repr_html_(self) -> str:
        return cast("str", hook("html")(self))


def _times(result: Result[Any], metric: Metric) -> Iterable[float]:
    if metric == "inter_token":
        return result.inter_token
    seconds: float | None = getattr(result, metric)
    return () if seconds is None else (seconds,)
