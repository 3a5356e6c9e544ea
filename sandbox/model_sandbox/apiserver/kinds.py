"""Which kinds the server knows: the built-in ones of `data/kinds.yaml` and those of CustomResourceDefinitions.

The registry answers the HTTP layer's question "what is this path about" and discovery's "what is there".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from model_sandbox.apiserver.errors import Obj, qualified
from model_sandbox.apiserver.schema import Node
from model_sandbox.apiserver.types import Types, load_types, load_yaml

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
        return kind if kind.custom else next(one for one in self.kinds.values() if one.storage == kind.storage)

    def versions(self) -> dict[str, list[str]]:
        """The versions of every group, preferred first."""
        groups: dict[str, set[str]] = {}
        for kind in self.kinds.values():
            groups.setdefault(kind.group, set()).add(kind.version)
        return {group: sorted(versions, key=version_rank, reverse=True) for group, versions in groups.items()}

    def is_builtin(self, group: str) -> bool:
        """Whether a group comes with the server."""
        return any(kind.group == group and not kind.custom for kind in self.kinds.values())

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
    data = load_yaml("kinds.yaml")
    registry = Registry(load_types(), data["subresources"])
    for part, verbs in (("kinds", STORED_VERBS), ("reviews", ("create",))):
        for entry in data[part]:
            node, storage = registry.types.node(entry["type"]), qualified(entry["plural"], entry["group"])
            values = {
                "singular": entry["kind"].lower(),
                "list_kind": f"{entry['kind']}List",
                "storage": storage if part == "kinds" else "",
                "verbs": verbs,
                **{name: tuple(one) if isinstance(one, list) else one for name, one in entry.items() if name != "type"},
                "node": node,
            }
            registry.add(Kind(**values))
    return registry
