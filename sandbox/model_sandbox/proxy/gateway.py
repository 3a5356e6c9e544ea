"""A gateway for HTTPRoutes: listens for each Gateway of its class and routes every single request.

`python -m model_sandbox up --gateway` installs the definitions and starts it; `python -m model_sandbox gateway` runs it
against any API server, with its definitions of the Gateway API where it has them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from model_sandbox.cache import Key, Resource, key_of
from model_sandbox.client import ApiFailure, Client, Obj
from model_sandbox.controllers.base import DEFINITIONS, SERVICES, SLICES, Shared, World, status_of, with_condition
from model_sandbox.controllers.endpoints import SERVICE_LABEL
from model_sandbox.controllers.labels import Labelled
from model_sandbox.controllers.queue import Controller
from model_sandbox.node.network import Backend
from model_sandbox.proxy import routing
from model_sandbox.proxy.services import backends

log = logging.getLogger(__name__)

CONTROLLER = "modeldeploy.dev/sandbox-gateway"
VERSION = "gateway.networking.k8s.io/v1"
CLASSES = Resource(VERSION, "gatewayclasses", "GatewayClass", namespaced=False)
GATEWAYS = Resource(VERSION, "gateways", "Gateway")
ROUTES = Resource(VERSION, "httproutes", "HTTPRoute")
ADDRESS_NUMBERS = range(128, 160)  # of 127.N.x.y
#: Annotation of a Gateway that builds a backend in so many seconds once a rule gives it weight, as some gateways do:
#: until then its requests are lost.
BUILD_SECONDS = "sandbox.modeldeploy.dev/build-seconds"
MAX_BODY = 64 * 1024 * 1024
# A prediction may take its time; a backend that does not even answer the phone may not.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5)
_RETRY = 0.5  # seconds
_YES = ("Accepted", True, "Accepted", "")


async def install(client: Client) -> None:
    """Create the definitions and the class of this gateway. What is there already stays.

    What the API server refuses is logged and left out: the definitions that are there, perhaps the official ones, do.
    """
    text = (resources.files("model_sandbox") / "data" / "gateway.yaml").read_text()
    for body in yaml.safe_load_all(text):
        is_definition = body["kind"] == DEFINITIONS.kind
        path, name = (DEFINITIONS if is_definition else CLASSES).path(), body["metadata"]["name"]
        # A kind is served a moment after its definition is written.
        while (failure := await _refusal(client, path, body)) is not None and failure.code == 404 and not is_definition:
            log.debug("%s %s waits for its definition", body["kind"], name)
            await asyncio.sleep(_RETRY)
        if failure is not None and failure.code != 409:
            log.warning("%s %s is not installed, the gateway uses what is there: %s", body["kind"], name, failure)


async def _refusal(client: Client, path: str, body: Obj) -> ApiFailure | None:
    """Create an object; the answer is what the API server has against it."""
    try:
        await client.send("POST", path, body)
    except ApiFailure as failure:
        return failure
    return None


async def accept(world: World, body: Obj) -> float | None:
    """Accept our own GatewayClasses."""
    if body["spec"]["controllerName"] == CONTROLLER:
        await world.report(CLASSES, body, {"conditions": _conditions(body, status_of(body), _YES)})
    return None


class Gateways:
    """Keeps the listeners and the status of Gateways and HTTPRoutes. Mirrored requests are tasks of the group."""

    def __init__(self, world: World, session: aiohttp.ClientSession, tasks: asyncio.TaskGroup) -> None:
        self._world = world
        self._slices = Labelled(world[SLICES])
        self._session = session
        self._tasks = tasks
        self._keys: dict[str, Key] = {}  # by address
        self._sites: dict[Backend, web.TCPSite] = {}
        self._known: dict[Key, float] = {}  # backends with weight, each with the time since when
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self.server = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    # --- status

    def _is_ours(self, gateway: Obj) -> bool:
        held = self._world[CLASSES].get("", gateway["spec"]["gatewayClassName"])
        return held is not None and held["spec"]["controllerName"] == CONTROLLER

    async def gateway_changed(self, key: Key) -> float | None:
        """Listen for a Gateway, and say so."""
        body = self._world[GATEWAYS].get(*key)
        listeners = body["spec"]["listeners"] if body is not None and self._is_ours(body) else []
        wanted = {one["port"] for one in listeners if one["protocol"] == "HTTP"}
        known = [address for address, one in self._keys.items() if one == key]
        for held in [one for one in self._sites if one[0] in known and one[1] not in wanted]:
            await self._sites.pop(held).stop()
        if body is None or not listeners:
            return None
        address, problem = known[0] if known else _address(body), ""
        self._keys[address] = key
        for port in wanted - {one[1] for one in self._sites if one[0] == address}:
            site = web.TCPSite(self.server, address, port)
            try:
                await site.start()
                self._sites[address, port] = site
            except OSError as error:
                problem = str(error)
        others = sorted({one["protocol"] for one in listeners} - {"HTTP"})
        told = f"protocols {', '.join(others)} are left out here; known: HTTP"
        conditions = _conditions(
            body,
            status_of(body),
            ("Accepted", not others, "ListenersNotValid", told) if others else _YES,
            ("Programmed", not problem, "AddressNotUsable" if problem else "Programmed", problem),
        )
        status = {"addresses": [{"type": "IPAddress", "value": address}], "conditions": conditions}
        await self._world.report(GATEWAYS, body, status)
        return 5.0 if problem else None

    async def route_changed(self, world: World, route: Obj) -> float | None:
        """Say of each parent of a route whether it accepts it."""
        now = asyncio.get_running_loop().time()
        self._known = {key: self._known.get(key, now) for key in routing.backends_with_weight(world[ROUTES])}
        namespace, parents = route["metadata"]["namespace"], status_of(route).get("parents") or []
        before = {_parent_key(one["parentRef"]): one for one in parents}
        found = [one for one in parents if one["controllerName"] != CONTROLLER]
        for reference in route["spec"].get("parentRefs") or []:
            if not routing.is_gateway(reference):
                continue  # a Service, say, which a mesh answers for
            gateway = world[GATEWAYS].get(reference.get("namespace", namespace), reference["name"])
            if gateway is not None and self._is_ours(gateway):
                held = before.get(_parent_key(reference), {})
                told = routing.accepted(route, gateway, reference), routing.resolved(route, world[SERVICES].get)
                conditions = _conditions(route, held, *told)
                found.append({"parentRef": reference, "controllerName": CONTROLLER, "conditions": conditions})
        if found or parents:
            await world.report(ROUTES, route, {"parents": found})
        return None

    # --- requests

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        # The address that was asked tells which Gateway it is.
        key = self._keys[request.transport.get_extra_info("sockname")[0]] if request.transport else ("", "")
        seen = routing.Request(
            request.host.partition(":")[0].lower(),
            request.method,
            request.path,
            {name.lower(): value for name, value in request.headers.items()},
            dict(request.query),
        )
        found = routing.choose((route for route in self._world[ROUTES] if _is_attached(route, key)), seen)
        if found is None:
            return web.Response(status=404, text="no HTTPRoute matches\n")
        namespace, rule = found[0]["metadata"]["namespace"], found[1]
        chosen = routing.pick(rule.get("backendRefs") or [], random.random())  # noqa: S311
        headers = routing.changed("requestHeaderModifier", request.headers.items(), rule, chosen or {})
        headers += [("Host", request.host), ("X-Forwarded-For", request.remote or "")]
        sent = {"headers": headers, "data": await request.read() or None, "allow_redirects": False}
        for reference in routing.mirrors(rule, random.random()):  # noqa: S311
            self._tasks.create_task(self._copy(namespace, reference, request, sent))
        if chosen is None or self._world[SERVICES].get(namespace, chosen["name"]) is None:
            return web.Response(status=500, text="the route has no usable backend\n")
        if not self._is_built(key, (namespace, chosen["name"])):
            return web.Response(status=503, text="the backend is being built\n")
        try:
            source = await self._ask(namespace, chosen, request, sent)
        except aiohttp.ClientError as error:
            return web.Response(status=502, text=f"the backend broke the connection: {error}\n")
        if source is None:
            return web.Response(status=503, text="no ready endpoint\n")
        async with source:
            response = web.StreamResponse(status=source.status)
            response.headers.extend(routing.changed("responseHeaderModifier", source.headers.items(), rule, chosen))
            response.content_length = source.content_length
            await response.prepare(request)
            async for chunk in source.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    async def _ask(
        self, namespace: str, reference: Obj, request: web.Request, sent: dict[str, Any]
    ) -> aiohttp.ClientResponse | None:
        """The answer of the first endpoint that can be reached; None when none can. Raises aiohttp.ClientError."""
        name = reference["name"]
        ports = (self._world[SERVICES].get(namespace, name) or {"spec": {}})["spec"].get("ports") or []
        slices = self._slices.having(namespace, {SERVICE_LABEL: name})
        for port in [one for one in ports if one["port"] == reference.get("port")]:
            found = backends(port.get("name", ""), slices)
            for host, number in random.sample(found, len(found)):
                with contextlib.suppress(aiohttp.ClientConnectorError):
                    url = f"http://{host}:{number}{request.raw_path}"
                    return await self._session.request(request.method, url, **sent)
        return None

    def _is_built(self, gateway: Key, service: Key) -> bool:
        held = self._world[GATEWAYS].get(*gateway)
        seconds = float(((held or {"metadata": {}})["metadata"].get("annotations") or {}).get(BUILD_SECONDS, 0))
        now = asyncio.get_running_loop().time()
        return now - self._known.get(service, now) >= seconds

    async def _copy(self, namespace: str, reference: Obj, request: web.Request, sent: dict[str, Any]) -> None:
        """A mirrored request; its answer is thrown away."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            answer = await self._ask(namespace, reference, request, sent)
            if answer is not None:
                async with answer:
                    await answer.read()


def _address(gateway: Obj) -> str:
    """The address that a Gateway has already, or a new one."""
    number, high, low = random.choice(ADDRESS_NUMBERS), random.randrange(256), random.randrange(2, 255)  # noqa: S311
    return str((status_of(gateway).get("addresses") or [{}])[0].get("value") or f"127.{number}.{high}.{low}")


def _parent_key(reference: Obj) -> tuple[Any, ...]:
    return tuple(map(reference.get, ("group", "kind", "namespace", "name", "sectionName", "port")))


def _is_attached(route: Obj, gateway: Key) -> bool:
    """Whether a Gateway has accepted a route."""
    for parent in status_of(route).get("parents") or []:
        reference = parent["parentRef"]
        if not routing.is_gateway(reference):
            continue
        to = reference.get("namespace", route["metadata"]["namespace"]), reference["name"]
        if to == gateway and any((one["type"], one["status"]) == ("Accepted", "True") for one in parent["conditions"]):
            return True
    return False


def _conditions(body: Obj, before: Obj, *told: tuple[str, bool, str, str]) -> list[Obj]:
    held, generation = before.get("conditions") or [], body["metadata"]["generation"]
    for one in told:
        held = with_condition(held, *one, now=datetime.now(UTC), observedGeneration=generation)
    return sorted(held, key=lambda one: str(one["type"]))


async def run(shared: Shared) -> None:
    """Run the gateway until cancelled; what it needs of the Gateway API is installed unless it is there."""
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        shared.world("sandbox-gateway/1", CLASSES, GATEWAYS, ROUTES, SERVICES, SLICES) as world,
        aiohttp.ClientSession(connector=connector, auto_decompress=False, timeout=_TIMEOUT) as session,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(install(world.client))
        gateways = Gateways(world, session, tasks)

        def every_route(_: Obj) -> Any:
            return map(key_of, world[ROUTES])

        await gateways.server.setup()
        try:
            await world.work(
                world.controller("gateway classes", CLASSES, accept),
                Controller("gateways", gateways.gateway_changed)
                .hears(world[GATEWAYS])
                .hears(world[CLASSES], lambda _: map(key_of, world[GATEWAYS])),
                world.controller(
                    *("routes", ROUTES, gateways.route_changed),
                    *((one, every_route) for one in (CLASSES, GATEWAYS, SERVICES)),
                ),
            )
        finally:
            await gateways.server.cleanup()
