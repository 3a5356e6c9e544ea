"""MLflow folders: an `MLmodel` file names a flavor, and the flavor names the artifact that a loader here reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from model_server.domain.features import DType, Feature, Metadata
from model_server.errors import FormatUnknown, MetadataInvalid
from model_server.package.formats import Format, known_formats

ML_MODEL = "MLmodel"
_DTYPES: dict[str, DType] = {
    "double": "float64",
    "float": "float32",
    "long": "int64",
    "integer": "int32",
    "string": "string",
    "boolean": "bool",
    "datetime": "datetime",
}


class Described(NamedTuple):
    """What an MLmodel file says."""

    format: Format
    artifact: str
    metadata: Metadata
    #: Folders of modules that the model imports (`code_paths`).
    code: tuple[str, ...] = ()
    #: The types of the signature's parameters, by name.
    params: Mapping[str, str] = {}


def read_mlmodel(path: Path) -> Described:
    """Flavor, artifact and signature. Raises MetadataInvalid, or FormatUnknown that lists the flavors found."""
    # Imported only here: few packages are MLflow's.
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        flavors = document["flavors"]
        formats = {format_.name: format_ for format_ in known_formats().values() if format_.mlflow_entry}
        found = [name for name in formats if name in flavors]
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise MetadataInvalid(f"{ML_MODEL} cannot be read: {error}", hint="Save the model again with MLflow.") from None
    if not found:
        raise FormatUnknown(
            f"{ML_MODEL} has the flavors {', '.join(sorted(flavors))}",
            hint=f"Flavors that are served: {', '.join(formats)}.",
        )
    # python_function wraps any of them.
    flavor = formats[found[0]]
    artifact = flavors[flavor.name].get(flavor.mlflow_entry)
    if not isinstance(artifact, str):
        raise MetadataInvalid(
            f"{ML_MODEL}: flavors.{flavor.name}.{flavor.mlflow_entry} is missing", hint="Save the model again."
        )
    signature = document.get("signature") or {}
    features = _features(signature.get("inputs"))
    params = _params(signature.get("params"))
    version = str(document.get("model_uuid") or "")[:12]
    # A wrapper of LightGBM is pickled, whatever its flavor is called.
    suffix = PurePosixPath(artifact).suffix.lower()
    form = next((one for one in known_formats().values() if suffix in one.suffixes), flavor)
    return Described(
        form, artifact, Metadata(version=version, input_features=features), _code(flavors, flavor.name), params
    )


def _code(flavors: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The folder of the model's own modules, below the package."""
    entries = (flavors[name], flavors.get("python_function") or {})
    found = next((one["code"] for one in entries if isinstance(one.get("code"), str)), "")
    path = PurePosixPath(found)
    if path.is_absolute() or ".." in path.parts:
        raise MetadataInvalid(f"{ML_MODEL}: code {found!r} must be a path inside the package")
    return (found,) if found else ()


def _features(inputs: Any) -> tuple[Feature, ...]:
    """Named columns of a signature; a tensor signature names none."""
    if not isinstance(inputs, str):
        return ()
    columns = _parsed(inputs, "inputs")
    named = isinstance(columns, list) and all(
        isinstance(column, dict) and isinstance(column.get("name"), str | int) for column in columns
    )
    # A tensor has a name where a graph has several inputs, which describe themselves.
    if not named or any(column.get("type") == "tensor" for column in columns):
        return ()
    return tuple(
        # Arrays, maps and objects are what the model's own code makes of them.
        _feature(str(column["name"]), _DTYPES.get(column.get("type"), "any"), column.get("required", True))
        for column in columns
    )


def _params(params: Any) -> dict[str, str]:
    """The declared parameters that are single values; lists of them may hold anything."""
    listed = _parsed(params, "params") if isinstance(params, str) else []
    return {
        str(one["name"]): str(one["type"])
        for one in (listed if isinstance(listed, list) else [])
        if isinstance(one, dict) and {"name", "type"} <= one.keys() and not one.get("shape")
    }


def _parsed(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise MetadataInvalid(
            f"{ML_MODEL}: signature.{name} is not JSON: {error}", hint="Save the model again."
        ) from None


def _feature(name: str, dtype: DType, required: bool) -> Feature:
    """An optional column may be missing, where the dtype has a value for that."""
    has_null = dtype in ("float64", "float32", "string", "datetime", "any")
    return Feature(name=name, dtype=dtype, nullable=not required and has_null)
