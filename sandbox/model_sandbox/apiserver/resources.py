"""Create, update and apply: the one path by which objects get into the store.

The HTTP layer decodes requests and calls these; everything here is synchronous, so a write never sees
another one in its middle.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from model_sandbox.apiserver import admission, errors, ownership
from model_sandbox.apiserver.approval import approval_condition
from model_sandbox.apiserver.convert import to_storage, to_version
from model_sandbox.apiserver.crds import (
    DEFINITIONS,
    Definitions,
    at_stage,
    check_custom,
    check_definition,
    hoisted,
)
from model_sandbox.apiserver.defaults import apply_defaults
from model_sandbox.apiserver.errors import ApiError, Cause, Obj, conflict, forbidden
from model_sandbox.apiserver.fieldsets import ListKeyError
from model_sandbox.apiserver.kinds import Kind, Registry
from model_sandbox.apiserver.metadata import metadata_causes, metadata_update_causes
from model_sandbox.apiserver.preserving import (
    check_name,
    check_preconditions,
    is_new_generation,
    may_go,
    part_of,
    place,
    reset,
    same_but_times,
)
from model_sandbox.apiserver.reading import check_applied, read
from model_sandbox.apiserver.requests import Write
from model_sandbox.apiserver.schema import DecodeError, decode
from model_sandbox.apiserver.store import Entry, Key, Store
from model_sandbox.apiserver.validation import check

_SERVER_OWNED = ("creationTimestamp", "generation", "deletionGracePeriodSeconds")

Change = Callable[[Obj], Any]


class Resources:
    """Writes to every kind. `services` is the network of ClusterIPs."""

    def __init__(self, store: Store, registry: Registry, services: str, *, clock: Callable[[], datetime]) -> None:
        self.store = store
        self.registry = registry
        self.definitions = Definitions(registry, store)
        self._addresses = admission.Addresses.of(store, services)
        self._clock = clock

    def now(self) -> str:
        """The time of day as Kubernetes writes it."""
        return self._clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def get(self, kind: Kind, key: Key) -> Entry:
        """One object; raises 404."""
        entry = self.store.get(kind.storage, key)
        if entry is None:
            raise errors.not_found(kind.plural, kind.group, key[1])
        return entry

    def create(self, kind: Kind, namespace: str, body: Obj, write: Write) -> Obj:
        """Store a new object; the answer is its stored form."""
        stored = to_storage(kind, body)
        metadata = stored["metadata"]
        if metadata.get("resourceVersion"):
            raise errors.internal("resourceVersion should not be set on objects to be created")
        place(kind, metadata, namespace)
        if metadata.get("generateName") and not metadata.get("name"):
            metadata["name"] = metadata["generateName"][:58] + admission.random_suffix()
        for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
            metadata.pop(name, None)
        metadata.update(uid=str(uuid.uuid4()), creationTimestamp=write.now)
        if kind.generation:
            metadata["generation"] = 1
        empty = self._empty(kind)
        if kind.status:
            stored.pop("status", None)
            stored |= {"status": empty["status"]} if "status" in empty else {}
        stored = self._filled(kind, stored, new=True)
        metadata, key = stored["metadata"], (namespace, stored["metadata"].get("name", ""))
        self._check_namespace(kind, key)
        self._validate(kind, stored, None)
        if kind.storage == "pods":
            self._check_account(stored)
        taken = self.store.get(kind.storage, key)
        if taken is not None:
            deleting = bool(taken.body["metadata"].get("deletionTimestamp"))
            raise errors.already_exists(kind.plural, kind.group, key[1], deleting=deleting)
        if "managedFields" not in metadata:
            self._own(kind, empty, stored, write, "")
        return self._put(kind, key, stored, write).body

    def update(self, kind: Kind, key: Key, change: Change, write: Write, part: str = "") -> Obj:
        """Change an object: `change` maps what is there to what shall be. `part`: "", status, scale or finalize."""
        entry = self.get(kind, key)
        shown = to_version(kind, orjson.loads(entry.json()))
        try:
            body = read(kind, change(shown), write)
        except ApiError as error:
            if write.is_patch and error.code == 400 and "cannot be handled as" in error.message:
                raise errors.bad_patch(error.message) from None
            raise
        return self._replace(kind, key, entry, body, write, part)

    def apply(self, kind: Kind, key: Key, applied: Obj, write: Write, part: str = "") -> tuple[Obj, bool]:
        """Server-side apply; the answer says whether the object is new."""
        entry = self.store.get(kind.storage, key)
        if entry is None and part:
            raise errors.not_found(kind.plural, kind.group, key[1])
        check_applied(kind, applied, key)
        content = {name: value for name, value in applied.items() if name not in ("apiVersion", "kind")}
        live = to_version(kind, orjson.loads(entry.json())) if entry else self._empty(kind)
        metadata = dict(content.get("metadata") or {})
        version, uid = metadata.pop("resourceVersion", ""), metadata.pop("uid", "")
        if entry and version and version != entry.body["metadata"]["resourceVersion"]:
            raise conflict(kind.plural, kind.group, key[1])
        if entry is None and uid:
            why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            raise conflict(kind.plural, kind.group, key[1], why)
        owners = ownership.parse(live["metadata"].get("managedFields"))
        if entry and not owners:
            owners = self._after(kind, self._empty(kind), live, owners, "before-first-apply", write.now, "")
        unknown: list[str] = []
        try:
            decode(kind.node, content, unknown)
            if unknown:
                raise DecodeError(f".{unknown[0]}: field not declared in schema")
            merged, owners = ownership.apply(
                kind.node,
                live,
                {**content, "metadata": metadata},
                owners,
                ownership.Manager(write.manager, "Apply", kind.api_version, part),
                reset=reset(kind, part),
                force=write.force,
                now=write.now,
            )
        except (DecodeError, ListKeyError) as error:
            typed = f"{metadata.get('namespace', '')}/{key[1]}; {kind.group}/{kind.version}, Kind={kind.kind}"
            raise errors.internal(f"failed to create typed patch object ({typed}): {error}") from None
        body = read(kind, {**merged, "apiVersion": kind.api_version, "kind": kind.kind}, write)
        body["metadata"].pop("managedFields", None)
        if owners:
            body["metadata"]["managedFields"] = ownership.render(owners)
        if entry is None:
            body["metadata"]["name"] = key[1]
            return self.create(kind, key[0], body, write), True
        return self._replace(kind, key, entry, body, write, part, owned=True), False

    def _replace(
        self, kind: Kind, key: Key, entry: Entry, body: Obj, write: Write, part: str, *, owned: bool = False
    ) -> Obj:
        """Store a changed object, or remove it when nothing holds it any longer. `owned`: managedFields are done."""
        stored, old = to_storage(kind, body), entry.body
        metadata, before = stored["metadata"], old["metadata"]
        check_name(metadata, key[1])
        place(kind, metadata, key[0])
        check_preconditions(kind, key, metadata, before, write)
        managed = metadata.pop("managedFields", None)
        for name in _SERVER_OWNED:
            metadata.pop(name, None)
        metadata.update({name: before[name] for name in (*_SERVER_OWNED, "deletionTimestamp") if name in before})
        metadata.update(name=key[1], uid=metadata.get("uid") or before["uid"])
        metadata["resourceVersion"] = before["resourceVersion"]
        if before.get("generateName"):
            metadata.setdefault("generateName", before["generateName"])
        stored = self._filled(kind, part_of(kind, stored, old, part), new=False, part=part)
        metadata = stored["metadata"]
        if part != "status" and kind.generation:
            metadata["generation"] = before.get("generation", 0) + is_new_generation(kind, stored, old)
        self._validate(kind, stored, old)
        if not owned and managed in (None, before.get("managedFields")):
            managed = before.get("managedFields")
        managed = [one for one in managed or [] if one.get("manager")]  # a client clears them with `[{}]`
        if managed:
            metadata["managedFields"] = managed
            if not owned:
                self._own(kind, old, stored, write, part)
        as_stored = key not in self.store.shelf(kind.storage).stored
        if as_stored and (stored == old or same_but_times(stored, old)):
            return old
        if metadata.get("deletionTimestamp") and may_go(kind, stored):
            if not write.dry_run:
                self.remove(kind, key)
            return stored
        return self._put(kind, key, stored, write).body

    def _filled(self, kind: Kind, stored: Obj, *, new: bool, part: str = "") -> Obj:
        """Defaults, and values that depend on others."""
        node = self.registry.storage_kind(kind).node
        status = node.child("status")
        filled: Obj = stored
        if part != "status":
            filled = apply_defaults(node, stored)
        elif status is not None and "status" in stored:
            filled = {**stored, "status": apply_defaults(status, stored["status"])}
        if part == "status" and kind.storage == "pods" and filled["status"].get("podIP"):
            filled["status"].setdefault("podIPs", [{"ip": filled["status"]["podIP"]}])
        if not kind.custom and part != "status":
            admission.prepare(kind.kind, filled, self._addresses, new=new)
        return filled

    def _validate(self, kind: Kind, stored: Obj, old: Obj | None) -> None:
        metadata, of = stored["metadata"], self.registry.storage_kind(kind)
        any_name = kind.custom or kind.storage == DEFINITIONS
        causes = metadata_causes(metadata, name_rule=kind.name_rule, namespaced=kind.namespaced, custom=any_name)
        if old is not None:
            # Kubernetes checks metadata of an update twice and lists what it finds twice.
            owners = [cause for cause in causes if cause.field.startswith("metadata.ownerReferences")]
            causes = [*causes, *owners, *metadata_update_causes(metadata, old["metadata"])] * 2
        if kind.custom:
            causes += check_custom(kind, stored, old)
        else:
            content, before = ({**body, "status": None} if body else None for body in (stored, old))
            found = check(of.node, content or {}, before)
            causes += (
                hoisted(stored, [*found, *check_definition(stored, old)]) if kind.storage == DEFINITIONS else found
            )
            if of is not kind and old is None:
                causes += check(kind.node, {**to_version(kind, stored), "status": None}, None)
        if causes:
            raise errors.invalid(kind.kind, of.group, metadata.get("name", ""), causes)

    def _check_account(self, stored: Obj) -> None:
        namespace, name = stored["metadata"]["namespace"], stored["spec"]["serviceAccountName"]
        if self.store.get("serviceaccounts", (namespace, name)) is None:
            why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
            raise forbidden("pods", "", stored["metadata"]["name"], why)

    def _check_namespace(self, kind: Kind, key: Key) -> None:
        namespace, name = key
        if kind.custom and self.definitions.is_terminating(kind):
            why = "create not allowed while custom resource definition is terminating"
            raise forbidden(kind.plural, kind.group, name, why)
        entry = self.store.get("namespaces", ("", namespace))
        if kind.namespaced and entry is None:
            raise errors.not_found("namespaces", "", namespace)
        if kind.namespaced and entry is not None and entry.body["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            told = f"namespace {namespace} is being terminated"
            cause = Cause("NamespaceTerminating", "metadata.namespace", told)
            raise forbidden(kind.plural, kind.group, name, why, [cause])

    def _after(
        self, kind: Kind, old: Obj, new: Obj, owners: ownership.Ownership, name: str, now: str, part: str
    ) -> ownership.Ownership:
        manager = ownership.Manager(name, "Update", kind.api_version, part)
        node = self.registry.storage_kind(kind).node
        return ownership.after_update(node, old, new, owners, manager, reset=reset(kind, part), now=now)

    def _own(self, kind: Kind, old: Obj, stored: Obj, write: Write, part: str) -> None:
        """Record what the writer changed in managedFields."""
        metadata = stored["metadata"]
        now = "" if part == "scale" else write.now  # Kubernetes notes no time for what came through scale
        owners = ownership.parse(metadata.pop("managedFields", None))
        managed = ownership.render(self._after(kind, old, stored, owners, write.manager, now, part))
        if managed:
            metadata["managedFields"] = managed

    def _empty(self, kind: Kind) -> Obj:
        """The object of no fields, as its Go type would be written."""
        empty: Obj = {} if kind.custom else decode(self.registry.storage_kind(kind).node, {}, [])
        return {**empty, "metadata": {}}

    def _put(self, kind: Kind, key: Key, stored: Obj, write: Write) -> Entry:
        if write.dry_run:
            if self.store.get(kind.storage, key) is None:
                stored["metadata"].pop("resourceVersion", None)
            return Entry(self.store.version, stored)
        entry = self.store.put(kind.storage, key, stored)
        if kind.storage == DEFINITIONS and self.definitions.establish(entry.body):
            named = bool((entry.body.get("status") or {}).get("conditions"))
            for stage in ("renamed",) if named else ("named", "established"):
                self.report(key[1], stage, accepted=entry.body["spec"]["names"])
        return entry

    def report(self, name: str, stage: str, *, accepted: Obj | None = None) -> None:
        """Write what stage a definition is at, and the names that were accepted, into its status."""

        def change(shown: Obj) -> Obj:
            status = at_stage(shown["status"], stage, self.now())
            approved = approval_condition(shown, status["conditions"])
            if approved is not None:
                others = [one for one in status["conditions"] if one["type"] != approved["type"]]
                status["conditions"] = [{**approved, "lastTransitionTime": self.now()}, *others]
            return {**shown, "status": {**status, "acceptedNames": accepted or status["acceptedNames"]}}

        self.as_server(name, change, "status")

    def as_server(self, name: str, change: Change, part: str = "") -> None:
        """Change a definition in the server's own name."""
        kind = self.registry.kinds["apiextensions.k8s.io", "v1", "customresourcedefinitions"]
        self.update(kind, ("", name), change, Write("kube-apiserver", self.now(), is_patch=True), part)

    def remove(self, kind: Kind, key: Key) -> Entry:
        """Take an object out of the store; what a definition defined is served no longer."""
        entry = self.store.remove(kind.storage, key)
        if kind.storage == DEFINITIONS:
            self.definitions.retire(entry.body)
        return entry
