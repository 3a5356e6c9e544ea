"""What the model answers, counted: by class for classifiers, in fixed buckets for numbers.

The buckets never depend on the data, so that the outputs of two revisions can be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from model_server.domain.model import LoadedModel
from model_server.domain.tensors import Array, Outputs
from model_server.telemetry import LABELS, Telemetry

# 1, 2, 5, 10, ... on both sides of zero.
_STEPS = [step * 10.0**power for power in range(-3, 6) for step in (1, 2, 5)]
BOUNDS = tuple([-step for step in reversed(_STEPS)] + [0.0] + _STEPS)
MOST_CLASSES = 64


class OutputCounts(Collector):
    """Counts predictions by class or bucket."""

    def __init__(self, loaded: LoadedModel, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._counted = telemetry.values.declare(MOST_CLASSES + 1)
        self._classes = loaded.class_labels[:MOST_CLASSES]
        telemetry.registry.register(self)

    def update(self, batches: Sequence[Outputs]) -> None:
        """Count the first output of some requests."""
        own, first = self._telemetry.values.own, self._counted.first
        for outputs in batches:
            values = next(iter(outputs.values()))
            for index, count in enumerate(self._counts(values)):
                own[first + index] += count

    def collect(self) -> Iterable[Metric]:
        labels = self._telemetry.identity.labels
        family = CounterMetricFamily(
            "modeldeploy_outputs", "Predictions by class or bucket.", labels=(*LABELS, "output")
        )
        names = [str(label) for label in self._classes] if self._classes else [f"{bound:g}" for bound in BOUNDS]
        names.append("other" if self._classes else "+Inf")
        for name, count in zip(names, self._telemetry.values.sums(self._counted), strict=False):
            if count:
                family.add_metric((*labels, name), count)
        yield family

    def _counts(self, values: Array) -> list[int]:
        if self._classes:
            counts = [int(np.count_nonzero(values == label)) for label in self._classes]
            return [*counts, values.size - sum(counts)]
        if values.dtype.kind not in "fiu":
            return []
        places = np.searchsorted(BOUNDS, values.reshape(-1), side="left")
        return [int(count) for count in np.bincount(places, minlength=len(BOUNDS) + 1)]
