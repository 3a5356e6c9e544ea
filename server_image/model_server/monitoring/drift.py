"""Whether the inputs still look like the training data: PSI, KS and sequential evidence for each feature.

The reference is the package's profile, or the first rows that were served. A feature has drifted when both are so: the
evidence of a change has passed 1/alpha, however often it is looked at (`evidence.py`), and the change is so large that
it matters, in the same window of rows (`drift_windows.py`).
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
from model_server.monitoring.drift_windows import BINS, LENGTHS, MOST_FEATURES, DriftWindows
from model_server.monitoring.evidence import ALPHA, lifetime_evidence, log_evidence
from model_server.monitoring.statistics import ks, psi, unbiased_psi
from model_server.telemetry import LABELS, Telemetry

log = logging.getLogger(__name__)

# Below this the index is mostly noise: its expectation without any drift is about bins / rows.
FEWEST_ROWS = 200
# Once a window has shown by evidence that there is a change, its index needs fewer.
FEWEST_ROWS_OF_WINDOW = 100


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureDrift:
    """How far a feature is from its reference, how strong the evidence is, and what follows."""

    name: str
    psi: float
    ks: float | None
    evidence: float
    is_drifted: bool


class Drift(Collector):
    """Counts inputs by bin and shows each feature's distance from the reference."""

    def __init__(
        self, features: Sequence[Feature], reference: Mapping[str, Bins] | int, threshold: float, telemetry: Telemetry
    ) -> None:
        self._names = [feature.name for feature in features][:MOST_FEATURES]
        self._threshold = threshold
        self._telemetry = telemetry
        self._windows = DriftWindows(telemetry.values)
        self._bins: Mapping[str, Bins] = reference if not isinstance(reference, int) else {}
        self._still_needed = reference if isinstance(reference, int) else 0
        self._first: list[Inputs] = []
        self._seen: tuple[FeatureDrift, ...] = ()
        telemetry.registry.register(self)

    def update(self, batches: Sequence[Inputs]) -> None:
        """Count the inputs of some requests of this worker, and compare what all workers have counted."""
        if self._still_needed:
            self._learn(batches)
            return
        places = [(place, name) for place, name in enumerate(self._names) if name in self._bins]
        if not places:
            return
        if batches:
            columns = {place: self._column(batches, place, name) for place, name in places}
            self._windows.begin(len(columns[places[0][0]]))
            for place, name in places:
                self._windows.add(place, self._bins[name].count(columns[place]))
        starts = self._windows.starts()
        found = (self._compare(place, name, tests=len(places), starts=starts) for place, name in places)
        self._seen = tuple(one for one in found if one is not None)

    @property
    def drifted(self) -> tuple[str, ...]:
        """The features that have drifted."""
        return tuple(one.name for one in self._seen if one.is_drifted)

    def collect(self) -> Iterable[Metric]:
        labels = self._telemetry.identity.labels
        score = GaugeMetricFamily(
            "modeldeploy_drift_score",
            "Distance of a feature from its reference.",
            labels=(*LABELS, "feature", "method"),
        )
        evidence = GaugeMetricFamily(
            "modeldeploy_drift_evidence",
            "E-value against the reference's distribution: 20 is a finding at 5 %, over all features and looks.",
            labels=(*LABELS, "feature"),
        )
        drifted = GaugeMetricFamily(
            "modeldeploy_drifted",
            "1 when a feature's PSI is above the threshold and the evidence is at least 20.",
            labels=(*LABELS, "feature"),
        )
        for one in self._seen:
            score.add_metric((*labels, one.name, "psi"), one.psi)
            if one.ks is not None:
                score.add_metric((*labels, one.name, "ks"), one.ks)
            evidence.add_metric((*labels, one.name), one.evidence)
            drifted.add_metric((*labels, one.name), float(one.is_drifted))
        yield score
        yield evidence
        yield drifted

    def _compare(self, place: int, name: str, *, tests: int, starts: Sequence[int]) -> FeatureDrift | None:
        """Compare all windows of one feature with its reference; None while there are few rows."""
        bins = self._bins[name]
        windows = self._windows.counts(place, len(bins.counts))
        rows = windows.sum(axis=1)
        longest = windows[int(np.argmax(rows))]
        if longest.sum() < FEWEST_ROWS:
            return None
        logs = log_evidence(bins.counts, windows).tolist()
        # Short and long windows share alpha.
        tests *= len(set(LENGTHS))
        evidence = [lifetime_evidence(one, tests=tests, number=start) for one, start in zip(logs, starts, strict=True)]
        return FeatureDrift(
            name=name,
            psi=psi(bins.counts, longest),
            ks=ks(bins.counts, longest) if bins.edges else None,
            evidence=max(evidence),
            is_drifted=any(
                value >= 1 / ALPHA
                and count >= FEWEST_ROWS_OF_WINDOW
                and unbiased_psi(bins.counts, window) > self._threshold
                for value, count, window in zip(evidence, rows, windows, strict=True)
            ),
        )

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
