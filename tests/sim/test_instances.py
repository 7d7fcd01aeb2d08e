"""Instances of JSON schemas, judged by a validator."""

from __future__ import annotations

import enum
import random
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field, TypeAdapter

from llm_fanout.sim.instances import instance_of


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, Field(ge=1, le=9)]


class Dog(BaseModel):
    kind: Literal["dog"]
    name: Annotated[str, Field(min_length=20, max_length=30)]


class Tree(BaseModel):
    value: int
    left: Tree | None
    right: Tree | None
    others: list[Tree] = []


class Number(BaseModel):
    number: float


class Sum(BaseModel):
    left: Number | Sum
    right: Number | Sum


class Everything(BaseModel):
    colour: Colour
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    price: Decimal
    born: date
    seen: datetime
    key: UUID
    pair: tuple[int, str]
    names: Annotated[set[Colour], Field(min_length=2)]
    counts: dict[str, int]
    by_colour: dict[Colour, int]
    short: Annotated[str, Field(max_length=3)]
    above: Annotated[float, Field(gt=0, lt=0.001)]
    below: Annotated[int, Field(lt=-5)]
    even: Annotated[int, Field(gt=0, lt=10, multiple_of=2)]
    steps: Annotated[float, Field(ge=0, le=1, multiple_of=0.25)]
    many: Annotated[list[bool], Field(min_length=4, max_length=6)]
    none: None
    maybe: str | None = None
    anything: Any = None


@pytest.mark.parametrize("model", [Everything, Tree, Sum])
@given(seed=st.integers(0, 10_000))
def test_pydantics_schemas_are_met(model: type[BaseModel], seed: int) -> None:
    """Whatever is drawn, the model takes it, and it ends."""
    made = instance_of(model.model_json_schema(), random.Random(seed))

    assert model.model_validate(made)
    Draft202012Validator(model.model_json_schema()).validate(made)


SCHEMAS: list[Any] = [
    {},
    {"const": 3},
    {"enum": ["a", None]},
    {"type": ["string", "null"]},
    {"type": "object"},
    {"type": "object", "required": ["unheard"]},
    {"type": "object", "properties": {"any": True}, "additionalProperties": False},
    {"additionalProperties": {"type": "integer"}},
    {"items": {"type": "null"}},
    {"type": "array", "items": True, "minItems": 3},
    {"type": "array", "maxItems": 0},
    {"type": "array", "items": {"enum": [1, 2, 3]}, "uniqueItems": True, "minItems": 3},
    {"prefixItems": [{"type": "integer"}], "items": False},
    {"oneOf": [{"type": "integer"}, {"type": "string", "pattern": "^x$"}]},
    {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "integer", "maximum": 3}}, "description": "a pointer"},
    {"allOf": [{"properties": {"a": {"type": "null"}}, "required": ["a"]}, {"properties": {"b": {}}, "required": ["b"]}]},
    {"type": "number", "minimum": 5, "maximum": 5},
    {"type": "number", "exclusiveMinimum": 5},
    {"type": "integer", "minimum": 10**15},
    {"type": "string", "format": "email", "maxLength": 40},
    {"type": "string", "format": "unheard"},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
@given(seed=st.integers(0, 10_000))
def test_words_of_the_standard_are_met(schema: Any, seed: int) -> None:
    """One by one."""
    Draft202012Validator(schema).validate(instance_of(schema, random.Random(seed)))


def test_the_same_draw_makes_the_same() -> None:
    """Nothing else decides."""
    schema = Everything.model_json_schema()

    assert instance_of(schema, random.Random(3)) == instance_of(schema, random.Random(3))
    assert instance_of(schema, random.Random(3)) != instance_of(schema, random.Random(4))


def test_formats_are_kept() -> None:
    """Every format that is known gives what pydantic takes."""
    schema = TypeAdapter(dict[str, datetime]).json_schema()

    assert TypeAdapter(dict[str, datetime]).validate_python(instance_of(schema, random.Random(1)))


def test_too_few_of_a_kind_are_no_set() -> None:
    """A set that asks for more than there are gets what there is, after a while."""
    schema = {"type": "array", "items": {"enum": [1]}, "uniqueItems": True, "minItems": 3}

    assert instance_of(schema, random.Random(1)) == [1]


NODE = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
DEEP: Any = {}
for _ in range(5_000):
    DEEP = {"type": "array", "minItems": 1, "items": DEEP}


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (NODE, "no end"),
        ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "no end"),
        ({"type": "string", "pattern": "x"}, "pattern"),
        ({"$ref": "#/$defs/gone"}, "cannot read"),
        ({"type": "unheard"}, "cannot read"),
        ({"properties": 3}, "cannot read"),
        (DEEP, "cannot read"),
    ],
    ids=range(7),
)
def test_what_has_no_instance_is_told_so(schema: Any, says: str) -> None:
    """Without an end, with a pattern, or in other words than the standard's."""
    with pytest.raises(ValueError, match=says):
        instance_of(schema, random.Random(1))
