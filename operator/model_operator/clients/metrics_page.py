"""Parses the page of `GET /metrics` of a model server while it arrives (docs/wire.md); `pod_metrics` reads it.

The format is https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format. Only the lines that the
analysis needs are looked at, since a page is read every few seconds; no more of a page is held than its last line.
"""

import math
import re
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field

from model_operator.api.analysis import LOG_LOSS
from model_operator.api.estimate import EstimatedMetric
from model_operator.api.inputs import InputSample
from model_operator.api.source import OTHER_PROBLEM, SOURCE_PROBLEMS
from model_operator.api.status import ModelInfo
from model_operator.api.stream import STREAM_PROBLEMS
from model_operator.api.sums import SliceCounts, SumStats
from model_operator.clients.page_labels import label, labels_of
from model_operator.clients.page_parts import EstimateParts, InputParts, SliceParts

#: A longer line is no model server's.
_LONGEST_LINE = 64 * 2**10
#: More lines that are looked at are no model server's: what is kept of them is limited with them.
_MOST_LINES = 16 * 1024
#: The longest text of a label that is kept: it may be told in a status or an event.
LONGEST_TEXT = 1024
_code, _edge, _output, _feature = label("code"), label("le"), label("output"), label("feature")
_metric, _outcome, _converted = label("metric"), label("outcome"), label("converted")


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
    slices: SliceParts = field(default_factory=SliceParts)
    inputs: InputParts = field(default_factory=InputParts)
    estimates: EstimateParts = field(default_factory=EstimateParts)
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
            slices=self.slices.counts(),
            inputs=self.inputs.sample(),
            estimate=self.estimates.problem,
            estimated=self.estimates.metrics(),
            explanations=self.explanations,
            in_flight=self.in_flight,
        )


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
    "modeldeploy_slice_answers_total": lambda page, text, value: page.slices.add_answers(text, value),
    "modeldeploy_slice_predictions_total": lambda page, text, value: page.slices.add_predictions(text, value),
    "modeldeploy_assignments_total": _Page.add_assigned,
    "modeldeploy_drifted": _Page.add_drift,
    "modeldeploy_inspected_requests_total": lambda page, _, value: page.inputs.add_inspected("requests", value),
    "modeldeploy_bad_requests_total": lambda page, _, value: page.inputs.add_inspected("bad", value),
    "modeldeploy_outlier_requests_total": lambda page, _, value: page.inputs.add_inspected("outliers", value),
    "modeldeploy_data_quality_alert": lambda page, text, value: page.inputs.add_alert(text, value),
    "modeldeploy_data_quality_share": lambda page, text, value: page.inputs.add_share(text, value),
    "modeldeploy_data_quality_limit": lambda page, text, value: page.inputs.add_limit(text, value),
    "modeldeploy_stream_connected": _Page.add_stream,
    "modeldeploy_stream_problem": _Page.add_stream_problem,
    "modeldeploy_estimate_trusted": lambda page, _, value: page.estimates.add_trusted(value),
    "modeldeploy_estimate_problem": lambda page, text, value: page.estimates.add_problem(text, value),
    "modeldeploy_estimated_rows": lambda page, _, value: page.estimates.add_rows(value),
    "modeldeploy_estimated_quality": lambda page, text, value: page.estimates.add("value", text, value),
    "modeldeploy_estimated_quality_low": lambda page, text, value: page.estimates.add("low", text, value),
    "modeldeploy_estimated_quality_high": lambda page, text, value: page.estimates.add("high", text, value),
    "modeldeploy_log_loss_count": lambda page, _, value: page.add_loss(0, value),
    "modeldeploy_log_loss_sum": lambda page, _, value: page.add_loss(1, value),
    "modeldeploy_log_loss_squares_total": lambda page, _, value: page.add_loss(2, value),
}
#: One of those lines: name, opening brace and labels, value. The pattern begins with the end of the line before,
#: and not with `^`: what a pattern begins with is looked for faster than the places where a line may begin.
_LINE = re.compile(rf"\n({'|'.join(_READERS)})(\{{.*)\}} (\S+)")
