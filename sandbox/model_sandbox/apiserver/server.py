"""The API server over HTTP: takes requests apart, asks who may, calls `resources.py`, streams watches.

`ApiServer` is started by `python -m model_sandbox apiserver|up` and by `model_sandbox.testing`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Any

import orjson
import yaml
from aiohttp import web

from model_sandbox.apiserver import auth, discovery, errors, requests, subresources
from model_sandbox.apiserver.auth import Attributes, Tokens, User
from model_sandbox.apiserver.crds import DEFINITIONS
from model_sandbox.apiserver.errors import ApiError, Obj
from model_sandbox.apiserver.kinds import Kind, Registry
from model_sandbox.apiserver.lists import Page, Renderer, Selection, list_page, parse_version
from model_sandbox.apiserver.requests import Answer
from model_sandbox.apiserver.resources import Resources, Warnings, Write, check_name
from model_sandbox.apiserver.schema import Node
from model_sandbox.apiserver.store import Entry, Store
from model_sandbox.apiserver.tables import utc_now
from model_sandbox.apiserver.watch import Watcher

log = logging.getLogger(__name__)

MAX_BODY = 3 * 1024 * 1024
_VERSION = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.0-sandbox",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "python",
    "platform": "linux/amd64",
}
_HEALTH = ("healthz", "livez", "readyz")


@dataclass(slots=True)
class Target:
    """What a path is about."""

    kind: Kind
    namespace: str | None
    name: str = ""
    part: str = ""


@dataclass(slots=True)
class Call:
    """One request on its way through the server."""

    request: web.Request
    user: User
    now: str
    path: str = ""
    prefix: str = ""  # the path credential, see ApiServer._credentials
    watch: bool = False  # the old form, /api/v1/watch/...
    warnings: Warnings = field(default_factory=Warnings)

    @property
    def media(self) -> str:
        """The type of the body."""
        return self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def agent(self) -> str:
        """The client's name, for managedFields."""
        return self.request.headers.get("User-Agent", "")


class ApiServer:
    """Serves a store. `node_log` fetches a pod's log from its node."""

    def __init__(self, store: Store, registry: Registry, tokens: Tokens, resources: Resources) -> None:
        self.store = store
        self.registry = registry
        self.tokens = tokens
        self.resources = resources
        self._watchers: set[asyncio.Task[Any] | None] = set()
        self._retiring: set[asyncio.Task[None]] = set()

    def app(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.on_shutdown.append(self._stop)
        return app

    async def _stop(self, app: web.Application) -> None:
        tasks = [task for task in (*self._watchers, *self._retiring) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = Call(request, auth.ANONYMOUS, self.resources.now(), request.path)
        try:
            user = self.tokens.user(self._credentials(call), now=time.time(), store=self.store)
            if user is None:
                raise ApiError(401, "Unauthorized", "Unauthorized")
            call.user = self._impersonated(call, user)
            return await self._route(call)
        except ApiError as error:
            return self._refusal(error, call)
        except web.HTTPRequestEntityTooLarge:
            told = f"Request entity too large: limit is {MAX_BODY}"
            return self._refusal(ApiError(413, "RequestEntityTooLarge", told), call)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            return self._refusal(errors.internal("the sandbox's API server has a bug: see its log"), call)

    def _impersonated(self, call: Call, user: User) -> User:
        """The user whom a request acts as (kubectl --as), if the sender may impersonate."""
        headers = call.request.headers
        name = headers.get("Impersonate-User")
        if not name:
            return user
        wants = Attributes("impersonate", "", "users", "", name)
        if not auth.is_allowed(self.store, user, wants):
            raise auth.refuse(user, wants)
        return auth.named_user(name, headers.getall("Impersonate-Group", []))

    def _credentials(self, call: Call) -> str:
        """The Authorization header, or the token that a path begins with: `/as/TOKEN/api/v1/...`.

        Go clients (kubectl, Helm) send no token over plain HTTP, but keep the path of the server's URL.
        """
        header = call.request.headers.get("Authorization", "")
        if call.path.startswith("/as/"):
            _, _, token, *rest = call.path.split("/", 3)
            call.prefix, call.path = f"/as/{token}", "/" + "".join(rest)
            return header or f"Bearer {token}"
        return header

    def _refusal(self, error: ApiError, call: Call) -> web.Response:
        response = self.reply(error.body(), call, status=error.code)
        if error.retry_after is not None:
            response.headers["Retry-After"] = str(error.retry_after)
        return response

    def reply(self, body: Any, call: Call, *, status: int = 200, media: str = requests.JSON) -> web.Response:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        if media == requests.YAML:
            data = yaml.safe_dump(orjson.loads(data), sort_keys=True).encode()
        response = web.Response(body=data, status=status, headers={"Content-Type": media})
        for text in call.warnings.texts:
            escaped = text.replace("\\", "\\\\").replace('"', '\\"')
            response.headers.add("Warning", f'299 - "{escaped}"')
        return response

    # --- routing

    async def _route(self, call: Call) -> web.StreamResponse:
        parts = [part for part in call.path.split("/") if part]
        root = parts[0] if parts else ""
        if root in ("api", "apis"):
            head = 2 if root == "api" else 3
            if len(parts) > head and parts[head] == "watch":
                call.watch, parts = True, [*parts[:head], *parts[head + 1 :]]
            if len(parts) > head:
                return await self._resource(call, parts, head)
            return self._discovery(call, parts)
        if root in _HEALTH:
            return web.Response(text="ok", headers={"Content-Type": "text/plain; charset=utf-8"})
        self._permit(call, Attributes(call.request.method.lower(), path=call.path))
        if root == "version" and len(parts) == 1:
            self._only_get(call)
            return self.reply(_VERSION, call)
        if parts[:2] == ["openapi", "v3"]:
            return self._openapi(call, parts[2:])
        return _not_found_page()

    def _only_get(self, call: Call) -> None:
        if call.request.method not in ("GET", "HEAD"):
            raise errors.method_not_allowed()

    def _permit(self, call: Call, wants: Attributes) -> None:
        if not auth.is_allowed(self.store, call.user, wants):
            raise auth.refuse(call.user, wants)

    def _discovery(self, call: Call, parts: list[str]) -> web.Response:
        self._permit(call, Attributes("get", path=call.path))
        core, versions = parts[0] == "api", self.registry.versions()
        if len(parts) == 1:
            self._only_get(call)
            if requests.wants_aggregated(call.request.headers.get("Accept", "")):
                body = discovery.aggregated(self.registry, core=core)
                return self.reply(body, call, media=discovery.AGGREGATED)
            if not core:
                return self.reply(discovery.group_list(self.registry), call)
            address = {"clientCIDR": "0.0.0.0/0", "serverAddress": call.request.host}
            body = {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [address]}
            return self.reply(body, call)
        group = "" if core else parts[1]
        if group not in versions:
            return _not_found_page()
        if not core and len(parts) == 2:
            body = {"kind": "APIGroup", "apiVersion": "v1", **discovery.group(group, versions[group])}
            return self.reply(body, call)
        if parts[-1] not in versions[group]:
            if group in ("", *_builtin_groups(self.registry)):
                raise errors.no_such_resource()
            return _not_found_page()
        return self.reply(discovery.resource_list(self.registry, group, parts[-1]), call)

    def _openapi(self, call: Call, parts: list[str]) -> web.Response:
        if not parts:
            index = discovery.openapi_index(self.registry, call.prefix)
            return self.reply(index, call, media="text/plain; charset=utf-8")
        group = "" if parts[0] == "api" else parts[1] if len(parts) > 1 else "?"
        document = discovery.openapi_document(self.registry, group, parts[-1])
        if document is None:
            return web.Response(status=404)
        return self.reply(document, call)

    def _target(self, parts: list[str], head: int) -> Target | None:
        group, version = ("", parts[1]) if head == 2 else (parts[1], parts[2])
        rest = parts[head:]
        namespace: str | None = None
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        kind = self.registry.find(group, version, rest[0])
        if kind is None or (namespace is not None and not kind.namespaced) or len(rest) > 3:
            return None
        name, part = rest[1] if len(rest) > 1 else "", rest[2] if len(rest) > 2 else ""
        if name and kind.namespaced and namespace is None:
            return None
        if part and not self._has_part(kind, part):
            return None
        return Target(kind, namespace if kind.namespaced else "", name, part)

    def _has_part(self, kind: Kind, part: str) -> bool:
        if part == "status":
            return kind.status
        if part == "scale":
            return kind.scale is not None
        return not kind.group and f"{kind.plural}/{part}" in self.registry.subresources

    async def _resource(self, call: Call, parts: list[str], head: int) -> web.StreamResponse:
        target = self._target(parts, head)
        if target is None:
            group = "" if head == 2 else parts[1]
            known = self.registry.find(group, parts[head - 1], parts[-3]) if len(parts) > head + 2 else None
            if known is not None and known.custom:
                raise errors.not_found(known.plural, group, parts[-2])
            if group not in ("", *_builtin_groups(self.registry)):
                return _not_found_page()
            raise errors.no_such_resource()
        kind, method = target.kind, call.request.method
        verb = _verb(method, target, call.request.query)
        resource = f"{kind.plural}/{target.part}" if target.part else kind.plural
        self._permit(call, Attributes(verb, kind.group, resource, target.namespace or "", target.name))
        if kind.warning:
            call.warnings.texts.append(kind.warning)
        if target.part not in ("", "status"):
            return await subresources.handle(self, call, target.kind, target.namespace or "", target.name, target.part)
        if not kind.storage:
            return await subresources.review(self, call, kind)
        if not target.name:
            return await self._collection(call, target)
        handler = {"GET": self._get, "PUT": self._put, "PATCH": self._patch, "DELETE": self._delete}.get(method)
        if handler is None or (target.part and method == "DELETE"):
            raise errors.method_not_allowed()
        return await handler(call, target)

    async def _collection(self, call: Call, target: Target) -> web.StreamResponse:
        kind, method = target.kind, call.request.method
        if method == "GET":
            options = requests.list_options(call.request.query)
            selection = Selection(kind, target.namespace, options)
            return await (self._watch(call, selection) if options.watch or call.watch else self._list(call, selection))
        if method == "POST" and "create" in kind.verbs and (target.namespace is not None):
            return await self._create(call, target)
        if method == "POST" and kind.custom and kind.namespaced:
            return _not_found_page()
        if method == "DELETE" and "deletecollection" in kind.verbs and target.namespace is not None:
            return await self._delete_collection(call, target)
        raise errors.method_not_allowed()

    # --- reading

    def renderer(self, kind: Kind, answer: Answer, include: str = "Metadata") -> Renderer:
        """How to write objects for this answer."""
        return Renderer(kind, answer, include, utc_now)

    async def _get(self, call: Call, target: Target) -> web.Response:
        answer = requests.accepted(call.request.headers.get("Accept", ""))
        version = parse_version(call.request.query.get("resourceVersion", ""), get=True)
        if version > self.store.version:
            raise errors.too_large_version(version, self.store.version)
        entry = self.resources.get(target.kind, target.namespace or "", target.name)
        renderer = self.renderer(target.kind, answer, call.request.query.get("includeObject", "Metadata"))
        return self.reply(renderer.object(entry), call, media=answer.media)

    async def _list(self, call: Call, selection: Selection) -> web.Response:
        answer = requests.accepted(call.request.headers.get("Accept", ""))
        page = list_page(self.store, selection)
        renderer = self.renderer(selection.kind, answer, selection.options.include)
        return self.reply(renderer.listed(page.entries, page.metadata), call, media=answer.media)

    async def _watch(self, call: Call, selection: Selection) -> web.StreamResponse:
        answer = requests.accepted(call.request.headers.get("Accept", ""))
        renderer = self.renderer(selection.kind, answer, selection.options.include)
        watcher = Watcher(self.store, selection, renderer)
        response = web.StreamResponse(headers={"Content-Type": requests.JSON})
        response.enable_chunked_encoding()
        task = asyncio.current_task()
        self._watchers.add(task)
        try:
            await response.prepare(call.request)
            await watcher.run(response.write)
            await response.write_eof()
        except (ConnectionError, asyncio.CancelledError):
            if call.request.transport is not None:
                call.request.transport.close()
        finally:
            self._watchers.discard(task)
        return response

    # --- writing

    async def body(self, call: Call, kind: str, node: Node | None = None) -> tuple[Obj, tuple[str, ...]]:
        """The decoded body of a POST or PUT, and its repeated keys; `node` reads protobuf."""
        return requests.parse_body(await call.request.read(), call.media, kind, node)

    async def patch(self, call: Call) -> tuple[str, bytes]:
        """The form and the text of a PATCH; raises 415."""
        form = requests.PATCHES.get(call.media)
        if form is None:
            raise errors.unsupported_media_type()
        return form, await call.request.read()

    def answer(self, call: Call, kind: Kind, stored: Obj, *, status: int = 200) -> web.Response:
        """An object as the answer to a write."""
        answer = requests.accepted(call.request.headers.get("Accept", ""))
        entry = Entry(int(stored["metadata"].get("resourceVersion") or 0), stored)
        renderer = self.renderer(kind, answer, call.request.query.get("includeObject", "Metadata"))
        return self.reply(renderer.object(entry), call, status=status, media=answer.media)

    async def _create(self, call: Call, target: Target) -> web.Response:
        requests.accepted(call.request.headers.get("Accept", ""))
        body, repeated = await self.body(call, target.kind.kind, target.kind.node)
        write = requests.write_options(
            call.request.query, call.agent, call.now, options="CreateOptions", repeated=repeated
        )
        decoded = self.resources.decode(target.kind, body, write, call.warnings)
        stored = self.resources.create(target.kind, target.namespace or "", decoded, write)
        return self.answer(call, target.kind, stored, status=201)

    async def _put(self, call: Call, target: Target) -> web.Response:
        body, repeated = await self.body(call, target.kind.kind, target.kind.node)
        write = requests.write_options(
            call.request.query, call.agent, call.now, options="UpdateOptions", repeated=repeated
        )
        check_name(body.get("metadata"), target.name)
        stored = self.resources.update(
            target.kind, target.namespace or "", target.name, lambda _: body, write, call.warnings, target.part
        )
        return self.answer(call, target.kind, stored)

    async def _patch(self, call: Call, target: Target) -> web.Response:
        form, data = await self.patch(call)
        if form == "strategic" and target.kind.custom:
            told = "strategic merge patch is for built-in kinds: use application/merge-patch+json"
            raise errors.unsupported_media_type(told, details=False)
        write = requests.write_options(call.request.query, call.agent, call.now, options="PatchOptions")
        kind, namespace = target.kind, target.namespace or ""
        if form == "apply":
            return self._apply(call, target, data, write)
        if "force" in call.request.query:
            cause = errors.forbidden_field("force", "may not be specified for non-apply patch")
            raise errors.bad_options("PatchOptions", cause)
        change = requests.parse_patch(form, data, kind)
        stored = self.resources.update(kind, namespace, target.name, change, write, call.warnings, target.part)
        return self.answer(call, kind, stored)

    def _apply(self, call: Call, target: Target, data: bytes, write: Write) -> web.Response:
        if not call.request.query.get("fieldManager"):
            cause = errors.required("fieldManager", "is required for apply patch")
            raise errors.bad_options("PatchOptions", cause)
        body = requests.parse_applied(data)
        kind, namespace = target.kind, target.namespace or ""
        stored, new = self.resources.apply(kind, namespace, target.name, body, write, target.part)
        return self.answer(call, kind, stored, status=201 if new else 200)

    async def _delete(self, call: Call, target: Target) -> web.Response:
        options = requests.delete_options(call.request.query, await self._delete_body(call))
        kind, namespace = target.kind, target.namespace or ""
        last, gone = self.resources.delete(kind, namespace, target.name, options)
        if kind.storage == DEFINITIONS and not options.dry_run:
            self._retire(kind, target.name)
        if kind.answer == "status" and (gone or options.dry_run):
            details = {"name": target.name, "group": kind.group, "kind": kind.plural, "uid": last["metadata"]["uid"]}
            shown = {key: value for key, value in details.items() if value}
            body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": shown}
            return self.reply(body, call)
        return self.answer(call, kind, last)

    async def _delete_body(self, call: Call) -> Obj:
        if not await call.request.read():
            return {}
        return (await self.body(call, "DeleteOptions", self.registry.types.node("DeleteOptions")))[0]

    async def _delete_collection(self, call: Call, target: Target) -> web.Response:
        options = requests.delete_options(call.request.query, await self._delete_body(call))
        selection = Selection(target.kind, target.namespace, requests.list_options(call.request.query))
        page: Page = list_page(self.store, selection)
        for entry in page.entries:
            meta = entry.body["metadata"]
            self.resources.delete(target.kind, meta.get("namespace", ""), meta["name"], options)
        renderer = self.renderer(target.kind, Answer())
        return self.reply(renderer.listed(page.entries, page.metadata), call)

    # --- definitions that go

    def _retire(self, kind: Kind, name: str) -> None:
        """Remove a definition's objects, then the definition."""
        task = asyncio.get_running_loop().create_task(self._retired(kind, name))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _retired(self, kind: Kind, name: str) -> None:
        served = self.resources.definitions.served(name)
        if self.store.get(kind.storage, ("", name)) is None:
            return
        self.resources.mark_terminating(kind, name)
        changed = asyncio.Event()
        if served:
            shelf = self.store.shelf(served[0].storage)
            shelf.listeners.add(changed.set)
            self.resources.delete_all(served[0])
            while shelf.entries:
                changed.clear()
                await changed.wait()
            shelf.listeners.discard(changed.set)
        self.resources.drop_finalizer(kind, name)


def _verb(method: str, target: Target, query: Any) -> str:
    if method in ("GET", "HEAD"):
        watching = query.get("watch", "false").lower() in ("true", "1", "")
        return "get" if target.name else "watch" if watching else "list"
    if method == "DELETE":
        return "delete" if target.name else "deletecollection"
    return {"POST": "create", "PUT": "update", "PATCH": "patch"}.get(method, method.lower())


def _builtin_groups(registry: Registry) -> set[str]:
    return {kind.group for kind in registry.kinds.values() if not kind.custom}


def _not_found_page() -> web.Response:
    return web.Response(status=404, text="404 page not found\n", headers={"Content-Type": "text/plain; charset=utf-8"})
