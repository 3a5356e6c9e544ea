"""Runs the dashboard until it is ended: watches, samples, and serves on one socket."""

import asyncio
import contextlib
import gc
import secrets
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

import uvicorn

from modeldeploy.dashboard.app import Dashboard, build
from modeldeploy.dashboard.callers import Callers
from modeldeploy.dashboard.definition import schema
from modeldeploy.dashboard.pooled import Pools
from modeldeploy.dashboard.reaching import AtItsAddress, PodReader, ThroughApiServer
from modeldeploy.dashboard.sampling import INTERVAL, Sampler
from modeldeploy.dashboard.security import Guard
from modeldeploy.dashboard.store import Store
from modeldeploy.dashboard.watching import FEEDS, Watcher
from modeldeploy.fleet.rates import Rates
from modeldeploy.kube import Kube
from modeldeploy.requests import Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the dashboard runs.

    `namespaces`: those that are shown, none for all. `interval`: seconds between two looks at the pods. `is_shared`: it
    serves several users in a cluster, asks for no session, and acts only as who brings a token.
    """

    namespaces: Sequence[str]
    host: str = "127.0.0.1"
    port: int = 0
    is_shared: bool = False
    interval: float = INTERVAL
    rates: Rates | None = None


class _Server(uvicorn.Server):
    """Ends the streams first: they would hold their connections for ever."""

    def __init__(self, config: uvicorn.Config, end: Callable[[], None]) -> None:
        super().__init__(config)
        self._end = end
        self.is_interrupted = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal."""
        self.is_interrupted |= sig == signal.SIGINT
        self._end()
        super().handle_exit(sig, frame)


def run(kube: Kube, options: Options, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. `announce` gets the address once it answers.

    Raises:
        Refused: it cannot listen there.
        KeyboardInterrupt: SIGINT has ended it.
    """
    with listen(options.host, options.port) as listening:
        # uvicorn raises the signal again when it has ended, which asyncio may take without raising KeyboardInterrupt.
        if asyncio.run(_serve(kube, options, listening, announce)):
            raise KeyboardInterrupt


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 is a free one. Raises `Refused`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)  # whoever is given the address may connect at once
    except OSError as error:
        listening.close()
        message = f"cannot listen on {host}, port {port}: {error.strerror}; choose another with --port or --host"
        raise Refused(message) from error
    return listening


async def _serve(kube: Kube, options: Options, listening: socket.socket, announce: Callable[[str], None]) -> bool:
    """Serve until a signal; return whether it was SIGINT."""
    loop, store = asyncio.get_running_loop(), Store()
    reader: PodReader = AtItsAddress() if options.is_shared else ThroughApiServer(kube)
    sampler = Sampler(store, reader, interval=options.interval)
    dashboard = Dashboard(
        store=store,
        sampler=sampler,
        callers=Callers(kube, options.is_shared),
        pools=Pools(kube, reader, options.namespaces),
        cluster=_shown(options),
        rates=options.rates,
    )
    guard, address = guard_of(options, listening)
    config = uvicorn.Config(
        build(dashboard, guard),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        lifespan="off",
    )
    watchers = [
        Watcher(feed, namespace, kube, store, lambda write: _post(loop, write))
        for namespace in options.namespaces or ("",)
        for feed in FEEDS
    ]
    server = _Server(config, lambda: _post(loop, store.end))
    for watcher in watchers:
        watcher.start()
    warming = loop.create_task(_warm(loop))
    sampling = loop.create_task(_sample(sampler))
    announce(address)
    try:
        await server.serve([listening])
    finally:
        for watcher in watchers:
            watcher.stop()
        sampling.cancel()
        sampler.close()
        await asyncio.gather(sampling, warming, return_exceptions=True)
    return server.is_interrupted


def _post(loop: asyncio.AbstractEventLoop, write: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: the dashboard ends
        loop.call_soon_threadsafe(write)


async def _warm(loop: asyncio.AbstractEventLoop) -> None:
    """Read the definition, and leave out of garbage collections what stays: modules, most of all the client's."""
    await loop.run_in_executor(None, schema)
    # They are a quarter of a million objects, and a full collection would hold the event loop up for 0.1 s.
    gc.freeze()


async def _sample(sampler: Sampler) -> None:
    """Begin when the first lists are there, so that the first rates do not come a whole interval late."""
    await asyncio.sleep(1)
    await sampler.run()


def guard_of(options: Options, listening: socket.socket) -> tuple[Guard, str]:
    """Return what is asked of requests, and the address to open."""
    port = listening.getsockname()[1]
    host = f"[{options.host}]" if ":" in options.host else options.host
    if options.is_shared:
        return Guard(), f"http://{host}:{port}/"
    token = secrets.token_urlsafe(32)
    hosts = frozenset({f"{host}:{port}", f"localhost:{port}"})
    return Guard(hosts=hosts, token=token, cookie=f"modeldeploy-{port}"), f"http://{host}:{port}/?token={token}"


def _shown(options: Options) -> str:
    return ", ".join(options.namespaces) or "all namespaces"
