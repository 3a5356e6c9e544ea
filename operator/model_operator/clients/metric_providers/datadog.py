"""Datadog: timeseries points (https://docs.datadoghq.com/api/latest/metrics/#query-timeseries-points)."""

import time
from collections.abc import Callable
from typing import Any

from model_operator.api.analysis import DatadogSource
from model_operator.clients.metric_providers.provider import JsonSession, Secret, number
from model_operator.errors import ProviderError


class DatadogProvider:
    """Queries the points of the last interval. `address` is the URL of the API, in which `{site}` is replaced."""

    def __init__(
        self, session: JsonSession, address: str = "https://api.{site}", now: Callable[[], float] = time.time
    ) -> None:
        self._session, self._address, self._now = session, address, now

    async def value(self, source: DatadogSource, secret: Secret) -> float | None:
        """Return the last point of the one series."""
        now = int(self._now())
        body = await self._session.get(
            self._address.format(site=source.site) + "/api/v1/query",
            params={"query": source.query, "from": str(now - int(source.interval.total_seconds())), "to": str(now)},
            headers={"DD-API-KEY": secret.key("api-key"), "DD-APPLICATION-KEY": secret.key("app-key")},
            patience=source.timeout,
        )
        return last_point(body)


def last_point(body: Any) -> float | None:
    """Return the last point that has a value; None if the series is empty.

    Raises:
        ProviderError: the answer is an error, or has several series.
    """
    try:
        if body.get("status") == "error":
            raise ProviderError("Datadog: the query failed; try it in the metrics explorer")
        series = body["series"]
        if len(series) > 1:
            raise ProviderError(
                f"the query returns {len(series)} series, but must return one; aggregate them, as in sum:metric{{*}}"
            )
        values = [value for _, value in series[0]["pointlist"] if value is not None] if series else []
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ProviderError("the response is not one of Datadog's query API") from error
    return number(values[-1]) if values else None
