"""Registry of the metric tests: the class of each kind of metric."""

from collections.abc import Mapping, Sequence
from typing import Any

from model_operator.api.analysis import AnalysisSpec, Kind, Metric
from model_operator.policy.analysis.ab_test import AbTest
from model_operator.policy.analysis.fairness_test import FairnessTest
from model_operator.policy.analysis.feedback_test import FeedbackTest
from model_operator.policy.analysis.input_test import InputTest
from model_operator.policy.analysis.metric_test import MetricTest
from model_operator.policy.analysis.rate_test import RateTest
from model_operator.policy.analysis.shadow_test import ShadowTest
from model_operator.policy.analysis.shift_test import ShiftTest
from model_operator.policy.analysis.threshold_checks import ThresholdCheck

KINDS: Mapping[Kind, type[MetricTest[Any]]] = {
    Kind.RATE: RateTest,
    Kind.QUALITY: FeedbackTest,
    Kind.SHIFT: ShiftTest,
    Kind.GROUPS: FairnessTest,
    Kind.INPUTS: InputTest,
    Kind.MIRRORED: ShadowTest,
    Kind.GUARD: ThresholdCheck,
    Kind.COMPARISON: AbTest,
}


def fail_evidence(spec: AnalysisSpec) -> float:
    """Return the evidence at which one metric fails: 1 / (alpha / number of metrics that share it)."""
    return max(1, sum(KINDS[metric.kind].shares_alpha for metric in spec.metrics)) / spec.alpha


def metric_test(metric: Metric, fail_at: float) -> MetricTest[Any]:
    """Return the test of one metric."""
    return KINDS[metric.kind](metric, fail_at)


def metric_tests(spec: AnalysisSpec) -> Sequence[MetricTest[Any]]:
    """Return the tests of all metrics, in the order of the spec."""
    fail_at = fail_evidence(spec)
    return [metric_test(metric, fail_at) for metric in spec.metrics]
