"""Who owns which field: `metadata.managedFields`, plain updates and server-side apply.

The API server calls `after_update` for every write and `apply` for an apply patch. Both are pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from model_sandbox.apiserver import fieldsets
from model_sandbox.apiserver.errors import ApiError, Cause, Obj
from model_sandbox.apiserver.fieldsets import Path
from model_sandbox.apiserver.schema import Node

_UNOWNED_METADATA = (
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "resourceVersion",
    "managedFields",
    "selfLink",
    "generateName",
)
_UNOWNED_TOP = {"f:apiVersion", "f:kind"}
_UNOWNED_META = {f"f:{name}" for name in _UNOWNED_METADATA}


@dataclass(frozen=True, slots=True)
class Manager:
    """The identity of a managedFields entry."""

    name: str
    operation: str  # Apply | Update
    api_version: str
    subresource: str = ""


@dataclass(slots=True)
class Owned:
    """What one manager owns, and since when."""

    paths: set[Path]
    time: str | None


Ownership = dict[Manager, Owned]


def parse(entries: list[Obj] | None) -> Ownership:
    """The managers of an object. Entries without a manager count as none at all."""
    owners: Ownership = {}
    for entry in entries or []:
        if not entry.get("fieldsV1"):
            continue
        manager = Manager(
            entry.get("manager", ""),
            entry.get("operation", ""),
            entry.get("apiVersion", ""),
            entry.get("subresource", ""),
        )
        owners[manager] = Owned(fieldsets.parse_fields(entry["fieldsV1"]), entry.get("time"))
    return owners


def render(owners: Ownership) -> list[Obj]:
    """The managedFields of an object: apply entries first, then by time and name."""

    def place(item: tuple[Manager, Owned]) -> tuple[str, str, str]:
        return item[0].operation, item[1].time or "", item[0].name

    entries = []
    for manager, owned in sorted(owners.items(), key=place):
        entry: Obj = {"manager": manager.name, "operation": manager.operation}
        entry["apiVersion"] = manager.api_version
        if owned.time:
            entry["time"] = owned.time
        entry["fieldsType"] = "FieldsV1"
        entry["fieldsV1"] = fieldsets.format_fields(owned.paths)
        if manager.subresource:
            entry["subresource"] = manager.subresource
        entries.append(entry)
    return entries


def _is_owned(path: Path) -> bool:
    """Whether a path can have an owner: what the server itself sets has none."""
    if not path or path[0] in _UNOWNED_TOP:
        return False
    return path[0] != "f:metadata" or (len(path) > 1 and path[1] not in _UNOWNED_META)


def _ignore(paths: set[Path], reset: set[str]) -> set[Path]:
    return {path for path in paths if _is_owned(path) and path[0] not in reset}


def after_update(
    node: Node, old: Obj, new: Obj, owners: Ownership, manager: Manager, *, reset: set[str], now: str
) -> Ownership:
    """The owners after a write that was no apply: the writer takes what it changed.

    `reset` names the top-level members (`f:status`) that this endpoint does not write.
    """
    changed, removed = fieldsets.compare(node, old, new)
    mine = (owners[manager].paths if manager in owners else set()) - removed
    result = {one: owned for one, owned in _taken(owners, manager, changed, removed).items() if owned.paths}
    paths = _ignore(mine | changed, reset)
    if paths:
        before = owners.get(manager)
        same = before is not None and before.paths == paths
        result[manager] = Owned(paths, before.time if same and before else now)
    else:
        result.pop(manager, None)
    return result


def _taken(owners: Ownership, manager: Manager, changed: set[Path], removed: set[Path]) -> Ownership:
    return {
        one: owned if one == manager else Owned(owned.paths - changed - removed, owned.time)
        for one, owned in owners.items()
    }


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
    owned_by_config = _ignore(fieldsets.paths_of(node, applied, check=True), reset)
    config = {key: value for key, value in applied.items() if f"f:{key}" not in reset}
    merged = fieldsets.merge(node, live, config)
    before = owners.get(manager)
    updated = {**owners, manager: Owned(owned_by_config, before.time if before else None)}
    if before is not None and not before.paths <= owned_by_config:
        merged = _prune(node, merged, before.paths, updated)
    changed, removed = fieldsets.compare(node, live, merged)
    changed = {path for path in changed if _is_owned(path)}
    conflicts = {
        one: owned.paths & changed for one, owned in owners.items() if one != manager and owned.paths & changed
    }
    if conflicts and not force:
        raise _conflict(conflicts)
    result = {one: owned for one, owned in _taken(updated, manager, changed, removed).items() if owned.paths}
    if manager in result and live != merged:
        result[manager] = Owned(result[manager].paths, now)
    return merged, result


def _prune(node: Node, merged: Obj, last: set[Path], owners: Ownership) -> Obj:
    """Take away what the manager applied before and nobody applies any more."""
    last_named = fieldsets.with_named(last, node)
    pruned = fieldsets.remove(node, merged, last_named)
    everything = fieldsets.with_named(fieldsets.paths_of(node, merged), node)
    managed: set[Path] = set()
    for owned in owners.values():
        managed |= owned.paths
    managed = fieldsets.with_named(managed, node)
    left = fieldsets.with_named(fieldsets.paths_of(node, pruned), node)
    pruned = fieldsets.remove(node, merged, everything - left - managed)
    left = fieldsets.with_named(fieldsets.paths_of(node, pruned), node)
    result: Obj = fieldsets.remove(node, merged, (everything - left) & last_named)
    return result


def _conflict(conflicts: dict[Manager, set[Path]]) -> ApiError:
    causes = []
    for manager, paths in sorted(conflicts.items(), key=lambda item: item[0].name):
        who = _who(manager)
        causes += [
            Cause("FieldManagerConflict", text, f"conflict with {who}") for text in sorted(map(fieldsets.show, paths))
        ]
    count = len(causes)
    if count == 1:
        told = f"Apply failed with 1 conflict: {causes[0].message}: {causes[0].field}"
    else:
        lines: list[str] = []
        for manager in sorted(conflicts, key=lambda one: one.name):
            lines.append(f"conflicts with {_who(manager)}:")
            lines += [f"- {text}" for text in sorted(map(fieldsets.show, conflicts[manager]))]
        told = f"Apply failed with {count} conflicts: " + "\n".join(lines)
    return ApiError(409, "Conflict", told, causes=causes)


def _who(manager: Manager) -> str:
    text = f'"{manager.name}"'
    if manager.subresource:
        text += f' with subresource "{manager.subresource}"'
    if manager.operation == "Update":
        text += f" using {manager.api_version}"
    return text
