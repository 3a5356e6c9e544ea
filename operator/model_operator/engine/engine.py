"""The engine: reflectors fill the cache, changes fill the work queue, workers empty it."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from model_operator.api.resource import ObjectKey
from model_operator.api.version import KIND
from model_operator.engine.activation import Activation
from model_operator.engine.batches.engine import BatchEngine, BatchPorts
from model_operator.engine.cache import Cache
from model_operator.engine.events import EventRecorder
from model_operator.engine.gate_poller import GatePoller
from model_operator.engine.metrics_collector import MetricsCollector
from model_operator.engine.notifier import Notifier
from model_operator.engine.pools.engine import PoolEngine, PoolPorts
from model_operator.engine.queue import Priority, WorkQueue
from model_operator.engine.reconcile import Reconciler
from model_operator.engine.reflector import Change, Reflector, Source
from model_operator.engine.registry_writer import RegistryWriter
from model_operator.engine.replayer import Replayer
from model_operator.engine.retraining import Retrainer
from model_operator.engine.startup_events import StartupEvents
from model_operator.engine.worker import PassOutcome, run_pass, run_worker
from model_operator.manifests.pods import PodSettings
from model_operator.policy.admission import Admission
from model_operator.ports import (
    Activators,
    Clock,
    Cluster,
    MetricValues,
    PodMetrics,
    Predictions,
    Registries,
    Replays,
    Webhooks,
)
from model_operator.telemetry import Telemetry

log = logging.getLogger(__name__)

WORKERS = 16


class Engine:
    """Connects watches, queue and reconciler. One engine serves all ModelDeployments."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        sources: Sequence[Source],
        pods: PodMetrics,
        predictions: Predictions,
        replays: Replays,
        values: MetricValues,
        hooks: Webhooks,
        activators: Activators,
        registries: Registries,
        clock: Clock,
        settings: PodSettings,
        admission: Admission,
        telemetry: Telemetry,
        identity: str,
        batches: BatchPorts | None = None,
        pools: PoolPorts | None = None,
    ) -> None:
        self.cache = Cache()
        self.queue = WorkQueue()
        self.missing_kinds: set[str] = set()
        self.evidence = MetricsCollector(self.cache, self.queue, pods, predictions, values, clock)
        self.recorder = EventRecorder(cluster, clock, identity)
        self.starts = StartupEvents(self.cache, pods, self.recorder, clock)
        self.gatekeeper = GatePoller(self.cache, self.queue, hooks, clock)
        self.replayer = Replayer(self.cache, self.queue, replays, clock)
        self.activation = Activation(self.cache, self.queue, activators)
        self.notifier = Notifier(hooks, clock)
        self.registry_writer = RegistryWriter(self.cache, registries, self.recorder, clock)
        self.retrainer = Retrainer(self.cache, self.queue, cluster, pods, hooks, clock, admission)
        self.reflectors = [
            Reflector(
                source,
                self.cache,
                self.changed if source.kind == KIND else self.child_changed,
                self.queue.add_debounced,
                self.missing_kinds,
            )
            for source in sources
        ]
        self.batches: BatchEngine | None = None
        if batches is not None:
            self.batches = BatchEngine(
                cluster=batches.cluster,
                sources=batches.sources,
                pods=batches.pods,
                find_model=lambda key: (self.cache.resource(key), self.cache.children(key)),
                recorder=self.recorder,
                clock=clock,
                admission=admission,
            )
        self.pools = None if pools is None else PoolEngine(pools, self.recorder, clock, admission)
        self._telemetry = telemetry
        #: Namespaces that are being deleted, where a write was rejected for that.
        self._terminating: set[str] = set()
        self._reconciler = Reconciler(
            cluster,
            self.cache,
            self.evidence,
            self.recorder,
            clock,
            settings,
            self.missing_kinds,
            self.gatekeeper,
            self.replayer,
            self.notifier,
            self.retrainer,
            self.activation,
            admission,
            self.starts,
        )

    def changed(self, body: dict[str, Any], change: Change) -> None:
        """Handle a change of a ModelDeployment; changes by users have the highest priority."""
        previous = self.cache.resource(_key(body))
        is_new_spec = previous is None or previous["metadata"]["generation"] != body["metadata"]["generation"]
        if change is Change.DELETED:
            self.queue.cancel_timer(_key(body))
        key = self._taken(body, change)
        self.activation.changed(_key(body))
        if self.batches is not None:
            self.batches.model_changed(_key(body))
        if key is not None:
            urgent = Priority.SPEC if is_new_spec else Priority.CHILD
            self.queue.add(key, Priority.RESYNC if change is Change.LISTED else urgent)

    def child_changed(self, body: dict[str, Any], change: Change) -> None:
        """Handle a change of an object that belongs to a ModelDeployment."""
        key = self._taken(body, change)
        if key is not None:
            self.activation.changed(key)
            self.queue.add_debounced(key)

    def _taken(self, body: dict[str, Any], change: Change) -> ObjectKey | None:
        return self.cache.remove(body) if change is Change.DELETED else self.cache.upsert(body)

    async def wait_until_listed(self) -> None:
        """Wait until all kinds were listed once; no write may happen before."""
        for reflector in self.reflectors:
            await reflector.listed.wait()

    async def reflect(self) -> None:
        """Keep the caches up to date, until cancelled. A standby does no more than this."""
        async with asyncio.TaskGroup() as group:
            for reflector in self.reflectors:
                group.create_task(reflector.run(), name=f"reflect-{reflector.kind}")
            if self.batches is not None:
                group.create_task(self.batches.reflect(), name="reflect-batches")
            if self.pools is not None:
                group.create_task(self.pools.reflect(), name="reflect-pools")

    async def work(self) -> None:
        """Reconcile, until cancelled. Only the leader may."""
        await self.wait_until_listed()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.recorder.run(), name="recorder")
            group.create_task(self.evidence.run(), name="evidence")
            group.create_task(self.starts.run(), name="starts")
            group.create_task(self.gatekeeper.run(), name="gatekeeper")
            group.create_task(self.replayer.run(), name="replayer")
            group.create_task(self.activation.run(), name="activation")
            group.create_task(self.notifier.run(), name="notifier")
            group.create_task(self.retrainer.run(), name="retrainer")
            group.create_task(self.registry_writer.run(), name="registry-writer")
            for number in range(WORKERS):
                group.create_task(run_worker(self.queue, self._pass), name=f"worker-{number}")
            if self.batches is not None:
                group.create_task(self.batches.work(), name="batches")
            if self.pools is not None:
                group.create_task(self.pools.work(), name="pools")

    async def _pass(self, key: ObjectKey) -> None:
        started = time.perf_counter()
        outcome = await run_pass(self.queue, key, self._reconciler, KIND)
        self._telemetry.reconciled(outcome, started)
        if outcome is PassOutcome.OK:
            self._terminating.discard(key.namespace)
            self._telemetry.observe(key, self.cache.resource(key))
        elif outcome is PassOutcome.TERMINATING and key.namespace not in self._terminating:
            self._terminating.add(key.namespace)
            log.debug("the namespace %s is being deleted; the operator skips its resources", key.namespace)

    def health(self, longest_silence: float) -> Mapping[str, Any]:
        """Return the state for the liveness endpoint: sizes, and the watches that were silent for too long."""
        now = time.monotonic()
        others = [one for engine in (self.batches, self.pools) if engine is not None for one in engine.reflectors]
        reflectors = [*self.reflectors, *others]
        silent = {r.kind: round(now - r.last_sign) for r in reflectors if now - r.last_sign > longest_silence}
        return {
            "resources": len(self.cache),
            "queued": len(self.queue),
            "failing": self.queue.failing,
            "silent": silent,
        }


def _key(body: Mapping[str, Any]) -> ObjectKey:
    return ObjectKey(body["metadata"]["namespace"], body["metadata"]["name"])
