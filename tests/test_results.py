"""Results, reports and summaries."""

from __future__ import annotations

import json
import math
import os
import statistics
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout import BadReply, ConfigError, FanOutError, Report, Result, Summary, Unavailable, Usage
from llm_fanout.errors import ERROR_OF_KIND, Kind
from llm_fanout.results import ToolCall
from llm_fanout.rowfiles.lines import json_line
from llm_fanout.spending import Spending

REPLY = json.dumps(
    {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "forty-two"}}],
    }
).encode()
TIMES = st.floats(0, 1e6).map(lambda seconds: round(seconds, 6))
TOKENS = st.integers(0, 10**9)


def failed(index: int = 0, kind: Kind = "timeout", partial: str = "") -> Result[Any]:
    return Result(index=index, id=index, error=ERROR_OF_KIND[kind]("no answer", kind=kind, partial=partial))


def done(index: int, latency: float = 1.0, value: object = "yes") -> Result[Any]:
    return Result(index=index, id=index, latency=latency, returned=value)


def report(*results: Result[Any]) -> Report[Any]:
    return Report(results, Summary(done=len(results)))


def test_a_value_is_read_from_the_reply() -> None:
    """The bytes are kept, and text, reason and SDK object are read from them."""
    result: Result[str] = Result(index=0, id="q", reply=REPLY, api="chat")

    assert (result.ok, result.value, result.text, result.finish_reason) == (True, "forty-two", "forty-two", "stop")
    assert result.response.choices[0].message.content == "forty-two"  # type: ignore[attr-defined]  # a ChatCompletion
    assert result.response is not result.response


def test_a_result_shows_its_answer() -> None:
    """What a console or a cell shows of one result: its id, and the answer or why there is none, not all its numbers."""
    assert repr(Result(index=0, id="q", reply=REPLY, api="chat")) == "<Result 'q': 'forty-two'>"
    assert repr(Result(index=3, id=3, returned=[1, 2])) == "<Result 3: [1, 2]>"
    assert repr(failed(3)) == "<Result 3 failed, timeout: 'no answer'>"
    assert len(repr(done(3, value="long " * 1_000))) < 200


def test_a_failure_raises_from_value_only() -> None:
    """`ok`, `error` and `text` can be looked at; `value` raises; what had arrived is the text."""
    result = failed(partial="half")

    assert (result.ok, result.text, result.finish_reason, result.response, result.cost) == (False, "half", None, None, None)
    with pytest.raises(Unavailable, match="no answer"):
        _ = result.value


def test_what_an_executor_returned_is_the_value() -> None:
    """Any object; it is text only if it is a str."""
    assert done(0, value=[1, 2]).value == [1, 2]
    assert done(0, value=[1, 2]).text == ""
    assert done(0, value="text").text == "text"


def test_a_cost_needs_a_known_price() -> None:
    """USD by list price, cached input cheaper; an unknown model costs None, never 0."""
    usage = Usage(1_000_000, 1_000_000)
    cached = Usage(1_000_000, 1_000_000, cached_tokens=1_000_000)

    known = Result[str](index=0, id=0, spending=[Spending.of("openai/gpt-4o-mini", usage)]).cost
    cheaper = Result[str](index=0, id=0, spending=[Spending.of("openai/gpt-4o-mini", cached)]).cost
    unknown = Result[str](index=0, id=0, spending=[Spending.of("openai/nobody-knows-it", usage)]).cost
    simulated = Result[str](index=0, id=0, spending=[Spending.of("sim/x", usage)]).cost

    assert known == pytest.approx(0.75)
    assert cheaper is not None
    assert cheaper < 0.75
    assert unknown is None
    assert simulated is None


@given(
    error=st.one_of(
        st.none(),
        st.builds(
            lambda kind, status, after, partial: ERROR_OF_KIND[kind](
                "why", kind=kind, status=status, retry_after=after, partial=partial
            ),
            st.sampled_from(get_args(Kind)),
            st.one_of(st.none(), st.integers(100, 599)),
            st.one_of(st.none(), TIMES),
            st.text(),
        ),
    ),
    id=st.one_of(st.text(), st.integers()),
    usage=st.builds(Usage, TOKENS, TOKENS, TOKENS, TOKENS),
    times=st.tuples(TIMES, TIMES, TIMES),
    value=st.one_of(st.text(), st.lists(st.integers(), min_size=1), st.dictionaries(st.text(), st.booleans(), min_size=1)),
)
def test_rows_survive_json(error: Any, id: Any, usage: Usage, times: tuple[float, float, float], value: Any) -> None:
    """What `to_dict` writes, JSON carries and `from_dict` reads is the same result, row for row."""
    latency, queue_time, service_time = times
    result = Result[Any](
        index=3, id=id, error=error, model="sim/x", attempts=2,
        spending=[Spending.of("sim/x", usage)] if usage != Usage() else [], returned=None if error else value,
        latency=latency, queue_time=queue_time, service_time=service_time,
    )  # fmt: skip

    again = Result.from_dict(json.loads(json.dumps(result.to_dict())))

    assert again.to_dict() == result.to_dict()
    assert again.ok or type(again.error) is type(error)
    assert not again.ok or again.value == value


@pytest.mark.parametrize("row", [{}, {"id": 1}, {"error": None, "index": 0, "id": 0}])
def test_what_is_no_row_is_refused(row: dict[str, Any]) -> None:
    """A row that `to_dict` did not write says so."""
    with pytest.raises(ConfigError, match="to_dict"):
        Result.from_dict(row)


def test_a_report_is_a_sequence() -> None:
    """Length, index, slice and iteration, in input order."""
    results = [done(0), failed(1), done(2)]
    whole = report(*results)

    assert len(whole) == 3
    assert whole[1] is results[1]
    assert whole[-2:] == results[1:]
    assert list(whole) == results
    assert whole.successes == [results[0], results[2]]
    assert whole.failures == [results[1]]
    assert repr(whole) == "<Report: 2 of 3 calls succeeded>"


def test_values_are_all_or_an_exception_group() -> None:
    """Every value in order; with failures, all their errors in one group."""
    with pytest.raises(ExceptionGroup, match="2 of 3 calls failed") as caught:
        _ = report(done(0), failed(1), failed(2, "empty")).values

    assert [type(error) for error in caught.value.exceptions] == [Unavailable, BadReply]
    assert report(done(0), done(1, value="b")).values == ["yes", "b"]


@given(st.lists(st.floats(0, 1e6), min_size=2))
def test_quantiles_are_those_of_the_standard_library(latencies: list[float]) -> None:
    """Linear between neighbours, the fastest at 0 and the slowest at 1; failures do not count."""
    whole = report(*(done(index, latency) for index, latency in enumerate(latencies)), failed(99))

    assert whole.quantile(0) == min(latencies)
    assert whole.quantile(1) == max(latencies)
    assert whole.quantile(0.5) == pytest.approx(statistics.median(latencies))
    quarters = statistics.quantiles(latencies, n=4, method="inclusive")
    assert [whole.quantile(q) for q in (0.25, 0.5, 0.75)] == pytest.approx(quarters, abs=1e-6)


def test_quantiles_of_nothing_and_nonsense() -> None:
    """Without a success there is none; a share or a name that cannot be is refused."""
    assert math.isnan(report(failed()).quantile(0.5))
    with pytest.raises(ConfigError, match="between 0 and 1"):
        report(done(0)).quantile(99)
    with pytest.raises(ConfigError, match="metric"):
        report(done(0)).quantile(0.5, "speed")  # type: ignore[arg-type]  # the mistake under test


def test_writing_replaces_the_file_whole(tmp_path: Path) -> None:
    """The rows are there in order, readable by the owner only, and nothing else is left in the folder."""
    path = tmp_path / "out.jsonl"
    path.write_text("old")

    report(done(0), failed(1)).write(path)

    assert [json.loads(line)["ok"] for line in path.read_text().splitlines()] == [True, False]
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("value", [object(), float("nan")])
def test_what_json_does_not_have_leaves_the_old_file(tmp_path: Path, value: object) -> None:
    """A value that cannot be written is named, and the file that was there stays."""
    path = tmp_path / "out.jsonl"
    path.write_text("old")

    with pytest.raises(FanOutError, match="result 'r' cannot be written"):
        report(Result(index=0, id="r", returned=value)).write(path)

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_or_device_is_written_to(tmp_path: Path) -> None:
    """What is no file is not replaced by one: /dev/null stays what it is."""
    path = tmp_path / "pipe"
    os.mkfifo(path)

    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(path.read_text)
        report(done(0), done(1)).write(path)
        lines = read.result().splitlines()

    assert len(lines) == 2
    assert path.is_fifo()


def test_a_link_is_followed(tmp_path: Path) -> None:
    """The file that a link names is replaced, and the link stays."""
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "out.jsonl"
    path.symlink_to(tmp_path / "elsewhere" / "rows.jsonl")

    report(done(0)).write(path)

    assert path.is_symlink()
    assert len((tmp_path / "elsewhere" / "rows.jsonl").read_text().splitlines()) == 1


def test_a_folder_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    """A place that cannot be written to raises, and no half file stays beside it."""
    (tmp_path / "folder").mkdir()

    with pytest.raises(ConfigError, match="folder"):
        report(done(0)).write(tmp_path / "folder")

    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


@pytest.mark.parametrize("text", ["cut in half: \ud83d", "\x9b31m", "\x7f", "one\u2028line", "one\x85line"])
def test_any_text_is_one_line_that_reads_back(tmp_path: Path, text: str) -> None:
    """Half of a surrogate pair does not lose the rows; nothing ends a line early, or drives a terminal that shows it."""
    path = tmp_path / "out.jsonl"

    report(done(0, value=text)).write(path)
    [line] = path.read_text(encoding="utf-8").splitlines()

    assert json.loads(line)["text"] == text
    assert line.isprintable()


def test_letters_of_all_languages_are_written_as_they_are() -> None:
    """A row can be read by people."""
    assert "Grüße 日本 👋" in json_line({"text": "Grüße 日本 👋"})


def test_a_summary_adds_up() -> None:
    """Usage, cost and what has no price come from the spending by model."""
    summary = Summary(
        done=4,
        failed=1,
        spending=[
            Spending("openai/gpt-4o-mini", 0, 2, Usage(1_000, 1_000)),
            Spending("sim/x", 0, 3, Usage(10, 10, 5, 1)),
        ],
    )

    assert summary.usage == Usage(1_010, 1_010, 5, 1)
    assert summary.cost == pytest.approx(0.00075)
    assert summary.unpriced == 3
    assert summary.failure_ratio == 0.25
    assert Summary().failure_ratio == 0.0


def test_a_summary_can_be_read_whatever_the_kinds() -> None:
    """A kind that is not known, of an older or newer version say, counts as a failure and breaks nothing."""
    summary = Summary(total=3, done=3, failed=3, errors={"quota": 2, "cancelled": 1})  # type: ignore[dict-item]  # so it is

    assert summary.not_done == 1
    assert "quota" in str(summary)


@pytest.mark.parametrize(
    ("raw", "arguments"),
    [
        ('{"city": "Rome"}', {"city": "Rome"}),
        ('{"city": ', {}),
        ('["Rome"]', {}),
        ("ls -l", {}),
        ("", {}),
        ("[" * 100_000, {}),
    ],
)
def test_the_arguments_of_a_tool_call(raw: str, arguments: dict[str, str]) -> None:
    """They are read where the model wrote an object, and kept as written whatever it wrote."""
    call = ToolCall.of("call_1", "weather", raw)

    assert (call.id, call.name, call.arguments, call.raw) == ("call_1", "weather", arguments, raw)


def test_asking_for_a_value_again_does_not_lengthen_the_traceback() -> None:
    """An error is shared by whoever looks at it: each sees where he asked, and nothing is kept alive."""
    result = failed()

    for _ in range(50):
        with pytest.raises(Unavailable):
            _ = result.value
    error: Any = result.error

    assert len(traceback.extract_tb(error.__traceback__)) <= 3


def test_a_row_says_how_an_answer_came() -> None:
    """The time to its first piece, why it ended, and the tools that it calls, where there are such."""
    function = {"name": "add", "arguments": '{"a": 1}'}
    message = {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": function}]}
    raw = json.dumps({"choices": [{"index": 0, "finish_reason": "tool_calls", "message": message}]}).encode()
    result: Result[str] = Result(index=0, id="q", reply=raw, api="chat", ttft=0.25)

    row = result.to_dict()

    assert (row["ttft"], row["finish_reason"]) == (0.25, "tool_calls")
    assert row["tool_calls"] == [{"id": "call_1", "name": "add", "arguments": '{"a": 1}'}]
    assert result.tool_calls[0].arguments == {"a": 1}
