"""Drift of each feature, and quality by revision, from what the pods say. PURE."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modeldeploy.dashboard.exposition import Series

Body = Mapping[str, Any]

_THRESHOLD = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One feature of one revision. `share` is the index as a part of twice the threshold, from 0 to 1."""

    revision: str
    feature: str
    psi: float
    ks: float | None
    is_drifted: bool
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What feedback says of one revision: values by metric, and how many labels they come from."""

    revision: str
    labels: int
    values: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """How much one feature moves the predictions of one revision. `share` is its part of the largest, from 0 to 1."""

    revision: str
    feature: str
    value: float
    share: float


def threshold_of(body: Body) -> float:
    """Return the index above which a feature counts as drifted (`spec.monitoring.drift.threshold`)."""
    drift = ((body.get("spec") or {}).get("monitoring") or {}).get("drift") or {}
    return float(drift.get("threshold", _THRESHOLD))


def drift_of(answers: Sequence[tuple[str, Sequence[Series]]], *, threshold: float) -> list[Drift]:
    """Return the features by how far they are from the reference, of each revision its worst pod's.

    Args:
        answers: what each pod says, with its revision.
        threshold: the population stability index above which a feature counts as drifted.
    """
    scores: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for revision, series in answers:
        for one in series:
            if one.name == "modeldeploy_drift_score":
                own = scores[revision, one.labels.get("feature", "")]
                method = one.labels.get("method", "")
                own[method] = max(own.get(method, 0.0), one.value)
    found = [
        Drift(
            revision=revision,
            feature=feature,
            psi=methods.get("psi", 0.0),
            ks=methods.get("ks"),
            is_drifted=methods.get("psi", 0.0) > threshold,
            share=min(methods.get("psi", 0.0) / (2 * threshold), 1.0),
        )
        for (revision, feature), methods in scores.items()
    ]
    return sorted(found, key=lambda one: (-one.psi, one.feature, one.revision))


def importance_of(answers: Sequence[tuple[str, Sequence[Series]]]) -> list[Importance]:
    """Return the features by their mean absolute contribution, of each revision the largest first.

    All pods of a revision compute it from the same profile: of each feature the largest value is taken.
    """
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for revision, series in answers:
        for one in series:
            if one.name == "modeldeploy_feature_importance" and 0 <= one.value < float("inf"):
                own, feature = values[revision], one.labels.get("feature", "")
                own[feature] = max(own.get(feature, 0.0), one.value)
    return [
        Importance(revision=revision, feature=feature, value=value, share=value / (max(own.values()) or 1))
        for revision, own in values.items()
        for feature, value in sorted(own.items(), key=lambda pair: (-pair[1], pair[0]))
    ]


def quality_of(answers: Sequence[tuple[str, Sequence[Series]]]) -> list[Quality]:
    """Return the quality of each revision: means over its pods, each counted by its labels."""
    labels: dict[str, float] = defaultdict(float)
    sums: dict[tuple[str, str], tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for revision, series in answers:
        count = sum(one.value for one in series if one.name == "modeldeploy_feedback_total")
        labels[revision] += count
        for one in series:
            if one.name == "modeldeploy_quality" and count and one.value == one.value:
                metric = one.labels.get("metric", "")
                total, weight = sums[revision, metric]
                sums[revision, metric] = (total + one.value * count, weight + count)
    return [
        Quality(
            revision=revision,
            labels=int(count),
            values=tuple((metric, total / weight) for (of, metric), (total, weight) in sums.items() if of == revision),
        )
        for revision, count in labels.items()
        if count
    ]
