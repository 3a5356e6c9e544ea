"""A gateway for HTTPRoutes: listens for each Gateway of its class and routes every single request.

`python -m model_sandbox up --gateway` installs the definitions and starts it; `python -m model_sandbox gateway` runs it
against any API server that has them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from importlib import resources
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from model_sandbox.cache import Cache, Key, Resource, key_of
from model_sandbox.client import ApiFailure, Client, Connection, Obj
from model_sandbox.controllers.base import DEFINITIONS, SERVICES, SLICES, Controller, enqueue, set_condition, stamp
from model_sandbox.proxy import routing
from model_sandbox.proxy.services import backends, service_of

log = logging.getLogger(__name__)
CONTROLLER = "modeldeploy.dev/sandbox-gateway"
VERSION = "gateway.networking.k8s.io/v1"
CLASSES = Resource(VERSION, "gatewayclasses", "GatewayClass", namespaced=False)
GATEWAYS = Resource(VERSION, "gateways", "Gateway")
ROUTES = Resource(VERSION, "httproutes", "HTTPRoute")
ADDRESS_NUMBERS = range(128, 160)  # of 127.N.x.y
Headers = list[tuple[str, str]]
MAX_BODY = 64 * 1024 * 1024
# A prediction may take its time; a backend that does not even answer the phone may not.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5)
_HOP = {"connection", "keep-alive", "te", "trailers", "transfer-encoding", "upgrade", "host", "content-length"}


async def install(client: Client) -> None:
    """The definitions and the class of this gateway; what is there already stays."""
    text = (resources.files("model_sandbox") / "data" / "gateway.yaml").read_text()
    for body in yaml.safe_load_all(text):
        resource = DEFINITIONS if body["kind"] == DEFINITIONS.kind else CLASSES
        try:
            await client.send("POST", resource.path(), body)
        except ApiFailure as failure:
            if failure.code != 409:
                raise


class Gateways:
    """Keeps the listeners and the status of Gateways and HTTPRoutes."""

    def __init__(self, client: Client, session: aiohttp.ClientSession, caches: dict[str, Cache]) -> None:
        self._client = client
        self._session = session
        self._classes, self._gateways, self._routes = (caches[one.base] for one in (CLASSES, GATEWAYS, ROUTES))
        self._services, self._slices = caches[SERVICES.base], caches[SLICES.base]
        self._addresses: dict[Key, str] = {}
        self._runners: dict[tuple[Key, int], web.AppRunner] = {}
        self._copies: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Close every listener."""
        for task in self._copies:
            task.cancel()
        for runner in self._runners.values():
            await runner.cleanup()

    # --- status

    def _is_ours(self, gateway: Obj | None) -> bool:
        if gateway is None:
            return False
        held = self._classes.get("", gateway["spec"]["gatewayClassName"])
        return held is not None and held["spec"]["controllerName"] == CONTROLLER

    async def class_changed(self, key: Key) -> float | None:
        """Accept our own classes."""
        body = self._classes.get(*key)
        if body is not None and body["spec"]["controllerName"] == CONTROLLER:
            conditions = _conditions(
                body, (body.get("status") or {}).get("conditions"), ("Accepted", True, "Accepted", "")
            )
            await self._classes.report(body, {"conditions": conditions})
        return None

    async def gateway_changed(self, key: Key) -> float | None:
        """Listen for a Gateway, and say so."""
        body = self._gateways.get(*key)
        ours = self._is_ours(body)
        wanted = (
            {one["port"] for one in body["spec"]["listeners"] if one["protocol"] == "HTTP"} if body and ours else set()
        )
        for held in [one for one in self._runners if one[0] == key and one[1] not in wanted]:
            await self._runners.pop(held).cleanup()
        if body is None or not ours:
            return None
        address = self._address(key, body)
        problem = ""
        for port in wanted:
            if (key, port) not in self._runners:
                try:
                    self._runners[key, port] = await self._listen(key, address, port)
                except OSError as error:
                    problem = str(error)
        before = body.get("status") or {}
        status = {
            "addresses": [{"type": "IPAddress", "value": address}],
            "conditions": _conditions(
                body,
                before.get("conditions"),
                ("Accepted", True, "Accepted", ""),
                ("Programmed", not problem, "AddressNotUsable" if problem else "Programmed", problem),
            ),
            "listeners": [self._listener_status(key, body, one, before) for one in body["spec"]["listeners"]],
        }
        await self._gateways.report(body, status)
        return 5.0 if problem else None

    def _listener_status(self, key: Key, body: Obj, listener: Obj, before: Obj) -> Obj:
        named = (one for one in before.get("listeners") or [] if one["name"] == listener["name"])
        held: Obj = next(named, {})
        http = listener["protocol"] == "HTTP"
        told = "" if http else f"protocol {listener['protocol']} is left out here; known: HTTP"
        attached = sum(self._is_attached(route, key) for route in self._routes)
        reason = "Accepted" if http else "UnsupportedProtocol"
        return {
            "name": listener["name"],
            "attachedRoutes": attached,
            "supportedKinds": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}],
            "conditions": _conditions(
                body,
                held.get("conditions"),
                ("Accepted", http, reason, told),
                ("Programmed", http, "Programmed" if http else "Invalid", told),
                ("ResolvedRefs", True, "ResolvedRefs", ""),
            ),
        }

    def _address(self, key: Key, body: Obj) -> str:
        if key not in self._addresses:
            held = ((body.get("status") or {}).get("addresses") or [{}])[0].get("value", "")
            number, high, low = random.choice(ADDRESS_NUMBERS), random.randrange(256), random.randrange(2, 255)  # noqa: S311
            self._addresses[key] = held or f"127.{number}.{high}.{low}"
        return self._addresses[key]

    async def route_changed(self, key: Key) -> float | None:
        """Say of each parent of a route whether it accepts it."""
        route = self._routes.get(*key)
        if route is None:
            return None
        before = {_parent_key(one["parentRef"]): one for one in (route.get("status") or {}).get("parents") or []}
        parents = []
        for reference in route["spec"].get("parentRefs") or []:
            gateway = self._gateways.get(reference.get("namespace", key[0]), reference["name"])
            if not self._is_ours(gateway):
                continue
            held = before.get(_parent_key(reference), {}).get("conditions")
            conditions = _conditions(
                route, held, self._accepted(route, gateway or {}, reference), self._resolved(route)
            )
            parents.append({"parentRef": reference, "controllerName": CONTROLLER, "conditions": conditions})
        others = [one for one in before.values() if one["controllerName"] != CONTROLLER]
        if parents or before:
            await self._routes.report(route, {"parents": [*others, *parents]})
        return None

    def _accepted(self, route: Obj, gateway: Obj, reference: Obj) -> tuple[str, bool, str, str]:
        missing = routing.unsupported(route)
        if missing:
            told = f"filters {', '.join(missing)} are left out here; known: {', '.join(routing.SUPPORTED)}"
            return "Accepted", False, "UnsupportedValue", told
        listeners = [
            one
            for one in gateway["spec"]["listeners"]
            if reference.get("sectionName") in (None, one["name"]) and reference.get("port") in (None, one["port"])
        ]
        if not listeners:
            return "Accepted", False, "NoMatchingParent", "no listener of that name or port"
        same = route["metadata"]["namespace"] == gateway["metadata"]["namespace"]
        scopes = {((one.get("allowedRoutes") or {}).get("namespaces") or {}).get("from", "Same") for one in listeners}
        if not same and "All" not in scopes:
            return "Accepted", False, "NotAllowedByListeners", "the listeners take routes of their own namespace only"
        return "Accepted", True, "Accepted", ""

    def _resolved(self, route: Obj) -> tuple[str, bool, str, str]:
        namespace = route["metadata"]["namespace"]
        for rule in route["spec"].get("rules") or []:
            copies = [
                one["requestMirror"]["backendRef"] for one in rule.get("filters") or [] if one.get("requestMirror")
            ]
            for reference in [*(rule.get("backendRefs") or []), *copies]:
                if reference.get("kind", "Service") != "Service" or reference.get("group"):
                    return "ResolvedRefs", False, "InvalidKind", f"kind {reference['kind']} is left out; known: Service"
                if reference.get("namespace", namespace) != namespace:
                    return "ResolvedRefs", False, "RefNotPermitted", "backends of other namespaces are left out here"
                if self._services.get(namespace, reference["name"]) is None:
                    told = f"Service {namespace}/{reference['name']} not found"
                    return "ResolvedRefs", False, "BackendNotFound", told
        return "ResolvedRefs", True, "ResolvedRefs", ""

    # --- requests

    async def _listen(self, key: Key, address: str, port: int) -> web.AppRunner:
        async def serve(request: web.Request) -> web.StreamResponse:
            return await self._serve(key, request)

        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", serve)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, address, port).start()
        except OSError:
            await runner.cleanup()
            raise
        return runner

    def _is_attached(self, route: Obj, key: Key) -> bool:
        namespace = route["metadata"]["namespace"]
        return any(
            (one.get("namespace", namespace), one["name"]) == key and _holds(parent, "Accepted")
            for parent in (route.get("status") or {}).get("parents") or []
            for one in [parent["parentRef"]]
        )

    async def _serve(self, key: Key, request: web.Request) -> web.StreamResponse:
        seen = routing.Request(
            request.host.partition(":")[0].lower(),
            request.method,
            request.path,
            {name.lower(): value for name, value in request.headers.items()},
            dict(request.query),
        )
        found = routing.choose((route for route in self._routes if self._is_attached(route, key)), seen)
        if found is None:
            return web.Response(status=404, text="no HTTPRoute matches\n")
        route, rule = found
        namespace = route["metadata"]["namespace"]
        body = await request.read()
        chosen = routing.pick(rule.get("backendRefs") or [], random.random())  # noqa: S311
        put, gone = routing.header_changes("requestHeaderModifier", rule, chosen or {})
        kept = [(name, value) for name, value in request.headers.items() if name.lower() not in _HOP | gone]
        headers = [*kept, ("Host", request.host), ("X-Forwarded-For", request.remote or ""), *put]
        for reference in routing.mirrors(rule, random.random()):  # noqa: S311
            task = asyncio.create_task(self._copy(namespace, reference, request, headers, body))
            self._copies.add(task)
            task.add_done_callback(self._copies.discard)
        if chosen is None or self._services.get(namespace, chosen["name"]) is None:
            return web.Response(status=500, text="the route has no usable backend\n")
        return await self._forward(
            namespace, chosen, request, headers, body, *routing.header_changes("responseHeaderModifier", rule, chosen)
        )

    def _endpoints(self, namespace: str, reference: Obj) -> list[tuple[str, int]]:
        service = self._services.get(namespace, reference["name"])
        ports = (service or {}).get("spec", {}).get("ports") or []
        name = next((port.get("name", "") for port in ports if port["port"] == reference.get("port")), None)
        if name is None:
            return []
        slices = [one for one in self._slices.within(namespace) if service_of(one) == reference["name"]]
        found = backends(name, slices)
        return random.sample(found, len(found))

    async def _forward(
        self,
        namespace: str,
        reference: Obj,
        request: web.Request,
        headers: Headers,
        body: bytes,
        put: Headers,
        gone: set[str],
    ) -> web.StreamResponse:
        """Ask one endpoint after the other; `put` and `gone` change the headers of the answer."""
        for host, port in self._endpoints(namespace, reference):
            url = f"http://{host}:{port}{request.raw_path}"
            try:
                source = await self._session.request(
                    request.method, url, headers=headers, data=body or None, allow_redirects=False
                )
            except aiohttp.ClientConnectorError:
                continue
            except aiohttp.ClientError as error:
                return web.Response(status=502, text=f"the backend broke the connection: {error}\n")
            async with source:
                kept = [(name, value) for name, value in source.headers.items() if name.lower() not in _HOP | gone]
                response = web.StreamResponse(status=source.status)
                response.headers.extend([*kept, *put])
                if source.content_length is not None:
                    response.content_length = source.content_length
                await response.prepare(request)
                async for chunk in source.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        return web.Response(status=503, text="no ready endpoint\n")

    async def _copy(self, namespace: str, reference: Obj, request: web.Request, headers: Headers, body: bytes) -> None:
        """A mirrored request; its answer is thrown away."""
        for host, port in self._endpoints(namespace, reference)[:1]:
            url = f"http://{host}:{port}{request.raw_path}"
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self._session.request(request.method, url, headers=headers, data=body or None) as answer:
                    await answer.read()


def _parent_key(reference: Obj) -> tuple[Any, ...]:
    return tuple(reference.get(name) for name in ("namespace", "name", "sectionName", "port"))


def _holds(status: Obj, kind: str) -> bool:
    return any(one["type"] == kind and one["status"] == "True" for one in status.get("conditions") or [])


def _conditions(body: Obj, held: list[Obj] | None, *told: tuple[str, bool, str, str]) -> list[Obj]:
    conditions = list(held or [])
    for kind, value, reason, message in told:
        entry = {"type": kind, "status": str(value), "reason": reason, "message": message}
        entry["observedGeneration"] = body["metadata"]["generation"]
        conditions = set_condition(conditions, entry, stamp())
    return sorted(conditions, key=lambda one: str(one["type"]))


async def run(connection: Connection) -> None:
    """Run the gateway until cancelled."""
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        Client(connection, "sandbox-gateway/1") as client,
        aiohttp.ClientSession(connector=connector, auto_decompress=False, timeout=_TIMEOUT) as session,
    ):
        await install(client)
        caches = {one.base: Cache(client, one) for one in (CLASSES, GATEWAYS, ROUTES, SERVICES, SLICES)}
        gateways = Gateways(client, session, caches)
        classes = Controller("gateway classes", gateways.class_changed)
        gates = Controller("gateways", gateways.gateway_changed)
        routes = Controller("routes", gateways.route_changed)
        for controller, own in ((classes, CLASSES), (gates, GATEWAYS), (routes, ROUTES)):
            enqueue(controller, caches[own.base])
        # Whether a route is accepted depends on the rest, and how many are accepted stands in the Gateway.
        for other in (CLASSES, GATEWAYS, SERVICES):
            enqueue(routes, caches[other.base], lambda body: map(key_of, caches[ROUTES.base]))
        for other in (CLASSES, SERVICES, ROUTES):
            enqueue(gates, caches[other.base], lambda body: map(key_of, caches[GATEWAYS.base]))
        try:
            async with asyncio.TaskGroup() as tasks:
                for cache in caches.values():
                    tasks.create_task(cache.run())
                for cache in caches.values():
                    await cache.ready.wait()
                for controller in (classes, gates, routes):
                    tasks.create_task(controller.run())
        finally:
            await gateways.close()
