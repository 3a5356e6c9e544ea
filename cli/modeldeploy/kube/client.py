"""The verbs that commands, demo and tests need, on one cluster. The official client does the rest: see `transport`."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from modeldeploy.kube.documents import loads
from modeldeploy.kube.errors import KubeError
from modeldeploy.kube.impersonation import Impersonation
from modeldeploy.kube.resources import Resource

if TYPE_CHECKING:
    from modeldeploy.kube.transport import Relayed, Transport

Body = dict[str, Any]
Answer = TypeVar("Answer")

_AS_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
_MANAGER = "modeldeploy"
_METHODS = {"list": "get", "create": "post"}
_ONE_OBJECT = frozenset({"get", "patch", "delete"})
#: Checked and answered as any other request, with unknown fields refused, and not stored.
_DRY_RUN = {"dryRun": "All", "fieldValidation": "Strict"}


class Kube:
    """A connection to one cluster, with a default namespace. Close it, or use it in `with`."""

    def __init__(self, open_: "Callable[..., tuple[Transport, str]]") -> None:
        self._open = open_
        self._renewing = threading.Lock()
        self._transport, self.namespace = open_()

    @classmethod
    def connect(
        cls, kubeconfig: Path | None = None, context: str | None = None, impersonation: Impersonation | None = None
    ) -> Self:
        """Connect as kubectl would. Raises `KubeconfigError`."""
        # Imported when it is needed: see the module.
        from modeldeploy.kube.access import read_access
        from modeldeploy.kube.transport import Transport

        def open_(token: str = "") -> tuple[Transport, str]:
            access = read_access(kubeconfig, context, impersonation)
            return Transport(access.with_token(token) if token else access), access.namespace

        return cls(open_)

    def with_token(self, token: str) -> "Kube":
        """Return a connection to the same cluster as the user of a bearer token, and with no other credential."""
        return Kube(partial(self._open, token=token))

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

    def pages(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        everywhere: bool = False,
        labels: str = "",
        fields: str = "",
        size: int = 500,
    ) -> Iterator[tuple[Sequence[Body], str]]:
        """Yield the objects in pages, each with the version from which a watch may go on."""
        query = {"labelSelector": labels, "fieldSelector": fields, "limit": str(size)}
        while True:
            page = self._send("list", resource, namespace, everywhere=everywhere, query=query)
            yield page["items"], str(page["metadata"].get("resourceVersion") or "")
            query["continue"] = page["metadata"].get("continue") or ""
            if not query["continue"]:
                return

    def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        version: str,
        everywhere: bool = False,
        labels: str = "",
        fields: str = "",
    ) -> Iterator[Body]:
        """Yield `{type, object}` of each change since `version`, until the API server ends the watch.

        Raises `KubeError` (410 when `version` is too old), `KubeUnreachable`.
        """
        from modeldeploy.kube.transport import WATCH_SECONDS

        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
            "labelSelector": labels,
            "fieldSelector": fields,
        }
        space = None if everywhere or not resource.namespaced else namespace or self.namespace
        for line in self._transport.lines(resource.path(space), query):
            event = loads(line)
            if event["type"] == "ERROR":
                status = event["object"]
                raise KubeError(
                    int(status.get("code") or 500), str(status.get("reason") or ""), str(status.get("message"))
                )
            yield event

    def relay(
        self,
        resource: Resource,
        name: str,
        path: str,
        namespace: str | None = None,
        *,
        method: str = "get",
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> "Relayed":
        """Send a request to a pod or Service through the API server's proxy.

        Args:
            name: as the API server takes it, with scheme and port where there are some: `https:NAME:PORT`.
            path: of the server behind it, as in `/metrics`.
            headers: for the server behind it; `Authorization` is the API server's own and does not get there.

        Raises `KubeError` when the API server refuses it, `KubeUnreachable`. An error of the server behind it is an
        answer.
        """
        at = resource.path(namespace or self.namespace, name, "proxy") + path
        return self._signed_in(lambda transport: transport.relay(method, at, query or {}, headers or {}, body))

    def versions(self, group: str) -> Sequence[str]:
        """Return the versions in which the API server has a group; none where it has no such group."""
        try:
            found = self._signed_in(lambda transport: transport.send("get", f"/apis/{group}"))
        except KubeError as error:
            if error.code != 404:
                raise
            return []
        return [str(one["version"]) for one in found.get("versions", ())]

    def table(self, resource: Resource, namespace: str | None = None) -> Body:
        """Return the objects as the server prints them: `columnDefinitions` and `rows`."""
        return self._send("list", resource, namespace, accept=_AS_TABLE)

    def create(
        self, resource: Resource, body: Mapping[str, Any], namespace: str | None = None, *, dry_run: bool = False
    ) -> Body:
        """Create an object, or have a review answered. With `dry_run` nothing is stored, here and below."""
        query = _DRY_RUN if dry_run else {}
        return self._send("create", resource, namespace, query=query, content_type="application/json", body=body)

    def apply(
        self,
        resource: Resource,
        manifest: Mapping[str, Any],
        namespace: str | None = None,
        *,
        manager: str = _MANAGER,
        dry_run: bool = False,
    ) -> Body:
        """Server-side apply."""
        return self._send(
            "patch",
            resource,
            manifest["metadata"].get("namespace") or namespace,
            manifest["metadata"]["name"],
            query={"fieldManager": manager, "fieldValidation": "Strict"} | (_DRY_RUN if dry_run else {}),
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
        dry_run: bool = False,
    ) -> Body:
        """JSON merge patch: nulls remove, and unknown fields are refused."""
        return self._send(
            "patch",
            resource,
            namespace,
            name,
            subresource=subresource,
            query={"fieldManager": _MANAGER, "fieldValidation": "Strict"} | (_DRY_RUN if dry_run else {}),
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
        if verb in _ONE_OBJECT and not name:  # the path would be that of all: a delete would take them all
            raise ValueError(f"the verb {verb!r} on {resource.qualified} needs a name")
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
        return self._signed_in(lambda transport: transport.send(method, path, **request))

    def _signed_in(self, send: "Callable[[Transport], Answer]") -> "Answer":
        """Send a request, once more with new credentials: those of plugins, files and identity providers expire."""
        used = self._transport
        try:
            return send(used)
        except KubeError as error:
            if error.code != 401:
                raise
        with self._renewing:
            if self._transport is used:  # else another thread has done it
                used.close()
                self._transport, _ = self._open()
        return send(self._transport)
