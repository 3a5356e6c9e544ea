"""Whether the inputs still look like the training data: PSI and KS for each feature.

The reference is the package's profile, or the first rows that were served. The window forgets: it
halves its counts when it is full, so that old traffic fades.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from model_server.domain.features import Feature, Metadata, ReferenceFeature
from model_server.domain.tensors import Array, Inputs
from model_server.errors import SettingsInvalid
from model_server.monitoring.statistics import ks, psi
from model_server.telemetry import LABELS, Telemetry

log = logging.getLogger(__name__)

BINS = 24
MOST_FEATURES = 128
WINDOW_ROWS = 10_000
# Below this the index is mostly noise: its expectation without any drift is about bins / rows.
FEWEST_ROWS = 200


@dataclass(frozen=True, slots=True)
class Bins:
    """How one feature's values are sorted into bins, and how many the reference had in each."""

    counts: tuple[int, ...]
    edges: tuple[float, ...] = ()
    categories: tuple[object, ...] = ()

    def count(self, values: Array) -> Array:
        """Counts by bin, shape (bins,).

        Values beyond the outer edges belong to the outer bins; the last bin of categories is for others.
        """
        if self.categories:
            counts = [np.count_nonzero(values == category) for category in self.categories]
            return np.array([*counts, len(values) - sum(counts)])
        if values.dtype == object:
            # A column of anything: what is no number has no place among the edges.
            values = np.array([value for value in values if type(value) in (int, float)], dtype=np.float64)
        present = values[~np.isnan(values.astype(np.float64))]
        places = np.searchsorted(np.array(self.edges[1:-1]), present, side="right")
        return np.bincount(places, minlength=len(self.edges) - 1)


def find_reference(setting: str, metadata: Metadata) -> Mapping[str, Bins] | int:
    """The package's profile (empty when it has none), or the number of first rows to learn one from."""
    if setting.isdigit() and int(setting) >= FEWEST_ROWS:
        return int(setting)
    if setting != "package":
        raise SettingsInvalid(
            f"drift reference is {setting!r}", hint=f"Write package, or a number of first rows from {FEWEST_ROWS}."
        )
    features = {feature.name: feature for feature in metadata.input_features}
    found = {name: _bins_of(name, one, features.get(name)) for name, one in metadata.reference_profile.items()}
    return {name: bins for name, bins in found.items() if bins is not None}


def _bins_of(name: str, reference: ReferenceFeature, feature: Feature | None) -> Bins | None:
    if reference.categories is not None:
        given = reference.categories
        categories = given if feature is None else [feature.value_of(text) for text in given]
        bins = Bins(counts=(*given.values(), 0), categories=tuple(categories))
    else:
        bins = Bins(counts=reference.counts or (), edges=reference.edges or ())
    if len(bins.counts) > BINS or sum(bins.counts) == 0:
        log.warning("the reference profile of %s cannot be used: it needs 1 to %d bins with counts", name, BINS)
        return None
    return bins


def learn(values: Array) -> Bins | None:
    """Ten bins of equal counts from the first values; None for a feature that never varies or is text."""
    if values.dtype.kind not in "fiu":
        return None
    present = values[~np.isnan(values.astype(np.float64))]
    edges = np.unique(np.quantile(present, np.linspace(0, 1, 11))) if len(present) else np.array([])
    if len(edges) < 3:
        return None
    bins = Bins(counts=(0,) * (len(edges) - 1), edges=tuple(edges.tolist()))
    return Bins(counts=tuple(int(count) for count in bins.count(present)), edges=bins.edges)


class Drift(Collector):
    """Counts inputs by bin and shows each feature's distance from the reference."""

    def __init__(
        self, features: Sequence[Feature], reference: Mapping[str, Bins] | int, threshold: float, telemetry: Telemetry
    ) -> None:
        self._names = [feature.name for feature in features][:MOST_FEATURES]
        self._threshold = threshold
        self._telemetry = telemetry
        self._counts = telemetry.values.declare(MOST_FEATURES * BINS)
        self._bins: Mapping[str, Bins] = reference if not isinstance(reference, int) else {}
        self._still_needed = reference if isinstance(reference, int) else 0
        self._first: list[Inputs] = []
        telemetry.registry.register(self)

    def update(self, batches: Sequence[Inputs]) -> None:
        """Count the inputs of some requests."""
        if self._still_needed:
            self._learn(batches)
        elif self._bins and batches:
            for place, name in enumerate(self._names):
                bins = self._bins.get(name)
                if bins is not None:
                    self._add(place, bins.count(self._column(batches, place, name)))

    def collect(self) -> Iterable[Metric]:
        labels = self._telemetry.identity.labels
        score = GaugeMetricFamily(
            "modeldeploy_drift_score",
            "Distance of a feature from its reference.",
            labels=(*LABELS, "feature", "method"),
        )
        drifted = GaugeMetricFamily(
            "modeldeploy_drifted", "1 when a feature's PSI is above the threshold.", labels=(*LABELS, "feature")
        )
        for place, name in enumerate(self._names):
            bins = self._bins.get(name)
            if bins is None:
                continue
            counts = [self._telemetry.values.sum(self._first_count(place) + index) for index in range(len(bins.counts))]
            if sum(counts) < FEWEST_ROWS:
                continue
            distance = psi(bins.counts, counts)
            score.add_metric((*labels, name, "psi"), distance)
            if bins.edges:
                score.add_metric((*labels, name, "ks"), ks(bins.counts, counts))
            drifted.add_metric((*labels, name), float(distance > self._threshold))
        yield score
        yield drifted

    def _learn(self, batches: Sequence[Inputs]) -> None:
        self._first += batches
        columns = {name: self._column(self._first, place, name) for place, name in enumerate(self._names)}
        if columns and len(next(iter(columns.values()))) >= self._still_needed:
            found = {name: learn(values) for name, values in columns.items()}
            self._bins = {name: bins for name, bins in found.items() if bins is not None}
            self._still_needed, self._first = 0, []
            log.info("drift reference learnt", extra={"features": len(self._bins)})

    def _column(self, batches: Sequence[Inputs], place: int, name: str) -> Array:
        parts = [inputs[name] if name in inputs else next(iter(inputs.values()))[:, place] for inputs in batches]
        return np.concatenate(parts)

    def _first_count(self, place: int) -> int:
        return self._counts.first + place * BINS

    def _add(self, place: int, counts: Array) -> None:
        own, first = self._telemetry.values.own, self._first_count(place)
        for index, count in enumerate(counts.tolist()):
            own[first + index] += count
        if sum(own[first : first + BINS]) > WINDOW_ROWS:
            for cell in range(first, first + BINS):
                own[cell] /= 2
