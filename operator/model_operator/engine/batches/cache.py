"""Resources of a kind with the objects that they own, filled by watches and by the operator's own writes.

Those of ModelBatches and of ModelPools; the ModelDeployments have a cache of their own.
"""

from collections.abc import Iterator, Mapping

from model_operator.api.json import JsonObject
from model_operator.api.resource import ObjectKey, key_of


class OwnerCache:
    """Objects by kind and key, and what belongs to an owner: `label` has its name.

    Args:
        kind: that of the owners.
    """

    def __init__(self, kind: str, label: str) -> None:
        self._kind, self._label = kind, label
        self._objects: dict[str, dict[ObjectKey, JsonObject]] = {}
        self._owned: dict[tuple[str, ObjectKey], set[ObjectKey]] = {}

    def __len__(self) -> int:
        return len(self._objects.get(self._kind, {}))

    def __iter__(self) -> Iterator[ObjectKey]:
        """Yield the keys of a snapshot of all owners."""
        return iter(tuple(self._objects.get(self._kind, {})))

    def owner(self, key: ObjectKey) -> JsonObject | None:
        """Return the body of an owner."""
        return self._objects.get(self._kind, {}).get(key)

    def owned(self, kind: str, key: ObjectKey) -> list[JsonObject]:
        """Return the objects of a kind that bear the name of an owner, by name."""
        held = self._objects.get(kind, {})
        return [held[one] for one in sorted(self._owned.get((kind, key), ()))]

    def upsert(self, body: JsonObject) -> list[ObjectKey]:
        """Store a version of an object; return the keys to enqueue, none if it is not newer."""
        kind, key = body["kind"], key_of(body)
        old = self._objects.setdefault(kind, {}).get(key)
        if old is not None and _uid(old) == _uid(body) and _version(old) >= _version(body):
            return []
        _strip_unused_fields(body)
        self._objects[kind][key] = body
        owner = self._owner(body)
        if owner is not None:
            self._owned.setdefault((kind, owner), set()).add(key)
        return self._keys(body)

    def remove(self, body: JsonObject) -> list[ObjectKey]:
        """Remove a deleted object; return the keys to enqueue."""
        kind, key = body["kind"], key_of(body)
        old = self._objects.get(kind, {}).get(key)
        if old is None or _uid(old) != _uid(body):
            return []
        del self._objects[kind][key]
        owner = self._owner(old)
        if owner is not None:
            held = self._owned.get((kind, owner), set())
            held.discard(key)
            if not held:
                self._owned.pop((kind, owner), None)
        return self._keys(body)

    def _keys(self, body: JsonObject) -> list[ObjectKey]:
        own = [key_of(body)] if body["kind"] == self._kind else []
        owner = self._owner(body)
        return own + ([owner] if owner is not None else [])

    def _owner(self, body: Mapping[str, JsonObject]) -> ObjectKey | None:
        name = (body["metadata"].get("labels") or {}).get(self._label)
        return ObjectKey(body["metadata"]["namespace"], name) if name else None

    def all_of(self, kind: str) -> Iterator[JsonObject]:
        """Yield every cached object of a kind."""
        yield from tuple(self._objects.get(kind, {}).values())


def _strip_unused_fields(body: JsonObject) -> None:
    metadata = body["metadata"]
    metadata.pop("managedFields", None)
    (metadata.get("annotations") or {}).pop("kubectl.kubernetes.io/last-applied-configuration", None)
    if body["kind"] == "Pod":
        body["spec"] = {}
    if body["kind"] == "Job":
        body["spec"] = {name: value for name, value in body["spec"].items() if name != "template"}


def _uid(body: JsonObject) -> str:
    return str(body["metadata"]["uid"])


def _version(body: JsonObject) -> int:
    return int(body["metadata"]["resourceVersion"])
