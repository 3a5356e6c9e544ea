"""What is asked of Prometheus and of web hooks about a rollout: guards' values, and the answers of an A/B test."""

from collections.abc import Sequence
from datetime import datetime

from model_operator.api.analysis import AnalysisSpec, Metric, Source
from model_operator.api.resource import ModelDeployment
from model_operator.api.values import replace
from model_operator.errors import ProviderError
from model_operator.policy.analysis.provider_results import Answer
from model_operator.policy.analysis.threshold_checks import render_templates
from model_operator.ports import MetricValues

#: Seconds of the shortest range that a query is given.
_SHORTEST_RANGE = 15


def provided_metrics(spec: AnalysisSpec) -> Sequence[Metric]:
    """Return the metrics whose values somebody else provides."""
    return [metric for metric in spec.metrics if metric.guard or (metric.comparison and metric.comparison.source)]


async def ask(values: MetricValues, resource: ModelDeployment, metric: Metric, now: datetime) -> Answer:
    """Ask for a guard's value, or for the answers that both revisions of an A/B test have had."""
    guard, test, status = metric.guard, metric.comparison, resource.status
    try:
        if test is not None and test.source is not None:
            every = replace(test.source, query=test.sample_query)
            return [
                (await _value(values, resource, test.source, one, now), await _value(values, resource, every, one, now))
                for one in (status.canary, status.stable)
            ]
        return None if guard is None else await _value(values, resource, guard.source, status.canary, now)
    except ProviderError as error:
        return error


async def _value(
    values: MetricValues, resource: ModelDeployment, source: Source, revision: str, now: datetime
) -> float | None:
    since = resource.status.step_started_at or now
    # Never further back than the step's start, and never so short that nothing was scraped in it.
    seconds = max(round((now - since).total_seconds()), _SHORTEST_RANGE)
    variables = {
        "name": resource.name,
        "namespace": resource.key.namespace,
        "revision": revision,
        "range": f"{seconds}s",
    }
    return await values.value(render_templates(source, variables), resource.key.namespace)
