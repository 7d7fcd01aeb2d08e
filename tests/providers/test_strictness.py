"""JSON schemas in the forms that providers enforce."""

from __future__ import annotations

import enum
import json
from typing import Annotated, Any, Literal
from uuid import UUID

import anthropic
import pytest
from openai.lib._pydantic import to_strict_json_schema
from pydantic import AnyUrl, BaseModel, ConfigDict, Field

from llm_fanout.providers import strictness


class Colour(enum.Enum):
    red = "red"
    blue = "blue"


class Line(BaseModel):
    """One line of it."""

    name: str = Field(description="what was sold")
    amount: float = Field(gt=0, le=1e6)
    colour: Colour | None = None


class Invoice(BaseModel):
    id: UUID
    lines: list[Line]
    first: Line = Field(description="the first of them")
    total: float | None = None
    kind: Literal["invoice"]
    tag: Literal["a", "b"]


class Node(BaseModel):
    value: int
    children: list[Node]
    best: Node | None = None


class Chain(BaseModel):
    next: Chain = Field(description="says more")


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]
    age: int = 3


class Owner(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    home: AnyUrl
    name: str = Field("Ann", min_length=1, pattern="^[A-Z]")
    scores: list[int] = Field(min_length=2, max_length=3)


@pytest.mark.parametrize("model", [Line, Invoice, Node, Cat])
def test_the_strict_form_is_that_of_openais_sdk(model: type[BaseModel]) -> None:
    """Closed, all keys required, nothing beside a reference: word for word."""
    assert strictness.strict_form(model.model_json_schema()) == to_strict_json_schema(model)


def test_what_openai_refuses_goes_into_the_description() -> None:
    """Defaults, lengths, unknown formats and oneOf, which its SDK sends and its API refuses."""
    strict = strictness.strict_form(Owner.model_json_schema())
    properties = strict["properties"]

    assert properties["pet"] == {"anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}], "title": "Pet"}
    assert properties["name"] == {
        "type": "string",
        "title": "Name",
        "pattern": "^[A-Z]",
        "description": "{default: Ann, minLength: 1}",
    }
    assert properties["home"]["description"] == "{format: uri, minLength: 1}"
    assert (properties["scores"]["minItems"], properties["scores"]["maxItems"]) == (2, 3)
    assert strict["$defs"]["Dog"]["required"] == ["kind", "age"]


def test_a_description_is_kept_before_what_is_added() -> None:
    """What the author said comes first."""
    node = {"type": "string", "description": "a name", "minLength": 1}

    assert strictness.narrowed(node, strictness.openai_keeps)["description"] == "a name\n\n{minLength: 1}"


def test_a_reference_to_itself_ends() -> None:
    """A reference with words beside it is replaced by what it refers to, once; the SDK recurses for ever."""
    strict = strictness.strict_form(Chain.model_json_schema())

    assert strict["properties"]["next"] == {"$ref": "#/$defs/Chain"}
    assert strict["$defs"]["Chain"]["required"] == ["next"]


def test_an_intersection_of_one_is_that_one() -> None:
    """Older pydantic wraps references so."""
    node = {"type": "object", "properties": {"a": {"allOf": [{"type": "string"}], "title": "A"}}}

    assert strictness.strict_form(node)["properties"]["a"] == {"type": "string", "title": "A"}


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


@pytest.mark.parametrize(
    ("annotation", "closed"),
    [
        (str, True),
        (list[str], True),
        (Line | None, True),
        (Literal["a"], True),
        (dict[str, int], False),
        (Any, False),
        (tuple[int, str], False),
        (list[dict[str, Any]], False),
        (Open, False),
        (Annotated[int, Field(json_schema_extra={"allOf": [{}, {}]})], False),
    ],
)
def test_what_can_be_enforced(annotation: Any, closed: bool) -> None:
    """Only what says all its keys and types."""
    model = type("Model", (BaseModel,), {"__annotations__": {"field": annotation}})

    assert strictness.is_closed(model.model_json_schema()) is closed


def test_a_schema_may_be_a_truth_value() -> None:
    """`true` allows everything."""
    assert not strictness.is_closed({"type": "array", "items": True})


def without_types_of_literals(node: Any) -> Any:
    """Anthropic's SDK leaves out the type beside an enum or a const; its API takes either."""
    if isinstance(node, list):
        return [without_types_of_literals(each) for each in node]
    if not isinstance(node, dict):
        return node
    literal = node.keys() & {"enum", "const"}
    return {word: without_types_of_literals(value) for word, value in node.items() if not (literal and word == "type")}


@pytest.mark.parametrize("model", [Line, Invoice, Node, Chain, Owner])
def test_anthropics_form_is_that_of_its_sdk(model: type[BaseModel]) -> None:
    """Bounds and most formats go into the descriptions, in the same words."""
    strict = strictness.strict_form(model.model_json_schema())

    ours = strictness.narrowed(strict, strictness.anthropic_keeps)

    assert without_types_of_literals(ours) == anthropic.transform_schema(json.loads(json.dumps(strict)))


def test_a_reference_to_nothing_is_empty() -> None:
    """A schema that was tampered with does not break us."""
    assert strictness.resolved({"$ref": "#/$defs/Gone", "title": "x"}, {}) == {"title": "x"}
