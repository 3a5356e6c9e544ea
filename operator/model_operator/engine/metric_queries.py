"""Queries of metric providers for a rollout: values of guards, and counts of an A/B test."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from model_operator.api.analysis import MetricSource
from model_operator.api.resource import ModelDeployment
from model_operator.errors import ProviderError
from model_operator.policy.analysis.metric_test import Query
from model_operator.ports import MetricValues

#: Shortest range of a query, in seconds.
_SHORTEST_RANGE = 15
_TEMPLATE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


async def fetch(
    values: MetricValues, resource: ModelDeployment, queries: Sequence[Query], now: datetime
) -> Sequence[float | None] | ProviderError:
    """Return the values of the queries, or the first error."""
    try:
        return [await _value(values, resource, query, now) for query in queries]
    except ProviderError as error:
        return error


async def _value(values: MetricValues, resource: ModelDeployment, query: Query, now: datetime) -> float | None:
    since = resource.status.step_started_at or now
    # Begins no earlier than the step, and is long enough to contain a scrape.
    seconds = max(round((now - since).total_seconds()), _SHORTEST_RANGE)
    variables = {
        "name": resource.name,
        "namespace": resource.key.namespace,
        "revision": query.revision,
        "range": f"{seconds}s",
    }
    return await values.value(render_templates(query.source, variables), resource.key.namespace)


def render_templates(source: MetricSource, variables: Mapping[str, str]) -> MetricSource:
    """Return the source with its templates (`{{name}}`) replaced.

    Raises:
        ProviderError: a template is unknown.
    """

    def fill(text: str) -> str:
        unknown = {name for name in _TEMPLATE.findall(text) if name not in variables}
        if unknown:
            names = ", ".join("{{" + name + "}}" for name in sorted(variables))
            raise ProviderError(f"unknown template {{{{{min(unknown)}}}}}; write one of {names}")
        return _TEMPLATE.sub(lambda match: variables[match[1]], text)

    return source.rendered(fill)
