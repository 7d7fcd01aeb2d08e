"""JSON schemas in the forms that providers enforce.

Each takes a part of JSON Schema and refuses a request that has more in it. What it does not take is not lost: it goes into
the description, where the model reads it, and the answer is checked against it here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Node = Mapping[str, Any]
Keeps = Callable[[str, object], bool]  # whether a keyword with that value may stay

STRUCTURE = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "anyOf", "enum", "const", "$ref", "$defs"}
    | {"title", "description"}
)

# OpenAI, structured outputs guide, "Supported schemas" (2026-11). `default` and `oneOf` are refused by name.
OPENAI_LIMITS = frozenset(
    {"pattern", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "minItems", "maxItems"}
)
OPENAI_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})

ANTHROPIC_FORMATS = OPENAI_FORMATS | {"uri"}  # anthropic SDK 2.14, lib/_parse/_transform.py


def openai_keeps(word: str, value: object) -> bool:
    """Whether OpenAI takes this keyword in strict mode."""
    return word in STRUCTURE or word in OPENAI_LIMITS or (word == "format" and value in OPENAI_FORMATS)


def anthropic_keeps(word: str, value: object) -> bool:
    """Whether Anthropic takes this keyword, going by what its SDK sends."""
    return word in STRUCTURE or (word == "format" and value in ANTHROPIC_FORMATS) or (word == "minItems" and value in (0, 1))


def is_closed(node: Any) -> bool:
    """Whether every object in the schema names all its keys, and everything has a type: the condition of enforcing it."""
    if not isinstance(node, dict):
        return False
    if "$ref" not in node and not node.keys() & {"type", "anyOf", "oneOf", "enum", "const", "allOf"}:
        return False
    if len(node.get("allOf", ())) > 1:
        return False
    if node.get("type") == "object" and ("properties" not in node or node.get("additionalProperties")):
        return False
    if node.get("type") == "array" and "items" not in node:
        return False
    return all(map(is_closed, _children(node)))


def strict_form(schema: Node) -> dict[str, Any]:
    """A closed schema in the form that OpenAI's strict mode demands (compare `to_strict_json_schema` of its SDK).

    No other keys, all keys required, nothing that it does not take, and nothing beside a `$ref`.
    """
    return _strict(schema, schema, frozenset())


def narrowed(node: Node, keeps: Keeps) -> dict[str, Any]:
    """A schema without the keywords that may not stay; they are told in the descriptions."""
    return _filtered(_each_child(_merged(node), lambda child: narrowed(child, keeps)), keeps)


def resolved(node: Node, root: Node) -> Node:
    """What `node` refers to, under its own words; or itself."""
    if "$ref" not in node:
        return node
    target = root.get("$defs", {}).get(node["$ref"].removeprefix("#/$defs/"), {})
    return {**target, **{word: value for word, value in node.items() if word != "$ref"}}


def _strict(node: Node, root: Node, inlined: frozenset[str]) -> dict[str, Any]:
    node = _merged(node)
    if "$ref" in node and len(node) > 1:
        ref = node["$ref"]
        # Nothing may stand beside a $ref, so what it refers to is put in its place; but once, for it may refer to itself.
        return {"$ref": ref} if ref in inlined else _strict(resolved(node, root), root, inlined | {ref})
    strict = _filtered(_each_child(node, lambda child: _strict(child, root, inlined)), openai_keeps)
    if strict.get("type") == "object":
        strict |= {"additionalProperties": False, "required": list(strict["properties"])}
    return strict


def _merged(node: Node) -> dict[str, Any]:
    """The node with each thing said in one way: `anyOf` for `oneOf`, and no `allOf` of one."""
    merged = dict(node)
    if len(merged.get("allOf", ())) == 1:
        merged |= merged.pop("allOf")[0]
    if "oneOf" in merged:
        merged["anyOf"] = merged.pop("oneOf")
        merged.pop("discriminator", None)  # OpenAPI's; the constants of the members say it, too
    return merged


def _filtered(node: Node, keeps: Keeps) -> dict[str, Any]:
    kept = {word: value for word, value in node.items() if keeps(word, value)}
    dropped = [f"{word}: {value}" for word, value in node.items() if word not in kept and value is not None]
    if dropped:
        told = "{" + ", ".join(dropped) + "}"
        kept["description"] = f"{kept['description']}\n\n{told}" if "description" in kept else told
    return kept


_BY_NAME = ("properties", "$defs")  # keywords that hold schemas by name
_IN_LISTS = ("anyOf", "oneOf", "allOf")  # keywords that hold lists of them


def _children(node: Node) -> list[Any]:
    by_name = [child for word in _BY_NAME for child in node.get(word, {}).values()]
    in_lists = [child for word in _IN_LISTS for child in node.get(word, ())]
    return [*by_name, *in_lists, *([node["items"]] if "items" in node else ())]


def _each_child(node: Node, change: Callable[[Node], Node]) -> dict[str, Any]:
    changed = dict(node)
    for word in node.keys() & {*_BY_NAME}:
        changed[word] = {name: change(child) for name, child in node[word].items()}
    for word in node.keys() & {*_IN_LISTS}:
        changed[word] = [change(child) for child in node[word]]
    if "items" in node:
        changed["items"] = change(node["items"])
    return changed
