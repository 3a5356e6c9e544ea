"""Parts of a page of metrics that have several lines: bad inputs, slices and estimates; for `metrics_page.py`.

Each adds the values line by line, and is bounded: a pod may write what it likes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from model_operator.api.estimate import ESTIMATE_PROBLEMS, EstimatedMetric
from model_operator.api.inputs import INPUT_PROBLEMS, Finding, InputSample
from model_operator.api.sums import SliceCounts
from model_operator.clients.page_labels import label, labels_of

#: Bounds of slices: four of 32 groups and `other`, whose names a server keeps short (twice that where escaped).
_MOST_GROUPS, _LONGEST_SLICE, _LONGEST_GROUP = 4 * 33, 512, 128
#: Bounds of what data quality finds: 128 features with four problems each, whose names a server keeps short.
_MOST_FINDINGS, _LONGEST_FEATURE = 513, 256
#: The largest count that floating-point numbers tell from the next one.
_LARGEST_COUNT = 2.0**53
#: Metrics that servers estimate, and the parts of each.
_ESTIMATED, _PARTS = ("accuracy", "precision", "recall", "f1"), ("value", "low", "high")
#: Which count of `SliceCounts` a labelled answer is, by label and prediction.
_ANSWERS = {
    ("positive", "positive"): "tp",
    ("negative", "positive"): "fp",
    ("positive", "negative"): "fn",
    ("negative", "negative"): "tn",
    ("any", "right"): "right",
    ("any", "wrong"): "mistaken",
}
_feature, _problem, _metric = label("feature"), label("problem"), label("metric")
_slice, _group, _right, _prediction = label("slice"), label("group"), label("label"), label("prediction")


def _count(value: float) -> float:
    return min(max(value, 0.0), _LARGEST_COUNT)


@dataclass(slots=True)
class InputParts:
    """What data quality found."""

    inspected: dict[str, int] = field(default_factory=dict)
    alerts: set[tuple[str, str]] = field(default_factory=set)
    shares: dict[tuple[str, str], float] = field(default_factory=dict)
    limits: dict[tuple[str, str], float] = field(default_factory=dict)

    def add_inspected(self, name: str, value: float) -> None:
        self.inspected[name] = int(_count(value))

    def add_alert(self, text: str, value: float) -> None:
        problem = _problem(text)
        if value and problem in INPUT_PROBLEMS and len(self.alerts) < _MOST_FINDINGS:
            self.alerts.add((_feature(text), problem))

    def add_share(self, text: str, value: float) -> None:
        self.shares[_feature(text), _problem(text)] = value

    def add_limit(self, text: str, value: float) -> None:
        self.limits[_feature(text), _problem(text)] = value

    def sample(self) -> InputSample | None:
        if "requests" not in self.inspected:
            return None
        findings = (
            Finding(
                feature=feature[:_LONGEST_FEATURE],
                problem=problem,
                share=min(max(self.shares.get((feature, problem), 0.0), 0.0), 1.0),
                limit=min(max(self.limits.get((feature, problem), 0.0), 0.0), 1.0),
            )
            for feature, problem in sorted(self.alerts)
        )
        return InputSample(**self.inspected, findings=tuple(findings))


@dataclass(slots=True)
class SliceParts:
    """Labelled answers and predictions of groups."""

    groups: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)

    def add_answers(self, text: str, value: float) -> None:
        self._add(text, _ANSWERS.get((_right(text), _prediction(text))), value)

    def add_predictions(self, text: str, value: float) -> None:
        prediction = _prediction(text)
        self._add(text, prediction if prediction in ("positive", "negative") else None, value)

    def _add(self, text: str, kind: str | None, value: float) -> None:
        key = _slice(text), _group(text)
        is_known = key in self.groups or len(self.groups) < _MOST_GROUPS
        if kind is not None and is_known and len(key[0]) <= _LONGEST_SLICE and len(key[1]) <= _LONGEST_GROUP:
            self.groups.setdefault(key, {})[kind] = _count(value)

    def counts(self) -> Mapping[tuple[str, str], SliceCounts]:
        """Return the counts by slice and group."""
        return {key: SliceCounts(**counts) for key, counts in self.groups.items()}


@dataclass(slots=True)
class EstimateParts:
    """Quality that is estimated without labels; `problem` is None where nothing is estimated."""

    problem: str | None = None
    estimated: dict[str, dict[str, float]] = field(default_factory=dict)
    rows: float = 0.0

    def add_trusted(self, value: float) -> None:
        # As of a stream, the reason is on a line of its own; without a known one it is that of few rows.
        if self.problem is None:
            self.problem = "" if value else "FewRows"

    def add_problem(self, text: str, value: float) -> None:
        if value and (reason := labels_of(text).get("reason", "")) in ESTIMATE_PROBLEMS:
            self.problem = reason

    def add(self, part: str, text: str, value: float) -> None:
        metric = _metric(text)
        if metric in _ESTIMATED and 0 <= value <= 1:
            self.estimated.setdefault(metric, {})[part] = value

    def add_rows(self, value: float) -> None:
        self.rows = _count(value)

    def metrics(self) -> Mapping[str, EstimatedMetric]:
        """Return the estimates that are whole."""
        return {
            metric: EstimatedMetric(**parts, rows=self.rows)
            for metric, parts in self.estimated.items()
            if len(parts) == len(_PARTS) and self.rows
        }
