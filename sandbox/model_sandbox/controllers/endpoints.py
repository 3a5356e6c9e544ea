"""The EndpointSlice and Endpoints of every Service with a selector, from the pods it selects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from model_sandbox.cache import Key, Resource, key_of
from model_sandbox.client import Obj
from model_sandbox.controllers import pods as about
from model_sandbox.controllers.base import (
    ENDPOINTS,
    NODES,
    SERVICES,
    SLICES,
    World,
    condition,
    owner_reference,
    status_of,
)
from model_sandbox.controllers.labels import Labelled, Labels, labels_of

SERVICE_LABEL = "kubernetes.io/service-name"
_SLICE_LABELS = {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}
_LABELS = {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}
_HEADLESS = {"service.kubernetes.io/headless": ""}
_TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"


def target_port(port: Obj, pod: Obj) -> int | None:
    """The number of a Service port's target in a pod; None when the pod has no port of that name."""
    target, protocol = port.get("targetPort", port["port"]), port.get("protocol", "TCP")
    if isinstance(target, int):
        return target
    named = (one for container in pod["spec"]["containers"] for one in container.get("ports", []))
    fitting = (one for one in named if one.get("name") == target and one.get("protocol", "TCP") == protocol)
    return next((int(one["containerPort"]) for one in fitting), None)


def _ports(service: Obj, pods: Sequence[Obj]) -> list[Obj]:
    found = []
    for port in service["spec"].get("ports", []):
        number = next((one for one in (target_port(port, pod) for pod in pods) if one), None)
        if number is not None:
            found.append({"name": port.get("name", ""), "port": number, "protocol": port.get("protocol", "TCP")})
    return found


def _origin(pod: Obj) -> Obj:
    reference = {"kind": "Pod", **{name: pod["metadata"][name] for name in ("namespace", "name", "uid")}}
    return {"nodeName": pod["spec"].get("nodeName"), "targetRef": reference}


def slice_of(service: Obj, pods: Sequence[Obj]) -> Obj:
    """The content of a Service's EndpointSlice."""
    publish = service["spec"].get("publishNotReadyAddresses", False)
    endpoints = []
    for pod in pods:
        serving, leaving = about.is_ready(pod), about.is_terminating(pod)
        ready = publish or (serving and not leaving)
        conditions = {"ready": ready, "serving": serving, "terminating": leaving}
        endpoints.append({"addresses": [pod["status"]["podIP"]], "conditions": conditions, **_origin(pod)})
    return {"addressType": "IPv4", "endpoints": endpoints, "ports": _ports(service, pods)}


def subsets(service: Obj, pods: Sequence[Obj]) -> list[Obj]:
    """The subsets of Endpoints: one, since all pods of a Service share their ports."""
    publish = service["spec"].get("publishNotReadyAddresses", False)
    live = [pod for pod in pods if not about.is_terminating(pod)]
    subset: dict[str, list[Obj]] = {"addresses": [], "notReadyAddresses": []}
    for pod in live:
        kind = "addresses" if publish or about.is_ready(pod) else "notReadyAddresses"
        subset[kind].append({"ip": pod["status"]["podIP"], **_origin(pod)})
    subset["ports"] = [{key: value for key, value in port.items() if value} for port in _ports(service, live)]
    return [{key: value for key, value in subset.items() if value}] if live else []


@dataclass(frozen=True, slots=True)
class EndpointSets:
    """Keeps the slices and Endpoints of Services."""

    world: World
    pods: Labelled
    _seen: dict[Key, dict[str, str]] = field(default_factory=dict)

    async def reconcile(self, key: Key) -> float | None:
        """Bring both forms in line with the pods. The slice of a Service that is gone goes as its dependent."""
        service, held = self.world[SERVICES].get(*key), self.world[ENDPOINTS].get(*key)
        if service is None:
            self._seen.pop(key, None)
            if held is not None:
                await self.world.delete(ENDPOINTS, held)
            return None
        selector = service["spec"].get("selector")
        if not selector or about.is_terminating(service):
            return None
        found = [pod for pod in self.pods.having(key[0], selector) if not about.is_finished(pod)]
        pods = sorted((pod for pod in found if status_of(pod).get("podIP")), key=key_of)
        trigger = self._trigger(key, service, pods)
        known = [pod for pod in pods if self.world[NODES].get("", pod["spec"].get("nodeName", "")) is not None]
        own = {**labels_of(service), **_HEADLESS} if service["spec"].get("clusterIP") == "None" else labels_of(service)
        slices = self.world[SLICES].owned(service)
        fresh = {"generateName": f"{key[1]}-", "namespace": key[0], "ownerReferences": [owner_reference(service)]}
        given = next((one for one in slices if _SLICE_LABELS.items() <= labels_of(one).items()), {"metadata": fresh})
        labels = {**_SLICE_LABELS, SERVICE_LABEL: key[1], **own}
        await self._write(SLICES, given, slice_of(service, known), labels, trigger)
        given = held or {"metadata": {"name": key[1], "namespace": key[0]}}
        await self._write(ENDPOINTS, given, {"subsets": subsets(service, pods)}, {**_LABELS, **own}, trigger)
        return None

    def _trigger(self, key: Key, service: Obj, pods: Sequence[Obj]) -> str | None:
        """The oldest of the changes since the last time, for the annotation that latency metrics read."""
        ready = {pod["metadata"]["uid"]: condition(pod, "Ready") or {} for pod in pods}
        times = {uid: one.get("lastTransitionTime") or "" for uid, one in ready.items()}
        before = self._seen.get(key)
        news = [when for uid, when in times.items() if when > (before or {}).get(uid, "")]
        self._seen[key] = times
        return min(news if before is not None else [*news, service["metadata"]["creationTimestamp"]], default=None)

    async def _write(self, resource: Resource, given: Obj, content: Obj, labels: Labels, trigger: str | None) -> None:
        """Create what has no more than a name, replace what differs."""
        metadata = given["metadata"]
        annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != _TRIGGER}
        annotations |= {_TRIGGER: trigger} if trigger else {}
        body = {**given, **content, "metadata": {**metadata, "labels": labels, "annotations": annotations}}
        if "uid" not in metadata:
            await self.world.create(resource, body)
        elif labels != metadata.get("labels") or any((given.get(key) or []) != content[key] for key in content):
            await self.world.replace(resource, body)
