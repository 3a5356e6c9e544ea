"""Finds the pods of the activator, tells them the routes, and asks them for which models they have requests."""

import base64
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import aiohttp
import msgspec

from model_operator.api.activation import TOKEN_KEY, Bound, Demand, Routes, activator_token
from model_operator.api.json import JsonObject
from model_operator.clients.http import OTHER_FORM, HttpClient, body_of
from model_operator.clients.kinds import KindInfo
from model_operator.clients.kubernetes import KubernetesClient
from model_operator.errors import ApiError, ProviderError
from model_operator.ports import ActivatorPod

log = logging.getLogger(__name__)

#: Seconds for an answer: a question about demand waits up to 20 s for a change.
TIMEOUT = 30.0
_LARGEST = 64 * 2**20
_PORT = "control"
Answer = TypeVar("Answer", bound=msgspec.Struct)


class HttpActivators(HttpClient):
    """The pods behind one Service; use it as an async context manager. Without a name there are none."""

    def __init__(self, client: KubernetesClient, namespace: str, service: str, secret: bytes) -> None:
        super().__init__(lambda: aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT)))
        self._client, self._namespace, self._service = client, namespace, service
        self._headers = {"x-api-key": activator_token(secret)}

    @property
    def is_installed(self) -> bool:
        """Whether the installation has activators."""
        return bool(self._service)

    async def find(self) -> Sequence[ActivatorPod]:
        """Return the pods that run."""
        selector = f"kubernetes.io/service-name={self._service}"
        info = KindInfo("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices", ("list",), selector=selector)
        found: dict[str, ActivatorPod] = {}
        async for items, _ in self._client.list(info, self._namespace):
            found |= {pod.url: pod for item in items for pod in pods_of(item)}
        return tuple(found[url] for url in sorted(found))

    async def tell(self, url: str, routes: Routes) -> Bound:
        """Tell a pod the routes of all models; return the ports on which it listens."""
        return await self._ask("PUT", f"{url}/routes", msgspec.json.encode(routes), msgspec.json.Decoder(Bound).decode)

    async def demand(self, url: str, after: int) -> Demand:
        """Return for which models a pod has requests, as soon as that is another version than `after`."""
        return await self._ask("GET", f"{url}/demand?after={after}", None, msgspec.json.Decoder(Demand).decode)

    async def _ask(self, method: str, url: str, data: bytes | None, decode: Callable[[bytes], Answer]) -> Answer:
        try:
            async with self.session.request(
                method, url, data=data, headers=self._headers, allow_redirects=False
            ) as response:
                body = await body_of(response, _LARGEST)
                if response.status != 200:
                    raise ProviderError(f"{method} {url} was answered {response.status}")
                return decode(body)
        except (aiohttp.ClientError, TimeoutError, *OTHER_FORM) as error:
            raise ProviderError(f"{method} {url}: {error or type(error).__name__}") from error


def pods_of(item: JsonObject) -> list[ActivatorPod]:
    """Return the pods of an EndpointSlice of the activators' Service."""
    port = next((one["port"] for one in item.get("ports") or () if one.get("name") == _PORT), None)
    return [
        ActivatorPod(
            address=address,
            url=f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}",
            is_ready=(endpoint.get("conditions") or {}).get("ready") is not False,
        )
        for endpoint in item.get("endpoints") or ()
        for address in endpoint["addresses"]
        if port is not None
    ]


async def share_token(client: KubernetesClient, namespace: str, name: str, secret: bytes) -> None:
    """Write the token of the activators into the Secret of the installation, from which their pods have it.

    Raises:
        ApiError: the API server does not answer as it should.
    """
    text = base64.b64encode(activator_token(secret).encode()).decode()
    while secret:
        found = await client.find_secret(namespace, name)
        if found is not None and (found.get("data") or {}).get(TOKEN_KEY) == text:
            return
        try:
            await client.fill_secret(namespace, name, {TOKEN_KEY: text}, found)
        except ApiError as error:
            if not error.is_conflict:
                raise
