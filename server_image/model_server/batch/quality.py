"""What the report says of a batch's inputs and predictions: sums of each shard, which add up to those of the batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct, field

from model_server.domain.model import LoadedModel
from model_server.domain.tensors import Array, Inputs, Outputs, rows_of
from model_server.monitoring.drift import FEWEST_ROWS, Bins, find_reference
from model_server.monitoring.drift_windows import MOST_FEATURES
from model_server.monitoring.statistics import ks, psi

#: The most classes, or other values, that are counted one by one.
MOST_VALUES = 100


class Numbers(Struct, kw_only=True):
    """Sums of a column of numbers."""

    count: int = 0
    total: float = 0.0
    least: float | None = None
    most: float | None = None

    def add(self, values: Array) -> None:
        """Count the finite values of an array."""
        present = values[np.isfinite(values)]
        if len(present):
            self.merge(
                Numbers(
                    count=len(present),
                    total=float(present.sum()),
                    least=float(present.min()),
                    most=float(present.max()),
                )
            )

    def merge(self, other: Numbers) -> None:
        """Add other sums."""
        self.count, self.total = self.count + other.count, self.total + other.total
        least = [value for value in (self.least, other.least) if value is not None]
        most = [value for value in (self.most, other.most) if value is not None]
        self.least, self.most = min(least, default=None), max(most, default=None)

    def shown(self) -> dict[str, Any]:
        """As the report has them; empty without values."""
        return {"min": self.least, "max": self.most, "mean": self.total / self.count} if self.count else {}


class Column(Struct, kw_only=True):
    """Sums of one feature: `bins` as in the reference, empty without one."""

    missing: int = 0
    numbers: Numbers = field(default_factory=Numbers)
    bins: list[int] = []


class Quality(Struct, kw_only=True):
    """Sums of the rows that were predicted."""

    rows: int = 0
    columns: dict[str, Column] = {}
    prediction: Numbers = field(default_factory=Numbers)
    values: dict[str, int] = {}

    def merge(self, other: Quality) -> None:
        """Add the sums of another shard."""
        self.rows += other.rows
        self.prediction.merge(other.prediction)
        self.values = _most_frequent(Counter(self.values) + Counter(other.values))
        for name, column in other.columns.items():
            mine = self.columns.setdefault(name, Column(bins=[0] * len(column.bins)))
            mine.missing += column.missing
            mine.numbers.merge(column.numbers)
            mine.bins = [a + b for a, b in zip(mine.bins, column.bins, strict=True)]


class Observer:
    """Counts the rows of one shard."""

    def __init__(self, loaded: LoadedModel) -> None:
        names = [feature.name for feature in loaded.adapter.features][:MOST_FEATURES]
        self._bins = reference_of(loaded)
        self.quality = Quality(columns={name: Column(bins=self._empty(name)) for name in names})

    def add(self, inputs: Inputs, outputs: Outputs) -> None:
        """Count the rows of one call of the model."""
        self.quality.rows += rows_of(outputs)
        for place, (name, column) in enumerate(self.quality.columns.items()):
            values = inputs[name] if name in inputs else next(iter(inputs.values()))[:, place]
            self._add(name, column, values)
        prediction = next(iter(outputs.values()))
        if prediction.ndim == 1 and prediction.dtype.kind == "f":
            self.quality.prediction.add(prediction)
        elif prediction.ndim == 1:
            values = prediction.tolist()
            # Of objects, 1 and True are equal and not the same.
            counts = Counter(map(str, values) if prediction.dtype == object else values)
            named = Counter({str(value): count for value, count in counts.items()})
            self.quality.values = _most_frequent(Counter(self.quality.values) + named)

    def _add(self, name: str, column: Column, values: Array) -> None:
        if values.dtype.kind in "fiu":
            numbers = values.astype(np.float64, copy=False)
            column.missing += int(np.isnan(numbers).sum())
            column.numbers.add(numbers)
        elif values.dtype == object:
            column.missing += values.tolist().count(None)
        bins = self._bins.get(name)
        if bins is not None:
            counted = bins.count(values).tolist()
            column.bins = [a + b for a, b in zip(column.bins, counted, strict=True)]

    def _empty(self, name: str) -> list[int]:
        return [0] * len(self._bins[name].counts) if name in self._bins else []


def reference_of(loaded: LoadedModel) -> Mapping[str, Bins]:
    """The reference profile of the package; empty where it has none."""
    found = find_reference("package", loaded.metadata)
    return found if not isinstance(found, int) else {}


def report(shards: Iterable[Quality], reference: Mapping[str, Bins], threshold: float) -> dict[str, Any]:
    """The part of the report about inputs and predictions."""
    whole = Quality()
    for one in shards:
        whole.merge(one)
    features = {name: _feature(column, reference.get(name), threshold) for name, column in whole.columns.items()}
    drifted = [name for name, one in features.items() if one.get("drifted")]
    prediction: dict[str, Any] = whole.prediction.shown()
    if whole.values:
        prediction["values"] = whole.values
    return {"rows": whole.rows, "drifted": drifted, "features": features, "prediction": prediction}


def _feature(column: Column, reference: Bins | None, threshold: float) -> dict[str, Any]:
    shown: dict[str, Any] = {"missing": column.missing, **column.numbers.shown()}
    if reference is not None and sum(column.bins) >= FEWEST_ROWS:
        distance = psi(reference.counts, column.bins)
        shown["psi"] = distance
        if reference.edges:
            shown["ks"] = ks(reference.counts, column.bins)
        shown["drifted"] = distance > threshold
    return shown


def _most_frequent(counts: Mapping[str, int]) -> dict[str, int]:
    """The most frequent values, by name: the same whatever came first."""
    kept: Sequence[tuple[str, int]] = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:MOST_VALUES]
    return dict(sorted(kept))
