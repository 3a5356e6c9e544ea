"""Create, update, apply and delete: the one path by which objects get into the store.

The HTTP layer decodes requests and calls these; everything here is synchronous, so a write never sees
another one in its middle.
"""

from __future__ import annotations

import ipaddress
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from model_sandbox.apiserver import errors, ownership, rules
from model_sandbox.apiserver.convert import to_storage, to_version
from model_sandbox.apiserver.crds import DEFINITIONS, Definitions
from model_sandbox.apiserver.errors import ApiError, Cause, Obj
from model_sandbox.apiserver.fieldsets import ListKeyError
from model_sandbox.apiserver.kinds import Kind, Registry
from model_sandbox.apiserver.metadata import metadata_causes, metadata_update_causes
from model_sandbox.apiserver.schema import DecodeError, Unknown, apply_defaults, check_declared, decode
from model_sandbox.apiserver.store import Entry, Event, Key, Store

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SERVER_OWNED = ("creationTimestamp", "generation", "deletionGracePeriodSeconds")
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
PROTECTED_NAMESPACES = ("default", "kube-system", "kube-public")


def random_suffix(length: int = 5) -> str:
    """A suffix of generated names."""
    return "".join(random.choices(_ALPHABET, k=length))  # noqa: S311 - names, not secrets


@dataclass(frozen=True, slots=True)
class Write:
    """What a write request asks for beside its body."""

    manager: str
    now: str
    dry_run: bool = False
    validation: str = "Warn"  # fieldValidation
    duplicates: tuple[str, ...] = ()
    force: bool = False
    is_patch: bool = False


@dataclass(slots=True)
class Warnings:
    """Warning headers of the answer."""

    texts: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """How to delete."""

    policy: str = ""  # Foreground | Background | Orphan
    grace: int | None = None
    uid: str = ""
    version: str = ""
    dry_run: bool = False


Change = Callable[[Obj], Any]


class Resources:
    """Writes to every kind. `services` is the network of ClusterIPs."""

    def __init__(self, store: Store, registry: Registry, services: str, *, clock: Callable[[], datetime]) -> None:
        self.store = store
        self.registry = registry
        self.definitions = Definitions(registry, store)
        self._network = ipaddress.ip_network(services)
        self._clock = clock
        self._taken = {entry.body["spec"].get("clusterIP") for _, entry in store.scan("services")}
        store.on_change.append(self._note_address)

    def _note_address(self, resource: str, event: Event) -> None:
        """Know the ClusterIPs in use without reading every Service for each new one."""
        if resource == "services":
            self._taken -= {event.old.body["spec"].get("clusterIP")} if event.old else set()
            self._taken |= {event.new.body["spec"].get("clusterIP")} if event.new else set()

    def now(self) -> str:
        """The time of day as Kubernetes writes it."""
        return self._clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    # --- reading

    def get(self, kind: Kind, namespace: str, name: str) -> Entry:
        """One object; raises 404."""
        entry = self.store.get(kind.storage, (namespace, name))
        if entry is None:
            raise errors.not_found(kind.plural, kind.group, name)
        return entry

    # --- writing

    def decode(self, kind: Kind, body: Any, write: Write, warnings: Warnings, *, where: str = "") -> Obj:
        """A request's body as a typed object with apiVersion and kind, without what the schema does not know."""
        if not isinstance(body, dict):
            raise errors.bad_request(f"{kind.kind} must be a JSON object")
        if kind.custom and (not body.get("apiVersion") or not body.get("kind")):
            missing = "Kind" if not body.get("kind") else "apiVersion"
            raise errors.bad_request(f"Object '{missing}' is missing in the body: write kind: {kind.kind}")
        given, named = body.get("apiVersion") or kind.api_version, body.get("kind") or kind.kind
        prefix = f'{named} in version "{given.rpartition("/")[2]}" cannot be handled as a {kind.kind}: '
        if kind.custom and named != kind.kind and given == kind.api_version:
            cause = errors.invalid_value("kind", named, f"must be {kind.kind}")
            raise errors.invalid(named, kind.group, body.get("metadata", {}).get("name", ""), [cause])
        if given != kind.api_version or named != kind.kind:
            if kind.custom and named == kind.kind:
                # Of a version that is not served, nothing but metadata is known.
                other = [name for name in body if name not in ("apiVersion", "kind", "metadata")]
                warnings.texts.extend(f'unknown field "{name}"' for name in other)
            raise errors.bad_request(f"{prefix}no such kind here: write {kind.api_version}, {kind.kind}")
        unknown = Unknown()
        content = {name: value for name, value in body.items() if name not in ("apiVersion", "kind")}
        content.setdefault("metadata", {})
        try:
            decoded: Obj = decode(kind.node, content, unknown)
            if kind.kind in ("Secret", "ConfigMap"):
                rules.check_bytes({**decoded, "data": decoded.get("data")} if kind.kind == "Secret" else {})
        except DecodeError as error:
            raise errors.bad_request(prefix + str(error)) from None
        self._strict(unknown, write, warnings, prefix)
        decoded["metadata"].pop("selfLink", None)
        return {"kind": kind.kind, "apiVersion": kind.api_version, **decoded}

    def _strict(self, unknown: Unknown, write: Write, warnings: Warnings, prefix: str) -> None:
        problems = [f'unknown field "{path}"' for path in sorted(unknown.paths)]
        problems += [f'duplicate field "{path}"' for path in write.duplicates]
        if problems and write.validation == "Strict":
            raise errors.bad_request(f"{prefix}strict decoding error: {', '.join(problems)}")
        if write.validation == "Warn":
            warnings.texts.extend(problems)

    def create(self, kind: Kind, namespace: str, body: Obj, write: Write) -> Obj:
        """Store a new object; the answer is its stored form."""
        stored = to_storage(kind, body)
        metadata = stored["metadata"]
        if metadata.get("resourceVersion"):
            raise errors.internal("resourceVersion should not be set on objects to be created")
        self._place(kind, metadata, namespace)
        if metadata.get("generateName") and not metadata.get("name"):
            metadata["name"] = metadata["generateName"][:58] + random_suffix()
        for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
            metadata.pop(name, None)
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = write.now
        if kind.generation or kind.custom:
            metadata["generation"] = 1
        if kind.status:
            stored.pop("status", None)
            if not kind.custom:
                stored["status"] = self._empty(kind)["status"]
        stored = self._filled(kind, stored, write, new=True)
        self._check_namespace(kind, namespace, metadata.get("name", ""))
        self._validate(kind, stored, None)
        self._admit(kind, stored)
        key = (namespace, metadata["name"])
        taken = self.store.get(kind.storage, key)
        if taken is not None:
            deleting = bool(taken.body["metadata"].get("deletionTimestamp"))
            raise errors.already_exists(kind.plural, kind.group, key[1], deleting=deleting)
        if "managedFields" not in metadata:
            self._own(kind, self._empty(kind), stored, write, "")
        return self._put(kind, key, stored, write).body

    def update(
        self, kind: Kind, namespace: str, name: str, change: Change, write: Write, warnings: Warnings, part: str = ""
    ) -> Obj:
        """Change an object: `change` maps what is there to what shall be. `part`: "", status or scale."""
        entry = self.get(kind, namespace, name)
        shown = to_version(kind, orjson.loads(entry.json()))
        try:
            body = self.decode(kind, change(shown), write, warnings)
        except ApiError as error:
            if write.is_patch and error.code == 400 and "cannot be handled as" in error.message:
                told = errors.Cause("FieldValueInvalid", "patch", f'Invalid value: "{{}}": {error.message}')
                raise errors.invalid("", "", "", [told]) from None
            raise
        return self._finish(kind, (namespace, name), entry, body, write, part)

    def apply(
        self, kind: Kind, namespace: str, name: str, applied: Obj, write: Write, part: str = ""
    ) -> tuple[Obj, bool]:
        """Server-side apply; the answer says whether the object is new."""
        entry = self.store.get(kind.storage, (namespace, name))
        if entry is None and part:
            raise errors.not_found(kind.plural, kind.group, name)
        self._check_applied(kind, applied, namespace, name)
        self._check_typed(kind, applied, name)
        live = to_version(kind, orjson.loads(entry.json())) if entry else {**self._empty(kind), "metadata": {}}
        content = {key: value for key, value in applied.items() if key not in ("apiVersion", "kind")}
        metadata = dict(content.get("metadata") or {})
        version, uid = metadata.pop("resourceVersion", ""), metadata.pop("uid", "")
        if entry and version and version != entry.body["metadata"]["resourceVersion"]:
            raise errors.conflict(kind.plural, kind.group, name)
        if entry is None and uid:
            why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            raise errors.conflict(kind.plural, kind.group, name, why)
        owners = ownership.parse(live["metadata"].get("managedFields"))
        manager = ownership.Manager(write.manager, "Apply", kind.api_version, part)
        if entry and not owners:
            owners = self._before_first_apply(kind, live, write)
        try:
            merged, owners = ownership.apply(
                kind.node,
                live,
                {**content, "metadata": metadata},
                owners,
                manager,
                reset=self._reset(kind, part),
                force=write.force,
                now=write.now,
            )
        except ListKeyError as error:
            raise errors.internal(f"failed to create typed patch object ({self._typed(kind, name)}): {error}") from None
        body = self.decode(kind, {**merged, "apiVersion": kind.api_version, "kind": kind.kind}, write, Warnings())
        body["metadata"]["managedFields"] = ownership.render(owners)
        if not owners:
            del body["metadata"]["managedFields"]
        if entry is None:
            body["metadata"]["name"] = name
            return self.create(kind, namespace, body, write), True
        return self._finish(kind, (namespace, name), entry, body, write, part, owned=True), False

    def _check_applied(self, kind: Kind, applied: Obj, namespace: str, name: str) -> None:
        if not applied.get("apiVersion") or not applied.get("kind"):
            raise errors.bad_request("invalid object type: /, Kind=")
        metadata = applied.get("metadata") or {}
        if metadata.get("managedFields"):
            raise errors.bad_request("metadata.managedFields must be nil")
        if isinstance(metadata.get("name", ""), str):
            check_name(metadata, name)
        if (applied["apiVersion"], applied["kind"]) != (kind.api_version, kind.kind):
            raise errors.bad_request(f"{applied['kind']} cannot be handled as a {kind.kind}")
        if kind.namespaced and metadata.get("namespace", namespace) != namespace:
            raise errors.bad_request(_NAMESPACE_DIFFERS)

    def _check_typed(self, kind: Kind, applied: Obj, name: str) -> None:
        unknown = Unknown()
        content = {key: value for key, value in applied.items() if key not in ("apiVersion", "kind")}
        prefix = f"failed to create typed patch object ({self._typed(kind, name)}): "
        try:
            decode(kind.node, content, unknown)
        except DecodeError as error:
            raise errors.internal(f"{prefix}{error}") from None
        if unknown.paths:
            raise errors.internal(f"{prefix}.{unknown.paths[0]}: field not declared in schema")

    def _typed(self, kind: Kind, name: str) -> str:
        return f"/{name}; {kind.group}/{kind.version}, Kind={kind.kind}"

    def _before_first_apply(self, kind: Kind, live: Obj, write: Write) -> ownership.Ownership:
        manager = ownership.Manager("before-first-apply", "Update", kind.api_version)
        return ownership.after_update(
            kind.node, self._empty(kind), live, {}, manager, reset=self._reset(kind, ""), now=write.now
        )

    def _finish(
        self, kind: Kind, key: Key, entry: Entry, body: Obj, write: Write, part: str, *, owned: bool = False
    ) -> Obj:
        old = entry.body
        stored = to_storage(kind, body)
        metadata, before = stored["metadata"], old["metadata"]
        check_name(metadata, key[1])
        self._place(kind, metadata, key[0])
        metadata["name"] = key[1]
        self._check_preconditions(kind, key, metadata, before, write)
        for name in _SERVER_OWNED:
            metadata.pop(name, None)
            if name in before:
                metadata[name] = before[name]
        metadata["uid"] = metadata.get("uid") or before["uid"]
        metadata["resourceVersion"] = before["resourceVersion"]
        if before.get("deletionTimestamp"):
            metadata["deletionTimestamp"] = before["deletionTimestamp"]
        if before.get("generateName"):
            metadata.setdefault("generateName", before["generateName"])
        managed = metadata.pop("managedFields", None)
        stored = self._merged_part(kind, stored, old, part)
        metadata = stored["metadata"]
        stored = self._filled(kind, stored, write, new=False, part=part)
        metadata = stored["metadata"]
        if part != "status":
            self._count_generation(kind, stored, old)
        self._validate(kind, stored, old)
        if owned or managed != before.get("managedFields"):
            _set_managed(metadata, managed, before, owned=owned)
        elif "managedFields" in before:
            metadata["managedFields"] = before["managedFields"]
        if not owned and metadata.get("managedFields"):
            self._own(kind, old, stored, write, part)
        if stored == old or _same_but_times(stored, old):
            return old
        if metadata.get("deletionTimestamp") and self._may_go(kind, stored):
            if not write.dry_run:
                self._remove(kind, key)
            return stored
        return self._put(kind, key, stored, write).body

    def _merged_part(self, kind: Kind, stored: Obj, old: Obj, part: str) -> Obj:
        """Which members of the request this endpoint takes."""
        if part == "status":
            result = {**old, "metadata": _status_metadata(kind, stored["metadata"], old["metadata"])}
            result.pop("status", None)
            if "status" in stored:
                result["status"] = stored["status"]
            return result
        if kind.status:
            stored.pop("status", None)
            if "status" in old:
                stored["status"] = old["status"]
        if kind.kind == "Namespace" and not kind.group and part != "finalize":
            stored["spec"] = old["spec"]
        if kind.kind == "Service" and not kind.group:
            _keep_service_ips(stored, old)
        return stored

    def _check_preconditions(self, kind: Kind, key: Key, metadata: Obj, before: Obj, write: Write) -> None:
        version = metadata.get("resourceVersion")
        if version and version != before["resourceVersion"]:
            raise errors.conflict(kind.plural, kind.group, key[1])
        if not version and kind.custom and not write.is_patch:
            told = "Invalid value: 0: must be specified for an update"
            cause = Cause("FieldValueInvalid", "metadata.resourceVersion", told)
            raise errors.invalid(kind.plural, kind.group, key[1], [cause])
        if metadata.get("uid") and metadata["uid"] != before["uid"] and not write.is_patch:
            where = f"Key: /registry/{kind.plural}/{key[0]}/{key[1]}, ResourceVersion: 0"
            why = (
                f"StorageError: invalid object, Code: 4, {where}, AdditionalErrorMsg: Precondition failed: "
                f"UID in precondition: {metadata['uid']}, UID in object meta: {before['uid']}"
            )
            raise errors.conflict(kind.plural, kind.group, key[1], why)

    def _filled(self, kind: Kind, stored: Obj, write: Write, *, new: bool, part: str = "") -> Obj:
        """Defaults, and values that depend on others."""
        filled: Obj = apply_defaults(self.registry.storage_node(kind), stored)
        if kind.custom or (part == "status" and kind.kind not in ("Pod", "Service")):
            return filled
        if part == "status" and kind.kind == "Pod":
            _pod_status(filled["status"])
            return filled
        around = rules.Surroundings(
            write.now, self._allocate_ip, self._allocate_port, random_suffix, stored["metadata"].get("name", "")
        )
        for table in (rules.PREPARE_NEW, rules.PREPARE) if new else (rules.PREPARE,):
            if kind.kind in table:
                table[kind.kind](filled, around)
        return filled

    def _validate(self, kind: Kind, stored: Obj, old: Obj | None) -> None:
        metadata = stored["metadata"]
        causes = metadata_causes(
            metadata,
            name_rule=kind.name_rule,
            namespaced=kind.namespaced,
            custom=kind.custom or kind.storage == DEFINITIONS,
        )
        if old is not None:
            # Kubernetes checks metadata of an update twice and lists what it finds twice.
            owners = [cause for cause in causes if cause.field.startswith("metadata.ownerReferences")]
            causes = [*causes, *owners, *metadata_update_causes(metadata, old["metadata"])] * 2
        if kind.custom:
            causes += self.definitions.check(kind, stored, old)
        else:
            content = {name: value for name, value in stored.items() if name != "status"}
            causes += check_declared(self.registry.storage_node(kind), content)
            if kind.kind in rules.VALIDATE:
                causes += rules.VALIDATE[kind.kind](stored, old)
            if kind.group == "events.k8s.io" and old is None:
                causes += rules.event_series_causes(stored)
            if kind.kind == "CustomResourceDefinition":
                causes += self.definitions.causes(stored, old)
        if causes:
            group = self.registry.storage_kind(kind).group
            raise errors.invalid(kind.kind, group, metadata.get("name", ""), causes)

    def _admit(self, kind: Kind, stored: Obj) -> None:
        if kind.kind == "Pod" and not kind.group:
            namespace, name = stored["metadata"]["namespace"], stored["spec"]["serviceAccountName"]
            if self.store.get("serviceaccounts", (namespace, name)) is None:
                why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
                raise errors.forbidden("pods", "", stored["metadata"]["name"], why)

    def _check_namespace(self, kind: Kind, namespace: str, name: str) -> None:
        if kind.custom and self.definitions.is_terminating(kind):
            why = "create not allowed while custom resource definition is terminating"
            raise errors.forbidden(kind.plural, kind.group, name, why)
        if not kind.namespaced:
            return
        entry = self.store.get("namespaces", ("", namespace))
        if entry is None:
            raise errors.not_found("namespaces", "", namespace)
        if entry.body["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            told = f"namespace {namespace} is being terminated"
            cause = Cause("NamespaceTerminating", "metadata.namespace", told)
            raise errors.forbidden(kind.plural, kind.group, name, why, [cause])

    def _place(self, kind: Kind, metadata: Obj, namespace: str) -> None:
        if not kind.namespaced:
            metadata.pop("namespace", None)
            return
        if metadata.get("namespace", namespace) not in (namespace, ""):
            raise errors.bad_request(_NAMESPACE_DIFFERS)
        metadata["namespace"] = namespace

    def _count_generation(self, kind: Kind, stored: Obj, old: Obj) -> None:
        if not (kind.generation or kind.custom):
            return
        watched = kind.kind == "Deployment" and kind.group == "apps"
        changed = _content(kind, stored) != _content(kind, old) or (
            watched and stored["metadata"].get("annotations") != old["metadata"].get("annotations")
        )
        stored["metadata"]["generation"] = old["metadata"].get("generation", 0) + changed

    def _own(self, kind: Kind, old: Obj, stored: Obj, write: Write, part: str) -> None:
        """Record what the writer changed in managedFields."""
        metadata = stored["metadata"]
        owners = ownership.parse(metadata.get("managedFields"))
        manager = ownership.Manager(write.manager, "Update", kind.api_version, part)
        node = self.registry.storage_node(kind)
        # Kubernetes notes no time for what came through scale.
        owners = ownership.after_update(
            node, old, stored, owners, manager, reset=self._reset(kind, part), now="" if part == "scale" else write.now
        )
        metadata["managedFields"] = ownership.render(owners)
        if not metadata["managedFields"]:
            del metadata["managedFields"]

    def _reset(self, kind: Kind, part: str) -> set[str]:
        if part == "status":
            return {"f:spec", "f:metadata"}
        return {"f:status"} if kind.status else set()

    def _empty(self, kind: Kind) -> Obj:
        """The object of no fields, as its Go type would be written."""
        empty: Obj = {} if kind.custom else decode(self.registry.storage_node(kind), {}, Unknown())
        return {**empty, "metadata": {}}

    def _put(self, kind: Kind, key: Key, stored: Obj, write: Write) -> Entry:
        if write.dry_run:
            if self.store.get(kind.storage, key) is None:
                stored["metadata"].pop("resourceVersion", None)
            return Entry(self.store.version, stored)
        entry = self.store.put(kind.storage, key, stored)
        if kind.storage == DEFINITIONS:
            status = self.definitions.establish(entry.body, write.now)
            if status is not None:
                body = to_version(kind, {**orjson.loads(entry.json()), "status": status})
                self._finish(kind, key, entry, body, Write("kube-apiserver", write.now, is_patch=True), "status")
        return entry

    def _remove(self, kind: Kind, key: Key) -> Entry:
        entry = self.store.remove(kind.storage, key)
        if kind.storage == DEFINITIONS:
            self.definitions.retire(entry.body)
        return entry

    # --- deleting

    def delete(self, kind: Kind, namespace: str, name: str, options: DeleteOptions) -> tuple[Obj, bool]:
        """Delete, or mark for deletion; the answer is the last body and whether it is gone."""
        entry = self.get(kind, namespace, name)
        old = entry.body
        metadata = dict(old["metadata"])
        _check_delete(kind, metadata, options)
        if kind.storage == "namespaces" and name in PROTECTED_NAMESPACES:
            raise errors.forbidden("namespaces", "", name, "this namespace may not be deleted")
        stored = {**old, "metadata": metadata}
        finalizers = _finalizers_for(kind, metadata, options.policy)
        if kind.storage == DEFINITIONS and CLEANUP not in finalizers:
            finalizers = [*finalizers, CLEANUP]
        if finalizers != list(metadata.get("finalizers") or []):
            metadata["finalizers"] = finalizers
        grace = self._grace(kind, stored, options)
        first = not metadata.get("deletionTimestamp")
        waits = bool(metadata.get("finalizers")) or (kind.storage == "namespaces" and bool(_spec_finalizers(old)))
        if waits or grace > 0 or kind.storage == "pods":
            if first:
                metadata["deletionTimestamp"] = self.now()
                if metadata.get("generation") and kind.storage != DEFINITIONS:
                    metadata["generation"] += 1
            if kind.storage == "namespaces":
                stored["status"] = {**(old.get("status") or {}), "phase": "Terminating"}
            elif kind.storage == DEFINITIONS:
                if first:
                    told = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
                    stored["status"] = self._terminating(old["status"], "InstanceDeletionPending", told)
            elif first or grace < metadata.get("deletionGracePeriodSeconds", 0):
                metadata["deletionGracePeriodSeconds"] = grace
        gone = not waits and (grace == 0 or not metadata.get("deletionTimestamp"))
        if options.dry_run:
            return stored, gone
        key = (namespace, name)
        if not gone:
            return (self.store.put(kind.storage, key, stored).body if stored != old else old), False
        if stored != old and kind.storage == "pods":
            # Watches see a pod marked before it goes.
            self.store.put(kind.storage, key, stored)
        return self._remove(kind, key).body, True

    def delete_all(self, kind: Kind) -> None:
        """Delete every object of a kind."""
        for (namespace, name), _ in list(self.store.scan(kind.storage)):
            self.delete(kind, namespace, name, DeleteOptions())

    def mark_terminating(self, kind: Kind, name: str) -> None:
        """Say in a definition's status that its objects are being deleted."""
        told = "CustomResource deletion is in progress"

        def change(shown: Obj) -> Obj:
            return {**shown, "status": self._terminating(shown["status"], "InstanceDeletionInProgress", told)}

        self._as_server(kind, name, change, "status")

    def _terminating(self, status: Obj, reason: str, message: str) -> Obj:
        entry = {"type": "Terminating", "status": "True", "lastTransitionTime": self.now()}
        entry.update({"reason": reason, "message": message})
        kept = [one for one in status.get("conditions") or [] if one["type"] != "Terminating"]
        return {**status, "conditions": [*kept, entry]}

    def drop_finalizer(self, kind: Kind, name: str) -> None:
        """Let a definition go whose objects are gone."""

        def change(shown: Obj) -> Obj:
            held = [one for one in shown["metadata"].get("finalizers") or [] if one != CLEANUP]
            return {**shown, "metadata": {**shown["metadata"], "finalizers": held}}

        self._as_server(kind, name, change, "")

    def _as_server(self, kind: Kind, name: str, change: Change, part: str) -> None:
        write = Write("kube-apiserver", self.now(), is_patch=True)
        self.update(kind, "", name, change, write, Warnings(), part)

    def _grace(self, kind: Kind, stored: Obj, options: DeleteOptions) -> int:
        """Seconds until the object goes; only pods that a node runs have any."""
        if kind.storage != "pods":
            return 0
        spec, metadata = stored["spec"], stored["metadata"]
        finished = stored.get("status", {}).get("phase") in ("Succeeded", "Failed")
        if not spec.get("nodeName") or (finished and options.grace is None and not metadata.get("deletionTimestamp")):
            return 0
        asked = options.grace if options.grace is not None else spec.get("terminationGracePeriodSeconds", 30)
        asked = 1 if asked < 0 else asked
        held = metadata.get("deletionGracePeriodSeconds")
        return min(asked, held) if held is not None else int(asked)

    def _may_go(self, kind: Kind, stored: Obj) -> bool:
        metadata = stored["metadata"]
        if metadata.get("finalizers") or (kind.storage == "namespaces" and _spec_finalizers(stored)):
            return False
        return not metadata.get("deletionGracePeriodSeconds")

    # --- allocation

    def _allocate_ip(self, asked: str, name: str) -> str:
        if asked:
            try:
                inside = ipaddress.ip_address(asked) in self._network
            except ValueError:
                inside = False
            if not inside or asked in self._taken:
                why = (
                    "provided IP is already allocated"
                    if inside
                    else ("the provided network does not match the current range")
                )
                told = f'Invalid value: ["{asked}"]: failed to allocate IP {asked}: {why}'
                raise errors.invalid("Service", "", name, [Cause("FieldValueInvalid", "spec.clusterIPs", told)])
            return asked
        size = self._network.num_addresses
        for _ in range(size):
            address = str(self._network[random.randrange(10, size - 1)])  # noqa: S311
            if address not in self._taken:
                return address
        raise errors.internal("no ClusterIP is free")

    def _allocate_port(self) -> int:
        taken = {
            port.get("nodePort")
            for _, entry in self.store.scan("services")
            for port in entry.body["spec"].get("ports", [])
        }
        return next(port for port in random.sample(range(30000, 32768), 2768) if port not in taken)


_NAMESPACE_DIFFERS = "the namespace of the provided object does not match the namespace sent on the request"


def check_name(metadata: Obj | None, name: str) -> None:
    """Raise 400 for a body that names another object than the URL."""
    given = (metadata or {}).get("name", name)
    if given != name:
        raise errors.bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")


def _status_metadata(kind: Kind, new: Obj, old: Obj) -> Obj:
    """What a status write may change in metadata: nothing of a custom object, labels and annotations of others."""
    if kind.custom:
        return dict(old)
    kept = ("annotations",) if kind.kind == "Deployment" else ("annotations", "labels")
    metadata = {name: value for name, value in old.items() if name not in kept}
    return {**metadata, **{name: new[name] for name in kept if name in new}}


def _spec_finalizers(body: Obj) -> list[str]:
    return list((body.get("spec") or {}).get("finalizers") or [])


def _content(kind: Kind, body: Obj) -> Obj:
    hidden = ("metadata", "status") if kind.status or not kind.custom else ("metadata",)
    return {name: value for name, value in body.items() if name not in hidden}


def _set_managed(metadata: Obj, managed: list[Obj] | None, before: Obj, *, owned: bool) -> None:
    """What a request says about managedFields: null keeps them, `[{}]` clears them."""
    if managed is None and not owned:
        managed = before.get("managedFields")
    entries = [entry for entry in managed or [] if entry.get("manager")]
    if entries:
        metadata["managedFields"] = entries


def _same_but_times(new: Obj, old: Obj) -> bool:
    """Whether only the times of managedFields differ: then nothing was written."""

    def stripped(metadata: Obj) -> Obj:
        entries = [{**entry, "time": ""} for entry in metadata.get("managedFields") or []]
        entries.sort(key=lambda entry: (entry.get("manager", ""), entry.get("operation", ""), str(entry)))
        return {**metadata, "managedFields": entries}

    # The content first: most writes differ there, and to compare owners costs more than all the rest.
    same = {**new, "metadata": None} == {**old, "metadata": None}
    return same and stripped(new["metadata"]) == stripped(old["metadata"])


def _keep_service_ips(stored: Obj, old: Obj) -> None:
    """A Service update that leaves out what the server allocated keeps it."""
    new, before = stored["spec"], old["spec"]
    if new.get("type", "ClusterIP") == "ExternalName":
        return
    for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if name in before:
            new.setdefault(name, before[name])
    ports = {(port.get("port"), port.get("protocol", "TCP")): port for port in before.get("ports", [])}
    for port in new.get("ports", []):
        held = ports.get((port.get("port"), port.get("protocol", "TCP")))
        if held and held.get("nodePort") and new.get("type") in ("NodePort", "LoadBalancer"):
            port.setdefault("nodePort", held["nodePort"])


def _pod_status(status: Obj) -> None:
    if status.get("podIP") and not status.get("podIPs"):
        status["podIPs"] = [{"ip": status["podIP"]}]


def _check_delete(kind: Kind, metadata: Obj, options: DeleteOptions) -> None:
    name = metadata["name"]
    if options.uid and options.uid != metadata["uid"]:
        why = (
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({metadata['uid']}). "
            "The object might have been deleted and then recreated"
        )
        raise errors.conflict(kind.kind, kind.group, name, why)
    if options.version and options.version != metadata["resourceVersion"]:
        why = (
            f"the ResourceVersion in the precondition ({options.version}) does not match the ResourceVersion "
            f"in record ({metadata['resourceVersion']}). The object might have been modified"
        )
        raise errors.conflict(kind.kind, kind.group, name, why)


def _finalizers_for(kind: Kind, metadata: Obj, policy: str) -> list[str]:
    """The finalizers by which a propagation policy waits for the garbage collector."""
    held = list(metadata.get("finalizers") or [])
    if not policy:
        return held
    kept = [one for one in held if one not in ("orphan", "foregroundDeletion")]
    if policy == "Orphan":
        return [*kept, "orphan"]
    return [*kept, "foregroundDeletion"] if policy == "Foreground" else kept
