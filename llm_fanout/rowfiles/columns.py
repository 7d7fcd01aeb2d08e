"""Rows as columns: which there are, of what sort, and what each holds of a row.

Everything that a row may have has a column from the start, whatever the first rows are: a nested value has one for each of
its parts (`error.kind`, `usage.input_tokens`). The fields of a structured answer have their own, too, by the model that the
first answer is an instance of. What fits no column (a vector, a function's result, a field of another model) is JSON in
`value`: nothing is lost, and no row changes what another row's columns are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, cast

from .lines import json_text

Sort = Literal["text", "whole", "real", "flag", "json"]
Cell = str | int | float | bool | None

_FIRST: dict[str, Sort] = {"id": "text", "index": "whole", "ok": "flag"}
_LAST: dict[str, Sort] = {
    "value": "json",
    "text": "text",
    "error.kind": "text",
    "error.status": "whole",
    "error.message": "text",
    "error.retry_after": "real",
    "model": "text",
    "source": "text",
    "attempts": "whole",
    "usage.input_tokens": "whole",
    "usage.output_tokens": "whole",
    "usage.cached_tokens": "whole",
    "usage.reasoning_tokens": "whole",
    "cost": "real",
    "latency": "real",
    "queue_time": "real",
    "service_time": "real",
    "ttft": "real",
    "finish_reason": "text",
    "tool_calls": "json",
}
_SORTS: dict[str, Sort] = {"string": "text", "integer": "whole", "number": "real", "boolean": "flag"}
_TYPES: dict[Sort, type] = {"text": str, "whole": int, "real": float, "flag": bool}
_WHOLE = range(-(2**63), 2**63)  # what a column of a Parquet file holds


def columns_of(example: object, row: Mapping[str, object]) -> dict[str, Sort]:
    """The columns of a file, in order, and their sorts.

    Args:
        example: An answer; if it is an instance of a pydantic model, its fields have columns.
        row: The row of that answer, which says what its fields are called there; empty if there is no answer.
    """
    schema = getattr(type(example), "model_json_schema", None)
    if schema is None:
        return {**_FIRST, **_LAST}
    said = _schema_of(schema)
    known = {name.partition(".")[0] for name in (*_FIRST, *_LAST)}
    fields = {name: _sort(name.removeprefix("value."), said) for name in row if name not in known}
    return {**_FIRST, **fields, **_LAST}


def cells(row: Mapping[str, Any], columns: Mapping[str, Sort]) -> Iterator[Cell]:
    """What a row has in each column, in order; None where it has nothing."""
    flat = dict(_flat(row))
    rest = {name: flat.pop(name) for name in list(flat) if name not in columns or not _fits(flat[name], columns[name])}
    if rest:
        flat["value"] = rest
    return (None if (value := flat.get(name)) is None else _cell(value, sort) for name, sort in columns.items())


def _schema_of(model_json_schema: Any) -> dict[str, Any]:
    try:
        schema: dict[str, Any] = model_json_schema(by_alias=False, mode="serialization")
    except Exception:  # the user's own model: one that cannot tell its schema has columns of JSON
        return {}
    return schema


def _sort(name: str, schema: Mapping[str, Any]) -> Sort:
    said = schema.get("properties", {}).get(name, {})
    options = [option for option in said.get("anyOf", [said]) if option.get("type") != "null"]
    if len(options) != 1:
        return "json"
    place = options[0].get("$ref", "").rpartition("/")[2]  # an enumeration's, or another model's
    return _SORTS.get(str(schema.get("$defs", {}).get(place, options[0]).get("type")), "json")


def _flat(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The row with `error` and `usage` in parts; an id is text, for ids of one file may be of both sorts."""
    for name, value in row.items():
        if name in ("error", "usage"):
            yield from ((f"{name}.{part}", each) for part, each in (value or {}).items())
        else:
            yield name, str(value) if name == "id" else value


def _fits(value: object, sort: Sort) -> bool:
    if value is None or sort == "json":
        return True
    if type(value) is int:
        return sort in ("whole", "real") and value in _WHOLE
    return type(value) is _TYPES[sort]


def _cell(value: Any, sort: Sort) -> Cell:
    if sort == "json":
        return json_text(value)
    return float(value) if sort == "real" else cast("Cell", value)
