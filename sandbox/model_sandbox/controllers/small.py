"""The small controllers: namespaces, ServiceAccounts, disruption budgets, autoscalers, scheduling."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from model_sandbox.apiserver.selectors import match_selector
from model_sandbox.cache import Cache, Key, Resource, controller_of, key_of
from model_sandbox.client import ApiFailure, Client, Obj
from model_sandbox.controllers import pods as about
from model_sandbox.controllers.base import (
    NAMESPACES,
    PODS,
    Recorder,
    set_condition,
    stamp,
)
from model_sandbox.controllers.garbage import GarbageCollector

Discover = Callable[[Client], Awaitable[Iterable[Resource]]]


@dataclass(slots=True)
class Namespaces:
    """Gives each namespace its default ServiceAccount and empties those that are deleted."""

    _client: Client
    _namespaces: Cache
    _accounts: Cache
    _discover: Discover

    async def reconcile(self, key: Key) -> float | None:
        """One namespace."""
        namespace = self._namespaces.get(*key)
        if namespace is None:
            return None
        name = key[1]
        if namespace["metadata"].get("deletionTimestamp"):
            return await self._empty(namespace, name)
        if self._accounts.get(name, "default") is None:
            # One that is there already is a conflict, which is tried again when the cache knows better.
            await self._accounts.create({"metadata": {"name": "default", "namespace": name}})
        return None

    async def _empty(self, namespace: Obj, name: str) -> float | None:
        if not (namespace.get("spec") or {}).get("finalizers"):
            return None
        left: dict[str, list[Obj]] = {}
        for resource in await self._discover(self._client):
            if not resource.namespaced:
                continue
            answer = await self._client.get(resource.path(name)) or {}
            if any(not item["metadata"].get("deletionTimestamp") for item in answer.get("items") or []):
                await self._client.delete(resource.path(name))
                answer = await self._client.get(resource.path(name)) or {}
            if answer.get("items"):
                left[resource.plural] = answer["items"]
        await self._report(namespace, name, left)
        if left:
            return 0.3
        await self._client.send("PUT", NAMESPACES.path("", name, "finalize"), {**namespace, "spec": {}})
        return None

    async def _report(self, namespace: Obj, name: str, left: dict[str, list[Obj]]) -> None:
        counts = ", ".join(f"{plural}. has {len(found)} resource instances" for plural, found in left.items())
        items = itertools.chain.from_iterable(left.values())
        held = Counter(one for item in items for one in item["metadata"].get("finalizers") or [])
        finalizers = ", ".join(f"{one} in {count} resource instances" for one, count in held.items())
        some, none = "Some resources are remaining: ", "All content successfully removed"
        held_by = "Some content in the namespace has finalizers remaining: "
        freed = "All content-preserving finalizers finished"
        told = [
            *((f"NamespaceDeletion{what}", False, reason, f"All {done}") for what, reason, done in _DELETED),
            ("NamespaceContentRemaining", True, "SomeResourcesRemain", some + counts)
            if left
            else ("NamespaceContentRemaining", False, "ContentRemoved", none),
            ("NamespaceFinalizersRemaining", True, "SomeFinalizersRemain", held_by + finalizers)
            if held
            else ("NamespaceFinalizersRemaining", False, "ContentHasNoFinalizers", freed),
        ]
        conditions = list((namespace.get("status") or {}).get("conditions") or [])
        before = list(conditions)
        for kind, value, reason, message in told:
            entry = {"type": kind, "status": str(value), "reason": reason, "message": message}
            conditions = set_condition(conditions, entry, stamp())
        if conditions != before:
            await self._client.merge(NAMESPACES.path("", name, "status"), {"status": {"conditions": conditions}})


# What goes wrong on a cluster alone, where parts of the API may be out of reach.
_DELETED = (
    ("DiscoveryFailure", "ResourcesDiscovered", "resources successfully discovered"),
    ("GroupVersionParsingFailure", "ParsedGroupVersions", "legacy kube types successfully parsed"),
    ("ContentFailure", "ContentDeleted", "content successfully deleted, may be waiting on finalization"),
)


def _share(value: object, total: int) -> int:
    if isinstance(value, str):
        return math.ceil(int(value.removesuffix("%")) * total / 100)
    return int(value) if isinstance(value, int) else 0


def budget_status(budget: Obj, pods: list[Obj], expected: int) -> Obj:
    """The numbers of a PodDisruptionBudget. `expected` counts what the pods' controllers ask for."""
    spec = budget["spec"]
    healthy = sum(about.is_ready(pod) and not about.is_terminating(pod) for pod in pods)
    if spec.get("maxUnavailable") is not None:
        desired = max(0, expected - _share(spec["maxUnavailable"], expected))
    elif isinstance(spec.get("minAvailable"), int):
        desired, expected = spec["minAvailable"], len(pods)
    else:
        desired = _share(spec.get("minAvailable", 0), expected)
    allowed = max(0, healthy - desired)
    if expected == 0:
        allowed = 0
    return {
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "disruptionsAllowed": allowed,
        "observedGeneration": budget["metadata"]["generation"],
    }


@dataclass(slots=True)
class Budgets:
    """Keeps the status of PodDisruptionBudgets."""

    _budgets: Cache
    _pods: Cache
    _sets: Cache
    _deployments: Cache

    async def reconcile(self, key: Key) -> float | None:
        """One budget."""
        budget = self._budgets.get(*key)
        if budget is None:
            return None
        selector = budget["spec"].get("selector")
        pods = [
            pod
            for pod in self._pods.within(key[0])
            if not about.is_finished(pod) and match_selector(selector, pod["metadata"].get("labels") or {})
        ]
        status = budget_status(budget, pods, self._expected(pods))
        enough = status["disruptionsAllowed"] > 0
        entry = {
            "type": "DisruptionAllowed",
            "status": str(enough),
            "reason": "SufficientPods" if enough else "InsufficientPods",
            "message": "",
            "observedGeneration": status["observedGeneration"],
        }
        before = budget.get("status") or {}
        status["conditions"] = set_condition(list(before.get("conditions") or []), entry, stamp())
        await self._budgets.report(budget, status)
        return None

    def _expected(self, pods: list[Obj]) -> int:
        """How many pods the controllers of these pods ask for together."""
        wanted: dict[str, int] = {}
        for pod in pods:
            top, owner = pod, controller_of(pod)
            for cache in (self._sets, self._deployments):
                above = cache.get(pod["metadata"]["namespace"], owner["name"]) if owner else None
                if above is None:
                    break
                top, owner = above, controller_of(above)
            wanted[top["metadata"]["uid"]] = 1 if top is pod else top["spec"].get("replicas", 1)
        return sum(wanted.values())


@dataclass(slots=True)
class Autoscalers:
    """Answers HorizontalPodAutoscalers as a cluster without a metrics server: bounds hold, metrics are missing."""

    _client: Client
    _autoscalers: Cache
    _collector: GarbageCollector
    _recorder: Recorder

    async def reconcile(self, key: Key) -> float | None:
        """One autoscaler; looked at again every 15 seconds, as on a cluster."""
        body = self._autoscalers.get(*key)
        if body is None:
            return None
        before = body.get("status") or {}
        conditions = list(before.get("conditions") or [])
        status: Obj = {"desiredReplicas": before.get("desiredReplicas", 0)}
        target = body["spec"]["scaleTargetRef"]
        scale, told = await self._scale(key[0], target)
        if scale is None:
            conditions = _hpa_condition([], "AbleToScale", False, "FailedGetScale", told)
            status["currentReplicas"] = before.get("currentReplicas", 0)
        else:
            status, conditions = await self._bounded(key, body, scale, conditions, status)
        status = {name: value for name, value in status.items() if value or name == "desiredReplicas"}
        status["conditions"] = conditions
        await self._autoscalers.report(body, status)
        return 15.0

    async def _scale(self, namespace: str, target: Obj) -> tuple[Obj | None, str]:
        prefix = "the HPA controller was unable to get the target's current scale: "
        resource = self._resource(target)
        if resource is None:
            return None, f'{prefix}no matches for kind "{target["kind"]}" in group version'
        try:
            return await self._client.send("GET", resource.path(namespace, target["name"], "scale")), ""
        except ApiFailure as failure:
            return None, prefix + str(failure.body.get("message", ""))

    def _resource(self, target: Obj) -> Resource | None:
        return self._collector.resource(target.get("apiVersion", ""), target["kind"])

    async def _bounded(
        self, key: Key, body: Obj, scale: Obj, conditions: list[Obj], status: Obj
    ) -> tuple[Obj, list[Obj]]:
        replicas = (scale.get("spec") or {}).get("replicas", 0)
        least, most = body["spec"].get("minReplicas", 1), body["spec"]["maxReplicas"]
        told = "the HPA controller was able to get the target's current scale"
        conditions = _hpa_condition(conditions, "AbleToScale", True, "SucceededGetScale", told)
        status["currentReplicas"] = (scale.get("status") or {}).get("replicas", 0) or replicas
        if replicas == 0:
            told = "scaling is disabled since the replica count of the target is zero"
            conditions = _hpa_condition(conditions, "ScalingActive", False, "ScalingDisabled", told)
            status.pop("currentReplicas", None)
            return status, conditions
        wanted = min(max(replicas, least), most)
        if wanted != replicas:
            resource = self._resource(body["spec"]["scaleTargetRef"])
            if resource is not None:
                path = resource.path(key[0], body["spec"]["scaleTargetRef"]["name"], "scale")
                await self._client.merge(path, {"spec": {"replicas": wanted}})
            limit = (
                "Current number of replicas above Spec.MaxReplicas"
                if wanted < replicas
                else ("Current number of replicas below Spec.MinReplicas")
            )
            told = f"New size: {wanted}; reason: {limit}"
            await self._recorder.event(body, "SuccessfulRescale", told)
            told = f"the HPA controller was able to update the target scale to {wanted}"
            conditions = _hpa_condition(conditions, "AbleToScale", True, "SucceededRescale", told)
            status["desiredReplicas"] = wanted
            return status, conditions
        told = (
            "the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics "
            "for resource cpu: unable to fetch metrics from resource metrics API: the server could not find the "
            "requested resource (get pods.metrics.k8s.io)"
        )
        conditions = _hpa_condition(conditions, "ScalingActive", False, "FailedGetResourceMetric", told)
        status["currentMetrics"] = [{"type": ""} for _ in body["spec"].get("metrics", [])]
        return status, conditions


def _hpa_condition(conditions: list[Obj], kind: str, held: bool, reason: str, message: str) -> list[Obj]:
    entry = {"type": kind, "status": str(held), "reason": reason, "message": message}
    return set_condition(conditions, entry, stamp())


@dataclass(slots=True)
class Scheduler:
    """Binds each new pod to the ready node with the fewest pods that its nodeSelector allows."""

    _client: Client
    _pods: Cache
    _nodes: Cache
    _recorder: Recorder

    async def reconcile(self, key: Key) -> float | None:
        """One pod."""
        pod = self._pods.get(*key)
        if pod is None or pod["spec"].get("nodeName") or about.is_terminating(pod):
            return None
        load = {node["metadata"]["name"]: 0 for node in self._nodes if self._fits(node, pod)}
        if not load:
            return await self._unschedulable(pod)
        for other in self._pods:
            name = other["spec"].get("nodeName")
            if name in load and about.is_active(other):
                load[name] += 1
        chosen = min(load, key=lambda name: (load[name], name))
        path = PODS.path(*key, "binding")
        await self._client.send(
            "POST", path, {"metadata": {"name": key[1]}, "target": {"kind": "Node", "name": chosen}}
        )
        bound = {**pod, "spec": {**pod["spec"], "nodeName": chosen}}
        self._pods.objects[key] = bound
        await self._recorder.event(pod, "Scheduled", f"Successfully assigned {key[0]}/{key[1]} to {chosen}")
        return None

    def _fits(self, node: Obj, pod: Obj) -> bool:
        if node.get("spec", {}).get("unschedulable") or not about.is_ready(node):
            return False
        labels = node["metadata"].get("labels") or {}
        return (pod["spec"].get("nodeSelector") or {}).items() <= labels.items()

    async def _unschedulable(self, pod: Obj) -> float:
        total = len(self._nodes.objects)
        told = f"0/{total} nodes are available: none is ready, schedulable and matches the pod's nodeSelector."
        held = about.condition(pod, "PodScheduled")
        if held is None or held.get("message") != told:
            entry = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": told}
            conditions = set_condition(list(pod["status"].get("conditions") or []), entry, stamp(datetime.now(UTC)))
            await self._pods.merge(key_of(pod), {"status": {"conditions": conditions}}, "status")
            await self._recorder.event(pod, "FailedScheduling", told, kind="Warning")
        return 1.0
