"""Instances of a JSON schema, for those who ask for structured answers.

Of the schemas that pydantic and the official SDKs write, everything but `pattern` is obeyed: no text is made for one, so a
schema that cannot do without it has no instance here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import ceil, floor, inf
from typing import Any

Schema = Mapping[str, Any]

WORDS = ("calm", "model", "box", "plausible", "word", "little", "client", "wait")
DEEP = 4  # levels below which nothing is made that need not be
DRAWS = 100  # how often a set is offered another item
FORMATS = {
    "date-time": "2026-11-24T12:00:00Z",
    "date": "2026-11-24",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def instance_of(schema: Schema, draw: random.Random) -> Any:
    """Some instance of `schema`, as `draw` decides.

    Raises:
        ValueError: There is none: it has no end, asks for a pattern, or refers to what is not there.
    """
    try:
        maker = _Maker(schema, draw)
        if maker.height(schema) == inf:
            raise ValueError("the simulated provider can make no instance of this schema: it has no end, or a pattern")
        return maker.make(schema, 0)
    except (LookupError, TypeError, AttributeError, RecursionError) as exc:
        raise ValueError(f"the simulated provider cannot read this schema: {exc!r}") from exc


def has_instance(schema: Schema) -> bool:
    """Whether `instance_of` makes one."""
    try:
        instance_of(schema, random.Random(0))
    except ValueError:
        return False
    return True


class _Maker:
    """Makes instances of the schemas within `root`."""

    def __init__(self, root: Schema, draw: random.Random) -> None:
        self._root = root
        self._draw = draw
        self._heights = dict.fromkeys(_refs_in(root), inf)
        before: dict[str, float] = {}
        while before != self._heights:  # each turn settles one at least
            before = dict(self._heights)
            for ref in before:
                self._heights[ref] = self.height(self._at(ref))

    def height(self, schema: Schema | bool) -> float:
        """The least levels that an instance has below itself; `inf` if none can be made."""
        if not isinstance(schema, bool) and "$ref" in schema:
            return self._heights[schema["$ref"]]
        schema = self._merged(schema)
        if (options := _options(schema)) is not None:
            return min(map(self.height, options))
        if "const" in schema or "enum" in schema:
            return 0.0
        if _type_of(schema) == "object":
            required = schema.get("required", ())
            return max((1 + self.height(each) for name, each in _properties(schema) if name in required), default=0.0)
        if _type_of(schema) == "array":
            least = schema.get("minItems", 0)
            return max((1 + self.height(each) for each in _items(schema, least)[:least]), default=0.0)
        return inf if "pattern" in schema else 0.0

    def make(self, schema: Schema | bool, depth: int) -> Any:
        """An instance that is `depth` levels below the root."""
        schema = self._merged(schema)
        if (options := _options(schema)) is not None:
            return self.make(self._option(options, depth), depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._draw.choice(schema["enum"])
        return _MAKERS[_type_of(schema)](self, schema, depth)

    def object(self, schema: Schema, depth: int) -> dict[str, Any]:
        """All properties; in the depth only those that must be."""
        required = schema.get("required", ())
        wanted = (each for each in _properties(schema) if each[0] in required or self._may_make(each[1], depth))
        made = {name: self.make(each, depth + 1) for name, each in wanted}
        others = schema.get("additionalProperties")
        if not made and isinstance(others, dict) and "propertyNames" not in schema and self._may_make(others, depth):
            made["key"] = self.make(others, depth + 1)
        return made

    def array(self, schema: Schema, depth: int) -> list[Any]:
        """One or two items, if that many may be; a set has no item twice."""
        least, most = schema.get("minItems", 0), schema.get("maxItems", inf)
        number = least if depth >= DEEP else max(least, int(min(most, self._draw.randint(1, 2))))
        items = [each for index, each in enumerate(_items(schema, number)) if index < least or self._may_make(each, depth)]
        made = [self.make(each, depth + 1) for each in items]
        return self._distinct(made, least, items, depth) if schema.get("uniqueItems") else made

    def string(self, schema: Schema, depth: int) -> str:
        """A few words, or what its format asks for."""
        if (known := FORMATS.get(schema.get("format", ""))) is not None:
            return known
        words = self._draw.choices(WORDS, k=self._draw.randint(1, 3))
        while len(" ".join(words)) < schema.get("minLength", 0):
            words.append(self._draw.choice(WORDS))
        text = " ".join(words)
        most = schema.get("maxLength", len(text))
        return text[:most]

    def integer(self, schema: Schema, depth: int) -> int:
        """A whole number in its range."""
        return int(self._multiple(schema, schema.get("multipleOf", 1)))

    def number(self, schema: Schema, depth: int) -> float:
        """A number in its range, with two decimals where they fit."""
        if "multipleOf" in schema:
            return self._multiple(schema, schema["multipleOf"])
        low, high = _range(schema)
        value = low + (high - low) * self._draw.uniform(0.25, 0.75)
        short = round(value, 2)
        return short if low < short < high else value

    def boolean(self, schema: Schema, depth: int) -> bool:
        """Either."""
        return self._draw.random() < 0.5

    def null(self, schema: Schema, depth: int) -> None:
        """Nothing."""

    def _multiple(self, schema: Schema, step: float) -> float:
        low, high = _range(schema)
        first, last = ceil(low / step), floor(high / step)
        first += first * step == schema.get("exclusiveMinimum")
        last -= last * step == schema.get("exclusiveMaximum")
        return round(self._draw.randint(first, max(first, last)) * step, 9)  # 3 * 0.1 is a hair more than 0.3

    def _may_make(self, schema: Schema, depth: int) -> bool:
        """Whether what need not be is made."""
        return depth < DEEP and self.height(schema) < inf

    def _option(self, options: Sequence[Schema], depth: int) -> Schema:
        """One that can be made; in the depth the one that ends soonest."""
        if depth >= DEEP:
            return min(options, key=self.height)
        options = [each for each in options if self.height(each) < inf]
        numbers = [each for each in options if each.get("type") in ("number", "integer")]
        # A number or a text is how pydantic says Decimal, which takes few texts.
        return self._draw.choice([each for each in options if not numbers or each.get("type") != "string"])

    def _distinct(self, made: list[Any], least: int, items: Sequence[Schema], depth: int) -> list[Any]:
        distinct = [each for index, each in enumerate(made) if each not in made[:index]]
        for _ in range(DRAWS if len(distinct) < least else 0):
            another = self.make(items[0], depth + 1)
            if another not in distinct and len(distinct) < least:
                distinct.append(another)
        return distinct

    def _merged(self, schema: Schema | bool) -> Schema:
        """The schema with what it refers to, and all that it must be at once, in one."""
        if isinstance(schema, bool):  # whether there may be anything; what must not be is never made
            return {}
        if "$ref" in schema:
            schema = {**self._merged(self._at(schema["$ref"])), **_without(schema, "$ref")}
        merged: dict[str, Any] = _without(schema, "allOf")
        for each in map(self._merged, schema.get("allOf", ())):
            both = {name: {**merged.get(name, {}), **each[name]} for name in ("properties",) if name in each}
            merged |= {**each, **both, "required": [*merged.get("required", ()), *each.get("required", ())]}
        return merged

    def _at(self, ref: str) -> Schema:
        """What "#/$defs/Name" points to (JSON Pointer, RFC 6901)."""
        there: Any = self._root
        for name in ref.removeprefix("#").split("/")[1:]:
            there = there[name.replace("~1", "/").replace("~0", "~")]
        target: Schema = there
        return target


_MAKERS: Mapping[str, Callable[[_Maker, Schema, int], Any]] = {
    "object": _Maker.object,
    "array": _Maker.array,
    "string": _Maker.string,
    "integer": _Maker.integer,
    "number": _Maker.number,
    "boolean": _Maker.boolean,
    "null": _Maker.null,
}


def _options(schema: Schema) -> Sequence[Schema] | None:
    """What a value may be one of."""
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": each} for each in schema["type"]]
    options: Sequence[Schema] | None = schema.get("anyOf") or schema.get("oneOf")
    return options


def _type_of(schema: Schema) -> str:
    """Its type; one that says none is known by what it speaks of."""
    if "type" in schema:
        return str(schema["type"])
    if "properties" in schema or "additionalProperties" in schema:
        return "object"
    return "array" if "items" in schema or "prefixItems" in schema else "string"


def _properties(schema: Schema) -> Iterable[tuple[str, Schema]]:
    known: Schema = schema.get("properties", {})
    return [*known.items(), *((name, {}) for name in schema.get("required", ()) if name not in known)]


def _items(schema: Schema, number: int) -> list[Schema]:
    """The schemas of the first `number` items, or of all that have their own."""
    first: list[Schema] = list(schema.get("prefixItems", ()))
    rest = schema.get("items", {})
    return first if rest is False else first + [rest] * (number - len(first))


def _range(schema: Schema) -> tuple[float, float]:
    """Between which numbers; a bound that is not said is a hundred away, or zero."""
    low = max(schema.get("minimum", -inf), schema.get("exclusiveMinimum", -inf))
    high = min(schema.get("maximum", inf), schema.get("exclusiveMaximum", inf))
    if low == -inf:
        low = min(0.0, high - 100) if high < inf else 0.0
    return low, high if high < inf else low + 100


def _refs_in(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        for name, value in schema.items():
            if name == "$ref" and isinstance(value, str):
                yield value
            yield from _refs_in(value)
    elif isinstance(schema, list):
        for each in schema:
            yield from _refs_in(each)


def _without(schema: Schema, name: str) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != name}
