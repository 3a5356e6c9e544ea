"""Prometheus: instant queries (https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries)."""

from typing import Any

from model_operator.api.analysis import Source
from model_operator.clients.metric_providers.provider import JsonSession, Secret, number
from model_operator.errors import ProviderError


class PrometheusProvider:
    """Evaluates PromQL queries at the current time."""

    def __init__(self, session: JsonSession) -> None:
        self._session = session

    async def value(self, source: Source, secret: Secret) -> float | None:
        """Return the one number of the result."""
        body = await self._session.get(
            source.url.rstrip("/") + "/api/v1/query",
            params={"query": source.query or ""},
            headers=secret.headers(),
            patience=source.timeout,
        )
        return result_of(body)


def result_of(body: Any) -> float | None:
    """Return the single number in a response of Prometheus.

    Raises:
        ProviderError: the result is a string, a matrix, or has several series.
    """
    try:
        kind, result = body["data"]["resultType"], body["data"]["result"]
        if kind == "vector" and len(result) > 1:
            raise ProviderError(
                f"the query returns {len(result)} series, but must return one; aggregate them, as in sum(...)"
            )
        if kind == "vector":
            return number(result[0]["value"][1]) if result else None
        if kind == "scalar":
            return number(result[1])
    except (KeyError, TypeError, IndexError) as error:
        raise ProviderError("the response is not one of Prometheus' query API") from error
    # Of an answer nothing is shown: it may be anything that the operator can reach.
    if kind in ("matrix", "string"):
        raise ProviderError(f"the query returns a {kind}, but must return a single number")
    raise ProviderError("the response is not one of Prometheus' query API")
