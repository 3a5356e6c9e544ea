"""The definition and the structs that read it have the same fields, with the same defaults.

A field of the definition that no struct has would do nothing; a default that differs would be one thing in the cluster
and another in the operator.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from model_operator.api.spec import SpecFields
from model_operator.api.steps import StepFields
from model_operator.api.strategy import RollingUpdate, StrategyFields
from model_operator.api.values import read, struct_in

FILE = Path(__file__).parents[3] / "crds/modeldeployments.yaml"
SPEC = yaml.safe_load(FILE.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]

#: Defaults that the definition cannot have: its rules tell what was written from what was not.
ONLY_IN_STRUCTS = {
    "spec.replicas": 1,
    "spec.strategy": StrategyFields(rolling_update=RollingUpdate()),
    "spec.strategy.canary.steps.analysis.minDuration": timedelta(0),
    "spec.strategy.canary.steps": tuple(StepFields(set_weight=weight) for weight in (5, 25, 50)),
    **{
        f"spec.strategy.{strategy}.analysis.metrics.{field}": default
        for strategy in ("canary", "blueGreen")
        for field, default in (("tolerance", 0.0), ("distance", "Absolute"))
    },
}
REQUIRED = msgspec.NODEFAULT


def fields_of_schema(schema: dict[str, Any], path: str = "spec") -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Yield path, schema and whether it is required of each field, those in lists without an index."""
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}", field, name in schema.get("required", ())
        yield from fields_of_schema(field.get("items", field), f"{path}.{name}")


def fields_of_struct(struct: type[msgspec.Struct], path: str = "spec") -> Iterator[tuple[str, Any, Any]]:
    """Yield path, type and default (`REQUIRED` without one) of each field."""
    for field in msgspec.structs.fields(struct):
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        yield f"{path}.{field.encode_name}", field.type, default
        inner = struct_in(field.type)
        if inner is not None:
            yield from fields_of_struct(inner, f"{path}.{field.encode_name}")


STRUCTS = {path: (type_, default) for path, type_, default in fields_of_struct(SpecFields)}
#: JSON that is passed through as it was written.
OPAQUE = {path for path, (type_, _) in STRUCTS.items() if "Mapping[str, typing.Any]" in str(type_)}
SCHEMA = {
    path: (schema, is_required)
    for path, schema, is_required in fields_of_schema(SPEC)
    if not any(path.startswith(f"{opaque}.") for opaque in OPAQUE)
}


def test_the_fields_are_the_same() -> None:
    assert set(STRUCTS) == set(SCHEMA)


def test_only_json_of_other_kinds_is_passed_through() -> None:
    names = {path.rpartition(".")[2] for path in OPAQUE}
    assert names == {"behavior", "env", "jobTemplate", "metrics", "podTemplate", "resources"}
    assert "spec.autoscaling.metrics" in OPAQUE
    assert "spec.strategy.canary.analysis.metrics" not in OPAQUE


@pytest.mark.parametrize("path", SCHEMA)
def test_a_field_has_the_default_of_the_definition(path: str) -> None:
    type_, default = STRUCTS[path]
    schema, is_required = SCHEMA[path]
    assert (default is REQUIRED) == is_required
    if is_required:
        return
    if "default" in schema:
        assert default == read(schema["default"], type_, path)
    elif path in ONLY_IN_STRUCTS:
        assert default == ONLY_IN_STRUCTS[path]
    else:
        assert default in (None, "", (), {}) or is_empty(default), "the definition has no default"


def is_empty(default: Any) -> bool:
    """Whether an object is what is read where nothing is written."""
    return isinstance(default, msgspec.Struct) and default == type(default)()
