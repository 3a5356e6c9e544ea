"""The model card of a bill of materials: parameters, data sets and metrics. `document.py` calls it. Pure.

https://cyclonedx.org/docs/1.6/json/#components_items_modelCard
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

from modeldeploy.bom.facts import Dataset, Document, Package
from modeldeploy.bom.fields import Fields, fields_of, properties_of, text_of, without_empty, words_of
from modeldeploy.requests import Refused


def model_card(package: Package, datasets: Sequence[Dataset], evaluation: Document) -> Fields:
    """Return the card; empty when nothing is known. Raises Refused for a field of a wrong type."""
    metadata, config = package.metadata, package.config
    inputs, outputs = (list(_features(metadata, field)) for field in ("input_features", "output_features"))
    architectures = config.get("architectures")
    parameters = {
        "task": words_of(metadata, "task") or str(package.card.get("pipeline_tag") or ""),
        "architectureFamily": str(config.get("model_type") or ""),
        "modelArchitecture": str(architectures[0]) if isinstance(architectures, list) and architectures else "",
        "datasets": [*({"ref": data_reference(one)} for one in datasets), *_told_datasets(package)],
        "inputs": _formats(inputs),
        "outputs": _formats(outputs),
    }
    metrics = [*_metrics(metadata), *_evaluated(evaluation)]
    hyperparameters = fields_of(metadata, "hyperparameters")
    properties = {
        **{f"input:{name}": dtype for name, dtype in inputs},
        **{f"output:{name}": dtype for name, dtype in outputs},
        **{f"hyperparameter:{name}": text_of(value) for name, value in hyperparameters.items()},
        "evaluation:rows": text_of(evaluation["rows"]) if evaluation.get("rows") else "",
    }
    return without_empty(
        {
            "modelParameters": without_empty(parameters),
            "quantitativeAnalysis": {"performanceMetrics": metrics} if metrics else None,
            "properties": properties_of(properties),
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
    for name, value in fields_of(metadata, "metrics").items():
        yield {"type": str(name), "value": text_of(value)}
    calibration = fields_of(metadata, "calibration")
    for field in ("raw_error", "error"):
        if field in calibration:
            yield {"type": f"calibration {field.replace('_', ' ')}", "value": text_of(calibration[field])}


def _evaluated(evaluation: Document) -> Iterator[Fields]:
    """Metrics of an evaluation, those of each group as slices of the data."""
    for name, value in (evaluation.get("metrics") or {}).items():
        yield {"type": str(name), "value": text_of(value)}
    columns = fields_of(evaluation, "groups")
    for column in columns:
        groups = fields_of(columns, column)
        for group in groups:
            values = fields_of(groups, group)
            for name, value in values.items():
                if name in ("rows", "low", "high"):
                    continue
                interval = {"lowerBound": values.get("low"), "upperBound": values.get("high")}
                is_accuracy = name == "accuracy" and None not in interval.values()
                bounds = {"confidenceInterval": {end: text_of(bound) for end, bound in interval.items()}}
                sliced = {"type": str(name), "value": text_of(value), "slice": f"{column}={group}"}
                yield sliced | (bounds if is_accuracy else {})


def _told_datasets(package: Package) -> Iterator[Fields]:
    """Data sets that the package itself tells of: by name, or by their distribution."""
    named = package.card.get("datasets")
    # Written by hand, and held to nothing: one name, a list of names, or something else.
    for name in [named] if isinstance(named, str) else named if isinstance(named, list) else []:
        yield {"type": "dataset", "name": str(name), "contents": {"url": f"hf://datasets/{quote(str(name))}"}}
    profile = fields_of(package.metadata, "reference_profile")
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


def data_reference(dataset: Dataset) -> str:
    """The name of a data set's component within the document."""
    return f"data:{dataset.sha256 or quote(dataset.url, safe='')}"
