"""What the API server writes into single built-in kinds beyond the values of `data/rules.yaml`.

`resources.py` calls `prepare` for every write of a built-in kind, after defaults were filled in.
"""

from __future__ import annotations

import base64
import copy
import ipaddress
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from model_sandbox.apiserver import errors
from model_sandbox.apiserver.errors import Obj
from model_sandbox.apiserver.store import Event, Store
from model_sandbox.apiserver.types import load_yaml

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def random_suffix() -> str:
    """A suffix of generated names."""
    return "".join(random.choices(_ALPHABET, k=5))  # noqa: S311 - names, not secrets


@dataclass(slots=True)
class Addresses:
    """The ClusterIPs and node ports of a store's Services. `network` is where ClusterIPs are taken from."""

    store: Store
    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    _taken: set[Any]

    @classmethod
    def of(cls, store: Store, network: str) -> Addresses:
        """The addresses in use now, kept fresh by every change of a Service."""
        taken = {entry.body["spec"].get("clusterIP") for _, entry in store.scan("services")}
        addresses = cls(store, ipaddress.ip_network(network), taken)
        store.on_change.append(addresses._note)
        return addresses

    def _note(self, resource: str, event: Event) -> None:
        if resource == "services":
            self._taken -= {event.old.body["spec"].get("clusterIP")} if event.old else set()
            self._taken |= {event.new.body["spec"].get("clusterIP")} if event.new else set()

    def ip(self, asked: str, name: str) -> str:
        """The address that the Service `name` asks for, or a free one; raises 422."""
        size = self.network.num_addresses
        while not asked:
            found = str(self.network[random.randrange(10, size - 1)])  # noqa: S311
            if found not in self._taken:
                return found
        try:
            inside = ipaddress.ip_address(asked) in self.network
        except ValueError:
            inside = False
        if inside and asked not in self._taken:
            return asked
        why = "provided IP is already allocated" if inside else "the provided network does not match the current range"
        told = f'Invalid value: ["{asked}"]: failed to allocate IP {asked}: {why}'
        raise errors.invalid("Service", "", name, [errors.Cause("FieldValueInvalid", "spec.clusterIPs", told)])

    def port(self) -> int:
        """A free node port."""
        services = (entry.body["spec"] for _, entry in self.store.scan("services"))
        taken = {port.get("nodePort") for spec in services for port in spec.get("ports", [])}
        return next(port for port in random.sample(range(30000, 32768), 2768) if port not in taken)


@cache
def _added() -> Obj:
    """What every pod gets."""
    added: Obj = load_yaml("pods.yaml")
    return added


def _pod(body: Obj) -> None:
    spec, added = body["spec"], copy.deepcopy(_added())
    spec["serviceAccountName"] = spec["serviceAccount"] = spec.get("serviceAccountName", "default")
    held = spec.setdefault("tolerations", [])
    keys = {toleration.get("key") for toleration in held}
    held.extend(one for one in added["tolerations"] if one["key"] not in keys)
    containers = [*spec.get("initContainers", []), *spec.get("containers", [])]
    for container in containers:
        resources = container["resources"]
        if resources.get("limits"):
            resources["requests"] = {**resources["limits"], **resources.get("requests", {})}
    token, name = added["token"], f"kube-api-access-{random_suffix()}"
    mounted = {mount.get("mountPath") for one in containers for mount in one.get("volumeMounts", [])}
    if spec.get("automountServiceAccountToken", True) and token["mount"]["mountPath"] not in mounted:
        spec.setdefault("volumes", []).append({"name": name, **token["volume"]})
        for container in containers:
            container.setdefault("volumeMounts", []).append({"name": name, **token["mount"]})
    body["status"] = {"phase": "Pending", "qosClass": quality_of_service(containers)}


def quality_of_service(containers: list[Obj]) -> str:
    """Guaranteed, Burstable or BestEffort, from requests and limits of cpu and memory."""
    resources = [container.get("resources", {}) for container in containers]
    if not any(one.get("requests") or one.get("limits") for one in resources):
        return "BestEffort"
    pairs = [(one.get("limits", {}).get(name), one.get("requests", {}).get(name)) for one in resources for name in _QOS]
    guaranteed = all(limit is not None and request in (None, limit) for limit, request in pairs)
    return "Guaranteed" if guaranteed else "Burstable"


_QOS = ("cpu", "memory")


def _job(body: Obj) -> None:
    spec, metadata = body["spec"], body["metadata"]
    if spec.get("manualSelector"):
        return
    uid, prefix = metadata["uid"], "batch.kubernetes.io/"
    names = {"controller-uid": uid, "job-name": metadata.get("name", "")}
    template = spec["template"].setdefault("metadata", {})
    own = {f"{start}{name}": value for start in (prefix, "") for name, value in names.items()}
    template["labels"] = {**(template.get("labels") or {}), **own}
    spec["selector"] = {"matchLabels": {f"{prefix}controller-uid": uid}}


def _service(body: Obj, addresses: Addresses) -> None:
    spec, kind = body["spec"], body["spec"]["type"]
    if kind == "ExternalName":
        return
    if spec.get("clusterIP") != "None" and not spec.get("clusterIPs"):
        spec["clusterIP"] = addresses.ip(spec.get("clusterIP", ""), body["metadata"].get("name", ""))
    spec.setdefault("clusterIPs", [spec["clusterIP"]])
    for port in spec.get("ports", []) if kind in ("NodePort", "LoadBalancer") else ():
        if not port.get("nodePort"):
            port["nodePort"] = addresses.port()


def _keep_allocated(body: Obj, old: Obj) -> None:
    """A Service update that leaves out what the server allocated keeps it; what its new type has no use for goes."""
    new, before = body["spec"], old["spec"]
    addressed, exposed = new.get("type") != "ExternalName", new.get("type") in ("NodePort", "LoadBalancer")
    for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        _keep(new, before, name, needed=addressed)
    if not exposed:
        _keep(new, before, "externalTrafficPolicy", needed=False)
    ports = {(port.get("port"), port.get("protocol", "TCP")): port for port in before.get("ports", [])}
    for port in new.get("ports", []):
        _keep(port, ports.get((port.get("port"), port.get("protocol", "TCP")), {}), "nodePort", needed=exposed)


def _keep(new: Obj, before: Obj, name: str, *, needed: bool) -> None:
    if needed and name in before:
        new.setdefault(name, before[name])
    elif not needed and new.get(name) == before.get(name):
        new.pop(name, None)


def _secret(body: Obj) -> None:
    for key, text in body.pop("stringData", {}).items():
        body.setdefault("data", {})[key] = base64.b64encode(text.encode()).decode()


def _namespace(body: Obj) -> None:
    metadata = body["metadata"]
    metadata.setdefault("labels", {})["kubernetes.io/metadata.name"] = metadata.get("name", "")
    body.update(spec={"finalizers": ["kubernetes"]}, status={"phase": "Active"})


def _claim(body: Obj) -> None:
    body["status"] = {"phase": "Pending"}


def _definition(body: Obj) -> None:
    versions, status = body["spec"].get("versions") or [], body.setdefault("status", {})
    stored = [version["name"] for version in versions if version.get("storage")]
    status["storedVersions"] = list(dict.fromkeys([*(status.get("storedVersions") or []), *stored]))


_NEW: dict[str, Callable[[Obj], None]] = {"Pod": _pod, "Namespace": _namespace, "PersistentVolumeClaim": _claim}
_ANY: dict[str, Callable[[Obj], None]] = {"Job": _job, "Secret": _secret, "CustomResourceDefinition": _definition}


def prepare(kind: str, body: Obj, addresses: Addresses, *, new: bool) -> None:
    """Write into `body`, a filled-in object, what its kind asks for."""
    act = (_NEW.get(kind) if new else None) or _ANY.get(kind)
    if act is not None:
        act(body)
    if kind == "Service":
        _service(body, addresses)


def keep(kind: str, body: Obj, old: Obj) -> None:
    """Keep in `body`, which a client wrote without it, what the server had decided in `old`."""
    if kind == "Service":
        _keep_allocated(body, old)
    elif kind == "Namespace":
        body["spec"] = old["spec"]
