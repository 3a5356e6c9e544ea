"""What the tests of `modeldeploy import` hold a conversion to: lint finds nothing, servers take its model.yaml."""

from typing import Any

from model_server.domain.features import Metadata
from model_server.validation import validate
from modeldeploy.importing.values import Conversion, manifest
from modeldeploy.lint import check_object, read_definitions

DEFINITION = read_definitions()["ModelDeployment"]
_ELSEWHERE = {"storageUri": "s3://models/imported"}


def spec_of(conversion: Conversion, *, has_files: bool = True) -> dict[str, Any]:
    """Return the spec, after the ModelDeployment and the model.yaml were checked."""
    brings_files = has_files and "storageUri" not in conversion.spec.get("model", {})
    body = manifest(conversion, _ELSEWHERE if brings_files else {})
    assert check_object(body, DEFINITION) == []
    validate(dict(conversion.metadata), Metadata)
    spec: dict[str, Any] = body["spec"]
    return spec


def told(conversion: Conversion) -> dict[str, str]:
    """Return what became of each field that a finding names."""
    return {one.path: str(one.verdict) for one in conversion.findings}


def message_about(conversion: Conversion, path: str) -> str:
    """Return what is said about a field."""
    return next(one.message for one in conversion.findings if one.path == path)
