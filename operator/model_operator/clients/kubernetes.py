"""The Kubernetes API for the engine: server-side apply, merge patches, lists and watches, and a few typed calls.

The session and the credentials come from the official client (`clients.connection`); a 401 reloads the credentials.
"""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

import aiohttp
import orjson
from kubernetes.aio.client import (
    ApiClient,
    ApiException,
    CoordinationV1Api,
    V1Lease,
    VersionApi,
)

from model_operator.api.json import JsonObject
from model_operator.api.resource import ModelDeployment, ObjectKey, ObjectVersion
from model_operator.clients.connection import Connection
from model_operator.clients.documents import parsed
from model_operator.clients.kinds import BY_KIND, EVENT, RESOURCE, SECRET, KindInfo
from model_operator.errors import ApiError
from model_operator.telemetry import Telemetry

log = logging.getLogger(__name__)

FIELD_MANAGER = "modeldeploy-operator"
#: A resourceVersion that no object has: objects start at 2, since 1 is that of an empty etcd. An apply with a version
#: updates no object of another one, and creates an object that is absent.
_NO_VERSION = "1"
#: Requests in flight: more only add latency at the API server.
CONCURRENCY = 32
REQUEST_TIMEOUT = 30.0
#: Seconds: timeout that each watch requests, and the longest silence of a live one (bookmarks arrive each minute).
WATCH_SECONDS = 300
SILENCE_SECONDS = 90.0
_PAGE = 500

Answer = TypeVar("Answer")
Connect = Callable[[], Awaitable[Connection]]


class KubernetesClient:
    """The API server of one connection; use it as an async context manager."""

    def __init__(self, connect: Connect, telemetry: Telemetry) -> None:
        self._connect, self._telemetry = connect, telemetry
        self._connection: Connection | None = None
        self._is_away = False

    async def __aenter__(self) -> "KubernetesClient":
        self._connection = await self._connect()
        self._limit = asyncio.Semaphore(CONCURRENCY)
        self._renewing = asyncio.Lock()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connection is not None:
            await self._connection.close()

    @property
    def connection(self) -> Connection:
        """The connection in use."""
        if self._connection is None:
            raise RuntimeError("KubernetesClient has to be entered before it is used")
        return self._connection

    # --- writes (ports.Cluster) ---------------------------------------------------------------

    async def apply_new(self, body: Mapping[str, Any]) -> JsonObject:
        """Apply an object server-side that must not exist yet."""
        return await self.apply({**body, "metadata": {**body["metadata"], "resourceVersion": _NO_VERSION}})

    async def apply(self, body: Mapping[str, Any]) -> JsonObject:
        """Apply an object server-side, and take over fields of other managers."""
        info, metadata = BY_KIND[body["kind"]], body["metadata"]
        path = info.path(metadata["namespace"], metadata["name"])
        return await self._call(
            "apply",
            info,
            "PATCH",
            path + _query(fieldManager=FIELD_MANAGER, force="true"),
            body,
            "application/apply-patch+yaml",
        )

    async def find(self, kind: str, key: ObjectKey) -> JsonObject | None:
        """Return an object, or None if it does not exist."""
        info = BY_KIND[kind]
        try:
            return await self._call("get", info, "GET", info.path(*key))
        except ApiError as error:
            if error.is_absent:
                return None
            raise

    async def delete(self, kind: str, key: ObjectKey, uid: str) -> None:
        """Delete the object with this uid; if it is gone or was replaced, do nothing."""
        info = BY_KIND[kind]
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            await self._call("delete", info, "DELETE", info.path(*key), options)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    async def patch_status(self, resource: ModelDeployment | ObjectVersion, patch: Mapping[str, Any]) -> JsonObject:
        """Merge into the status of exactly this resourceVersion."""
        return await self._patch_resource("patch-status", resource, "/status", {"status": patch})

    async def patch_spec(self, resource: ModelDeployment, patch: Mapping[str, Any]) -> JsonObject:
        """Merge into the resource (except its status) of exactly this resourceVersion."""
        return await self._patch_resource("patch", resource, "", patch)

    async def merge(
        self, kind: str, key: ObjectKey, patch: Mapping[str, Any], version: str, subresource: str = ""
    ) -> JsonObject:
        """Merge into exactly this resourceVersion of an object."""
        info = BY_KIND[kind]
        path = f"{info.path(*key)}{f'/{subresource}' if subresource else ''}{_query(fieldManager=FIELD_MANAGER)}"
        body = {**patch, "metadata": {"resourceVersion": version}}
        verb = f"patch-{subresource}" if subresource else "patch"
        return await self._call(verb, info, "PATCH", path, body, "application/merge-patch+json")

    async def post_event(self, body: Mapping[str, Any]) -> None:
        """Create an Event."""
        await self._call("create", EVENT, "POST", EVENT.collection(body["metadata"]["namespace"]), body)

    async def _patch_resource(
        self, verb: str, resource: ModelDeployment | ObjectVersion, subresource: str, patch: Mapping[str, Any]
    ) -> JsonObject:
        path = f"{RESOURCE.path(*resource.key)}{subresource}{_query(fieldManager=FIELD_MANAGER)}"
        body = {"metadata": {"resourceVersion": resource.resource_version}, **patch}
        return await self._call(verb, RESOURCE, "PATCH", path, body, "application/merge-patch+json")

    # --- reads --------------------------------------------------------------------------------

    async def read_secret(self, namespace: str, name: str) -> Mapping[str, str]:
        """Return the data of a Secret as text; binary values are omitted."""
        secret = await self._call("get", SECRET, "GET", SECRET.path(namespace, name))
        held = {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}
        return {key: value.decode() for key, value in held.items() if _is_text(value)}

    async def find_secret(self, namespace: str, name: str) -> JsonObject | None:
        """Return a Secret, or None if it does not exist."""
        try:
            return await self._call("get", SECRET, "GET", SECRET.path(namespace, name))
        except ApiError as error:
            if error.is_absent:
                return None
            raise

    async def fill_secret(self, namespace: str, name: str, data: Mapping[str, str], found: JsonObject | None) -> None:
        """Add data, in base64, to exactly the version of a Secret that was found; create it if there was none."""
        if found is None:
            body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
            await self._call("create", SECRET, "POST", SECRET.collection(namespace), body)
            return
        patch = {"metadata": {"resourceVersion": found["metadata"]["resourceVersion"]}, "data": data}
        path = SECRET.path(namespace, name)
        await self._call("patch", SECRET, "PATCH", path, patch, "application/merge-patch+json")

    async def version(self) -> str:
        """Return the version of the API server, such as `v1.36.2`."""
        return str((await self._typed("get", "Version", lambda api: VersionApi(api).get_code())).git_version)

    async def list(self, info: KindInfo, namespace: str = "") -> AsyncIterator[tuple[list[JsonObject], str]]:
        """Yield all objects of a kind that the operator manages, page by page, with the resourceVersion of the list."""
        token = ""
        while True:
            query = _query(limit=str(_PAGE), labelSelector=info.selector, **{"continue": token})
            page = await self._call("list", info, "GET", info.collection(namespace) + query)
            # Items of a list lack kind and apiVersion.
            for item in page["items"]:
                item.update(kind=info.kind, apiVersion=info.api_version)
            yield page["items"], page["metadata"]["resourceVersion"]
            token = page["metadata"].get("continue", "")
            if not token:
                return

    async def watch(self, info: KindInfo, version: str, namespace: str = "") -> AsyncIterator[tuple[str, JsonObject]]:
        """Yield (type, object) of each change after a resourceVersion, until the server ends the stream.

        Raises:
            ApiError: the stream broke or was silent for too long, or the version is too old (410).
        """
        query = _query(
            watch="true",
            allowWatchBookmarks="true",
            resourceVersion=version,
            timeoutSeconds=str(WATCH_SECONDS),
            labelSelector=info.selector,
        )
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT, sock_read=SILENCE_SECONDS)
        try:
            path = info.collection(namespace) + query
            headers = {"Accept": "application/json"}
            async with await self.connection.request("GET", path, headers=headers, timeout=timeout) as response:
                self._telemetry.requested("watch", info.kind, response.status)
                await _raise_for_status(response)
                async for line in response.content:
                    event = await parsed(line)
                    if event["type"] == "ERROR":
                        raise _error_of(event["object"], event["object"].get("code", 500), None)
                    yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ApiError(0, "WatchBroke", f"the watch of {info.plural} broke: {_describe(error)}") from error

    # --- the lease (clients.lease) ------------------------------------------------------------

    async def read_lease(self, namespace: str, name: str) -> V1Lease:
        """Return a Lease."""
        return await self._typed(
            "get", "Lease", lambda api: CoordinationV1Api(api).read_namespaced_lease(name, namespace)
        )

    async def create_lease(self, namespace: str, lease: V1Lease) -> V1Lease:
        """Create a Lease."""
        return await self._typed(
            "create", "Lease", lambda api: CoordinationV1Api(api).create_namespaced_lease(namespace, lease)
        )

    async def replace_lease(self, namespace: str, name: str, lease: V1Lease) -> V1Lease:
        """Replace exactly the given version of a Lease."""
        return await self._typed(
            "update", "Lease", lambda api: CoordinationV1Api(api).replace_namespaced_lease(name, namespace, lease)
        )

    # --- requests -------------------------------------------------------------------------------

    def _note_answer(self) -> None:
        if self._is_away:
            self._is_away = False
            log.warning("the API server at %s answers again", self.connection.server)

    def _unreachable(self, request: str, error: BaseException) -> ApiError:
        """Return the error of a request without a response; the log has one line for each outage."""
        if not self._is_away:
            self._is_away = True
            log.warning("the API server at %s does not answer: %s", self.connection.server, _describe(error))
        return ApiError(0, "Unreachable", f"{request}: {_describe(error)}")

    async def _typed(self, verb: str, kind: str, call: Callable[[ApiClient], Awaitable[Answer]]) -> Answer:
        """Make a call of the library's typed interface, and raise its errors as `ApiError`."""
        return await self._with_fresh_credentials(lambda: self._typed_once(verb, kind, call))

    async def _typed_once(self, verb: str, kind: str, call: Callable[[ApiClient], Awaitable[Answer]]) -> Answer:
        status = 0
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                answer = await call(self.connection.api)
            status = 200
            self._note_answer()
            return answer
        except ApiException as error:
            status = error.status or 0
            raise _error_of(_json(error.body or ""), status, None) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(f"{verb} of a {kind}", error) from error
        finally:
            self._telemetry.requested(verb, kind, status)

    async def _call(
        self,
        verb: str,
        info: KindInfo,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> JsonObject:
        headers = {"Accept": "application/json", **({"Content-Type": content_type} if body is not None else {})}
        async with self._limit:
            return await self._with_fresh_credentials(lambda: self._once(verb, info, method, path, body, headers))

    async def _with_fresh_credentials(self, request: Callable[[], Awaitable[Answer]]) -> Answer:
        """Repeat a request once with reloaded credentials when the server rejects the old ones."""
        used = self.connection
        try:
            return await request()
        except ApiError as error:
            if error.status != 401:
                raise
        async with self._renewing:
            if self._connection is used:
                self._connection = await self._connect()
                await used.close()
        return await request()

    async def _once(
        self,
        verb: str,
        info: KindInfo,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> JsonObject:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT)
        data = None if body is None else orjson.dumps(body)
        try:
            async with await self.connection.request(
                method, path, data=data, headers=headers, timeout=timeout
            ) as response:
                self._telemetry.requested(verb, info.kind, response.status)
                self._note_answer()
                await _raise_for_status(response)
                answer: JsonObject = await parsed(await response.read())
                return answer
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self._telemetry.requested(verb, info.kind, 0)
            raise self._unreachable(f"{method} {path.partition('?')[0]}", error) from error


class KindSource:
    """Lists and watches one kind for a reflector, in one namespace or, with an empty name, in all."""

    def __init__(self, client: KubernetesClient, info: KindInfo, namespace: str = "") -> None:
        self._client, self._info, self._namespace = client, info, namespace

    @property
    def kind(self) -> str:
        """The kind."""
        return self._info.kind

    @property
    def namespace(self) -> str:
        """The namespace, empty for all."""
        return self._namespace

    def list(self) -> AsyncIterator[tuple[list[JsonObject], str]]:
        """Yield all objects by pages, each with the resourceVersion of the list."""
        return self._client.list(self._info, self._namespace)

    def watch(self, resource_version: str) -> AsyncIterator[tuple[str, JsonObject]]:
        """Yield (type, object) of each change."""
        return self._client.watch(self._info, resource_version, self._namespace)


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _query(**parameters: str) -> str:
    return "?" + urlencode({name: value for name, value in parameters.items() if value})


def _describe(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        return {"message": text[:500]}


async def _raise_for_status(response: aiohttp.ClientResponse) -> None:
    if response.status < 400:
        return
    retry_after = response.headers.get("Retry-After", "")
    body = _json(await response.text(errors="replace"))
    raise _error_of(body, response.status, float(retry_after) if retry_after.isdigit() else None)


def _error_of(body: Any, status: int, retry_after: float | None) -> ApiError:
    fields: JsonObject = body if isinstance(body, dict) else {"message": str(body)}
    details = fields.get("details")
    about: JsonObject = details if isinstance(details, dict) else {}
    causes = about.get("causes")
    reasons = tuple(str(cause.get("reason", "")) for cause in causes or ())
    return ApiError(
        status, fields.get("reason", ""), fields.get("message", ""), retry_after, reasons, about.get("kind", "")
    )
