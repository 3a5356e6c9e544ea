"""The definition of ModelPools: what Kubernetes demands of it, and that the structs read the same fields."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import msgspec
import pytest
import yaml

from model_operator.api.pool import PoolSpec
from model_operator.api.values import struct_in

ROOT = Path(__file__).resolve().parents[3]
CRD = yaml.safe_load((ROOT / "crds" / "modelpools.yaml").read_text())
SPEC = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
OPAQUE = {"env", "resources", "podTemplate"}


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
def test_kubernetes_knows_every_word_of_the_definition(version: str) -> None:
    kubernetes_validate.validate(CRD, version, strict=True)


@pytest.mark.parametrize("folder", ["helm/modeldeploy/crds", "cli/modeldeploy/data"])
def test_the_chart_and_the_command_line_link_to_it(folder: str) -> None:
    assert (ROOT / folder / "modelpools.yaml").resolve() == ROOT / "crds" / "modelpools.yaml"


def test_the_structs_have_the_fields_and_defaults_of_the_definition() -> None:
    compare(PoolSpec, SPEC, "spec")


def compare(struct: type[msgspec.Struct], schema: dict[str, Any], path: str) -> None:
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    assert set(fields) == set(schema["properties"]), path
    for name, field in fields.items():
        written = schema["properties"][name]
        assert field.required == (name in schema.get("required", ())), f"{path}.{name}"
        if written.get("default") not in (None, {}, []):
            assert field.default == written["default"], f"{path}.{name}"
        inner = struct_in(field.type)
        written = written.get("items", written)
        if inner is not None and name not in OPAQUE:
            compare(inner, written, f"{path}.{name}")
