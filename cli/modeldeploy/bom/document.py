"""The bill of materials of a model package, in CycloneDX 1.6. Pure: the same package gives the same bytes.

Written as plain values: `cyclonedx-python-lib`, the library of the field, has no model cards and no data sets yet
(its issue 912). The tests validate the result with that library's own schemas.
https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from modeldeploy.bom.package import Dataset, Document, Package
from modeldeploy.bom.requirements import Library
from modeldeploy.package.signing import SIGNATURE
from modeldeploy.requests import Refused

MEDIA_TYPE = "application/vnd.cyclonedx+json"
_SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
_PREFIX = "modeldeploy:"
#: The property with the digest of the package.
DIGEST = f"{_PREFIX}sha256"
Fields = dict[str, Any]


def bom_of(
    package: Package,
    datasets: Sequence[Dataset] = (),
    evaluation: Document | None = None,
    *,
    tool_version: str,
    made_at: datetime | None = None,
) -> str:
    """Return the document, as JSON that ends with a line break.

    Args:
        datasets: data that the model was trained with.
        evaluation: what `python -m model_server evaluate` wrote.
        tool_version: version of this program.
        made_at: a time to write down, by which documents of the same package would differ.

    Raises:
        Refused: model.yaml has a field of another type than the model server reads.
    """
    model = f"model:{package.sha256}"
    libraries = package.libraries or ()
    datasets = list({_data_reference(one): one for one in datasets}.values())
    tool = {"type": "application", "name": "modeldeploy", "version": tool_version}
    document: Fields = {
        "$schema": _SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            **({"timestamp": made_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")} if made_at else {}),
            "tools": {"components": [tool]},
            "component": _model(package, model, datasets, evaluation or {}),
        },
        "components": [*_files(package.files), *map(_library, libraries), *_data(datasets)],
        "dependencies": [
            {"ref": model, "dependsOn": list(map(_reference, libraries))},
            *({"ref": _reference(library)} for library in libraries),
        ],
    }
    # By what the document says, so that it changes when and only when that does.
    serial = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(document, sort_keys=True))
    head = {name: document.pop(name) for name in ("$schema", "bomFormat", "specVersion")}
    whole = {**head, "serialNumber": f"urn:uuid:{serial}", **document}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _model(package: Package, reference: str, datasets: Sequence[Dataset], evaluation: Document) -> Fields:
    metadata, card = package.metadata, package.card
    licenses = [{"license": {"name": str(card["license"])}}] if card.get("license") else None
    return _present(
        {
            "type": "machine-learning-model",
            "bom-ref": reference,
            "name": _words(metadata, "name") or package.name,
            "version": _words(metadata, "version"),
            "description": _words(metadata, "description"),
            "licenses": licenses,
            "externalReferences": list(_signature(package)),
            "properties": _properties({"sha256": package.sha256, "format": _format(package), **_mlflow(package)}),
            "modelCard": _model_card(package, datasets, evaluation),
        }
    )


def _model_card(package: Package, datasets: Sequence[Dataset], evaluation: Document) -> Fields:
    metadata, config = package.metadata, package.config
    inputs, outputs = (list(_features(metadata, field)) for field in ("input_features", "output_features"))
    architectures = config.get("architectures")
    parameters = {
        "task": _words(metadata, "task") or str(package.card.get("pipeline_tag") or ""),
        "architectureFamily": str(config.get("model_type") or ""),
        "modelArchitecture": str(architectures[0]) if isinstance(architectures, list) and architectures else "",
        "datasets": [*({"ref": _data_reference(one)} for one in datasets), *_told_datasets(package)],
        "inputs": _formats(inputs),
        "outputs": _formats(outputs),
    }
    metrics = [*_metrics(metadata), *_evaluated(evaluation)]
    hyperparameters = _fields(metadata, "hyperparameters")
    properties = {
        **{f"input:{name}": dtype for name, dtype in inputs},
        **{f"output:{name}": dtype for name, dtype in outputs},
        **{f"hyperparameter:{name}": _value(value) for name, value in hyperparameters.items()},
        "evaluation:rows": _value(evaluation["rows"]) if evaluation.get("rows") else "",
    }
    return _present(
        {
            "modelParameters": _present(parameters),
            "quantitativeAnalysis": {"performanceMetrics": metrics} if metrics else None,
            "properties": _properties(properties),
        }
    )


def _features(metadata: Document, field: str) -> Iterator[tuple[str, str]]:
    """Name and type of each feature."""
    features = metadata.get(field) or ()
    if not isinstance(features, list | tuple) or not all(isinstance(one, dict) and one.get("name") for one in features):
        raise Refused(f"model.yaml: {field} is no list of features, each with a name")
    for feature in features:
        yield str(feature["name"]), str(feature.get("dtype") or "float64")


def _formats(features: Iterable[tuple[str, str]]) -> list[Fields]:
    return [{"format": dtype} for dtype in dict.fromkeys(dtype for _, dtype in features)]


def _metrics(metadata: Document) -> Iterator[Fields]:
    for name, value in _fields(metadata, "metrics").items():
        yield {"type": str(name), "value": _value(value)}
    calibration = _fields(metadata, "calibration")
    for field in ("raw_error", "error"):
        if field in calibration:
            yield {"type": f"calibration {field.replace('_', ' ')}", "value": _value(calibration[field])}


def _evaluated(evaluation: Document) -> Iterator[Fields]:
    """Metrics of an evaluation, those of each group as slices of the data."""
    for name, value in (evaluation.get("metrics") or {}).items():
        yield {"type": str(name), "value": _value(value)}
    columns = _fields(evaluation, "groups")
    for column in columns:
        groups = _fields(columns, column)
        for group in groups:
            values = _fields(groups, group)
            for name, value in values.items():
                if name in ("rows", "low", "high"):
                    continue
                interval = {"lowerBound": values.get("low"), "upperBound": values.get("high")}
                is_accuracy = name == "accuracy" and None not in interval.values()
                bounds = {"confidenceInterval": {end: _value(bound) for end, bound in interval.items()}}
                sliced = {"type": str(name), "value": _value(value), "slice": f"{column}={group}"}
                yield sliced | (bounds if is_accuracy else {})


def _told_datasets(package: Package) -> Iterator[Fields]:
    """Data sets that the package itself tells of: by name, or by their distribution."""
    named = package.card.get("datasets") or ()
    for name in [named] if isinstance(named, str) else named:
        yield {"type": "dataset", "name": str(name), "contents": {"url": f"hf://datasets/{quote(str(name))}"}}
    profile = _fields(package.metadata, "reference_profile")
    if profile:
        rows, known = max(map(_rows, profile.values())), len(profile)
        yield {
            "type": "dataset",
            "name": "training data",
            "description": f"{rows} rows; reference_profile of model.yaml has the distributions of {known} features",
        }


def _rows(reference: Any) -> int:
    """How many rows a feature's distribution was made of."""
    try:
        categories = reference.get("categories")
        counts = list(categories.values()) if categories else list(reference["counts"])
        return sum(int(one) for one in [*counts, reference.get("missing") or 0])
    except (AttributeError, KeyError, TypeError, ValueError):
        raise Refused("model.yaml: reference_profile has an entry that is no distribution") from None


def _data(datasets: Iterable[Dataset]) -> Iterator[Fields]:
    for dataset in datasets:
        content: Fields = {"type": "dataset", "name": dataset.name}
        if dataset.url:
            content |= {"contents": {"url": dataset.url}}
        yield _present(
            {
                "type": "data",
                "bom-ref": _data_reference(dataset),
                "name": dataset.name,
                "hashes": [_hash(dataset.sha256)] if dataset.sha256 else None,
                "data": [content],
            }
        )


def _data_reference(dataset: Dataset) -> str:
    return f"data:{dataset.sha256 or quote(dataset.url, safe='')}"


def _files(files: Mapping[str, str]) -> Iterator[Fields]:
    for name, sha256 in files.items():
        yield {"type": "file", "bom-ref": f"file:{quote(name)}", "name": name, "hashes": [_hash(sha256)]}


def _library(library: Library) -> Fields:
    references = []
    if library.url or library.sha256:
        hashes = {"hashes": [_hash(one) for one in library.sha256]} if library.sha256 else {}
        references = [{"type": "distribution", "url": library.url or library.purl, **hashes}]
    written = {"specifier": "" if library.version else library.specifier, "marker": library.marker}
    return _present(
        {
            "type": "library",
            "bom-ref": _reference(library),
            "name": library.name,
            "version": library.version,
            "purl": library.purl,
            "externalReferences": references,
            "properties": _properties(written),
        }
    )


def _reference(library: Library) -> str:
    return library.purl + (f"#{quote(library.marker)}" if library.marker else "")


def _signature(package: Package) -> Iterator[Fields]:
    if SIGNATURE in package.files:
        material = _fields(package.signature, "verificationMaterial")
        by = "a key" if "publicKey" in material else "an identity"
        yield {
            "type": "digital-signature",
            "url": SIGNATURE,
            "comment": f"Signature of the other files by {by}: a Sigstore bundle in the OpenSSF model signing format",
            "hashes": [_hash(package.files[SIGNATURE])],
        }


def _format(package: Package) -> str:
    told = _words(package.metadata, "format")
    if told and told != "auto":
        return told
    flavors = [name for name in _fields(package.mlmodel, "flavors") if name != "python_function"]
    return f"mlflow ({flavors[0]})" if flavors else ""


def _mlflow(package: Package) -> Mapping[str, str]:
    named = {name: package.mlmodel.get(name) for name in ("mlflow_version", "model_uuid", "run_id")}
    return {f"mlflow:{name}": _value(value) for name, value in named.items() if value}


def _words(document: Document, field: str) -> str:
    value = document.get(field)
    if isinstance(value, dict | list):
        raise Refused(f"model.yaml: {field} is no text")
    return "" if value is None else str(value)


def _fields(document: Document, field: str) -> Document:
    value = document.get(field) or {}
    if not isinstance(value, dict):
        raise Refused(f"{field} holds a {type(value).__name__}, not fields")
    return value


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _properties(values: Mapping[str, str]) -> list[Fields]:
    return [{"name": f"{_PREFIX}{name}", "value": value} for name, value in values.items() if value]


def _hash(sha256: str) -> Fields:
    return {"alg": "SHA-256", "content": sha256}


def _present(fields: Mapping[str, Any]) -> Fields:
    """The fields without those that say nothing."""
    return {name: value for name, value in fields.items() if value not in (None, "", [], {})}
