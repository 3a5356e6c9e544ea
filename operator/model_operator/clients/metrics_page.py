"""Parses the page of `GET /metrics` of a model server while it arrives (docs/wire.md); `pod_metrics` reads it.

The format is https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format. Only the lines that the
analysis needs are looked at, since a page is read every few seconds; no more of a page is held than its last line.
"""

import math
import re
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field

from model_operator.api.analysis import LOG_LOSS
from model_operator.api.estimate import ESTIMATE_PROBLEMS, EstimatedMetric
from model_operator.api.inputs import INPUT_PROBLEMS, Finding, InputSample
from model_operator.api.source import OTHER_PROBLEM, SOURCE_PROBLEMS
from model_operator.api.status import ModelInfo
from model_operator.api.stream import STREAM_PROBLEMS
from model_operator.api.sums import SliceCounts, SumStats

#: A longer line is no model server's.
_LONGEST_LINE = 64 * 2**10
#: More lines that are looked at are no model server's: what is kept of them is limited with them.
_MOST_LINES = 16 * 1024
#: The longest text of a label that is kept: it may be told in a status or an event.
LONGEST_TEXT = 1024
#: Bounds of slices: four of 32 groups and `other`, whose names a server keeps short (twice that where escaped).
_MOST_GROUPS, _LONGEST_SLICE, _LONGEST_GROUP = 4 * 33, 512, 128
#: Bounds of what data quality finds: 128 features with four problems each, whose names a server keeps short.
_MOST_FINDINGS, _LONGEST_FEATURE = 513, 256
#: The largest count that floating-point numbers tell from the next one.
_LARGEST_COUNT = 2.0**53


@dataclass(frozen=True, slots=True)
class Sample:
    """Counters of the server of one pod since its start, and the model that it serves."""

    model: ModelInfo | None
    requests: int
    errors: int
    durations: Mapping[float, int] = field(default_factory=dict)
    outputs: Mapping[str, float] = field(default_factory=dict)
    quality: Mapping[str, SumStats] = field(default_factory=dict)
    changed_fingerprint: str = ""
    source_problem: str = ""
    drifted: Set[str] = frozenset()
    assigned: int = 0
    refusals: int | None = None
    stream: str | None = None
    slices: Mapping[tuple[str, str], SliceCounts] = field(default_factory=dict)
    inputs: InputSample | None = None
    estimate: str | None = None
    estimated: Mapping[str, EstimatedMetric] = field(default_factory=dict)
    explanations: int = 0
    in_flight: int = 0


class PageParser:
    """Parses one page, piece by piece."""

    def __init__(self) -> None:
        self._page, self._last_line, self._lines = _Page(), b"", 0

    def feed(self, piece: bytes) -> None:
        """Parse the lines that end in the next piece of the page.

        Raises:
            ValueError: one is not in Prometheus' format, or not a number that a model server counts to; or lines are
                longer than those of a model server, or more.
        """
        lines, newline, rest = piece.rpartition(b"\n")
        if newline:
            self._parse(self._last_line + lines)
            self._last_line = rest
        else:
            self._last_line += rest
        if len(self._last_line) > _LONGEST_LINE:
            raise ValueError(f"a line is longer than {_LONGEST_LINE} bytes")

    def sample(self) -> Sample:
        """Return the page as a value, at its end. Raises ValueError as `feed` does."""
        self._parse(self._last_line)
        return self._page.sample()

    def _parse(self, lines: bytes) -> None:
        for found in _LINE.finditer(f"\n{lines.decode(errors='replace')}"):
            name, labels, value = found.groups()
            self._lines += 1
            number = float(value)
            if not math.isfinite(number):
                raise ValueError(f"{name} is {value}, which is no count")
            if self._lines > _MOST_LINES:
                raise ValueError(f"it has more than {_MOST_LINES} lines of a model server")
            _READERS[name](self._page, labels, number)


def parse(text: str) -> Sample:
    """Parse a whole page. Raises ValueError as `PageParser` does."""
    parser = PageParser()
    parser.feed(text.encode())
    return parser.sample()


def labels_of(text: str) -> Mapping[str, str]:
    """Parse all labels of a line."""
    return dict(_LABEL.findall(text))


def _label(name: str) -> Callable[[str], str]:
    """Return a function that finds the value of one label, empty if absent: ten times as fast as parsing them all."""
    # A pattern that begins with plain letters is fastest; the lookbehind checks that they are a whole name.
    search = re.compile(rf'{name}(?<=[{{,]{name})="([^"\\]*(?:\\.[^"\\]*)*)"').search

    def find(text: str) -> str:
        found = search(text)
        return found[1] if found else ""

    return find


_code, _edge, _output, _feature = _label("code"), _label("le"), _label("output"), _label("feature")
_metric, _outcome, _converted = _label("metric"), _label("outcome"), _label("converted")
_problem = _label("problem")
_slice, _group, _right, _prediction = _label("slice"), _label("group"), _label("label"), _label("prediction")
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


@dataclass(slots=True)
class _Page:
    """Values collected line by line; counts of right and wrong answers are `[right, wrong]`."""

    model: ModelInfo | None = None
    changed_fingerprint: str = ""
    source_problem: str = ""
    requests: int = 0
    errors: int = 0
    durations: dict[float, int] = field(default_factory=dict)
    outputs: dict[str, float] = field(default_factory=dict)
    answers: dict[str, list[float]] = field(default_factory=dict)
    losses: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    drifted: set[str] = field(default_factory=set)
    assigned: int = 0
    refusals: int | None = None
    stream: str | None = None
    slices: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    inspected: dict[str, int] = field(default_factory=dict)
    alerts: set[tuple[str, str]] = field(default_factory=set)
    shares: dict[tuple[str, str], float] = field(default_factory=dict)
    limits: dict[tuple[str, str], float] = field(default_factory=dict)
    estimate: str | None = None
    estimated: dict[str, dict[str, float]] = field(default_factory=dict)
    estimated_rows: float = 0.0
    explanations: int = 0
    in_flight: int = 0

    def add_model(self, text: str, _: float) -> None:
        labels = labels_of(text)
        self.model = ModelInfo(
            **{name: labels.get(name, "")[:LONGEST_TEXT] for name in ("uri", "version", "format", "sha256")}
        )

    def add_source(self, text: str, _: float) -> None:
        self.changed_fingerprint = labels_of(text).get("source", "")[:LONGEST_TEXT]

    def add_source_problem(self, text: str, value: float) -> None:
        if value:
            reason = labels_of(text).get("reason", "")
            self.source_problem = reason if reason in SOURCE_PROBLEMS else OTHER_PROBLEM

    def add_stream(self, _: str, value: float) -> None:
        # The reason, where there is one, is on a line of its own, before or behind this one.
        if self.stream is None:
            self.stream = "" if value else "BrokerUnavailable"

    def add_stream_problem(self, text: str, value: float) -> None:
        if value and (reason := labels_of(text).get("reason", "")) in STREAM_PROBLEMS:
            self.stream = reason

    def add_requests(self, text: str, value: float) -> None:
        self.requests += int(value)
        self.errors += int(value) if _code(text).startswith("5") else 0

    def add_refusals(self, _: str, value: float) -> None:
        self.refusals = (self.refusals or 0) + int(value)

    def add_explanations(self, _: str, value: float) -> None:
        self.explanations += int(value)

    def add_in_flight(self, _: str, value: float) -> None:
        self.in_flight = int(value)

    def add_duration(self, text: str, value: float) -> None:
        edge = float(_edge(text))
        self.durations[edge] = self.durations.get(edge, 0) + int(value)

    def add_output(self, text: str, value: float) -> None:
        self.outputs[_output(text)] = value

    def add_feedback(self, text: str, value: float) -> None:
        self._answered("accuracy", _outcome(text) == "correct", value)

    def add_rated(self, text: str, value: float) -> None:
        self._answered(_metric(text), _outcome(text) == "right", value)

    def add_conversions(self, text: str, value: float) -> None:
        self._answered("conversion", _converted(text) == "true", value)

    def _answered(self, metric: str, is_right: bool, value: float) -> None:
        self.answers.setdefault(metric, [0.0, 0.0])[0 if is_right else 1] = value

    def add_assigned(self, _: str, value: float) -> None:
        self.assigned = int(value)

    def add_drift(self, text: str, value: float) -> None:
        if value:
            self.drifted.add(_feature(text))

    def add_inspected(self, name: str, value: float) -> None:
        self.inspected[name] = int(min(max(value, 0.0), _LARGEST_COUNT))

    def add_alert(self, text: str, value: float) -> None:
        problem = _problem(text)
        if value and problem in INPUT_PROBLEMS and len(self.alerts) < _MOST_FINDINGS:
            self.alerts.add((_feature(text), problem))

    def add_share(self, text: str, value: float) -> None:
        self.shares[_feature(text), _problem(text)] = value

    def add_limit(self, text: str, value: float) -> None:
        self.limits[_feature(text), _problem(text)] = value

    def _inputs(self) -> InputSample | None:
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

    def add_slice_answers(self, text: str, value: float) -> None:
        self._add_slice(text, _ANSWERS.get((_right(text), _prediction(text))), value)

    def add_slice_predictions(self, text: str, value: float) -> None:
        prediction = _prediction(text)
        self._add_slice(text, prediction if prediction in ("positive", "negative") else None, value)

    def _add_slice(self, text: str, kind: str | None, value: float) -> None:
        key = _slice(text), _group(text)
        is_known = key in self.slices or len(self.slices) < _MOST_GROUPS
        if kind is not None and is_known and len(key[0]) <= _LONGEST_SLICE and len(key[1]) <= _LONGEST_GROUP:
            self.slices.setdefault(key, {})[kind] = min(max(value, 0.0), _LARGEST_COUNT)

    def add_estimate_trusted(self, _: str, value: float) -> None:
        # As of a stream, the reason is on a line of its own; without a known one it is that of few rows.
        if self.estimate is None:
            self.estimate = "" if value else "FewRows"

    def add_estimate_problem(self, text: str, value: float) -> None:
        if value and (reason := labels_of(text).get("reason", "")) in ESTIMATE_PROBLEMS:
            self.estimate = reason

    def add_estimate(self, part: str, text: str, value: float) -> None:
        metric = _metric(text)
        if metric in _ESTIMATED and 0 <= value <= 1:
            self.estimated.setdefault(metric, {})[part] = value

    def add_estimated_rows(self, _: str, value: float) -> None:
        self.estimated_rows = min(max(value, 0.0), _LARGEST_COUNT)

    def add_loss(self, place: int, value: float) -> None:
        self.losses[place] = value

    def sample(self) -> Sample:
        """Return the page as a value."""
        quality = {
            name: SumStats(count=right + wrong, total=wrong, squares=wrong)
            for name, (right, wrong) in self.answers.items()
        }
        quality[LOG_LOSS] = SumStats(count=self.losses[0], total=self.losses[1], squares=self.losses[2])
        return Sample(
            model=self.model,
            requests=self.requests,
            errors=self.errors,
            durations=self.durations,
            outputs=self.outputs,
            quality=quality,
            changed_fingerprint=self.changed_fingerprint,
            source_problem=self.source_problem,
            drifted=frozenset(self.drifted),
            assigned=self.assigned,
            refusals=self.refusals,
            stream=self.stream,
            slices={key: SliceCounts(**counts) for key, counts in self.slices.items()},
            inputs=self._inputs(),
            estimate=self.estimate,
            explanations=self.explanations,
            in_flight=self.in_flight,
            estimated={
                metric: EstimatedMetric(**parts, rows=self.estimated_rows)
                for metric, parts in self.estimated.items()
                if len(parts) == len(_PARTS) and self.estimated_rows
            },
        )


_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')
_READERS: Mapping[str, Callable[[_Page, str, float], None]] = {
    "modeldeploy_model_info": _Page.add_model,
    "modeldeploy_source_changed": _Page.add_source,
    "modeldeploy_source_problem": _Page.add_source_problem,
    "modeldeploy_requests_total": _Page.add_requests,
    "modeldeploy_refusals_total": _Page.add_refusals,
    "modeldeploy_explanations_total": _Page.add_explanations,
    "modeldeploy_requests_in_flight": _Page.add_in_flight,
    "modeldeploy_request_duration_seconds_bucket": _Page.add_duration,
    "modeldeploy_outputs_total": _Page.add_output,
    "modeldeploy_feedback_total": _Page.add_feedback,
    "modeldeploy_conversions_total": _Page.add_conversions,
    "modeldeploy_rated_total": _Page.add_rated,
    "modeldeploy_slice_answers_total": _Page.add_slice_answers,
    "modeldeploy_slice_predictions_total": _Page.add_slice_predictions,
    "modeldeploy_assignments_total": _Page.add_assigned,
    "modeldeploy_drifted": _Page.add_drift,
    "modeldeploy_inspected_requests_total": lambda page, _, value: page.add_inspected("requests", value),
    "modeldeploy_bad_requests_total": lambda page, _, value: page.add_inspected("bad", value),
    "modeldeploy_outlier_requests_total": lambda page, _, value: page.add_inspected("outliers", value),
    "modeldeploy_data_quality_alert": _Page.add_alert,
    "modeldeploy_data_quality_share": _Page.add_share,
    "modeldeploy_data_quality_limit": _Page.add_limit,
    "modeldeploy_stream_connected": _Page.add_stream,
    "modeldeploy_stream_problem": _Page.add_stream_problem,
    "modeldeploy_estimate_trusted": _Page.add_estimate_trusted,
    "modeldeploy_estimate_problem": _Page.add_estimate_problem,
    "modeldeploy_estimated_rows": _Page.add_estimated_rows,
    "modeldeploy_estimated_quality": lambda page, text, value: page.add_estimate("value", text, value),
    "modeldeploy_estimated_quality_low": lambda page, text, value: page.add_estimate("low", text, value),
    "modeldeploy_estimated_quality_high": lambda page, text, value: page.add_estimate("high", text, value),
    "modeldeploy_log_loss_count": lambda page, _, value: page.add_loss(0, value),
    "modeldeploy_log_loss_sum": lambda page, _, value: page.add_loss(1, value),
    "modeldeploy_log_loss_squares_total": lambda page, _, value: page.add_loss(2, value),
}
#: One of those lines: name, opening brace and labels, value. The pattern begins with the end of the line before,
#: and not with `^`: what a pattern begins with is looked for faster than the places where a line may begin.
_LINE = re.compile(rf"\n({'|'.join(_READERS)})(\{{.*)\}} (\S+)")
