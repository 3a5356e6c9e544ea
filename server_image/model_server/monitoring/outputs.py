"""What the model answers, counted: by class for classifiers, in fixed buckets for numbers.

The buckets never depend on the data, so that the outputs of two revisions can be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from model_server.lifecycle import Loaded
from model_server.telemetry import LABELS, OUTPUTS, Telemetry
from model_server.tensors import Array, Outputs

# 1, 2, 5, 10, ... on both sides of zero.
_STEPS = [step * 10.0**power for power in range(-3, 6) for step in (1, 2, 5)]
BOUNDS = tuple([-step for step in reversed(_STEPS)] + [0.0] + _STEPS)
MOST_CLASSES = OUTPUTS.size - 1


def classes_of(loaded: Loaded) -> tuple[object, ...]:
    """The labels a model can answer with: its own, else model.yaml's categories, else none."""
    if loaded.model.classes:
        return loaded.model.classes
    outputs = loaded.metadata.output_features
    return tuple(outputs[0].categories or ()) if outputs else ()


class OutputCounts(Collector):
    """Counts predictions by class or bucket."""

    def __init__(self, loaded: Loaded, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._classes = classes_of(loaded)[:MOST_CLASSES]
        telemetry.registry.register(self)

    def update(self, batches: Sequence[Outputs]) -> None:
        """Count the first output of some requests."""
        row = self._telemetry.row
        for outputs in batches:
            values = next(iter(outputs.values()))
            for index, count in enumerate(self._counts(values)):
                row[OUTPUTS.first + index] += count

    def collect(self) -> Iterable[Metric]:
        labels = self._telemetry.identity.labels
        family = CounterMetricFamily(
            "modeldeploy_outputs", "Predictions by class or bucket.", labels=(*LABELS, "output")
        )
        names = [str(label) for label in self._classes] if self._classes else [f"{bound:g}" for bound in BOUNDS]
        names.append("other" if self._classes else "+Inf")
        for name, count in zip(names, self._telemetry.cells.sums(OUTPUTS), strict=False):
            if count:
                family.add_metric((*labels, name), count)
        yield family

    def _counts(self, values: Array) -> list[int]:
        if self._classes:
            known = [int(np.count_nonzero(values == label)) for label in self._classes]
            return [*known, values.size - sum(known)]
        if values.dtype.kind not in "fiu":
            return []
        places = np.searchsorted(BOUNDS, values.reshape(-1), side="left")
        return [int(count) for count in np.bincount(places, minlength=len(BOUNDS) + 1)]
