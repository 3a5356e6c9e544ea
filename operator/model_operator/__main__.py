"""The composition root: settings, clients, engine, and kopf around them. `python -m model_operator`."""

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Coroutine, Iterable
from contextlib import AsyncExitStack
from typing import Any

import kopf
import uvloop

from model_operator import handlers, logs
from model_operator.api.values import replace
from model_operator.clients.activators import HttpActivators, share_token
from model_operator.clients.clock import SystemClock
from model_operator.clients.connection import Connection, NoConnection
from model_operator.clients.kinds import WATCHED, WATCHED_FOR_BATCHES, WATCHED_FOR_POOLS, KindInfo
from model_operator.clients.kubernetes import KindSource, KubernetesClient
from model_operator.clients.lease import LeaderLease
from model_operator.clients.metric_providers.factory import MetricProviders
from model_operator.clients.pod_metrics import HttpPodMetrics
from model_operator.clients.registries import HttpRegistries
from model_operator.clients.replay import HttpReplays
from model_operator.clients.shadow import HttpPredictions
from model_operator.clients.token_secret import secret_id, token_secret
from model_operator.clients.webhooks import HttpWebhooks
from model_operator.endpoints import PortInUse, check_port, end_with, start_metrics_server
from model_operator.engine.batches.engine import BatchPorts
from model_operator.engine.engine import Engine
from model_operator.engine.pools.engine import PoolPorts
from model_operator.errors import ApiError
from model_operator.settings import InvalidSettings, Settings, described, settings_from
from model_operator.telemetry import Telemetry
from model_operator.versions import support_problem

log = logging.getLogger("model_operator")

#: Seconds after which garbage collection starts even if the API server has not answered.
LONGEST_WITHOUT_GARBAGE = 60.0
#: Seconds for the last writes and for the release of the Lease.
RELEASE_TIMEOUT = 5.0
#: Seconds between two requests for the version while the API server does not answer.
VERSION_RETRY = 1.0


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run the operator until `stop` is set or a signal ends it."""
    telemetry = Telemetry()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(KubernetesClient(Connection.open, telemetry))
        check_port(settings.host, settings.health_port, "HEALTH_PORT")
        metrics = await start_metrics_server(telemetry, settings.host, settings.metrics_port)
        stack.push_async_callback(metrics.cleanup)
        await report_version(client)
        secret = await made_token_secret(client, settings)
        pods = await stack.enter_async_context(HttpPodMetrics(secret))
        made_with = replace(settings.pods, token_secret=secret, token_secret_id=secret_id(secret))
        predictions = await stack.enter_async_context(HttpPredictions(client.read_secret, secret))
        replays = await stack.enter_async_context(HttpReplays(secret))
        egress = replace(settings.egress, refused=await client.connection.addresses())
        values = await stack.enter_async_context(MetricProviders(client.read_secret, egress))
        hooks = await stack.enter_async_context(HttpWebhooks(client.read_secret, egress))
        activators = await stack.enter_async_context(
            HttpActivators(client, settings.lease_namespace, settings.activator_service, secret)
        )
        registries = await stack.enter_async_context(HttpRegistries(client.read_secret, egress))
        engine = Engine(
            cluster=client,
            sources=sources_of(client, WATCHED, settings),
            pods=pods,
            predictions=predictions,
            replays=replays,
            values=values,
            hooks=hooks,
            activators=activators,
            registries=registries,
            clock=SystemClock(),
            settings=made_with,
            admission=replace(settings.admission, settings=made_with),
            telemetry=telemetry,
            identity=settings.identity,
            batches=BatchPorts(cluster=client, sources=sources_of(client, WATCHED_FOR_BATCHES, settings), pods=pods),
            pools=PoolPorts(cluster=client, sources=sources_of(client, WATCHED_FOR_POOLS, settings), pods=pods),
        )
        lease = LeaderLease(
            client,
            namespace=settings.lease_namespace,
            name=settings.lease_name,
            identity=settings.identity,
            duration=settings.lease_seconds,
            renew=settings.lease_seconds / 3,
            poll=min(1.0, settings.lease_seconds / 10),
        )
        candidate = lease if settings.leader_election else None
        leading = asyncio.create_task(lead(engine, candidate, telemetry, stop), name="lead")
        background = [
            leading,
            asyncio.create_task(end_with(stop, metrics), name="metrics"),
            asyncio.create_task(until(stop, engine.reflect()), name="reflect"),
            asyncio.create_task(until(stop, collect_garbage(engine)), name="garbage"),
        ]
        try:
            await serve(engine, settings, client.connection, stop)
        finally:
            stop.set()
            await asyncio.wait([leading], timeout=RELEASE_TIMEOUT)
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            engine.queue.close()


def sources_of(client: KubernetesClient, kinds: Iterable[KindInfo], settings: Settings) -> list[KindSource]:
    """Return what lists and watches some kinds, in all namespaces or in each that the operator serves."""
    return [KindSource(client, info, name) for info in kinds for name in settings.namespaces or ("",)]


async def until(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until `stop` is set: at its end, kopf waits five seconds for tasks that still run."""
    working, stopped = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([working, stopped], return_when=asyncio.FIRST_COMPLETED)
        if working.done() and (error := working.exception()):
            log.critical("this process ends at once: %r", error)
            os._exit(1)  # without watches it would act on stale observations
    finally:
        for task in (working, stopped):
            task.cancel()
        await asyncio.gather(working, stopped, return_exceptions=True)


async def collect_garbage(engine: Engine) -> None:
    """Enable garbage collection as soon as the caches are full.

    The caches hold millions of values for the life of the process. Scanning them for cycles after every few hundred
    allocations took a sixth of the startup time. Objects that exist by then are frozen and never scanned again.
    """
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(engine.wait_until_listed(), LONGEST_WITHOUT_GARBAGE)
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()


async def report_version(client: KubernetesClient) -> None:
    """Wait for the API server, then log its version and whether the operator supports it."""
    while True:
        try:
            found = await client.version()
        except ApiError as error:
            if not error.is_unreachable:
                log.warning("cannot read the version of the API server: %s", error)
            await asyncio.sleep(VERSION_RETRY)
            continue
        problem = support_problem(found)
        log.log(logging.ERROR if problem else logging.INFO, "%s", problem or f"the cluster runs Kubernetes {found}")
        return


async def made_token_secret(client: KubernetesClient, settings: Settings) -> bytes:
    """Return the secret of this installation, as soon as the API server has it."""
    name = settings.lease_namespace, settings.token_secret_name
    while True:
        try:
            secret = await token_secret(client, *name)
            if settings.activator_service:
                await share_token(client, *name, secret)
            return secret
        except ApiError as error:
            if not error.is_unreachable:
                log.error("cannot read Secret %s: %s", settings.token_secret_name, error)
            await asyncio.sleep(VERSION_RETRY)


async def serve(engine: Engine, settings: Settings, connection: Connection, stop: asyncio.Event) -> None:
    """Run kopf, which serves the liveness endpoint until it stops; then set `stop`."""
    registry, kopf_settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    handlers.configure(kopf_settings)
    handlers.bind(registry, engine, connection, stop)
    namespaces = settings.namespaces
    await kopf.operator(
        registry=registry,
        settings=kopf_settings,
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        stop_flag=stop,
        liveness_endpoint=f"http://{settings.host}:{settings.health_port}/healthz",
    )


async def lead(engine: Engine, lease: LeaderLease | None, telemetry: Telemetry, stop: asyncio.Event) -> None:
    """Reconcile while this process holds the Lease. Exit at once when it loses the Lease; a restart takes seconds.

    When the process stops, it releases the Lease as soon as the last write is done.
    """
    acquired = asyncio.create_task(lease.acquire() if lease else asyncio.sleep(0), name="acquire-lease")
    stopped = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait([acquired, stopped], return_when=asyncio.FIRST_COMPLETED)
    if stopped.done():
        acquired.cancel()
        return
    log.info("this process leads")
    telemetry.leader.set(1)
    work = asyncio.create_task(engine.work(), name="work")
    held = asyncio.create_task(lease.hold() if lease else asyncio.Event().wait(), name="hold-lease")
    try:
        await asyncio.wait([work, held, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not stopped.done():
            why = repr(work.exception()) if work.done() else "the lease is lost, and only one process may write"
            log.critical("this process ends at once: %s", why)
            os._exit(1)  # not sys.exit: no task of this process may write again
    finally:
        for task in (work, held, stopped):
            task.cancel()
        await asyncio.gather(work, held, stopped, return_exceptions=True)
        if lease is not None:
            await lease.release()


def main() -> int:
    """Start the operator; the exit status is 78 (EX_CONFIG) when the settings or the kubeconfig are wrong."""
    _parser().parse_args()
    try:
        settings = settings_from(os.environ)
    except InvalidSettings as error:
        sys.stderr.write(f"model_operator: {error}\n")
        return 78
    logs.set_up(settings.log_level, settings.log_format, audit=settings.audit == "stdout")
    gc.disable()
    try:
        uvloop.run(run(settings, asyncio.Event()))
    except NoConnection as error:
        sys.stderr.write(f"model_operator: {error}\n")
        return 78
    except PortInUse as error:
        sys.stderr.write(f"model_operator: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    lines = (
        f"  {variable}{f' [{default}]' if default else ''}\n      {text}" for variable, default, text in described()
    )
    return argparse.ArgumentParser(
        prog="python -m model_operator",
        description="Makes Deployments, Services and rollouts of ModelDeployments, in the cluster of $KUBECONFIG.",
        epilog="\n".join(("settings, which are read from the environment:", *lines)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


if __name__ == "__main__":
    sys.exit(main())
