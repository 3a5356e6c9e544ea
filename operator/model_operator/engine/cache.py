"""What the cluster looks like, as far as we were told: by watches, by lists, and by our own writes.

An object never goes back in resourceVersion (they are comparable since Kubernetes 1.35, KEP-5504, and
etcd has always counted upwards). A change that no decision looks at wakes nobody.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import orjson

from model_operator.api.json import JsonObject
from model_operator.api.names import EVALUATES, NAME
from model_operator.api.resource import ModelDeployment, ObjectKey, key_of
from model_operator.api.version import KIND
from model_operator.errors import InvalidSpec
from model_operator.observation.pod_failures import autoscaler_problem, deployment_problem
from model_operator.observation.values import PodProblem

ChildId = tuple[str, str]  # kind, name

#: Fields of an object's status that decisions look at; of other kinds the whole status counts.
_STATUS_FIELDS: Mapping[str, tuple[str, ...]] = {
    "Deployment": ("observedGeneration", "availableReplicas", "updatedReplicas", "readyReplicas"),
    "HorizontalPodAutoscaler": (),
    "PodDisruptionBudget": (),
    "PrometheusRule": (),
    "Service": (),
    "ServiceMonitor": (),
}

#: What else of it they look at.
_TROUBLES: Mapping[str, Callable[[Mapping[str, Any]], PodProblem | None]] = {
    "Deployment": deployment_problem,
    "HorizontalPodAutoscaler": autoscaler_problem,
}

_METADATA_FIELDS = ("uid", "generation", "deletionTimestamp", "labels", "annotations")


class CachedObject(NamedTuple):
    """A child as JSON: as values they take five times the memory. What most questions are about is beside it."""

    uid: str
    version: int
    json: bytes


class Cache:
    """The resources, and for each of them its children by kind and name."""

    def __init__(self) -> None:
        self._resources: dict[ObjectKey, JsonObject] = {}
        self._parsed: dict[ObjectKey, ModelDeployment] = {}
        # Resources are looked at all the time and stay as they are; reading the children of one takes some 20 us.
        self._children: dict[ObjectKey, dict[ChildId, CachedObject]] = {}
        #: Keys that lost a child without our doing: their resource may be gone as well.
        self.lost_a_child: set[ObjectKey] = set()
        self._own_deletions: set[str] = set()
        #: Resources that a write of ours is on its way to.
        self._written: set[ObjectKey] = set()
        self._verified: dict[str, tuple[str, str]] = {}

    def __len__(self) -> int:
        return len(self._resources)

    def resource(self, key: ObjectKey) -> JsonObject | None:
        """Return a ModelDeployment's body."""
        return self._resources.get(key)

    def get(self, key: ObjectKey) -> ModelDeployment | None:
        """Return a ModelDeployment; it is read once for all who look at it, until it is another.

        Raises:
            InvalidSpec: the spec is not understood.
        """
        known, body = self._parsed.get(key), self._resources.get(key)
        if known is None and body is not None:
            self._parsed[key] = known = ModelDeployment.from_body(body)
        return known

    def get_valid(self, key: ObjectKey) -> ModelDeployment | None:
        """Return a ModelDeployment, None as well where its spec is not understood: the reconcile says so."""
        try:
            return self.get(key)
        except InvalidSpec:
            return None

    def conflicting_owner(self, key: ObjectKey, kind: str, name: str) -> ObjectKey | None:
        """Return which other ModelDeployment has a child of this name: its names are its own, or begin with its own."""
        for owner in (name, name.rpartition("-")[0]):
            other = ObjectKey(key.namespace, owner)
            if other != key and (kind, name) in self._children.get(other, {}):
                return other
        return None

    def children(self, key: ObjectKey) -> Mapping[ChildId, JsonObject]:
        """Return the children of a ModelDeployment, read anew: a change of them changes nothing here."""
        return {child: orjson.loads(packed.json) for child, packed in self._children.get(key, {}).items()}

    def pods(self, key: ObjectKey) -> list[JsonObject]:
        """Return the pods alone, read anew: whoever needs no more need not read what is ten times as large."""
        known = self._children.get(key, {}).items()
        return [orjson.loads(packed.json) for (kind, _), packed in known if kind == "Pod"]

    def __iter__(self) -> Iterator[ObjectKey]:
        """Yield the keys of all ModelDeployments, as they are now."""
        return iter(tuple(self._resources))

    def upsert(self, body: JsonObject) -> ObjectKey | None:
        """Take over what is known of an object; return the key to wake, None when nothing changed for us."""
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
        """While a write of ours to a ModelDeployment is on its way, what a watch tells of it wakes nobody."""
        self._written.add(key)
        try:
            yield
        finally:
            self._written.discard(key)

    def upsert_own_write(self, key: ObjectKey, answer: JsonObject) -> bool:
        """Take over the answer to our own write; return whether somebody wrote after it, which woke nobody."""
        if key not in self._resources:
            return False  # it was deleted meanwhile, and the watch told of that first
        self.upsert(answer)
        return _version(self._resources[key]) > _version(answer)

    def remove(self, body: JsonObject) -> ObjectKey | None:
        """Forget an object that is gone; return the key to wake."""
        key = owner_key(body)
        if key is None:
            return None
        uid, known = _uid(body), self._known_uid(key, body)
        if known == uid:
            self._forget(key, body)
        # An own deletion is seen twice: when it is done, and when the watch tells of it.
        if body["kind"] not in (KIND, "Pod") and known and uid not in self._own_deletions:
            self.lost_a_child.add(key)
        if not known:
            self._own_deletions.discard(uid)
        self._verified.pop(uid, None)
        return key

    def expect_deletion(self, body: JsonObject) -> None:
        """Remember that we delete this object ourselves, so that its end surprises nobody."""
        self._own_deletions.add(body["metadata"]["uid"])

    def is_verified(self, live: Mapping[str, Any], wanted_hash: str) -> bool:
        """Whether exactly this version of a live object was found to hold exactly this content before."""
        metadata = live["metadata"]
        return self._verified.get(metadata["uid"]) == (metadata["resourceVersion"], wanted_hash)

    def verified(self, live: Mapping[str, Any], wanted_hash: str) -> None:
        """Remember it: comparing an object field by field is most of a pass's work."""
        metadata = live["metadata"]
        self._verified[metadata["uid"]] = (metadata["resourceVersion"], wanted_hash)

    def all_of(self, kind: str) -> Iterator[JsonObject]:
        """Yield every known object of a kind."""
        if kind == KIND:
            yield from tuple(self._resources.values())
            return
        for children in tuple(self._children.values()):
            yield from (orjson.loads(packed.json) for (other, _), packed in tuple(children.items()) if other == kind)

    def _known_uid(self, key: ObjectKey, body: JsonObject) -> str:
        """Return the uid of what is known under an object's name, empty when nothing is."""
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
    """Return the key of the ModelDeployment that an object is, or belongs to; None for strangers."""
    if body["kind"] == KIND:
        return key_of(body)
    labels = body["metadata"].get("labels") or {}
    name = labels.get(NAME) or labels.get(EVALUATES)
    return ObjectKey(body["metadata"]["namespace"], name) if name else None


def strip_unused_fields(body: JsonObject) -> None:
    """Drop what nobody reads; managedFields are about half of an object's bytes."""
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
    """Whether no decision could tell the two apart."""
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
    # Kinds without a generation say with their spec whether somebody wrote into them.
    return kind != "Service" or old.get("spec") == new.get("spec")
