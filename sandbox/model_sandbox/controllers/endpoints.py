"""The EndpointSlice and Endpoints of every Service with a selector, from the pods it selects."""

from __future__ import annotations

from dataclasses import dataclass, field

from model_sandbox.cache import Cache, Key
from model_sandbox.client import Client, Obj
from model_sandbox.controllers import pods as about
from model_sandbox.controllers.base import ENDPOINTS, SLICES, owner_reference

SERVICE_LABEL = "kubernetes.io/service-name"
MANAGER = "endpointslice-controller.k8s.io"
_TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"
_HEADLESS = "service.kubernetes.io/headless"


def selects(service: Obj, pod: Obj) -> bool:
    """Whether a Service's selector selects a pod."""
    selector = service["spec"].get("selector")
    return bool(selector) and selector.items() <= (pod["metadata"].get("labels") or {}).items()


def target_port(port: Obj, pod: Obj) -> int | None:
    """The number of a Service port's target in a pod; None when the pod has no port of that name."""
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target
    for container in pod["spec"].get("containers", []):
        for one in container.get("ports", []):
            if one.get("name") == target and one.get("protocol", "TCP") == port.get("protocol", "TCP"):
                return int(one["containerPort"])
    return None


def _ports(service: Obj, pods: list[Obj]) -> list[Obj]:
    found = []
    for port in service["spec"].get("ports", []):
        number = next((one for one in (target_port(port, pod) for pod in pods) if one), None)
        if number is not None:
            found.append({"name": port.get("name", ""), "port": number, "protocol": port.get("protocol", "TCP")})
    return found


def _reference(pod: Obj) -> Obj:
    meta = pod["metadata"]
    return {"kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}


def endpoint(pod: Obj, *, publish: bool) -> Obj:
    """One endpoint of a slice."""
    serving, leaving = about.is_ready(pod), about.is_terminating(pod)
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {
            "ready": publish or (serving and not leaving),
            "serving": serving,
            "terminating": leaving,
        },
        "nodeName": pod["spec"].get("nodeName"),
        "targetRef": _reference(pod),
    }


def subsets(service: Obj, pods: list[Obj]) -> list[Obj]:
    """The subsets of Endpoints: one, since all pods of a Service share their ports."""
    publish = service["spec"].get("publishNotReadyAddresses", False)
    live = [pod for pod in pods if not about.is_terminating(pod)]
    ready: list[Obj] = []
    waiting: list[Obj] = []
    for pod in live:
        address = {"ip": pod["status"]["podIP"], "nodeName": pod["spec"].get("nodeName"), "targetRef": _reference(pod)}
        (ready if publish or about.is_ready(pod) else waiting).append(address)
    ports = [{key: value for key, value in port.items() if value} for port in _ports(service, live)]
    subset = {"addresses": ready, "notReadyAddresses": waiting, "ports": ports}
    return [{key: value for key, value in subset.items() if value}] if live else []


@dataclass(slots=True)
class EndpointSets:
    """Keeps the slices and Endpoints of Services."""

    _client: Client
    _services: Cache
    _pods: Cache
    _nodes: Cache
    _slices: Cache
    _endpoints: Cache
    _seen: dict[Key, dict[str, str]] = field(default_factory=dict)

    def services_of(self, pod: Obj) -> list[Key]:
        """The Services that select a pod."""
        namespace = pod["metadata"]["namespace"]
        return [
            (namespace, service["metadata"]["name"])
            for service in self._services.within(namespace)
            if selects(service, pod)
        ]

    async def reconcile(self, key: Key) -> float | None:
        """Bring both forms in line with the pods."""
        service = self._services.get(*key)
        if service is None:
            self._seen.pop(key, None)
            await self._client.delete(ENDPOINTS.path(*key)) if self._endpoints.get(*key) else None
            for one in self._slices_of(key):
                await self._client.delete(SLICES.path(key[0], one["metadata"]["name"]))
            return None
        if not service["spec"].get("selector") or service["metadata"].get("deletionTimestamp"):
            return None
        pods = sorted(
            (
                pod
                for pod in self._pods.within(key[0])
                if selects(service, pod) and (pod.get("status") or {}).get("podIP") and not about.is_finished(pod)
            ),
            key=lambda pod: str(pod["metadata"]["name"]),
        )
        trigger = self._trigger(key, service, pods)
        known = [pod for pod in pods if self._nodes.get("", pod["spec"].get("nodeName", "")) is not None]
        await self._write_slice(key, service, known, trigger)
        await self._write_endpoints(key, service, pods, trigger)
        return None

    def _trigger(self, key: Key, service: Obj, pods: list[Obj]) -> str | None:
        """The oldest of the changes since the last time, for the annotation that latency metrics read."""
        first = key not in self._seen
        times = {
            pod["metadata"]["uid"]: (about.condition(pod, "Ready") or {}).get("lastTransitionTime") or ""
            for pod in pods
        }
        before = self._seen.get(key, {})
        news = [when for uid, when in times.items() if when > before.get(uid, "")]
        self._seen[key] = times
        if first:
            news.append(service["metadata"]["creationTimestamp"])
        return min(filter(None, news), default=None)

    def _slices_of(self, key: Key) -> list[Obj]:
        return [
            one
            for one in self._slices.within(key[0])
            if (labels := one["metadata"].get("labels") or {}).get(SERVICE_LABEL) == key[1]
            and labels.get("endpointslice.kubernetes.io/managed-by") == MANAGER
        ]

    async def _write_slice(self, key: Key, service: Obj, pods: list[Obj], trigger: str | None) -> None:
        publish = service["spec"].get("publishNotReadyAddresses", False)
        labels = {"endpointslice.kubernetes.io/managed-by": MANAGER, SERVICE_LABEL: key[1]}
        labels.update(_copied_labels(service))
        wanted = {
            "addressType": "IPv4",
            "endpoints": [endpoint(pod, publish=publish) for pod in pods],
            "ports": _ports(service, pods),
        }
        held = self._slices_of(key)
        if held:
            body = held[0]
            same = all((body.get(name) or []) == wanted[name] for name in ("endpoints", "ports"))
            if same and body["metadata"].get("labels") == labels:
                return
            metadata = {**body["metadata"], "labels": labels, "annotations": _annotated(body, trigger)}
            await self._slices.replace({**body, **wanted, "metadata": metadata})
            return
        metadata = {
            "generateName": f"{key[1]}-",
            "namespace": key[0],
            "labels": labels,
            "annotations": {_TRIGGER: trigger} if trigger else {},
            "ownerReferences": [owner_reference(service)],
        }
        await self._slices.create({**wanted, "metadata": metadata})

    async def _write_endpoints(self, key: Key, service: Obj, pods: list[Obj], trigger: str | None) -> None:
        labels = {"endpoints.kubernetes.io/managed-by": "endpoint-controller", **_copied_labels(service)}
        wanted = subsets(service, pods)
        body = self._endpoints.get(*key)
        if body is not None:
            if (body.get("subsets") or []) == wanted and body["metadata"].get("labels") == labels:
                return
            metadata = {**body["metadata"], "labels": labels, "annotations": _annotated(body, trigger)}
            await self._endpoints.replace({**body, "subsets": wanted, "metadata": metadata})
            return
        metadata = {"name": key[1], "namespace": key[0], "labels": labels}
        if trigger:
            metadata["annotations"] = {_TRIGGER: trigger}
        await self._endpoints.create({"metadata": metadata, "subsets": wanted})


def _copied_labels(service: Obj) -> dict[str, str]:
    labels = dict(service["metadata"].get("labels") or {})
    if service["spec"].get("clusterIP") == "None":
        labels[_HEADLESS] = ""
    return labels


def _annotated(body: Obj, trigger: str | None) -> dict[str, str]:
    annotations = dict(body["metadata"].get("annotations") or {})
    annotations.pop(_TRIGGER, None)
    return {**annotations, _TRIGGER: trigger} if trigger else annotations
