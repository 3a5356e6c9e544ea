"""The API server over HTTP: takes requests apart, asks who may, calls `resources.py`, streams watches.

`ApiServer` is started by `python -m model_sandbox apiserver|up` and by `model_sandbox.testing`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Coroutine
from typing import Any

import orjson
import yaml
from aiohttp import web

from model_sandbox.apiserver import auth, bodies, deletion, discovery, errors, proxying, requests, subresources
from model_sandbox.apiserver.auth import Attributes, Tokens, User
from model_sandbox.apiserver.call import Call
from model_sandbox.apiserver.crds import DEFINITIONS
from model_sandbox.apiserver.errors import ApiError, Obj
from model_sandbox.apiserver.kinds import Kind, Registry
from model_sandbox.apiserver.lists import Renderer, Selection, list_page, parse_version
from model_sandbox.apiserver.preserving import check_name
from model_sandbox.apiserver.reading import read
from model_sandbox.apiserver.requests import Answer
from model_sandbox.apiserver.resources import Resources
from model_sandbox.apiserver.selectors import selected_name
from model_sandbox.apiserver.store import Entry, Store
from model_sandbox.apiserver.tables import utc_now
from model_sandbox.apiserver.watch import Watcher

log = logging.getLogger(__name__)

MAX_BODY = 3 * 1024 * 1024
_VERSION = {
    **{"major": "1", "minor": "36", "gitVersion": "v1.36.0-sandbox", "gitCommit": "", "gitTreeState": "clean"},
    **{"buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "python", "platform": "linux/amd64"},
}
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_RESOURCE = re.compile(
    r"/api(?:s/(?P<group>[^/]+))?/(?P<version>[^/]+)/(?P<watch>watch/)?"
    r"(?:namespaces/(?P<namespace>[^/]+)/(?!(?:status|finalize)/?$))?"
    r"(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<part>[^/]+))?/?"
)


class ApiServer:
    """Serves a store to the users of `tokens`."""

    def __init__(self, store: Store, registry: Registry, tokens: Tokens, resources: Resources) -> None:
        self.store = store
        self.registry = registry
        self.tokens = tokens
        self.resources = resources
        self._tasks: set[asyncio.Task[Any]] = set()

    def app(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.on_shutdown.append(self._stop)
        return app

    async def _stop(self, app: web.Application) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = Call(request, self.resources.now(), request.path)
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

    def _impersonated(self, call: Call, user: User) -> User:
        """The user whom a request acts as (kubectl --as), if the sender may impersonate."""
        name = call.request.headers.get("Impersonate-User")
        if not name:
            return user
        call.user = user
        namespace, _, account = name.removeprefix(auth.ACCOUNT).partition(":") if auth.ACCOUNT in name else ("", "", "")
        wants = ("serviceaccounts", namespace, account) if account else ("users", "", name)
        self._permit(call, Attributes("impersonate", "", *wants))
        return auth.named_user(name, call.request.headers.getall("Impersonate-Group", []))

    def _permit(self, call: Call, wants: Attributes) -> None:
        if not auth.is_allowed(self.store, call.user, wants):
            raise auth.refuse(call.user, wants)

    # --- answers

    def _refusal(self, error: ApiError, call: Call) -> web.Response:
        response = self.reply(error.body(), call, status=error.code)
        if error.retry_after is not None:
            response.headers["Retry-After"] = str(error.retry_after)
        return response

    def reply(self, body: Any, call: Call, *, status: int = 200, media: str = bodies.JSON) -> web.Response:
        """An answer with a body, and the warnings of the call."""
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        if media == bodies.YAML:
            data = yaml.safe_dump(orjson.loads(data), sort_keys=True).encode()
        response = web.Response(body=data, status=status, headers={"Content-Type": media})
        for text in call.warnings:
            escaped = text.replace("\\", "\\\\").replace('"', '\\"')
            response.headers.add("Warning", f'299 - "{escaped}"')
        return response

    def answer(self, call: Call, kind: Kind, stored: Obj, *, status: int = 200) -> web.Response:
        """An object as the answer to a write, in the form that is asked for."""
        entry = Entry(int(stored["metadata"].get("resourceVersion") or 0), stored)
        renderer = self._renderer(call, kind)
        return self.reply(renderer.object(entry), call, status=status, media=renderer.answer.media)

    def _renderer(self, call: Call, kind: Kind) -> Renderer:
        include = call.request.query.get("includeObject", "Metadata")
        return Renderer(kind, requests.accepted(call.accept), include, utc_now)

    # --- routing

    async def _route(self, call: Call) -> web.StreamResponse:
        proxied = proxying.PATH.fullmatch(call.path)
        if proxied is not None:
            return await self._proxy(call, proxied.groupdict(default=""))
        match = _RESOURCE.fullmatch(call.path)
        if match is not None:
            return await self._resource(call, match.groupdict(default=""))
        parts = [part for part in call.path.split("/") if part]
        if parts[:1] in (["healthz"], ["livez"], ["readyz"]):
            return web.Response(text="ok", headers={"Content-Type": "text/plain; charset=utf-8"})
        discovered = parts[:1] in (["api"], ["apis"])
        self._permit(call, Attributes("get" if discovered else call.request.method.lower(), path=call.path))
        if parts == ["version"] or (discovered and len(parts) == 1):
            if call.request.method not in ("GET", "HEAD"):
                raise errors.method_not_allowed()
            if discovered and requests.wants_aggregated(call.accept):
                body = discovery.aggregated(self.registry, core=parts == ["api"])
                return self.reply(body, call, media=discovery.AGGREGATED)
        if parts == ["version"]:
            return self.reply(_VERSION, call)
        if parts[:2] == ["openapi", "v3"]:
            return self._openapi(call, parts[2:])
        document = discovery.document(self.registry, parts, call.request.host) if discovered else None
        if document is not None:
            return self.reply(document, call)
        if parts[:1] == ["api"] or (len(parts) == 3 and self.registry.is_builtin(parts[1])):
            raise errors.no_such_resource()
        return _not_found_page()

    async def _proxy(self, call: Call, at: dict[str, str]) -> web.Response:
        verb = proxying.VERBS.get(call.request.method)
        if verb is None:
            raise errors.method_not_allowed()
        self._permit(call, Attributes(verb, "", f"{at['plural']}/proxy", at["namespace"], at["name"]))
        return await proxying.handle(self, call, at)

    def _openapi(self, call: Call, parts: list[str]) -> web.Response:
        if not parts:
            index = discovery.openapi_index(self.registry, call.prefix)
            return self.reply(index, call, media="text/plain; charset=utf-8")
        group = "" if parts[0] == "api" else parts[1] if len(parts) > 1 else "?"
        document = discovery.openapi_document(self.registry, group, parts[-1])
        return web.Response(status=404) if document is None else self.reply(document, call)

    async def _resource(self, call: Call, at: dict[str, str]) -> web.StreamResponse:
        """A request for a kind: `at` holds group, version, watch, namespace, plural, name and part of the path."""
        kind, method = self.registry.find(at["group"], at["version"], at["plural"]), call.request.method
        call.name, call.part, call.watch = at["name"], at["part"], bool(at["watch"])
        verb = _VERBS.get(method, method.lower())
        if method in ("GET", "HEAD"):
            watching = call.request.query.get("watch", "false").lower() in ("true", "1", "")
            call.watch = call.watch or (watching and not call.name)
            verb = "get" if call.name else "watch" if watching else "list"
        elif method == "DELETE" and not call.name:
            verb = "deletecollection"
        # Whoever may not ask is not told what is there; a namespace itself lies within the namespace of its name.
        resource = f"{at['plural']}/{call.part}" if call.part else at["plural"]
        namespace = at["namespace"] or (call.name if (at["group"], at["plural"]) == ("", "namespaces") else "")
        name = call.name or selected_name(call.request.query.get("fieldSelector", ""))
        self._permit(call, Attributes(verb, at["group"], resource, namespace, name))
        if kind is None or not self._is_there(kind, at):
            if kind is not None and kind.custom and call.part:
                raise errors.not_found(kind.plural, kind.group, call.name)
            if not self.registry.is_builtin(at["group"]):
                return _not_found_page()
            raise errors.no_such_resource()
        call.namespace = (at["namespace"] or None) if kind.namespaced else ""
        if kind.custom and not self.resources.definitions.ready(kind) and _needs_cache(call):
            raise errors.not_ready()
        if kind.warning:
            call.warnings.append(kind.warning)
        if call.part not in ("", "status"):
            return await subresources.handle(self, call, kind)
        if not kind.storage:
            return await subresources.review(self, call, kind)
        return await (self._object if call.name else self._collection)(call, kind)

    def _is_there(self, kind: Kind, at: dict[str, str]) -> bool:
        """Whether the kind has such a scope and such a part."""
        if at["namespace"] if not kind.namespaced else (at["name"] and not at["namespace"]):
            return False
        own = {"": True, "status": kind.status, "scale": kind.scale is not None}
        return own.get(at["part"], not kind.group and f"{kind.plural}/{at['part']}" in self.registry.subresources)

    async def _collection(self, call: Call, kind: Kind) -> web.StreamResponse:
        method, query = call.request.method, call.request.query
        if method == "GET":
            selection = Selection(kind, call.namespace, requests.list_options(query))
            if call.watch:
                return await self._watch(call, selection)
            renderer = self._renderer(call, kind)
            return self.reply(renderer.listed(*list_page(self.store, selection)), call, media=renderer.answer.media)
        if method == "POST" and "create" in kind.verbs and call.namespace is not None:
            requests.accepted(call.accept)
            body, repeated = await call.body(kind.kind, kind.node)
            write = call.write(repeated)
            decoded = read(kind, body, write)
            return self.answer(call, kind, self.resources.create(kind, call.namespace, decoded, write), status=201)
        if method == "POST" and kind.custom and kind.namespaced:
            return _not_found_page()
        if method == "DELETE" and "deletecollection" in kind.verbs and call.namespace is not None:
            options = await self._delete_options(call)
            entries, metadata = list_page(self.store, Selection(kind, call.namespace, requests.list_options(query)))
            for entry in entries:
                meta = entry.body["metadata"]
                deletion.delete(self.resources, kind, (meta.get("namespace", ""), meta["name"]), options)
            return self.reply(Renderer(kind, Answer(), "", utc_now).listed(entries, metadata), call)
        raise errors.method_not_allowed()

    async def _watch(self, call: Call, selection: Selection) -> web.StreamResponse:
        watcher = Watcher(self.store, selection, self._renderer(call, selection.kind))
        response = web.StreamResponse(headers={"Content-Type": bodies.JSON})
        response.enable_chunked_encoding()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._tasks.add(task)
        try:
            await response.prepare(call.request)
            await watcher.run(response.write)
            await response.write_eof()
        except (ConnectionError, asyncio.CancelledError):
            if call.request.transport is not None:
                call.request.transport.close()
        finally:
            self._tasks.discard(task)
        return response

    async def _object(self, call: Call, kind: Kind) -> web.Response:
        method = call.request.method
        if method == "GET":
            version = parse_version(call.request.query.get("resourceVersion", ""), get=True)
            if version > self.store.version:
                raise errors.too_large_version(version, self.store.version)
            renderer = self._renderer(call, kind)
            return self.reply(renderer.object(self.resources.get(kind, call.key)), call, media=renderer.answer.media)
        if method == "PUT":
            body, repeated = await call.body(kind.kind, kind.node)
            write = call.write(repeated)
            check_name(body.get("metadata"), call.name)
            return self.answer(call, kind, self.resources.update(kind, call.key, lambda _: body, write, call.part))
        if method == "PATCH":
            return await self._patch(call, kind)
        if method == "DELETE" and not call.part:
            return await self._delete(call, kind)
        raise errors.method_not_allowed()

    async def _patch(self, call: Call, kind: Kind) -> web.Response:
        form, data = await call.patch()
        if form == "strategic" and kind.custom:
            told = "strategic merge patch is for built-in kinds: use application/merge-patch+json"
            raise errors.unsupported_media_type(told, details=False)
        write, query = call.write(), call.request.query
        if form != "apply" and "force" in query:
            cause = errors.forbidden_field("force", "may not be specified for non-apply patch")
            raise errors.bad_options("PatchOptions", cause)
        if form != "apply":
            change = bodies.parse_patch(form, data, kind.node)
            return self.answer(call, kind, self.resources.update(kind, call.key, change, write, call.part))
        if not query.get("fieldManager"):
            raise errors.bad_options("PatchOptions", errors.required("fieldManager", "is required for apply patch"))
        stored, new = self.resources.apply(kind, call.key, bodies.parse_applied(data), write, call.part)
        return self.answer(call, kind, stored, status=201 if new else 200)

    async def _delete(self, call: Call, kind: Kind) -> web.Response:
        options = await self._delete_options(call)
        last, gone = deletion.delete(self.resources, kind, call.key, options)
        if kind.storage == DEFINITIONS and not options.dry_run:
            self._background(deletion.retire(self.resources, call.name))
        if kind.answer != "status" or not (gone or options.dry_run):
            return self.answer(call, kind, last)
        details = {"name": call.name, "group": kind.group, "kind": kind.plural, "uid": last["metadata"]["uid"]}
        return self.reply(errors.success(details={key: value for key, value in details.items() if value}), call)

    async def _delete_options(self, call: Call) -> requests.DeleteOptions:
        node = self.registry.types.node("DeleteOptions")
        body = (await call.body("DeleteOptions", node))[0] if await call.request.read() else {}
        return requests.delete_options(call.request.query, body, node)


def _needs_cache(call: Call) -> bool:
    """Whether a request is for the newest of all objects: Kubernetes answers it from a cache that is filled first."""
    query = call.request.query
    newest = not query.get("resourceVersion") and not query.get("limit")
    return call.request.method == "GET" and (call.watch or (not call.name and newest))


def _not_found_page() -> web.Response:
    return web.Response(status=404, text="404 page not found\n", headers={"Content-Type": "text/plain; charset=utf-8"})
