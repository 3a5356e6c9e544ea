"""The Kubernetes API over aiohttp: server-side apply, merge patches, lists and watches, and nothing else.

Written on aiohttp and not on the generated client because it costs a third of the CPU per request
(docs/decisions/0001); credentials come from whoever starts it, and are asked for anew on a 401.
"""

import asyncio
import base64
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from model_operator.api.resource import ModelDeployment, ObjectKey, Versioned
from model_operator.clients.kinds import BY_KIND, EVENT, RESOURCE, SECRET, KindInfo
from model_operator.errors import ApiError
from model_operator.telemetry import Telemetry

log = logging.getLogger(__name__)

FIELD_MANAGER = "modeldeploy-operator"
#: Requests in flight: more only add latency at the API server.
CONCURRENCY = 32
REQUEST_TIMEOUT = 30.0
#: Asked of the server for each watch, and how long a silent one is believed (bookmarks come each minute).
WATCH_SECONDS = 300
SILENCE_SECONDS = 90.0
_PAGE = 500
#: Largest watch line: an object is at most 1.5 MiB in etcd.
_LINE_LIMIT = 8 * 2**20

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the API server is, and how it knows us."""

    server: str
    headers: Mapping[str, str]
    ssl_context: ssl.SSLContext | bool = True


class KubernetesClient:
    """One session with the API server; use it as an async context manager."""

    def __init__(self, connect: Callable[[], Connection], telemetry: Telemetry, namespace: str = "") -> None:
        self._connect, self._telemetry = connect, telemetry
        self.namespace = namespace
        self._connection = connect()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "KubernetesClient":
        connector = aiohttp.TCPConnector(limit=0, ssl=self._connection.ssl_context)
        self._session = aiohttp.ClientSession(connector=connector, read_bufsize=_LINE_LIMIT)
        self._limit = asyncio.Semaphore(CONCURRENCY)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    # --- writes (ports.Cluster) ---------------------------------------------------------------

    async def apply(self, body: Mapping[str, Any], *, force: bool = True) -> Body:
        """Apply an object server-side; with force, our fields are ours."""
        info, metadata = BY_KIND[body["kind"]], body["metadata"]
        path = info.path(metadata["namespace"], metadata["name"])
        return await self._call(
            "apply",
            info,
            "PATCH",
            f"{path}?fieldManager={FIELD_MANAGER}{'&force=true' if force else ''}",
            body,
            "application/apply-patch+yaml",
        )

    async def find(self, kind: str, key: ObjectKey) -> Body | None:
        """Return an object, None when there is none."""
        info = BY_KIND[kind]
        try:
            return await self._call("get", info, "GET", info.path(*key))
        except ApiError as error:
            if error.is_absent:
                return None
            raise

    async def delete(self, kind: str, key: ObjectKey, uid: str) -> None:
        """Delete an object of this uid; one that is gone or was replaced already is no error."""
        info = BY_KIND[kind]
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            await self._call("delete", info, "DELETE", info.path(*key), options)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    async def patch_status(self, resource: ModelDeployment | Versioned, patch: Mapping[str, Any]) -> Body:
        """Merge into the status of exactly this resourceVersion."""
        return await self._patch_resource("patch-status", resource, "/status", {"status": patch})

    async def patch_spec(self, resource: ModelDeployment, patch: Mapping[str, Any]) -> Body:
        """Merge into the resource (but its status) of exactly this resourceVersion."""
        return await self._patch_resource("patch", resource, "", patch)

    async def post_event(self, body: Mapping[str, Any]) -> None:
        """Create an Event."""
        await self._call("create", EVENT, "POST", EVENT.collection(body["metadata"]["namespace"]), body)

    async def _patch_resource(
        self, verb: str, resource: ModelDeployment | Versioned, subresource: str, patch: Mapping[str, Any]
    ) -> Body:
        path = f"{RESOURCE.path(*resource.key)}{subresource}?fieldManager={FIELD_MANAGER}"
        body = {"metadata": {"resourceVersion": resource.resource_version}, **patch}
        return await self._call(verb, RESOURCE, "PATCH", path, body, "application/merge-patch+json")

    # --- reads --------------------------------------------------------------------------------

    async def read_secret(self, namespace: str, name: str) -> Mapping[str, str]:
        """Return what a Secret holds, as text; what is no text is left out."""
        body = await self._call("get", SECRET, "GET", SECRET.path(namespace, name))
        held = {key: base64.b64decode(value) for key, value in (body.get("data") or {}).items()}
        return {key: value.decode() for key, value in held.items() if _is_text(value)}

    async def list(self, info: KindInfo) -> AsyncIterator[tuple[list[Body], str]]:
        """Yield all objects of a kind that are ours, page by page, with the resourceVersion of the list."""
        token = ""
        while True:
            query = f"?limit={_PAGE}{_selector(info)}{f'&continue={token}' if token else ''}"
            page = await self._call("list", info, "GET", info.collection(self.namespace) + query)
            # Items of a list come without their own kind and apiVersion.
            for item in page["items"]:
                item.update(kind=info.kind, apiVersion=info.api_version)
            yield page["items"], page["metadata"]["resourceVersion"]
            token = page["metadata"].get("continue", "")
            if not token:
                return

    async def watch(self, info: KindInfo, version: str) -> AsyncIterator[tuple[str, Body]]:
        """Yield (type, object) of each change after a resourceVersion, until the server ends the stream.

        Raises:
            ApiError: the stream broke, went silent, or the version is too old (410).
        """
        query = (
            f"?watch=true&allowWatchBookmarks=true&resourceVersion={version}"
            f"&timeoutSeconds={WATCH_SECONDS}{_selector(info)}"
        )
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT, sock_read=SILENCE_SECONDS)
        try:
            async with self._open("GET", info.collection(self.namespace) + query, timeout=timeout) as response:
                self._telemetry.requested("watch", info.kind, response.status)
                await _raise_for_status(response)
                async for line in response.content:
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":
                        raise _error_of(event["object"], event["object"].get("code", 500), None)
                    yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ApiError(0, "WatchBroke", f"the watch of {info.plural} broke: {error!r}") from error

    # --- the lease (clients.lease) ------------------------------------------------------------

    async def request(
        self, verb: str, info: KindInfo, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Body:
        """Do one request of another client's making."""
        return await self._call(verb, info, method, path, body)

    async def _call(
        self,
        verb: str,
        info: KindInfo,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Body:
        headers = {"Accept": accept, **({"Content-Type": content_type} if body is not None else {})}
        async with self._limit:
            try:
                return await self._once(verb, info, method, path, body, headers)
            except ApiError as error:
                if error.status != 401:
                    raise
            # Tokens of ServiceAccounts rotate: read them again, once.
            self._connection = self._connect()
            return await self._once(verb, info, method, path, body, headers)

    async def _once(
        self,
        verb: str,
        info: KindInfo,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> Body:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT)
        data = None if body is None else orjson.dumps(body)
        try:
            async with self._open(method, path, data=data, headers=headers, timeout=timeout) as response:
                self._telemetry.requested(verb, info.kind, response.status)
                await _raise_for_status(response)
                answer: Body = orjson.loads(await response.read())
                return answer
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self._telemetry.requested(verb, info.kind, 0)
            raise ApiError(0, "Unreachable", f"{method} {path.partition('?')[0]}: {error!r}") from error

    def _open(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **kwargs: Any
    ) -> "aiohttp.client._RequestContextManager":
        if self._session is None:
            raise RuntimeError("KubernetesClient has to be entered before it is used")
        every = {**self._connection.headers, **(headers or {})}
        return self._session.request(method, self._connection.server.rstrip("/") + path, headers=every, **kwargs)


class KindSource:
    """Lists and watches one kind for a reflector."""

    def __init__(self, client: KubernetesClient, info: KindInfo) -> None:
        self._client, self._info = client, info

    @property
    def kind(self) -> str:
        """The kind."""
        return self._info.kind

    def list(self) -> AsyncIterator[tuple[list[Body], str]]:
        """Yield all objects by pages, each with the resourceVersion of the list."""
        return self._client.list(self._info)

    def watch(self, resource_version: str) -> AsyncIterator[tuple[str, Body]]:
        """Yield (type, object) of each change."""
        return self._client.watch(self._info, resource_version)


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _selector(info: KindInfo) -> str:
    return f"&labelSelector={info.selector.replace('=', '%3D')}" if info.selector else ""


async def _raise_for_status(response: aiohttp.ClientResponse) -> None:
    if response.status < 400:
        return
    text = await response.text(errors="replace")
    try:
        body = orjson.loads(text)
    except ValueError:
        body = {"message": text[:500]}
    retry_after = response.headers.get("Retry-After", "")
    raise _error_of(body, response.status, float(retry_after) if retry_after.isdigit() else None)


def _error_of(body: Any, status: int, retry_after: float | None) -> ApiError:
    told = body if isinstance(body, dict) else {"message": str(body)}
    return ApiError(status, told.get("reason", ""), told.get("message", ""), retry_after)
