"""The namespace controller: gives each namespace its default ServiceAccount and empties those that are deleted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from model_sandbox.cache import Resource
from model_sandbox.client import Client, Obj
from model_sandbox.controllers.base import ACCOUNTS, NAMESPACES, World, status_of, with_condition

# What goes wrong on a cluster alone, where parts of the API may be out of reach.
_ALWAYS = (
    ("DeletionDiscoveryFailure", False, "ResourcesDiscovered", "All resources successfully discovered"),
    ("DeletionGroupVersionParsingFailure", False, "ParsedGroupVersions", "All legacy kube types successfully parsed"),
    (
        *("DeletionContentFailure", False, "ContentDeleted"),
        "All content successfully deleted, may be waiting on finalization",
    ),
)


async def discover(client: Client) -> list[Resource]:
    """Every kind that can be listed, watched and deleted, one version of each."""
    groups = (await client.send("GET", "/apis")).get("groups") or []
    versions = [group["preferredVersion"]["groupVersion"] for group in groups if group["name"] != "events.k8s.io"]
    found = []
    for version, path in [("v1", "/api/v1"), *((one, f"/apis/{one}") for one in versions)]:
        for entry in (await client.get(path) or {}).get("resources") or []:
            if {"list", "watch", "delete"} <= set(entry.get("verbs") or ()) and "/" not in entry["name"]:
                found.append(Resource(version, entry["name"], entry["kind"], entry["namespaced"]))
    return found


async def reconcile(world: World, namespace: Obj) -> float | None:
    """One namespace."""
    name = namespace["metadata"]["name"]
    if namespace["metadata"].get("deletionTimestamp"):
        return await _empty(world, namespace, name) if (namespace.get("spec") or {}).get("finalizers") else None
    if world[ACCOUNTS].get(name, "default") is None:
        # One that is there already is a conflict, which is tried again when the cache knows better.
        await world.create(ACCOUNTS, {"metadata": {"name": "default", "namespace": name}})
    return None


async def _empty(world: World, namespace: Obj, name: str) -> float | None:
    left: dict[str, list[Obj]] = {}
    for resource in await discover(world.client):
        if not resource.namespaced:
            continue
        items = await _items(world.client, resource, name)
        if any(not item["metadata"].get("deletionTimestamp") for item in items):
            await world.client.delete(resource.path(name))
            items = await _items(world.client, resource, name)
        if items:
            left[resource.plural] = items
    conditions = before = status_of(namespace).get("conditions") or []
    for kind, state, reason, message in [*_ALWAYS, *_remaining(left)]:
        conditions = with_condition(conditions, f"Namespace{kind}", state, reason, message, now=datetime.now(UTC))
    if conditions != before:
        await world.merge(NAMESPACES, ("", name), {"status": {"conditions": conditions}}, "status")
    if left:
        return 0.3
    await world.client.send("PUT", NAMESPACES.path("", name, "finalize"), {**namespace, "spec": {}})
    return None


async def _items(client: Client, resource: Resource, namespace: str) -> list[Obj]:
    return (await client.get(resource.path(namespace)) or {}).get("items") or []


def _remaining(left: dict[str, list[Obj]]) -> Iterable[tuple[str, bool, str, str]]:
    """What is left of a namespace, and by whose finalizers."""
    counts = ", ".join(f"{plural}. has {len(found)} resource instances" for plural, found in left.items())
    held = Counter(one for found in left.values() for item in found for one in item["metadata"].get("finalizers") or [])
    holders = ", ".join(f"{one} in {count} resource instances" for one, count in held.items())
    if left:
        yield "ContentRemaining", True, "SomeResourcesRemain", f"Some resources are remaining: {counts}"
    else:
        yield "ContentRemaining", False, "ContentRemoved", "All content successfully removed"
    if held:
        told = f"Some content in the namespace has finalizers remaining: {holders}"
        yield "FinalizersRemaining", True, "SomeFinalizersRemain", told
    else:
        yield "FinalizersRemaining", False, "ContentHasNoFinalizers", "All content-preserving finalizers finished"
