"""What of an object a write may change, and what stays as it was. Pure; `resources.py` writes."""

from __future__ import annotations

from typing import Any

from model_sandbox.apiserver import admission, errors
from model_sandbox.apiserver.errors import Cause, Obj, bad_request, conflict
from model_sandbox.apiserver.kinds import Kind
from model_sandbox.apiserver.requests import Write
from model_sandbox.apiserver.store import Key

NAMESPACE_DIFFERS = "the namespace of the provided object does not match the namespace sent on the request"


def check_name(metadata: Any, name: str) -> None:
    """Raise 400 for a body that names another object than the URL. Metadata of another type is told by who reads it."""
    given = metadata.get("name", name) if isinstance(metadata, dict) else name
    if given != name:
        raise bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")


def may_go(kind: Kind, stored: Obj) -> bool:
    """Whether nothing holds an object that is being deleted."""
    metadata, spec = stored["metadata"], stored.get("spec") or {}
    held = metadata.get("finalizers") or (kind.storage == "namespaces" and spec.get("finalizers"))
    return not held and not metadata.get("deletionGracePeriodSeconds")


def place(kind: Kind, metadata: Obj, namespace: str) -> None:
    """Put an object into the namespace of the URL. Raises 400 when it names another one."""
    if not kind.namespaced:
        metadata.pop("namespace", None)
    elif metadata.get("namespace", namespace) not in (namespace, ""):
        raise bad_request(NAMESPACE_DIFFERS)
    else:
        metadata["namespace"] = namespace


def reset(kind: Kind, part: str) -> set[str]:
    """The members that an endpoint does not write, for field ownership."""
    if part == "status":
        return {"f:spec", "f:metadata"}
    return {"f:status"} if kind.status else set()


def part_of(kind: Kind, stored: Obj, old: Obj, part: str) -> Obj:
    """The object with what this endpoint takes from the request, the rest as it was."""
    if part == "status":
        # A status write may change labels and annotations of a built-in object, nothing of a custom one's metadata.
        open_ = () if kind.custom else ("annotations",) if kind.kind == "Deployment" else ("annotations", "labels")
        metadata = {name: value for name, value in old["metadata"].items() if name not in open_}
        metadata |= {name: stored["metadata"][name] for name in open_ if name in stored["metadata"]}
        status = {"status": stored["status"]} if "status" in stored else {}
        return {**{name: value for name, value in old.items() if name != "status"}, "metadata": metadata, **status}
    if kind.status:
        stored.pop("status", None)
        stored |= {"status": old["status"]} if "status" in old else {}
    if not kind.custom and part != "finalize":
        admission.keep(kind.kind, stored, old)
    return stored


def check_preconditions(kind: Kind, key: Key, metadata: Obj, before: Obj, write: Write) -> None:
    """Raise 409 for a write that was meant for another version, or another object of the name."""
    version, uid = metadata.get("resourceVersion"), metadata.get("uid")
    if version and version != before["resourceVersion"]:
        raise conflict(kind.plural, kind.group, key[1])
    if not version and kind.custom and not write.is_patch:
        told = "Invalid value: 0: must be specified for an update"
        cause = Cause("FieldValueInvalid", "metadata.resourceVersion", told)
        raise errors.invalid(kind.plural, kind.group, key[1], [cause])
    if uid and uid != before["uid"] and not write.is_patch:
        where = f"Key: /registry/{kind.plural}/{key[0]}/{key[1]}, ResourceVersion: 0"
        why = (
            f"StorageError: invalid object, Code: 4, {where}, AdditionalErrorMsg: Precondition failed: "
            f"UID in precondition: {uid}, UID in object meta: {before['uid']}"
        )
        raise conflict(kind.plural, kind.group, key[1], why)


def is_new_generation(kind: Kind, stored: Obj, old: Obj) -> bool:
    """Whether more changed than metadata and status."""
    hidden = ("metadata", "status") if kind.status or not kind.custom else ("metadata",)
    names = {*stored, *old}.difference(hidden)
    notes = kind.kind == "Deployment" and kind.group == "apps"  # whose annotations count
    return any(stored.get(name) != old.get(name) for name in names) or (
        notes and stored["metadata"].get("annotations") != old["metadata"].get("annotations")
    )


def same_but_times(new: Obj, old: Obj) -> bool:
    """Whether only the times of managedFields differ: then nothing was written."""

    def stripped(metadata: Obj) -> Obj:
        entries = [{**entry, "time": ""} for entry in metadata.get("managedFields") or []]
        entries.sort(key=lambda entry: (entry.get("manager", ""), entry.get("operation", ""), str(entry)))
        return {**metadata, "managedFields": entries}

    # The content first: most writes differ there, and to compare owners costs more than all the rest.
    same = {**new, "metadata": None} == {**old, "metadata": None}
    return same and stripped(new["metadata"]) == stripped(old["metadata"])
