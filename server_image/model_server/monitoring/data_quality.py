"""Whether requests look like the training data: problems of single features, and rows that are far from all of it.

A feature's value is `missing`, an `unseen_category`, `out_of_range` (outside of the training data's) or of a
`wrong_type`. What the schema refused counts too: the `Problem` of the refusal names its feature and kind. All is
computed in the monitor's tick; a request costs nothing but its place in a list. `marginals.py` has the distance,
`rate_alarm.py` the test that names a feature.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from model_server.domain.features import Feature, Metadata
from model_server.domain.tensors import Array, Inputs
from model_server.errors import InvalidInput, ReferenceProfileMismatch, ReferenceProfileMissing
from model_server.monitoring.marginals import RARE, Marginal, distances, is_missing, threshold
from model_server.monitoring.rate_alarm import RateAlarm
from model_server.telemetry import LABELS, Telemetry

log = logging.getLogger(__name__)

PROBLEMS = ("missing", "unseen_category", "out_of_range", "wrong_type")
MISSING, UNSEEN, OUT_OF_RANGE, WRONG_TYPE = PROBLEMS
#: The problem of a row as a whole, which is of no feature.
OUTLIER = "outlier"
MOST_FEATURES = 128
#: Rows that one tick looks at; what comes beyond them is not inspected, and not counted.
MOST_ROWS = 50_000
#: Refused requests that are remembered between two ticks.
MOST_REFUSED = 5_000
#: Probability that a server ever names a feature whose rate is not above its limit.
ALPHA = 0.01
# The place of a problem that is of no feature.
_ROW = -1
# Requests after which what is older counts half.
_WINDOW = 1_000
# Distances as multiples of the threshold.
_MULTIPLES = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25, 1.5, 2.0, 4.0)
_TOTALS = ("requests", "bad_requests", "outlier_requests", "rows", "bad_rows", "outlier_rows")


def find_marginals(features: Sequence[Feature], metadata: Metadata) -> dict[int, Marginal]:
    """The distributions in the package's profile, by the place of their feature.

    Raises:
        ReferenceProfileMissing: the package has no profile.
        ReferenceProfileMismatch: its profile is of another model.
    """
    profile = metadata.reference_profile
    if not profile:
        raise ReferenceProfileMissing("data quality is asked for, and the package has no reference_profile")
    known = {feature.name: place for place, feature in enumerate(features)}
    for name in profile:
        if name not in known:
            has = f"the model has {', '.join(list(known)[:20])}" if known else "the model's inputs have no names"
            raise ReferenceProfileMismatch(f"reference_profile describes {name!r}, and {has}")
    found = {}
    for name, reference in profile.items():
        feature = features[known[name]]
        if reference.edges is not None and not (feature.is_numeric or feature.dtype == "any"):
            raise ReferenceProfileMismatch(
                f"reference_profile gives edges for {name!r}, which is of dtype {feature.dtype} for the model"
            )
        if feature.is_time or (feature.dtype == "any" and reference.categories is not None):
            log.warning("%s is not compared with the training data: it is of dtype %s", name, feature.dtype)
            continue
        try:
            found[known[name]] = Marginal.of(feature, reference)
        except ValueError as error:
            raise ReferenceProfileMismatch(f"reference_profile of {name!r}: {error}") from None
    compared = {place: found[place] for place in sorted(found) if place < MOST_FEATURES}
    if not compared:
        raise ReferenceProfileMismatch(
            f"reference_profile describes none of the first {MOST_FEATURES} features that is a number, text or a truth"
        )
    return compared


def limits_by_problem(default: float, single: Sequence[str] = ()) -> Mapping[str, float]:
    """The share by which each problem may be more frequent; `single` has those of some problems, as `missing:0.1`."""
    given = (text.split(":") for text in single)
    return dict.fromkeys((*PROBLEMS, OUTLIER), default) | {problem: float(share) for problem, share in given}


class DataQuality(Collector):
    """Counts problems and outliers, and names the features that surely have more problems than the training data.

    Args:
        limits: by problem the share of rows by which it may be more frequent than in the training data.

    Raises:
        ReferenceProfileMissing, ReferenceProfileMismatch: see `find_marginals`.
    """

    def __init__(
        self, features: Sequence[Feature], metadata: Metadata, limits: Mapping[str, float], telemetry: Telemetry
    ) -> None:
        self._marginals = find_marginals(features, metadata)
        self._names = [feature.name for feature in features[:MOST_FEATURES]]
        self._threshold = threshold(list(self._marginals.values()), metadata.reference_correlation)
        self._allowed = limits
        self._telemetry = telemetry
        self._refused: list[frozenset[tuple[str, str]]] = []
        #: The largest share of each pair that is judged.
        self._limits = {
            pair: min(share + limits[pair[1]], 0.999)
            for pair in self._pairs()
            if (share := self._reference_share(*pair)) is not None
        }
        #: Feature's place and problem: the place of its count. Those that are judged come first.
        self._places = {
            pair: index for index, pair in enumerate([*self._limits, *(set(self._pairs()) - self._limits.keys())])
        }
        self._judged = len(self._limits)
        self._alarm = RateAlarm(np.array(list(self._limits.values())), ALPHA / telemetry.values.workers)
        values = telemetry.values
        self._totals = {name: values.declare().first for name in _TOTALS}
        most = MOST_FEATURES * len(PROBLEMS) + 1
        self._counts, self._recent, self._alerts = (values.declare(most).first for _ in range(3))
        self._recent_requests = values.declare().first
        self._distance = values.histogram(
            "modeldeploy_outlier_distance",
            "Distance of rows from the training data, as a multiple of the threshold of an outlier.",
            _MULTIPLES,
        )
        telemetry.registry.register(self)

    @property
    def has_refused(self) -> bool:
        """Whether requests were refused since the last update."""
        return bool(self._refused)

    def refused(self, error: InvalidInput) -> None:
        """Remember a refused request, if the problems that are shown name features. It counts as one bad row."""
        pairs = frozenset((problem.feature, problem.kind) for problem in error.problems if problem.kind)
        if pairs and len(self._refused) < MOST_REFUSED:
            self._refused.append(pairs)

    def update(self, batches: Sequence[Inputs]) -> None:
        """Inspect some requests, and those that were refused since."""
        refused, self._refused = self._refused, []
        batches, sizes = _first_rows(batches)
        shares: list[Array] = [np.empty(0)] * len(self._places)
        if len(sizes):
            shares = self._inspect(batches, sizes)
        own = self._telemetry.values.own
        for pair, place in self._places.items():
            name, problem = self._name_of(pair[0]), pair[1]
            count = sum((name, problem) in pairs for pairs in refused) if refused else 0
            if count:
                own[self._counts + place] += count
                shares[place] = np.concatenate([shares[place], np.ones(count)])
        for total in ("requests", "bad_requests", "rows", "bad_rows"):
            own[self._totals[total]] += len(refused)
        self._remember(len(sizes) + len(refused), shares)

    def _inspect(self, batches: Sequence[Inputs], sizes: Array) -> list[Array]:
        """Count the problems and outliers of answered requests; the shares of rows with each problem."""
        own, totals = self._telemetry.values.own, self._totals
        owners = np.repeat(np.arange(len(sizes)), sizes)
        rows = len(owners)
        bad, sums = np.zeros(rows, dtype=bool), np.zeros((3, rows))
        shares: list[Array] = [np.empty(0)] * len(self._places)
        for place, values in enumerate(self._columns(batches)):
            for problem, found in self._problems(place, values, sums):
                if not found.any():
                    continue
                index = self._places[place, problem]
                own[self._counts + index] += float(np.count_nonzero(found))
                shares[index] = _shares(found, owners, sizes)
                if self._is_bad(place, problem):
                    bad |= found
        multiples = distances(sums) / self._threshold
        far = multiples > 1
        shares[self._places[_ROW, OUTLIER]] = _shares(far, owners, sizes)
        self._count_distances(multiples)
        own[totals["requests"]] += len(sizes)
        own[totals["rows"]] += rows
        for name, found in (("bad", bad), ("outlier", far)):
            own[totals[f"{name}_rows"]] += float(np.count_nonzero(found))
            own[totals[f"{name}_requests"]] += len(np.unique(owners[found]))
        return shares

    def _problems(self, place: int, values: Array, sums: Array) -> Iterable[tuple[str, Array]]:
        """The rows with each problem of one feature, shape (rows,); its part of the distances is added to `sums`."""
        marginal = self._marginals.get(place)
        if marginal is None:
            yield MISSING, is_missing(values)
            return
        cells = marginal.cells(values)
        sums += marginal.scores[:, cells]
        yield MISSING, cells == len(marginal.shares)
        yield OUT_OF_RANGE if marginal.is_numeric else UNSEEN, marginal.is_strange(cells)

    def _columns(self, batches: Sequence[Inputs]) -> Iterable[Array]:
        """Each feature's values of all requests, shape (rows,); a matrix of features is put together once."""
        first = batches[0]
        is_matrix = len(first) == 1 and next(iter(first.values())).ndim == 2
        if is_matrix:
            whole = np.concatenate([next(iter(inputs.values())) for inputs in batches])
            yield from (whole[:, place] for place in range(len(self._names)))
        else:
            yield from (np.concatenate([inputs[name].reshape(-1) for inputs in batches]) for name in self._names)

    def _count_distances(self, multiples: Array) -> None:
        own, histogram = self._telemetry.values.own, self._distance
        counts = np.bincount(np.searchsorted(_MULTIPLES, multiples), minlength=len(_MULTIPLES) + 1)
        for index, count in enumerate(counts.tolist()):
            own[histogram.first + index] += count
        own[histogram.first + len(_MULTIPLES) + 1] += float(multiples.sum())

    def _remember(self, requests: int, shares: list[Array]) -> None:
        """Look at the evidence, and keep the recent shares."""
        own = self._telemetry.values.own
        self._alarm.update(requests, shares[: self._judged])
        for place, evidence in enumerate(self._alarm.evidence.tolist()):
            own[self._alerts + place] = float(evidence >= self._alarm.alarm_at)
        fade = 0.5 if own[self._recent_requests] > _WINDOW else 1.0
        own[self._recent_requests] = own[self._recent_requests] * fade + requests
        for place, found in enumerate(shares):
            own[self._recent + place] = own[self._recent + place] * fade + float(found.sum())

    def _pairs(self) -> Iterable[tuple[int, str]]:
        yield _ROW, OUTLIER
        for place in range(len(self._names)):
            marginal = self._marginals.get(place)
            kinds = PROBLEMS if marginal is None else (MISSING, OUT_OF_RANGE if marginal.is_numeric else UNSEEN)
            yield from ((place, problem) for problem in dict.fromkeys((*kinds, *PROBLEMS)))

    def _name_of(self, place: int) -> str:
        return "" if place == _ROW else self._names[place]

    def _reference_share(self, place: int, problem: str) -> float | None:
        """How frequent a problem is in the training data; None where the profile does not say it."""
        marginal = self._marginals.get(place)
        if problem == OUTLIER:
            return RARE
        if problem == WRONG_TYPE:
            return 0.0
        if problem == MISSING:
            return None if marginal is None else marginal.missing
        # What the schema refuses, as a number outside of a rule's range, has no share in a profile.
        is_described = marginal is not None and marginal.is_numeric == (problem == OUT_OF_RANGE)
        return marginal.strange_share if marginal is not None and is_described else 0.0

    def _is_bad(self, place: int, problem: str) -> bool:
        """Whether a row is bad with this problem: not where the training data have it often, or do not say."""
        share = self._reference_share(place, problem)
        return problem != OUTLIER and share is not None and share <= self._allowed[problem]

    def collect(self) -> Iterable[Metric]:
        values, labels = self._telemetry.values, self._telemetry.identity.labels
        counts = CounterMetricFamily(
            "modeldeploy_data_quality_problems",
            "Rows with a problem of a feature, and requests that were refused for it.",
            labels=(*LABELS, "feature", "problem"),
        )
        alert = GaugeMetricFamily(
            "modeldeploy_data_quality_alert",
            "1 when a problem is surely more frequent than the training data and the limit allow.",
            labels=(*LABELS, "feature", "problem"),
        )
        share = GaugeMetricFamily(
            "modeldeploy_data_quality_share",
            "Share of rows with a problem, over about the last 1 000 requests.",
            labels=(*LABELS, "feature", "problem"),
        )
        limit = GaugeMetricFamily(
            "modeldeploy_data_quality_limit",
            "Share of rows up to which a problem is no alert: that of the training data and the allowed one.",
            labels=(*LABELS, "feature", "problem"),
        )
        recent = values.sum(self._recent_requests)
        for (place, problem), index in sorted(self._places.items()):
            own = (*labels, self._name_of(place), problem)
            found = values.sum(self._recent + index)
            if problem != OUTLIER and (count := values.sum(self._counts + index)):
                counts.add_metric(own, count)
            if found:
                share.add_metric(own, found / recent)
            if index < self._judged:
                alert.add_metric(own, float(values.sum(self._alerts + index) > 0))
            if found and index < self._judged:
                limit.add_metric(own, self._limits[place, problem])
        yield from (counts, alert, share, limit)
        for name, text in _TEXTS.items():
            family = CounterMetricFamily(f"modeldeploy_{name}", text, labels=LABELS)
            family.add_metric(labels, values.sum(self._totals[name.removeprefix("inspected_")]))
            yield family
        yield self._distance.family(values, LABELS, labels)
        expected = GaugeMetricFamily(
            "modeldeploy_expected_bad_share",
            "Largest share of bad rows that rows like those of the training data have.",
            labels=LABELS,
        )
        expected.add_metric(labels, self._expected_bad_share())
        yield expected

    def _expected_bad_share(self) -> float:
        shares = (self._reference_share(*pair) or 0.0 for pair in self._places if self._is_bad(*pair))
        return min(sum(shares), 1.0)


_TEXTS: Mapping[str, str] = {
    "inspected_requests": "Requests that were compared with the training data.",
    "bad_requests": "Inspected requests of which a row has a problem that is rare in the training data.",
    "outlier_requests": "Inspected requests of which a row is an outlier.",
    "inspected_rows": "Rows that were compared with the training data; a refused request counts as one.",
    "bad_rows": "Inspected rows with a problem that is rare in the training data.",
    "outlier_rows": "Inspected rows that are farther from the training data than 99.9 % of it.",
}


def _shares(found: Array, owners: Array, sizes: Array) -> Array:
    """The shares of rows that were found, of those requests that have any. `found` and `owners` have shape (rows,)."""
    hits = np.bincount(owners[found], minlength=len(sizes))
    shares: Array = (hits / sizes)[hits > 0]
    return shares


def _first_rows(batches: Sequence[Inputs]) -> tuple[Sequence[Inputs], Array]:
    """The first requests with up to `MOST_ROWS` rows in all, and their numbers of rows; empty ones are left out."""
    kept: list[Inputs] = []
    sizes: list[int] = []
    left = MOST_ROWS
    for inputs in batches:
        size = len(next(iter(inputs.values()))) if inputs else 0
        if size > left and kept:
            break
        if size > left:
            inputs, size = {name: array[:left] for name, array in inputs.items()}, left
        if size:
            kept.append(inputs)
            sizes.append(size)
            left -= size
    return kept, np.array(sizes, dtype=np.int64)
