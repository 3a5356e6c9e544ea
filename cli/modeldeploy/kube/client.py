"""A small synchronous Kubernetes client over httpx. Used by the command line and the demo."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx

from modeldeploy.kube.config import Access, read_access
from modeldeploy.kube.errors import KubeError, KubeUnreachable

Body = dict[str, Any]

_AS_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind's place in the API. `group` is empty for the core group."""

    group: str
    version: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """URL path of the collection, or of one object, or of its subresource."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        return "/" + "/".join(quote(part, safe="") for part in [*parts, self.plural, name, subresource] if part)


MODELDEPLOYMENTS = Resource("modeldeploy.dev", "v1alpha1", "modeldeployments")
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", namespaced=False)
PODS = Resource("", "v1", "pods")
SERVICES = Resource("", "v1", "services")
EVENTS = Resource("", "v1", "events")


class Kube:
    """A connection to one cluster, with a default namespace. Close it, or use it in `with`."""

    def __init__(self, access: Access, *, field_manager: str = "modeldeploy") -> None:
        self.namespace = access.namespace
        self._manager = field_manager
        self._http = httpx.Client(
            base_url=access.server, headers=access.headers, verify=access.verify, timeout=30, trust_env=False
        )

    @classmethod
    def connect(cls, kubeconfig: Path | None = None, context: str | None = None) -> Self:
        """Connect as kubectl would. Raises `KubeconfigError`."""
        return cls(read_access(kubeconfig, context))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def get(self, resource: Resource, name: str, namespace: str | None = None) -> Body:
        """One object. Raises `KubeError` with reason NotFound when it is not there."""
        return self._send("GET", resource.path(namespace or self.namespace, name))

    def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        everywhere: bool = False,
        labels: str = "",
        fields: str = "",
    ) -> list[Body]:
        """The objects of one namespace, or of all, that match the selectors."""
        query = {"labelSelector": labels, "fieldSelector": fields}
        path = resource.path(None if everywhere else namespace or self.namespace)
        items = self._send("GET", path, params=query)["items"]
        return list(items)

    def table(self, resource: Resource, namespace: str | None = None) -> Body:
        """The objects as the server prints them: `columnDefinitions` and `rows`."""
        headers = {"Accept": _AS_TABLE}
        return self._send("GET", resource.path(namespace or self.namespace), headers=headers)

    def apply(self, resource: Resource, manifest: Mapping[str, Any], namespace: str | None = None) -> Body:
        """Server-side apply."""
        name = manifest["metadata"]["name"]
        space = manifest["metadata"].get("namespace") or namespace or self.namespace
        return self._send(
            "PATCH",
            resource.path(space, name),
            params={"fieldManager": self._manager, "fieldValidation": "Strict"},
            headers={"Content-Type": "application/apply-patch+yaml"},
            content=json.dumps(manifest),
        )

    def merge(
        self,
        resource: Resource,
        name: str,
        patch: Mapping[str, Any],
        namespace: str | None = None,
        *,
        subresource: str = "",
    ) -> Body:
        """JSON merge patch: nulls remove."""
        return self._send(
            "PATCH",
            resource.path(namespace or self.namespace, name, subresource),
            params={"fieldManager": self._manager},
            headers={"Content-Type": "application/merge-patch+json"},
            content=json.dumps(patch),
        )

    def delete(self, resource: Resource, name: str, namespace: str | None = None) -> None:
        """Delete one object, its dependents in the background."""
        self._send(
            "DELETE",
            resource.path(namespace or self.namespace, name),
            params={"propagationPolicy": "Background"},
        )

    def watch(
        self, resource: Resource, namespace: str | None = None, *, fields: str = "", seconds: int = 300
    ) -> Iterator[tuple[str, Body]]:
        """What is there (as ADDED) and then each change, until the server ends the watch."""
        query = {"watch": "true", "fieldSelector": fields, "timeoutSeconds": str(seconds)}
        path = resource.path(namespace or self.namespace)
        try:
            with self._http.stream("GET", path, params=query, timeout=httpx.Timeout(30, read=None)) as response:
                if response.is_error:
                    response.read()
                    raise _refusal(response)
                for line in response.iter_lines():
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise KubeError(status.get("code", 500), status.get("reason", ""), status.get("message", ""))
                    yield event["type"], event["object"]
        except httpx.TransportError as error:
            raise KubeUnreachable(f"{self._server} broke the watch off: {error}") from error

    @property
    def _server(self) -> str:
        """What to name the server by: a path may hold a token."""
        return f"{self._http.base_url.scheme}://{self._http.base_url.netloc.decode()}"

    def _send(self, method: str, path: str, **request: Any) -> Body:
        try:
            response = self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise KubeUnreachable(f"{self._server} does not answer: {error}") from error
        if response.is_error:
            raise _refusal(response)
        body = _json(response)
        if not isinstance(body, dict) or "kind" not in body:
            told = f"{response.status_code} and no object of Kubernetes"
            raise KubeUnreachable(f"{self._server} answers with {told}: is there an API server at this address?")
        return body


def _refusal(response: httpx.Response) -> KubeError:
    status = _json(response)
    if isinstance(status, dict) and status.get("message"):
        code, message = int(status.get("code", response.status_code)), str(status["message"])
        reason = str(status.get("reason", ""))
    else:
        code, reason = response.status_code, response.reason_phrase
        message = f"{code} {reason}: {' '.join(response.text.split())[:300]}"
    hint = ": the API server does not take the kubeconfig's credentials" if code == 401 else ""
    return KubeError(code, reason, message + hint)


def _json(response: httpx.Response) -> Any:
    """What the body says as JSON, None where it is something else."""
    try:
        return response.json()
    except ValueError:
        return None
