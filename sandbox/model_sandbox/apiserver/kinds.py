"""Which kinds the server knows: the built-in ones of `data/kinds.yaml` and those of CustomResourceDefinitions.

The registry answers the HTTP layer's question "what is this path about" and discovery's "what is there".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import yaml

from model_sandbox.apiserver.errors import Obj, qualified
from model_sandbox.apiserver.schema import Node, Types, load_types

STORED_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kind:
    """One kind at one version."""

    group: str
    version: str
    kind: str
    plural: str
    node: Node
    singular: str = ""
    list_kind: str = ""
    namespaced: bool = True
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    storage: str = ""  # the shelf; shared by versions of one kind
    status: bool = False
    scale: Obj | None = None  # paths of a custom resource's scale; {} for a built-in one
    generation: bool = False
    custom: bool = False
    name_rule: str = "subdomain"
    answer: str = "status"  # what DELETE answers with
    fields: tuple[str, ...] = ()
    columns: tuple[Any, ...] = ()
    bare_columns: bool = False  # no Age column of its own
    warning: str = ""
    verbs: tuple[str, ...] = STORED_VERBS

    @property
    def api_version(self) -> str:
        """`apps/v1`, or `v1` in the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version


@dataclass(slots=True)
class Registry:
    """All kinds that are served now. A custom kind appears when its definition is established."""

    types: Types
    subresources: dict[str, Obj]
    kinds: dict[tuple[str, str, str], Kind] = field(default_factory=dict)  # group, version, plural

    def add(self, kind: Kind) -> None:
        """Serve a kind."""
        self.kinds[kind.group, kind.version, kind.plural] = kind

    def remove(self, kind: Kind) -> None:
        """Stop serving a kind."""
        self.kinds.pop((kind.group, kind.version, kind.plural), None)

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        """The kind behind a path."""
        return self.kinds.get((group, version, plural))

    def storage_kind(self, kind: Kind) -> Kind:
        """The version in which a kind is stored: the first one listed."""
        if kind.custom:
            return kind
        return next(one for one in self.kinds.values() if one.storage == kind.storage)

    def storage_node(self, kind: Kind) -> Node:
        """The schema of a kind's stored form."""
        return self.storage_kind(kind).node

    def versions(self) -> dict[str, list[str]]:
        """The versions of every group, preferred first."""
        groups: dict[str, list[str]] = {}
        for kind in self.kinds.values():
            versions = groups.setdefault(kind.group, [])
            if kind.version not in versions:
                versions.append(kind.version)
        return {group: sorted(versions, key=version_rank, reverse=True) for group, versions in groups.items()}

    def of(self, group: str, version: str) -> list[Kind]:
        """The kinds of one group version."""
        found = [kind for kind in self.kinds.values() if (kind.group, kind.version) == (group, version)]
        return sorted(found, key=lambda kind: kind.plural)


def version_rank(version: str) -> tuple[int, int, int]:
    """Kubernetes' order of versions: v2 > v1 > v1beta1 > v1alpha1 > anything else."""

    match = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)
    if match is None:
        return (0, 0, 0)
    major, stage, minor = match.groups()
    return ({None: 3, "beta": 2, "alpha": 1}[stage], int(major), int(minor or 0))


def builtin_registry() -> Registry:
    """The registry of a fresh server."""
    text = (resources.files("model_sandbox") / "data" / "kinds.yaml").read_text()
    data = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    registry = Registry(load_types(data["values"]), data["subresources"])
    for entry in data["kinds"]:
        registry.add(_builtin(registry.types, entry, stored=True))
    for entry in data["reviews"]:
        registry.add(_builtin(registry.types, entry, stored=False))
    return registry


def _builtin(types: Types, entry: Obj, *, stored: bool) -> Kind:
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
    values = {
        "singular": entry["kind"].lower(),
        "list_kind": f"{entry['kind']}List",
        "storage": qualified(entry["plural"], entry["group"]) if stored else "",
        "verbs": STORED_VERBS if stored else ("create",),
        **given,
        "node": types.node(entry["type"]),
    }
    return Kind(**{name: value for name, value in values.items() if name != "type"})
