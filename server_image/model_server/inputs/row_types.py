"""The features of a row from the class that a step's author wrote for it, by its JSON Schema; `runtimes/steps.py` asks.

https://json-schema.org/draft/2020-12/schema, of which msgspec and pydantic write the part that is read here. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_server.domain.features import DType, Feature

_DTYPES: Mapping[str, DType] = {"number": "float64", "integer": "int64", "boolean": "bool", "string": "string"}
_FORMATS: Mapping[str, DType] = {"date": "date", "date-time": "datetime"}


@dataclass(frozen=True, slots=True)
class RowType:
    """The columns of a class, and those that a row may leave out for the default of the class."""

    features: tuple[Feature, ...]
    defaults: frozenset[str]


def read_row_type(schema: Mapping[str, Any], names: Sequence[str]) -> RowType:
    """The columns of the object that a schema describes, in the order of `names`. Raises ValueError for a bad field."""
    definitions = schema.get("$defs", {})
    body = _resolved(schema, definitions)
    fields = {name: _resolved(body["properties"][name], definitions) for name in names}
    kinds = {name: _kind(field, definitions) for name, field in fields.items()}
    required = frozenset(body.get("required", ()))
    return RowType(
        tuple(_feature(name, field, *kinds[name], is_required=name in required) for name, field in fields.items()),
        frozenset(name for name, (_, nullable) in kinds.items() if name not in required and not nullable),
    )


def _kind(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """The schema of a field's values, and whether null is one. What may be one of several kinds is a column of any."""
    if "anyOf" not in field:
        return field, None in field.get("enum", ())
    kinds = [_resolved(kind, definitions) for kind in field["anyOf"]]
    others = [kind for kind in kinds if kind.get("type") != "null"]
    kind = others[0] if len(others) == 1 else {}
    return kind, len(others) < len(kinds) or None in kind.get("enum", ())


def _feature(
    name: str, outer: Mapping[str, Any], field: Mapping[str, Any], nullable: bool, *, is_required: bool
) -> Feature:
    allowed = (field["const"],) if "const" in field else field.get("enum", ())
    categories = tuple(value for value in allowed if value is not None)
    dtype = _dtype(field, categories)
    # A row without it has the default of its class.
    absent = nullable or not is_required
    if absent and dtype in ("int64", "bool"):
        # An array of these holds no null.
        dtype = "any"
    low, high = field.get("minimum"), field.get("maximum")
    examples = [*field.get("examples", ()), *outer.get("examples", ())]
    try:
        return Feature(
            name=name,
            dtype=dtype,
            description=outer.get("description", ""),
            range=(low, high) if low is not None and high is not None and dtype in ("float64", "int64") else None,
            categories=categories or None,
            nullable=absent,
            required=is_required,
            example=next((one for one in examples if isinstance(one, bool | int | float | str)), None),
        )
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that a reference points to, with what stands beside the reference."""
    if "allOf" in schema and len(schema["allOf"]) == 1:
        schema = {**schema, **schema["allOf"][0]}
    if "$ref" not in schema:
        return schema
    return {**_resolved(definitions[schema["$ref"].rpartition("/")[2]], definitions), **schema}


def _dtype(field: Mapping[str, Any], categories: Sequence[Any]) -> DType:
    if categories:
        kinds = {type(value) for value in categories}
        return {str: "string", int: "int64", bool: "bool"}.get(kinds.pop(), "any") if len(kinds) == 1 else "any"  # type: ignore[return-value]
    kind = field.get("type")
    if kind == "string" and "format" in field:
        return _FORMATS.get(field["format"], "string")
    return _DTYPES.get(str(kind), "any")
