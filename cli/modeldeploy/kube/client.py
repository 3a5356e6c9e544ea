"""The verbs that commands, demo and tests need, on one cluster. The official client does the rest: see `transport`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from modeldeploy.kube.errors import KubeError
from modeldeploy.kube.impersonation import Impersonation
from modeldeploy.kube.resources import Resource

if TYPE_CHECKING:
    from modeldeploy.kube.transport import Transport

Body = dict[str, Any]

_AS_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
_MANAGER = "modeldeploy"
_METHODS = {"list": "get", "create": "post"}


class Kube:
    """A connection to one cluster, with a default namespace. Close it, or use it in `with`."""

    def __init__(self, open_: "Callable[[], tuple[Transport, str]]") -> None:
        self._open = open_
        self._transport, self.namespace = open_()

    @classmethod
    def connect(
        cls, kubeconfig: Path | None = None, context: str | None = None, impersonation: Impersonation | None = None
    ) -> Self:
        """Connect as kubectl would. Raises `KubeconfigError`."""
        # Imported when it is needed: see the module.
        from modeldeploy.kube.access import read_access
        from modeldeploy.kube.transport import Transport

        def open_() -> tuple[Transport, str]:
            access = read_access(kubeconfig, context, impersonation)
            return Transport(access), access.namespace

        return cls(open_)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._transport.close()

    def get(self, resource: Resource, name: str, namespace: str | None = None) -> Body:
        """Return one object. Raises `KubeError` with reason NotFound when it is not there."""
        return self._send("get", resource, namespace, name)

    def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        everywhere: bool = False,
        labels: str = "",
        fields: str = "",
    ) -> list[Body]:
        """Return the objects of one namespace, or of all, that match the selectors."""
        query = {"labelSelector": labels, "fieldSelector": fields}
        return list(self._send("list", resource, namespace, everywhere=everywhere, query=query)["items"])

    def table(self, resource: Resource, namespace: str | None = None) -> Body:
        """Return the objects as the server prints them: `columnDefinitions` and `rows`."""
        return self._send("list", resource, namespace, accept=_AS_TABLE)

    def create(self, resource: Resource, body: Mapping[str, Any], namespace: str | None = None) -> Body:
        """Create an object, or have a review answered."""
        return self._send("create", resource, namespace, content_type="application/json", body=body)

    def apply(self, resource: Resource, manifest: Mapping[str, Any], namespace: str | None = None) -> Body:
        """Server-side apply."""
        return self._send(
            "patch",
            resource,
            manifest["metadata"].get("namespace") or namespace,
            manifest["metadata"]["name"],
            query={"fieldManager": _MANAGER, "fieldValidation": "Strict"},
            content_type="application/apply-patch+yaml",
            body=manifest,
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
            "patch",
            resource,
            namespace,
            name,
            subresource=subresource,
            query={"fieldManager": _MANAGER},
            content_type="application/merge-patch+json",
            body=patch,
        )

    def delete(self, resource: Resource, name: str, namespace: str | None = None) -> None:
        """Delete one object, its dependents in the background."""
        self._send("delete", resource, namespace, name, query={"propagationPolicy": "Background"})

    def _send(
        self,
        verb: str,
        resource: Resource,
        namespace: str | None,
        name: str = "",
        *,
        subresource: str = "",
        everywhere: bool = False,
        **request: Any,
    ) -> Body:
        space = None if everywhere or not resource.namespaced else namespace or self.namespace
        method, path = _METHODS.get(verb, verb), resource.path(space, name, subresource)
        try:
            return self._send_signed_in(method, path, **request)
        except KubeError as error:
            if error.code != 403 or " cannot " in str(error):  # then the API server says itself who may not do what
                raise
            where = f" in namespace {space}" if space else ""
            reason = f"the verb {verb!r} on {resource.qualified}{where} is not allowed to this user: {error}"
            raise KubeError(error.code, error.reason, reason) from error

    def _send_signed_in(self, method: str, path: str, **request: Any) -> Body:
        """Send a request, once more with new credentials: those of plugins, files and identity providers expire."""
        try:
            return self._transport.send(method, path, **request)
        except KubeError as error:
            if error.code != 401:
                raise
        self._transport.close()
        self._transport, _ = self._open()
        return self._transport.send(method, path, **request)
