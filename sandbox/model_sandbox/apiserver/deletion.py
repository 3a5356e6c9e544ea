"""Deletes objects: preconditions, finalizers, grace periods, and definitions with all they define."""

from __future__ import annotations

import asyncio

from model_sandbox.apiserver import crds
from model_sandbox.apiserver.crds import CLEANUP, DEFINITIONS
from model_sandbox.apiserver.errors import Obj, conflict, forbidden
from model_sandbox.apiserver.kinds import Kind
from model_sandbox.apiserver.preserving import may_go
from model_sandbox.apiserver.requests import DeleteOptions
from model_sandbox.apiserver.resources import Resources
from model_sandbox.apiserver.store import Key

PROTECTED_NAMESPACES = ("default", "kube-system", "kube-public")
RETRY = 0.05  # seconds


def delete(resources: Resources, kind: Kind, key: Key, options: DeleteOptions) -> tuple[Obj, bool]:
    """Delete, or mark for deletion; the answer is the last body and whether it is gone."""
    old = resources.get(kind, key).body
    stored = {**old, "metadata": dict(old["metadata"])}
    metadata, is_definition = stored["metadata"], kind.storage == DEFINITIONS
    _check(kind, metadata, options)
    finalizers = _finalizers_for(metadata, options.policy)
    if is_definition and CLEANUP not in finalizers:
        finalizers = [*finalizers, CLEANUP]
    if finalizers != list(metadata.get("finalizers") or []):
        metadata["finalizers"] = finalizers
    grace, first = _grace(kind, stored, options), not metadata.get("deletionTimestamp")
    waits = not may_go(kind, {**stored, "metadata": {**metadata, "deletionGracePeriodSeconds": 0}})
    if waits or grace > 0 or kind.storage == "pods":
        if first:
            metadata["deletionTimestamp"] = resources.now()
            if metadata.get("generation") and not is_definition:
                metadata["generation"] += 1
        if kind.storage == "namespaces":
            stored["status"] = {**(old.get("status") or {}), "phase": "Terminating"}
        elif is_definition:
            if first:
                stored["status"] = crds.at_stage(old["status"], "marked", resources.now())
        elif first or grace < metadata.get("deletionGracePeriodSeconds", 0):
            metadata["deletionGracePeriodSeconds"] = grace
    gone = not waits and (grace == 0 or not metadata.get("deletionTimestamp"))
    if options.dry_run:
        return stored, gone
    # Watches see a pod marked before it goes.
    if stored != old and (not gone or kind.storage == "pods"):
        stored = resources.store.put(kind.storage, key, stored).body
    return (resources.remove(kind, key).body if gone else stored), gone


async def retire(resources: Resources, name: str) -> None:
    """Remove what a definition that is marked for deletion defines, then the definition."""
    store, served = resources.store, resources.definitions.served(name)
    is_used = any(kind.storage in store.shelves for kind in served)
    resources.report(name, "deleting")
    if served and not is_used:
        # The storage of a kind is set up by the first request for it, and this one comes before it is ready.
        resources.report(name, "waiting")
        await asyncio.sleep(RETRY)
    if served:
        changed, shelf = asyncio.Event(), store.shelf(served[0].storage)
        shelf.listeners.add(changed.set)
        for key, _ in list(store.scan(served[0].storage)):
            delete(resources, served[0], key, DeleteOptions())
        while shelf.entries:
            changed.clear()
            await changed.wait()
        shelf.listeners.discard(changed.set)

    def release(shown: Obj) -> Obj:
        held = [one for one in shown["metadata"].get("finalizers") or [] if one != CLEANUP]
        return {**shown, "metadata": {**shown["metadata"], "finalizers": held}}

    if store.get(DEFINITIONS, ("", name)) is not None:
        resources.as_server(name, release)


def _check(kind: Kind, metadata: Obj, options: DeleteOptions) -> None:
    name, told = metadata["name"], "the {0} in the precondition ({1}) does not match the {0} in record ({2}). {3}"
    if options.uid and options.uid != metadata["uid"]:
        why = told.format("UID", options.uid, metadata["uid"], "The object might have been deleted and then recreated")
        raise conflict(kind.kind, kind.group, name, why)
    version = metadata["resourceVersion"]
    if options.version and options.version != version:
        why = told.format("ResourceVersion", options.version, version, "The object might have been modified")
        raise conflict(kind.kind, kind.group, name, why)
    if kind.storage == "namespaces" and name in PROTECTED_NAMESPACES:
        raise forbidden("namespaces", "", name, "this namespace may not be deleted")


def _finalizers_for(metadata: Obj, policy: str) -> list[str]:
    """The finalizers by which a propagation policy waits for the garbage collector."""
    held = list(metadata.get("finalizers") or [])
    if not policy:
        return held
    kept = [one for one in held if one not in ("orphan", "foregroundDeletion")]
    return [*kept, *{"Orphan": ["orphan"], "Foreground": ["foregroundDeletion"]}.get(policy, [])]


def _grace(kind: Kind, stored: Obj, options: DeleteOptions) -> int:
    """Seconds until the object goes; only pods that a node runs have any."""
    if kind.storage != "pods":
        return 0
    spec, metadata = stored["spec"], stored["metadata"]
    finished = stored.get("status", {}).get("phase") in ("Succeeded", "Failed")
    if not spec.get("nodeName") or (finished and options.grace is None and not metadata.get("deletionTimestamp")):
        return 0
    asked = int(options.grace if options.grace is not None else spec.get("terminationGracePeriodSeconds", 30))
    asked = 1 if asked < 0 else asked
    return min(asked, int(metadata.get("deletionGracePeriodSeconds", asked)))
