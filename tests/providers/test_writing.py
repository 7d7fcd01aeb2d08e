"""Requests become the bytes of their bodies; what they share is written once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from llm_fanout import Rejected
from llm_fanout.providers import FORMATS, Format, Request, Schema
from llm_fanout.providers.writing import Writer, body_of

SYSTEM = {"role": "system", "content": "Be brief."}
ASK = {"role": "user", "content": "häh? \u2028 \U0001f600"}


class City(BaseModel):
    name: str


PARAMS: dict[str, dict[str, Any]] = {
    "chat": {"temperature": 0.5, "stop": ["x"], "extra_body": {"top_k": 7}},
    "responses": {"temperature": 0.5, "reasoning_effort": "low"},
    "messages": {"stop": "x", "extra_body": {"thinking": {"type": "adaptive"}}},
    "embeddings": {"extra_body": {"dimensions": 3}},
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_bytes_say_the_body(name: str) -> None:
    """Whatever the format, for the first request and for those that share its parameters."""
    form, params = FORMATS[name], PARAMS[name]
    messages = [ASK] if name == "embeddings" else [SYSTEM, ASK]
    writer = Writer(form)
    request = Request("m", messages, params)

    assert [json.loads(writer.write(request)) for _ in range(3)] == [body_of(form, request)] * 3


class Counting:
    """A chat format that counts how often it is asked for what requests share."""

    def __init__(self) -> None:
        self.form = FORMATS["chat"]
        self.frames = 0

    def frame(self, request: Request) -> dict[str, Any]:
        self.frames += 1
        return self.form.frame(request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.form, name)


def test_what_requests_share_is_written_once() -> None:
    """As long as it is the very same: other parameters, another model, schema or way of reading is another frame."""
    form: Any = Counting()
    writer = Writer(form)
    params: dict[str, Any] = {"temperature": 0.5}
    schema = Schema.of(City)
    asked = []
    for request in (
        Request("m", [ASK], params),
        Request("m", [SYSTEM, ASK], params),
        Request("n", [ASK], params),
        Request("n", [ASK], dict(params)),
        Request("n", [ASK], params, schema),
        Request("n", [ASK], params, schema, stream=True),
        Request("n", [ASK], params, schema, stream=True),
    ):
        assert json.loads(writer.write(request)) == body_of(form.form, request)
        asked.append(form.frames)

    assert asked == [1, 1, 2, 3, 4, 5, 5]


def test_the_same_first_message_is_written_once() -> None:
    """From the second time on its bytes are known: a change of the object is not seen, another object is."""
    writer = Writer(FORMATS["chat"])
    params: dict[str, Any] = {}
    shared = dict(SYSTEM)
    said = []
    for first in (shared, shared, shared, {**shared, "content": "Be long."}):
        said.append(json.loads(writer.write(Request("m", [first, ASK], params)))["messages"][0]["content"])
        if len(said) == 2:
            shared["content"] = "changed"

    assert said == ["Be brief.", "Be brief.", "Be brief.", "Be long."]


def test_extra_body_may_replace_the_messages() -> None:
    """It is put in last, whatever it names."""
    writer = Writer(FORMATS["chat"])
    request = Request("m", [ASK], {"extra_body": {"messages": ["mine"]}})

    assert json.loads(writer.write(request)) == {"model": "m", "messages": ["mine"]}


class Text(str):
    """Of somebody's own."""

    __slots__ = ()


@pytest.mark.parametrize("odd", ["half a pair: \ud83d", Text("own"), {1: "x"}, 2**70], ids=["pair", "own", "key", "large"])
def test_odd_values_are_written_as_python_would(odd: object) -> None:
    """In a message and in a parameter, after any others."""
    writer = Writer(FORMATS["chat"])
    params: dict[str, Any] = {}
    for _ in range(3):
        writer.write(Request("m", [SYSTEM, ASK], params))
    wanted = json.loads(json.dumps(odd))

    message = json.loads(writer.write(Request("m", [SYSTEM, {"role": "user", "content": odd}], params)))
    parameter = json.loads(writer.write(Request("m", [ASK], {"extra_body": {"odd": odd}})))

    assert (message["messages"][1]["content"], parameter["odd"]) == (wanted, wanted)


def test_what_cannot_be_written_is_refused() -> None:
    """By the name of what is wrong: no JSON, too deep, or nothing that the API can take."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    cases: list[tuple[Format, dict[str, Any], type[Exception], str]] = [
        (FORMATS["chat"], {"extra_body": {"x": object()}}, TypeError, "object"),
        (FORMATS["chat"], {"extra_body": {"x": deep}}, ValueError, "too deep"),
        (FORMATS["responses"], {"seed": 1}, Rejected, "seed"),
    ]
    for form, params, error, words in cases:
        with pytest.raises(error, match=words):
            Writer(form).write(Request("m", [ASK], params))
