"""What a provider's answer means for what is known of a metric. Pure; `engine.metrics_collector` asks."""

from collections.abc import Sequence
from datetime import datetime

from model_operator.api.analysis import Metric
from model_operator.api.sums import SumStats
from model_operator.errors import InvalidSpec, ProviderError
from model_operator.policy.analysis import ab_test, shadow_test, threshold_checks
from model_operator.policy.analysis.ab_test import Compared
from model_operator.policy.analysis.feedback_test import Labels
from model_operator.policy.analysis.shadow_test import Mirrored, Pair
from model_operator.policy.analysis.state import AnalysisState

#: A guard's value; or right and all answers of an A/B test's canary and stable; None is an answer without a number.
Answer = float | Sequence[tuple[float | None, float | None]] | ProviderError | None


def hear(knowledge: AnalysisState, metric: Metric, answer: Answer, now: datetime) -> AnalysisState:
    """Return the knowledge with what a provider said of one metric, or failed with."""
    if metric.comparison is not None:
        known = knowledge.of(metric)
        compared = known if isinstance(known, Compared) else Compared()
        if isinstance(answer, ProviderError):
            return knowledge.having(metric, compared.missed(str(answer), now))
        return knowledge.having(metric, ab_test.told(metric.comparison, compared, _labels(answer)))
    measured = knowledge.measured(metric)
    try:
        if isinstance(answer, ProviderError):
            raise answer
        if metric.guard is not None and not isinstance(answer, Sequence):
            measured = threshold_checks.measure(metric.guard, measured, answer)
    except (ProviderError, InvalidSpec) as error:
        measured = measured.missed(str(error), now)
    return knowledge.having(metric, measured)


def hear_pairs(
    knowledge: AnalysisState, metric: Metric, answer: Sequence[Pair] | ProviderError, now: datetime
) -> AnalysisState:
    """Return the knowledge with what canary and stable answered to the same requests, or why they did not tell."""
    known = knowledge.of(metric)
    before = known if isinstance(known, Mirrored) else Mirrored()
    if isinstance(answer, ProviderError):
        return knowledge.having(metric, before.missed(str(answer), now))
    return knowledge.having(metric, shadow_test.learn(metric, before, answer))


def _labels(answer: float | Sequence[tuple[float | None, float | None]] | None) -> Labels:
    canary, stable = answer if isinstance(answer, Sequence) else ((None, None), (None, None))
    return Labels(canary=_moments(*canary), stable=_moments(*stable))


def _moments(right: float | None, all_answers: float | None) -> SumStats:
    if right is None or not all_answers:
        return SumStats()
    wrong = min(max(all_answers - right, 0.0), all_answers)
    return SumStats(count=all_answers, total=wrong, squares=wrong)
