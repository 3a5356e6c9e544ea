"""Random objects from a structural schema of a resource definition; what CEL rules say is left out."""

import re
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

Schema = Mapping[str, Any]
_ANYTHING = st.recursive(
    st.booleans() | st.integers(-5, 100_000) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=3),
    max_leaves=5,
)
#: Texts for patterns that take hypothesis long, and that it finds nothing sensible for.
_DURATIONS = st.sampled_from(["0s", "1s", "30s", "5m", "2h", "1500ms"])
_INT_OR_PERCENT = st.integers(0, 20) | st.sampled_from(["0%", "25%", "100%"])
_URIS = st.sampled_from(["s3://models/good", "https://models.example.com/m.onnx", "pvc://claim/m", "file:///m.joblib"])


def values(schema: Schema, name: str = "") -> st.SearchStrategy[Any]:
    """Return values that a schema lets through.

    Args:
        name: of the field, for texts that rules narrow further.
    """
    if schema.get("x-kubernetes-int-or-string"):
        return _INT_OR_PERCENT
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "object":
            return _objects(schema)
        case "array":
            longest = min(schema.get("maxItems", 3), 3)
            return st.lists(values(schema["items"]), min_size=min(schema.get("minItems", 0), 3), max_size=longest)
        case "string":
            return _texts(schema, name)
        case "integer":
            return st.integers(schema.get("minimum", -5), min(schema.get("maximum", 100_000), 100_000))
        case "number":
            lowest = schema.get("minimum", 0) + (0.001 if schema.get("exclusiveMinimum") else 0)
            return st.floats(lowest, min(schema.get("maximum", 1000), 1000), allow_nan=False)
        case "boolean":
            return st.booleans()
    return _ANYTHING


def _objects(schema: Schema) -> st.SearchStrategy[Any]:
    if "properties" not in schema:
        inner = schema.get("additionalProperties")
        return st.dictionaries(
            st.text("abc", min_size=1, max_size=5), values(inner) if inner else _ANYTHING, max_size=2
        )
    fields = {name: values(field, name) for name, field in schema["properties"].items()}
    required = {name: fields.pop(name) for name in schema.get("required", ())}
    return st.fixed_dictionaries(required, optional=fields)


def _texts(schema: Schema, name: str) -> st.SearchStrategy[str]:
    if name == "storageUri":
        return _URIS
    pattern = schema.get("pattern", "")
    if "(ms|s|m|h" in pattern:
        return _DURATIONS
    if pattern:
        return st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True).filter(lambda text: len(text) < 64)
    return st.text(
        "abcXYZ/:.-0 1", min_size=min(schema.get("minLength", 0), 8), max_size=min(schema.get("maxLength", 8), 8)
    )
