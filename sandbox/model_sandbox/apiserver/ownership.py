"""Who owns which field: `metadata.managedFields`, plain updates and server-side apply.

The API server calls `after_update` for every write and `apply` for an apply patch. Both are pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from model_sandbox.apiserver import fieldsets
from model_sandbox.apiserver.errors import ApiError, Cause, Obj
from model_sandbox.apiserver.fieldsets import Path
from model_sandbox.apiserver.schema import Node

_UNOWNED = {"f:apiVersion", "f:kind"}
_UNOWNED_META = re.compile(
    "f:(name|namespace|uid|creationTimestamp|deletionTimestamp|deletionGracePeriodSeconds|generation|resourceVersion"
    "|managedFields|selfLink|generateName)"
)


@dataclass(frozen=True, slots=True)
class Manager:
    """The identity of a managedFields entry."""

    name: str
    operation: str  # Apply | Update
    api_version: str
    subresource: str = ""

    def __str__(self) -> str:
        """The manager as conflicts name it."""
        part = f' with subresource "{self.subresource}"' if self.subresource else ""
        return f'"{self.name}"{part}' + (f" using {self.api_version}" if self.operation == "Update" else "")


@dataclass(slots=True)
class Owned:
    """What one manager owns, and since when."""

    paths: set[Path]
    time: str | None


Ownership = dict[Manager, Owned]


def parse(entries: list[Obj] | None) -> Ownership:
    """The managers of an object; none when a client wrote what cannot be read."""
    owners: Ownership = {}
    for entry in entries or []:
        if entry.get("fieldsV1"):
            identity = (entry.get(name, "") for name in ("manager", "operation", "apiVersion", "subresource"))
            try:
                owners[Manager(*identity)] = Owned(fieldsets.parse_fields(entry["fieldsV1"]), entry.get("time"))
            except AttributeError:  # a value where an object of paths should be
                return {}
    return owners


def render(owners: Ownership) -> list[Obj]:
    """The managedFields of an object: apply entries first, then by time and name."""
    entries = []
    for manager, owned in sorted(owners.items(), key=lambda one: (one[0].operation, one[1].time or "", one[0].name)):
        entry = {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": manager.api_version,
            "time": owned.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": fieldsets.format_fields(owned.paths),
            "subresource": manager.subresource,
        }
        entries.append({name: value for name, value in entry.items() if value})
    return entries


def _ownable(paths: set[Path], reset: set[str]) -> set[Path]:
    """The paths that can have an owner: what the server itself sets has none."""
    hidden = _UNOWNED | reset
    return {
        path
        for path in paths
        if path
        and path[0] not in hidden
        and (path[0] != "f:metadata" or (len(path) > 1 and not _UNOWNED_META.fullmatch(path[1])))
    }


def after_update(
    node: Node, old: Obj, new: Obj, owners: Ownership, manager: Manager, *, reset: set[str], now: str
) -> Ownership:
    """The owners after a write that was no apply: the writer takes what it changed.

    `reset` names the top-level members (`f:status`) that this endpoint does not write.
    """
    changed, removed = fieldsets.compare(node, old, new)
    before = owners.get(manager)
    result = _taken(owners, manager, changed | removed)
    result.pop(manager, None)
    paths = _ownable((before.paths - removed if before else set()) | changed, reset)
    if paths:
        same = before is not None and before.paths == paths
        result[manager] = Owned(paths, before.time if before is not None and same else now)
    return result


def _taken(owners: Ownership, manager: Manager, paths: set[Path]) -> Ownership:
    """The owners after a manager took paths from the others."""
    result = {one: owned if one == manager else Owned(owned.paths - paths, owned.time) for one, owned in owners.items()}
    return {one: owned for one, owned in result.items() if owned.paths}


def apply(
    node: Node,
    live: Obj,
    applied: Obj,
    owners: Ownership,
    manager: Manager,
    *,
    reset: set[str],
    force: bool,
    now: str,
) -> tuple[Obj, Ownership]:
    """The merged object and its owners.

    Raises ApiError 409 when others own what changes, and ListKeyError for a broken list map.
    """
    mine = _ownable(fieldsets.paths_of(node, applied, check=True), reset)
    config = {key: value for key, value in applied.items() if f"f:{key}" not in reset}
    merged: Obj = fieldsets.merge(node, live, config)
    before = owners.get(manager)
    updated = {**owners, manager: Owned(mine, before.time if before else None)}
    if before is not None and not before.paths <= mine:
        merged = _prune(node, merged, before.paths, updated)
    changed, removed = fieldsets.compare(node, live, merged)
    changed = _ownable(changed, set())
    held = {one: owned.paths & changed for one, owned in owners.items() if one != manager}
    conflicts = {one: paths for one, paths in held.items() if paths}
    if conflicts and not force:
        raise _conflict(conflicts)
    result = _taken(updated, manager, changed | removed)
    if manager in result and live != merged:
        result[manager] = Owned(mine, now)
    return merged, result


def _prune(node: Node, merged: Obj, last: set[Path], owners: Ownership) -> Obj:
    """Take away what the manager applied before and nobody applies any more."""

    def named(value: Obj) -> set[Path]:
        return fieldsets.with_named(fieldsets.paths_of(node, value), node)

    last = fieldsets.with_named(last, node)
    managed = fieldsets.with_named(set().union(*(owned.paths for owned in owners.values())), node)
    everything, left = named(merged), named(fieldsets.remove(node, merged, last))
    left = named(fieldsets.remove(node, merged, everything - left - managed))
    result: Obj = fieldsets.remove(node, merged, (everything - left) & last)
    return result


def _conflict(conflicts: dict[Manager, set[Path]]) -> ApiError:
    shown = {one: sorted(map(fieldsets.show, conflicts[one])) for one in sorted(conflicts, key=lambda one: one.name)}
    causes = [Cause("FieldManagerConflict", text, f"conflict with {one}") for one in shown for text in shown[one]]
    told = f" conflict: {causes[0].message}: {causes[0].field}"
    if len(causes) > 1:
        lines = (line for one in shown for line in (f"conflicts with {one}:", *(f"- {text}" for text in shown[one])))
        told = " conflicts: " + "\n".join(lines)
    return ApiError(409, "Conflict", f"Apply failed with {len(causes)}{told}", causes=causes)
