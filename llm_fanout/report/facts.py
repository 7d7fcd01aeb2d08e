"""What there is to say about a run, done or to come, in words: the same for a terminal and for a notebook."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isnan
from typing import Any

from ..clock import in_words
from ..errors import Kind
from ..results import Metric, Report, Result, Via
from ..summary import Summary
from ..types import Estimate

TIMES: tuple[tuple[str, Metric], ...] = (
    ("latency", "latency"),
    ("queue time", "queue_time"),
    ("service time", "service_time"),
    ("first token", "ttft"),  # of answers that were streamed
    ("next token", "inter_token"),
)
MANY = 4  # who answered, named one by one
CARRIERS: Mapping[Via, str] = {"wire": "the wire", "sdk": "the SDK", "function": "a function"}
QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
BINDING = {
    "requests": "the requests a minute (rpm)",
    "tokens": "the tokens a minute (tpm)",
    "input": "the input tokens a minute (itpm)",
    "output": "the output tokens a minute (otpm)",
    "day": "the requests a day (rpd)",
    "concurrency": "a free slot (max_concurrency, and fewer after refusals)",
    "permits": "the rate (rate=)",
    "gate": "the provider, which asked for patience (429)",
    "outage": "the provider, which was down",
    "provider": "nothing but the answers themselves",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """A Report, or an Estimate, in words. `times` has a row per metric, `errors` one per kind with the first message."""

    headline: str
    lines: list[tuple[str, str]]
    times: list[tuple[str, list[str]]]
    errors: list[tuple[Kind, int, str]]


def facts_of(what: Report[object] | Summary | Estimate) -> Facts:
    """What there is to say about `what`; the times of a Summary alone are true to 1 %."""
    if isinstance(what, Estimate):
        return Facts(_forecast(what), list(_expected(what)), [], [])
    summary = what if isinstance(what, Summary) else what.summary
    report = what if isinstance(what, Report) else Report[object]((), summary)
    lines = [*_lines(summary), *_shared(report), *_answered_by(report), *_carried_by(report)]
    return Facts(_headline(summary), lines, list(_times(report)), list(_errors(summary, report)))


def printable(text: str) -> str:
    """`text` on one line and without anything that could drive a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def short(text: str, length: int) -> str:
    """`text` in at most `length` characters, printable, and with dots if it was cut."""
    text = printable(text[: length + 1])
    return text if len(text) <= length else f"{text[: length - 3]}..."


def calls(count: int) -> str:
    """How many calls, in words."""
    return "1 call" if count == 1 else f"{count:,} calls"


def _headline(summary: Summary) -> str:
    whole = summary.total in (None, summary.done)
    number = calls(summary.done) if whole else f"{summary.done:,} of {calls(summary.total or 0)}"
    outcome = f"{summary.succeeded:,} succeeded, {summary.failed - summary.not_done:,} failed"
    if summary.not_done:
        outcome += f", {summary.not_done:,} not done"
    end = "" if summary.stopped is None else f"; stopped: {printable(str(summary.stopped))}"
    return f"{number} in {in_words(summary.elapsed)}: {outcome}{end}"


def _forecast(estimate: Estimate) -> str:
    refused = f", {estimate.refused:,} of them refused" if estimate.refused else ""
    return f"{calls(estimate.calls)}{refused}: done in {in_words(estimate.earliest_finish)} at the earliest"


def _expected(estimate: Estimate) -> Iterator[tuple[str, str]]:
    yield "tokens", f"about {estimate.input_tokens:,} in, {estimate.output_tokens:,} out"
    if estimate.cost is None:
        yield "cost", "not known: there is no list price for these models; say Endpoint(price=)"
    else:
        likely, most = estimate.cost
        yield "cost", f"about ${likely:,.4f}, at most ${most:,.4f}"
    yield "waits for", BINDING.get(estimate.binding, estimate.binding)


def _lines(summary: Summary) -> Iterator[tuple[str, str]]:
    if summary.replayed:
        yield "replayed", f"{calls(summary.replayed)}, which an earlier run has answered"
    if summary.attempts:
        yield "attempts", f"{summary.attempts:,}"
    usage = summary.usage
    if usage.input_tokens or usage.output_tokens:
        cached = f" ({_cached(summary)})" if usage.cached_tokens else ""
        yield "tokens", f"{usage.input_tokens:,} in{cached}, {usage.output_tokens:,} out"
        yield "cost", _cost(summary)
    if summary.binding != "provider" or (summary.attempts and summary.elapsed):
        yield "waited for", BINDING.get(summary.binding, summary.binding)


def _cached(summary: Summary) -> str:
    """How much of the input came from a cache, and what that has saved."""
    cached, saved = summary.usage.cached_tokens, summary.saved
    return f"{cached:,} cached" + (f", which saved ${saved:,.4f}" if round(saved, 4) else "")


def _answered_by(report: Report[object]) -> Iterator[tuple[str, str]]:
    """Who answered how many calls, if that was not one alone."""
    answered = Counter((result.model, result.endpoint) for result in report.successes)
    if len(answered) < 2:
        return
    models = {model for model, _ in answered}
    named = [
        f"{model if len(models) == len(answered) else f'{model} at {endpoint}'} {count:,}"
        for (model, endpoint), count in answered.most_common(MANY)
    ]
    more = f", {len(answered) - MANY} more" if len(answered) > MANY else ""
    yield "answered by", printable(", ".join(named) + more)


def _shared(report: Report[object]) -> Iterator[tuple[str, str]]:
    """How many calls shared the answer of an identical one, if any."""
    if shared := sum(result.source == "shared" for result in report):
        yield "shared", f"{calls(shared)}, answered with an identical one"


def _carried_by(report: Report[object]) -> Iterator[tuple[str, str]]:
    """What carried the calls, if the SDK, which costs more than our wire, was among it."""
    carried = Counter(result.via for result in report if result.via)
    if "sdk" in carried:
        whole = len(carried) == 1
        yield "carried by", ", ".join(CARRIERS[via] + ("" if whole else f" {n:,}") for via, n in carried.most_common())


def _cost(summary: Summary) -> str:
    if summary.unpriced == sum(each.calls for each in summary.spending):
        return "not known: there is no list price for these models"
    unpriced = f"; that of {summary.unpriced:,} answers is not known" if summary.unpriced else ""
    return f"${summary.cost:,.4f}{unpriced}"


def _times(report: Report[object]) -> Iterator[tuple[str, list[str]]]:
    of: Any = report if len(report) else report.summary
    for name, metric in TIMES:
        if not isnan(of.quantile(0.5, metric)):
            yield name, [in_words(of.quantile(q, metric)) for _, q in QUANTILES]


def _errors(summary: Summary, report: Report[object]) -> Iterator[tuple[Kind, int, str]]:
    first: dict[Kind, Result[object]] = {}
    for result in report:
        if result.error is not None:
            first.setdefault(result.error.kind, result)
    for kind, count in summary.errors.items():
        example = first.get(kind)
        said = summary.examples.get(kind, "") if example is None else f"id {example.id}: {example.error}"
        yield kind, count, printable(said)
