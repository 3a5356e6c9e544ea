"""MLflow folders: an `MLmodel` file names a flavor, and the flavor names the artifact that a loader here reads."""

from __future__ import annotations

import json
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
}


class Described(NamedTuple):
    """What an MLmodel file says."""

    format: Format
    artifact: str
    metadata: Metadata


def read_mlmodel(path: Path) -> Described:
    """Flavor, artifact and signature. Raises MetadataInvalid, or FormatUnknown that lists the flavors found."""
    # Imported only here: few packages are MLflow's.
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        flavors = document["flavors"]
        formats = {known.name: known for known in known_formats().values() if known.mlflow_entry}
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
    features = _features((document.get("signature") or {}).get("inputs"))
    version = str(document.get("model_uuid") or "")[:12]
    # A wrapper of LightGBM is pickled, whatever its flavor is called.
    suffix = PurePosixPath(artifact).suffix.lower()
    form = next((one for one in known_formats().values() if suffix in one.suffixes), flavor)
    return Described(form, artifact, Metadata(version=version, input_features=features))


def _features(inputs: Any) -> tuple[Feature, ...]:
    """Named columns of a signature; a tensor signature names none."""
    if not isinstance(inputs, str):
        return ()
    columns = json.loads(inputs)
    if not all(isinstance(column, dict) and column.get("name") and column.get("type") in _DTYPES for column in columns):
        return ()
    return tuple(_feature(column["name"], _DTYPES[column["type"]], column.get("required", True)) for column in columns)


def _feature(name: str, dtype: DType, required: bool) -> Feature:
    """An optional column may be missing, where the dtype has a value for that."""
    return Feature(name=name, dtype=dtype, nullable=not required and dtype in ("float64", "float32", "string"))
