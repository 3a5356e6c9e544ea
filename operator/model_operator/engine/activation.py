"""Keeps the activators informed of the models that may sleep, and learns from them which ones are wanted.

Level-triggered on both sides: every activator is told all routes whenever they are not those that it has, and says for
which models it has requests whenever it is asked. The ports are in the statuses of the models.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from model_operator.api.activation import FIRST_PORT, LAST_PORT, Demand, Route, Routes
from model_operator.api.json import Body
from model_operator.api.resource import ModelDeployment, ObjectKey
from model_operator.api.status import Phase
from model_operator.engine.cache import Cache
from model_operator.engine.concurrency import logged
from model_operator.engine.queue import Priority, WorkQueue
from model_operator.errors import ApiError, ProviderError, shortened
from model_operator.manifests.pods import PORT, pod_url
from model_operator.observation.observe import is_ready
from model_operator.observation.values import ActivatorView
from model_operator.ports import ActivatorPod, Activators

log = logging.getLogger(__name__)

#: Seconds between two looks at which activators run.
INTERVAL = 2.0
#: Seconds after which an activator that did not answer is asked again.
_AGAIN = 0.5


@dataclass(slots=True)
class _Peer:
    """One activator: its tasks, the ports on which it listens (None before its first answer), its requests."""

    pod: ActivatorPod
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)
    ports: Set[int] | None = None
    told: str = ""
    held: Mapping[str, int] = field(default_factory=dict)
    has_news: asyncio.Event = field(default_factory=asyncio.Event)


class Activation:
    """Talks with the activators in the background, and provides what it has learned."""

    def __init__(self, cache: Cache, queue: WorkQueue, activators: Activators) -> None:
        self._cache, self._queue, self._activators = cache, queue, activators
        self._peers: dict[str, _Peer] = {}
        self._has_looked = False
        self._problem = ""
        self._routes: dict[ObjectKey, Route] = {}
        #: The model of each port in the routes.
        self._holders: dict[int, ObjectKey] = {}
        #: Ports that were given to models whose status does not have them yet.
        self._claimed: dict[ObjectKey, int] = {}

    def view(self, resource: ModelDeployment) -> ActivatorView:
        """Return what the activators have of a model."""
        sleep = resource.status.sleep
        scaling = resource.spec.autoscaling
        if sleep is None and (scaling is None or scaling.idle_after is None):
            return ActivatorView(is_installed=self._activators.is_installed)
        if not self._activators.is_installed:
            return ActivatorView(endpoints=())
        port = self._port_of(resource.key) or self._free_port(resource.key)
        return ActivatorView(
            is_installed=True,
            port=port,
            endpoints=self._endpoints(port),
            held=sum(peer.held.get("/".join(resource.key), 0) for peer in self._peers.values()),
        )

    def changed(self, key: ObjectKey) -> None:
        """Look at a model again after a change of it, or of its pods."""
        route = self._route(key)
        before = self._routes.get(key)
        if before == route:
            return
        if before is not None:
            del self._routes[key], self._holders[before.port]
        if route is not None:
            self._routes[key], self._holders[route.port] = route, key
        for peer in self._peers.values():
            peer.has_news.set()

    async def run(self) -> None:
        """Follow the activators, until cancelled."""
        if not self._activators.is_installed:
            return
        try:
            while True:
                with logged("the look for activators"):
                    await self._look()
                await asyncio.sleep(INTERVAL)
        finally:
            for url in list(self._peers):
                self._drop(url)

    async def _look(self) -> None:
        for key in {*self._cache, *self._routes}:
            with logged(f"the route of {key.namespace}/{key.name}"):
                self.changed(key)
        try:
            pods = {pod.url: pod for pod in await self._activators.find()}
        except ApiError as error:
            if str(error) != self._problem:
                log.warning("cannot list the activators: %s", error)
            self._problem = str(error)
            return
        self._problem = ""
        before = self._ready()
        for url in self._peers.keys() - pods.keys():
            self._drop(url)
        for url, pod in pods.items():
            if url in self._peers:
                self._peers[url].pod = pod
            else:
                self._follow(pod)
        if before != self._ready() or not self._has_looked:
            self._has_looked = True
            self._enqueue_all()

    def _follow(self, pod: ActivatorPod) -> None:
        peer = self._peers[pod.url] = _Peer(pod)
        peer.has_news.set()
        peer.tasks = [asyncio.create_task(self._repeat(peer, work)) for work in (self._tell, self._ask)]

    def _drop(self, url: str) -> None:
        for task in self._peers.pop(url).tasks:
            task.cancel()

    async def _repeat(self, peer: _Peer, work: Callable[[_Peer], Awaitable[None]]) -> None:
        while True:
            try:
                await work(peer)
            except ProviderError as error:
                log.debug("%s", error)
                await asyncio.sleep(_AGAIN)
            except Exception:
                log.exception("a bug in the exchange with the activator at %s", peer.pod.url)
                await asyncio.sleep(INTERVAL)

    async def _tell(self, peer: _Peer) -> None:
        """Tell an activator the routes, when they are other ones than it has."""
        await peer.has_news.wait()
        peer.has_news.clear()
        routes = Routes(routes=tuple(self._routes[key] for key in sorted(self._routes)))
        if peer.told == routes.digest:
            return
        try:
            bound = await self._activators.tell(peer.pod.url, routes)
        except ProviderError:
            peer.has_news.set()
            raise
        ports = frozenset(bound.ports)
        peer.told = routes.digest
        if peer.ports != ports:
            new, peer.ports = ports ^ (peer.ports or frozenset()), ports
            self._enqueue([key for key, route in self._routes.items() if route.port in new])

    async def _ask(self, peer: _Peer) -> None:
        """Ask an activator for its demand until it does not answer; what changed is looked at at once."""
        after = -1
        while True:
            try:
                found = await self._activators.demand(peer.pod.url, after)
            except ProviderError:
                self._learn(peer, Demand())
                raise
            after = found.version
            self._learn(peer, found)
            if found.digest != peer.told:
                # It has started again. While an answer to new routes is on its way, they are told twice.
                peer.told = ""
                peer.has_news.set()

    def _learn(self, peer: _Peer, found: Demand) -> None:
        before, peer.held = peer.held, found.held
        names = {name for name in {*before, *found.held} if (name in before) != (name in found.held)}
        self._enqueue([key for key in self._routes if "/".join(key) in names])

    def _enqueue(self, keys: Sequence[ObjectKey]) -> None:
        for key in keys:
            self._queue.add(key, Priority.SPEC)

    def _enqueue_all(self) -> None:
        for key in self._routes:
            self._queue.add(key)

    def _ready(self) -> Set[str]:
        return {url for url, peer in self._peers.items() if peer.pod.is_ready}

    def _endpoints(self, port: int) -> tuple[str, ...] | None:
        ready = [peer for peer in self._peers.values() if peer.pod.is_ready]
        if not self._has_looked or any(peer.ports is None for peer in ready):
            return None
        return tuple(sorted(peer.pod.address for peer in ready if port in (peer.ports or ())))

    def _free_port(self, key: ObjectKey) -> int:
        """Return the port that a model has claimed, or the first that no model has; 0 if all are in use."""
        if key not in self._claimed:
            alive = set(self._cache)
            self._claimed = {other: port for other, port in self._claimed.items() if other in alive}
            taken = {*self._claimed.values(), *(port for other in alive if (port := self._written_port(other)))}
            port = next((port for port in range(FIRST_PORT, LAST_PORT + 1) if port not in taken), 0)
            if not port:
                return 0
            self._claimed[key] = port
        return self._claimed[key]

    def _port_of(self, key: ObjectKey) -> int:
        """Return the port in the status of a model; 0 if it is no port of activators, or led another's requests first.

        A status that somebody else wrote, or brought back from a backup, must not lead the requests to one model to
        another, nor keep activators from taking the routes of all.
        """
        port = self._written_port(key)
        is_free = self._holders.get(port, key) == key
        return port if FIRST_PORT <= port <= LAST_PORT and is_free else 0

    def _written_port(self, key: ObjectKey) -> int:
        sleep = ((self._cache.resource(key) or {}).get("status") or {}).get("sleep")
        port = sleep.get("port") if isinstance(sleep, Mapping) else 0
        return port if isinstance(port, int) else 0

    def _route(self, key: ObjectKey) -> Route | None:
        """Return the route of a model; None if it never sleeps."""
        port = self._port_of(key)
        if not port:
            return None
        self._claimed.pop(key, None)
        status = (self._cache.resource(key) or {}).get("status") or {}
        service = (self._cache.child(key, "Service", key.name) or {}).get("spec") or {}
        calls: Body = next((one for one in service.get("ports") or () if one.get("name") == "grpc"), {})
        return Route(
            namespace=key.namespace,
            name=key.name,
            port=port,
            backends=self._backends(key, service.get("selector") or {}),
            # All routes go in one request: a long message of one model must not make it one that is too large.
            problem=shortened(str(status.get("message", ""))) if status.get("phase") == Phase.DEGRADED else "",
            grpc_port=int(calls.get("port", 0)),
            grpc_tls=bool(calls) and "appProtocol" not in calls,
        )

    def _backends(self, key: ObjectKey, selector: Mapping[str, str]) -> tuple[str, ...]:
        """Return the URLs of the ready pods behind the front Service."""
        pods = (pod for pod in self._cache.pods(key) if is_ready(pod) and _has_labels(pod, selector))
        return tuple(sorted(filter(None, (pod_url(pod, PORT) for pod in pods))))


def _has_labels(pod: Body, selector: Mapping[str, str]) -> bool:
    return bool(selector) and selector.items() <= (pod["metadata"].get("labels") or {}).items()
