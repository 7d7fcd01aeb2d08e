"""Structured output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import pytest
from pydantic import BaseModel, RootModel

from llm_fanout import ConfigError
from llm_fanout.providers import Request, Schema, repair

T = TypeVar("T")


class Invoice(BaseModel):
    number: int
    total: float


class Batch(BaseModel):
    invoices: list[Invoice]


class Ledger(BaseModel):
    by_name: dict[str, Invoice]


class Box(BaseModel, Generic[T]):
    content: T


class Numbers(RootModel[list[int]]):
    pass


class Wrapped(RootModel[Invoice]):
    pass


class Callback(BaseModel):
    call: Callable[[], None]


def test_a_schema_is_made_from_a_model() -> None:
    """Its name, and the strict form of its JSON schema."""
    schema = Schema.of(Invoice)

    assert (schema.model, schema.name, schema.strict) == (Invoice, "Invoice", True)
    assert (schema.json["required"], schema.json["additionalProperties"]) == (["number", "total"], False)


def test_what_cannot_be_enforced_is_sent_as_it_is() -> None:
    """A mapping with any keys has no strict form."""
    schema = Schema.of(Ledger)

    assert not schema.strict
    assert schema.json == Ledger.model_json_schema()


def test_names_have_the_characters_that_providers_take() -> None:
    """A generic model has brackets in its name."""
    assert Schema.of(Box[int]).name == "Box_int_"
    assert len(Schema.of(type("M" * 99, (Invoice,), {})).name) == 64


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (dict, "must be a pydantic model class, got <class 'dict'>"),
        (Invoice(number=1, total=2), "must be a pydantic model class, got Invoice"),
        (Numbers, "Numbers are no JSON objects; put it into a field"),
        (Callback, "Callback has a field that no JSON schema can describe"),
    ],
)
def test_what_is_no_schema(model: Any, match: str) -> None:
    """It is refused before anything is sent."""
    with pytest.raises(ConfigError, match=match):
        Schema.of(model)


def test_a_root_that_is_an_object_will_do() -> None:
    """It is the object that it wraps."""
    assert Schema.of(Wrapped).json["properties"].keys() == {"number", "total"}


ANSWER = '{"number": 7, "total": 9.5}'


@pytest.mark.parametrize(
    "text",
    [
        ANSWER,
        f"\n{ANSWER}\n",
        f"```json\n{ANSWER}\n```",
        f"```\n{ANSWER}\n```",
        f"```JSON\r\n{ANSWER}```",
        f"Here you are:\n```json\n{ANSWER}\n```\nAnything else?",
        f"Sure: {ANSWER}. {{I hope}} it helps.",
    ],
)
def test_an_answer_that_fits(text: str) -> None:
    """Fences and prose around it do no harm."""
    assert Schema.of(Invoice).validate(text) == Invoice(number=7, total=9.5)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"number": 7}', "^total: Field required$"),
        ('{"number": "x", "total": "y"}', "^number: Input should be .*; total: Input should be"),
        ("I cannot do that.", "^Invalid JSON"),
        ("", "^Invalid JSON"),
        ("7", "object"),
        ('{"number": 7, "total"', "^Invalid JSON"),
        ("{" * 100_000, "^Invalid JSON"),
        ('{"a":' * 100_000, "^Invalid JSON"),
    ],
)
def test_an_answer_that_does_not_fit(text: str, match: str) -> None:
    """The message names the places and what is wrong there."""
    with pytest.raises(ValueError, match=match) as caught:
        Schema.of(Invoice).validate(text)

    assert len(str(caught.value)) < 500


def test_an_answer_that_was_cut_is_not_a_part_of_itself() -> None:
    """A whole object inside an answer that is not whole is not taken for it."""
    with pytest.raises(ValueError, match="Invalid JSON"):
        Schema.of(Invoice).validate('{"invoices": [{"number": 7, "total": 9.5}')


def test_many_flaws_are_told_in_few_words() -> None:
    """The message fits into a prompt, however much is wrong."""
    with pytest.raises(ValueError, match=r"invoices.4.number: .*; and 995 more$"):
        Schema.of(Batch).validate('{"invoices": [' + ", ".join(['{"number": "x", "total": 1}'] * 1000) + "]}")


def test_asking_in_words() -> None:
    """Where nothing enforces it, the schema is a system message after the others."""
    schema = Schema.of(Invoice)
    messages = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "go"}]

    asked = schema.asked_in(messages)

    assert [message["role"] for message in asked] == ["developer", "system", "user"]
    assert asked[1]["content"] == schema.asked_in_words()
    assert '"number"' in schema.asked_in_words()
    assert [message["role"] for message in schema.asked_in(messages[:1])] == ["developer", "system"]


def test_asking_again() -> None:
    """The conversation goes on with the bad answer and its flaw; everything else stays."""
    request = Request("m", [{"role": "user", "content": "go"}], {"seed": 1}, Schema.of(Invoice), stream=True)

    again = repair(request, '{"number": 7}', "total: Field required")

    assert (again.model, again.params, again.schema, again.stream) == ("m", {"seed": 1}, request.schema, True)
    assert [message["role"] for message in again.messages] == ["user", "assistant", "user"]
    assert again.messages[1]["content"] == '{"number": 7}'
    assert "total: Field required" in again.messages[2]["content"]


def test_an_empty_answer_is_not_sent_back() -> None:
    """Some APIs refuse a message without text."""
    again = repair(Request("m", [{"role": "user", "content": "go"}]), " ", "Invalid JSON")

    assert [message["role"] for message in again.messages] == ["user", "user"]
