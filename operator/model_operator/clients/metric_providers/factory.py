"""All metric providers, by the name that a metric of the spec gives them."""

from collections.abc import Callable, Mapping
from typing import Any

from model_operator.api.analysis import MetricSource
from model_operator.clients.credentials import ReadSecret, secret_of
from model_operator.clients.egress import EgressPolicy
from model_operator.clients.http import OF_ALL, OF_ONE, HttpClient, session_with_users
from model_operator.clients.metric_providers.datadog import DatadogProvider
from model_operator.clients.metric_providers.prometheus import PrometheusProvider
from model_operator.clients.metric_providers.provider import JsonSession, MetricProvider, Secret
from model_operator.clients.metric_providers.web import WebProvider
from model_operator.turns import Turns

#: A new provider needs one line here, and a source in `api.analysis`.
PROVIDERS: Mapping[str, Callable[[JsonSession], MetricProvider[Any]]] = {
    "prometheus": PrometheusProvider,
    "web": WebProvider,
    "datadog": DatadogProvider,
}


class MetricProviders(HttpClient):
    """Fetches values from the provider that a source names; use it as an async context manager."""

    def __init__(self, read_secret: ReadSecret, egress: EgressPolicy) -> None:
        super().__init__(lambda: session_with_users(egress.connector()))
        self._read_secret, self._egress = read_secret, egress
        self._turns = Turns(of_one=OF_ONE, of_all=OF_ALL)

    async def value(self, source: MetricSource, namespace: str) -> float | None:
        """Return the value, or None if there is none yet; `namespace` is that of the Secret.

        Raises:
            ProviderError: the provider timed out, returned an error, or returned no single number.
        """
        name = source.secret_name or ""
        secret = Secret(name, await secret_of(self._read_secret, namespace, name)) if name else Secret()
        provider = PROVIDERS[source.provider](JsonSession(self.session, self._egress))
        async with self._turns.of(namespace):
            return await provider.value(source, secret)
