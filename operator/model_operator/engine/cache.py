"""Cache of the objects of the cluster, filled by watches, by lists, and by the operator's own writes.

The resourceVersion of a cached object never decreases (versions are comparable since Kubernetes 1.35, KEP-5504, and
etcd has always counted upwards). A change that no decision depends on enqueues no key.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import orjson

from model_operator.api.json import JsonObject
from model_operator.api.names import EVALUATES, NAME
from model_operator.api.resource import ModelDeployment, ObjectKey, key_of
from model_operator.api.version import KIND
from model_operator.observation.pod_failures import autoscaler_problem, deployment_problem
from model_operator.observation.values import PodProblem

ChildId = tuple[str, str]  # kind, name

#: Fields of an object's status that decisions depend on; of other kinds, the whole status.
_STATUS_FIELDS: Mapping[str, tuple[str, ...]] = {
    "ConfigMap": (),
    "EndpointSlice": (),
    "Deployment": ("observedGeneration", "availableReplicas", "updatedReplicas", "readyReplicas"),
    "HorizontalPodAutoscaler": (),
    "PodDisruptionBudget": (),
    "PrometheusRule": (),
    "Service": (),
    "ServiceMonitor": (),
}

#: Problems in its conditions that decisions depend on.
_TROUBLES: Mapping[str, Callable[[Mapping[str, Any]], PodProblem | None]] = {
    "Deployment": deployment_problem,
    "HorizontalPodAutoscaler": autoscaler_problem,
}

#: Fields with the content of kinds without a generation.
_CONTENT_FIELDS: Mapping[str, tuple[str, ...]] = {"EndpointSlice": ("endpoints", "ports"), "Service": ("spec",)}

_METADATA_FIELDS = ("uid", "generation", "deletionTimestamp", "labels", "annotations")


class CachedObject(NamedTuple):
    """A child as JSON, which takes a fifth of the memory of a dict, with the fields that most queries need."""

    uid: str
    version: int
    json: bytes


class Cache:
    """The ModelDeployments, and for each of them its children by kind and name."""

    def __init__(self) -> None:
        self._resources: dict[ObjectKey, JsonObject] = {}
        self._parsed: dict[ObjectKey, ModelDeployment] = {}
        # Resources are read all the time and rarely change; parsing the children of one takes about 20 us.
        self._children: dict[ObjectKey, dict[ChildId, CachedObject]] = {}
        #: Keys that lost a child to another deletion than the operator's: their resource may be gone as well.
        self.lost_a_child: set[ObjectKey] = set()
        self._own_deletions: set[str] = set()
        #: Resources with a write of the operator in flight.
        self._written: set[ObjectKey] = set()
        self._verified: dict[str, tuple[str, str]] = {}

    def __len__(self) -> int:
        return len(self._resources)

    def resource(self, key: ObjectKey) -> JsonObject | None:
        """Return the body of a ModelDeployment."""
        return self._resources.get(key)

    def get(self, key: ObjectKey) -> ModelDeployment | None:
        """Return a ModelDeployment, parsed once for each version.

        Raises:
            InvalidSpec: the spec is invalid.
        """
        parsed, body = self._parsed.get(key), self._resources.get(key)
        if parsed is None and body is not None:
            self._parsed[key] = parsed = ModelDeployment.from_body(body)
        return parsed

    def get_valid(self, key: ObjectKey) -> ModelDeployment | None:
        """Return a ModelDeployment, or None if it is absent or cannot be read; the reconcile reports why.

        Whatever the reason is, also a bug: those that are looked at beside it must not suffer from it.
        """
        try:
            return self.get(key)
        except Exception:
            return None

    def children(self, key: ObjectKey) -> Mapping[ChildId, JsonObject]:
        """Return copies of the children of a ModelDeployment."""
        return {child: orjson.loads(packed.json) for child, packed in self._children.get(key, {}).items()}

    def pods(self, key: ObjectKey) -> list[JsonObject]:
        """Return copies of the pods of a ModelDeployment; all its children would be ten times as much to parse."""
        children = self._children.get(key, {}).items()
        return [orjson.loads(packed.json) for (kind, _), packed in children if kind == "Pod"]

    def child(self, key: ObjectKey, kind: str, name: str) -> JsonObject | None:
        """Return a copy of one child of a ModelDeployment."""
        packed = self._children.get(key, {}).get((kind, name))
        return orjson.loads(packed.json) if packed else None

    def __iter__(self) -> Iterator[ObjectKey]:
        """Yield the keys of a snapshot of all ModelDeployments."""
        return iter(tuple(self._resources))

    def upsert(self, body: JsonObject) -> ObjectKey | None:
        """Store a version of an object; return the key to enqueue, or None if no relevant field changed."""
        key = owner_key(body)
        if key is None:
            return None
        return self._put_resource(key, body) if body["kind"] == KIND else self._put_child(key, body)

    def _put_resource(self, key: ObjectKey, body: JsonObject) -> ObjectKey | None:
        old = self._resources.get(key)
        if old is not None and _uid(old) == _uid(body) and _version(old) >= _version(body):
            return None
        strip_unused_fields(body)
        self._resources[key] = body
        self._parsed.pop(key, None)
        # A watch event that arrives before the answer to a write usually is that write: see `upsert_own_write`.
        return key if key not in self._written and (old is None or not _is_alike(old, body)) else None

    def _put_child(self, key: ObjectKey, body: JsonObject) -> ObjectKey | None:
        children, child, uid, version = self._children.setdefault(key, {}), _child_id(body), _uid(body), _version(body)
        old = children.get(child)
        if old is not None and old.uid == uid and old.version >= version:
            return None
        strip_unused_fields(body)
        children[child] = CachedObject(uid, version, orjson.dumps(body))
        return key if old is None or not _is_alike(orjson.loads(old.json), body) else None

    @contextmanager
    def suppress_echo(self, key: ObjectKey) -> Iterator[None]:
        """Suppress watch events of a ModelDeployment while a write of the operator to it is in flight."""
        self._written.add(key)
        try:
            yield
        finally:
            self._written.discard(key)

    def upsert_own_write(self, key: ObjectKey, answer: JsonObject) -> bool:
        """Store the response to a write of the operator; return whether a later write was suppressed meanwhile."""
        if key not in self._resources:
            return False  # it was deleted meanwhile, and the watch reported that first
        self.upsert(answer)
        return _version(self._resources[key]) > _version(answer)

    def remove(self, body: JsonObject) -> ObjectKey | None:
        """Remove a deleted object; return the key to enqueue."""
        key = owner_key(body)
        if key is None:
            return None
        uid, previous_uid = _uid(body), self._known_uid(key, body)
        if previous_uid == uid:
            self._forget(key, body)
        # A deletion by the operator arrives twice: when it is done, and as a watch event.
        if body["kind"] not in (KIND, "Pod") and previous_uid and uid not in self._own_deletions:
            self.lost_a_child.add(key)
        if not previous_uid:
            self._own_deletions.discard(uid)
        self._verified.pop(uid, None)
        return key

    def expect_deletion(self, body: JsonObject) -> None:
        """Record that the operator deletes this object, so that its removal is not reported as a lost child."""
        self._own_deletions.add(body["metadata"]["uid"])

    def is_verified(self, live: Mapping[str, Any], wanted_hash: str) -> bool:
        """Whether exactly this version of a live object was compared with exactly this content before."""
        metadata = live["metadata"]
        return self._verified.get(metadata["uid"]) == (metadata["resourceVersion"], wanted_hash)

    def verified(self, live: Mapping[str, Any], wanted_hash: str) -> None:
        """Record the result of a comparison: comparing field by field is most of the work of a pass."""
        metadata = live["metadata"]
        self._verified[metadata["uid"]] = (metadata["resourceVersion"], wanted_hash)

    def all_of(self, kind: str) -> Iterator[JsonObject]:
        """Yield every cached object of a kind."""
        if kind == KIND:
            yield from tuple(self._resources.values())
            return
        for children in tuple(self._children.values()):
            yield from (orjson.loads(packed.json) for (other, _), packed in tuple(children.items()) if other == kind)

    def _known_uid(self, key: ObjectKey, body: JsonObject) -> str:
        """Return the uid of the cached object of this name, empty if there is none."""
        if body["kind"] == KIND:
            resource = self._resources.get(key)
            return _uid(resource) if resource else ""
        packed = self._children.get(key, {}).get(_child_id(body))
        return packed.uid if packed else ""

    def _forget(self, key: ObjectKey, body: JsonObject) -> None:
        if body["kind"] == KIND:
            del self._resources[key]
            self._parsed.pop(key, None)
            return
        del self._children[key][_child_id(body)]
        if not self._children[key]:
            del self._children[key]


def _child_id(body: JsonObject) -> ChildId:
    return body["kind"], body["metadata"]["name"]


def owner_key(body: Mapping[str, Any]) -> ObjectKey | None:
    """Return the key of the ModelDeployment that an object is, or belongs to; None for other objects."""
    if body["kind"] == KIND:
        return key_of(body)
    labels = body["metadata"].get("labels") or {}
    name = labels.get(NAME) or labels.get(EVALUATES)
    return ObjectKey(body["metadata"]["namespace"], name) if name else None


def strip_unused_fields(body: JsonObject) -> None:
    """Drop unused fields; managedFields are about half of the bytes of an object."""
    metadata = body["metadata"]
    metadata.pop("managedFields", None)
    (metadata.get("annotations") or {}).pop("kubectl.kubernetes.io/last-applied-configuration", None)
    if body["kind"] == "Pod":
        body["spec"] = {}


def _uid(body: JsonObject) -> str:
    return str(body["metadata"]["uid"])


def _version(body: JsonObject) -> int:
    return int(body["metadata"]["resourceVersion"])


def _is_alike(old: JsonObject, new: JsonObject) -> bool:
    """Whether the two differ in no field that a decision depends on."""
    a, b = old["metadata"], new["metadata"]
    if any(a.get(field) != b.get(field) for field in _METADATA_FIELDS):
        return False
    kind = new["kind"]
    old_status, new_status = old.get("status") or {}, new.get("status") or {}
    fields = _STATUS_FIELDS.get(kind)
    if fields is not None and any(old_status.get(field) != new_status.get(field) for field in fields):
        return False
    if fields is None and old_status != new_status:
        return False
    problem = _TROUBLES.get(kind)
    if problem is not None and problem(old_status) != problem(new_status):
        return False
    # Kinds without a generation show a foreign write in their content.
    return all(old.get(field) == new.get(field) for field in _CONTENT_FIELDS.get(kind, ()))
