"""Secrets that the operator may read, as docs/teams.md shows; for tests of hooks in namespaces."""

from __future__ import annotations

from typing import Any

from modeldeploy.kube import Resource

SECRETS = Resource("", "v1", "secrets")
ROLES = Resource("rbac.authorization.k8s.io", "v1", "roles")
BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings")


def allow_secret(space: Any, name: str, content: dict[str, str]) -> None:
    """Make a Secret, and the Role of docs/teams.md with which the operator reads it."""
    group, operator = "rbac.authorization.k8s.io", {"kind": "ServiceAccount", "name": "modeldeploy"}
    metadata = {"name": name}
    space.kube.apply(SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": content})
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [name], "verbs": ["get"]}
    role = {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]}
    space.kube.apply(ROLES, role)
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
        "subjects": [{**operator, "namespace": "modeldeploy"}],
    }
    space.kube.apply(BINDINGS, binding)
