"""Rows as columns."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict

from llm_fanout import Result, Unavailable
from llm_fanout.rowfiles.columns import cells, columns_of
from llm_fanout.spending import Spending, Usage


class Topic(StrEnum):
    sport = "sport"
    other = "other"


class Part(BaseModel):
    name: str


class Label(BaseModel):
    topic: Topic
    kind: Literal["a", "b"]
    score: float
    count: int | None
    sure: bool
    parts: list[Part]
    first: Part
    either: int | str
    text: str
    value: int
    ttft: float


LABEL = Label(
    topic=Topic.sport,
    kind="a",
    score=1,
    count=None,
    sure=True,
    parts=[Part(name="x")],
    first=Part(name="y"),
    either="z",
    text="mine",
    value=3,
    ttft=2.5,
)


def cells_of(result: Result[Any], example: Result[Any]) -> dict[str, object]:
    """What a result has in the columns of a file whose first answer was `example`."""
    columns = columns_of(example.returned, example.to_dict())
    return dict(zip(columns, cells(json.loads(json.dumps(result.to_dict())), columns), strict=True))


def test_fields_of_an_answer_have_columns_of_their_types() -> None:
    """Each field has a column of the sort that its model says, even if the first answer has nothing there; what is neither
    text nor a number is JSON; a field that is called like another key is under `value.` and its name."""
    result = Result(index=0, id="q", returned=LABEL)
    columns = columns_of(LABEL, result.to_dict())

    assert {name: columns[name] for name in list(columns)[3:14]} == {
        "topic": "text",
        "kind": "text",
        "score": "real",
        "count": "whole",
        "sure": "flag",
        "parts": "json",
        "first": "json",
        "either": "json",
        "value.text": "text",
        "value.value": "whole",
        "value.ttft": "real",
    }
    assert [*columns][:3] == ["id", "index", "ok"]
    assert [*columns][14:16] == ["value", "text"]


def test_cells_hold_what_the_row_says() -> None:
    """A nested value is in its parts; what there is none of is None; whole numbers are real where the column is."""
    result = Result(index=7, id=7, returned=LABEL, spending=[Spending("m", 0, 1, Usage(3, 4))], attempts=2)

    found = cells_of(result, result)

    assert (found["id"], found["index"], found["ok"], found["attempts"]) == ("7", 7, True, 2)
    assert (found["usage.input_tokens"], found["usage.output_tokens"]) == (3, 4)
    assert (found["error.kind"], found["count"], found["value"], found["tool_calls"]) == (None, None, None, None)
    assert (found["topic"], found["score"], found["parts"], found["either"]) == ("sport", 1.0, '[{"name": "x"}]', '"z"')
    assert isinstance(found["score"], float)


def test_a_failure_has_its_parts_in_columns() -> None:
    """Kind, status, message and the seconds to wait; the fields of an answer are empty."""
    error = Unavailable("no answer", status=503, retry_after=2)
    found = cells_of(Result(index=0, id="q", error=error), Result(index=1, id="r", returned=LABEL))

    assert [found[f"error.{part}"] for part in ("kind", "status", "message", "retry_after")] == [
        "server",
        503,
        "no answer",
        2.0,
    ]
    assert (found["ok"], found["score"], found["value"]) == (False, None, None)


@pytest.mark.parametrize(("answer", "said"), [([0.5, 1], "[0.5, 1]"), ({"a": 1}, '{"a": 1}'), (-5, "-5"), (False, "false")])
def test_what_has_no_fields_is_json_in_value(answer: object, said: str) -> None:
    """A vector or a function's result is one cell."""
    result = Result(index=0, id="q", returned=answer)

    assert cells_of(result, result)["value"] == said


def test_text_needs_no_value() -> None:
    """An answer that is text is in `text` alone."""
    result = Result(index=0, id="q", returned="yes")
    found = cells_of(result, result)

    assert (found["text"], found["value"]) == ("yes", None)


def test_every_key_that_a_row_can_have_has_a_column() -> None:
    """A row with all that there can be (a streamed answer that calls a tool, a vector, a failure) leaves nothing over."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    reply = json.dumps({"choices": [{"index": 0, "finish_reason": "tool_calls", "message": message}]}).encode()
    results: list[Result[Any]] = [
        Result(index=0, id="q", reply=reply, api="chat", ttft=0.5),
        Result(index=1, id="r", returned=[0.5]),
        Result(index=2, id="s", error=Unavailable("no answer")),
    ]
    rows = [dict(result.to_dict()) for result in results]

    assert {"ttft", "finish_reason", "tool_calls", "value"} <= rows[0].keys() | rows[1].keys()
    assert [cells_of(result, result)["value"] for result in results] == [None, "[0.5]", None]


class Other(BaseModel):
    score: str
    count: int
    sure: int
    place: str


def test_what_fits_no_column_is_kept_in_value() -> None:
    """An answer of another model, and a number that is too large for a column, lose nothing."""
    other = Other(score="high", count=2**70, sure=1, place="here")

    found = cells_of(Result(index=1, id="r", returned=other), Result(index=0, id="q", returned=LABEL))

    assert (found["score"], found["count"], found["sure"]) == (None, None, None)
    assert json.loads(str(found["value"])) == {"score": "high", "count": 2**70, "sure": 1, "place": "here"}


class Odd(BaseModel):
    """A model without a schema, whose values are JSON all the same."""

    model_config = ConfigDict(extra="allow")
    number: int

    @classmethod
    def model_json_schema(cls, *args: Any, **options: Any) -> dict[str, Any]:
        raise TypeError("no schema")


def test_a_model_that_cannot_tell_its_schema_has_columns_of_json() -> None:
    """So have fields that its instance has beyond the model."""
    odd = Odd(number=3, more="m")
    result = Result(index=0, id="q", returned=odd)
    found = cells_of(result, result)

    assert (found["number"], found["more"]) == ("3", '"m"')
