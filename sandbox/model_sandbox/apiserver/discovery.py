"""What the server serves: plain and aggregated discovery, and the OpenAPI v3 documents kubectl asks for."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

from model_sandbox.apiserver.errors import Obj
from model_sandbox.apiserver.kinds import Kind, Registry
from model_sandbox.apiserver.schema import Node, Shape

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_PART_VERBS = ["get", "patch", "update"]
_SCALE = {"group": "autoscaling", "version": "v1", "kind": "Scale"}


def document(registry: Registry, parts: list[str], host: str) -> Obj | None:
    """What stands at `/api`, `/apis`, `/apis/GROUP` or a group's version; None when nothing does."""
    core, versions = parts[0] == "api", registry.versions()
    if len(parts) == 1 and core:
        address = {"clientCIDR": "0.0.0.0/0", "serverAddress": host}
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [address]}
    groups = {
        name: {"name": name, "versions": listed, "preferredVersion": listed[0]}
        for name, found in versions.items()
        if (listed := [{"groupVersion": f"{name}/{version}", "version": version} for version in found])
    }
    if len(parts) == 1:
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [groups[name] for name in groups if name]}
    group, rest = ("", parts[1:]) if core else (parts[1], parts[2:])
    if group not in versions or len(rest) > 1 or (rest and rest[0] not in versions[group]):
        return None
    if rest:
        return _resource_list(registry, group, rest[0])
    return {"kind": "APIGroup", "apiVersion": "v1", **groups[group]}


def _storage_hash(registry: Registry, kind: Kind) -> str:
    """The hash by which clients notice that the stored version changed."""
    stored = registry.storage_kind(kind)
    # Kubernetes still stores definitions in their first version.
    version = "v1beta1" if kind.group == "apiextensions.k8s.io" else stored.version
    text = f"{stored.group}/{version}/{stored.kind}"
    return base64.b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()


def _parts(registry: Registry, kind: Kind) -> Iterator[tuple[str, Obj]]:
    """The subresources of a kind: name, and group, version, kind, verbs."""
    if kind.status:
        yield "status", {"kind": kind.kind, "verbs": _PART_VERBS}
    if kind.scale is not None:
        yield "scale", {**_SCALE, "verbs": _PART_VERBS}
    for path, entry in registry.subresources.items():
        plural, _, name = path.partition("/")
        if plural == kind.plural and not kind.group:
            yield name, {key: value for key, value in entry.items() if key != "left_out"}


def _other_names(kind: Kind) -> Obj:
    names = {"shortNames": list(kind.short), "categories": list(kind.categories)}
    return {name: value for name, value in names.items() if value}


def _resource_list(registry: Registry, group: str, version: str) -> Obj:
    found = []
    for kind in registry.of(group, version):
        entry: Obj = {
            "name": kind.plural,
            "singularName": kind.singular,
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": list(kind.verbs),
            **_other_names(kind),
        }
        if kind.storage:
            entry["storageVersionHash"] = _storage_hash(registry, kind)
        found.append(entry)
        for name, part in _parts(registry, kind):
            found.append({"name": f"{kind.plural}/{name}", "singularName": "", "namespaced": kind.namespaced, **part})
    api_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": found}


def aggregated(registry: Registry, *, core: bool) -> Obj:
    """`/api` or `/apis` in the aggregated form."""
    items = []
    for name, versions in registry.versions().items():
        if bool(name) is core:
            continue
        listed = [
            {
                "version": version,
                "resources": [_aggregated_kind(registry, kind) for kind in registry.of(name, version)],
                "freshness": "Current",
            }
            for version in versions
        ]
        items.append({"metadata": {"name": name} if name else {}, "versions": listed})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _aggregated_kind(registry: Registry, kind: Kind) -> Obj:
    own = {"group": kind.group, "version": kind.version} if kind.custom else {"group": "", "version": ""}
    parts = []
    for name, part in _parts(registry, kind):
        shown: Obj = {**own, **{key: part[key] for key in ("group", "version", "kind") if key in part}}
        parts.append({"subresource": name, "responseKind": shown, "verbs": part["verbs"]})
    return {
        "resource": kind.plural,
        "responseKind": {**own, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(kind.verbs),
        **_other_names(kind),
        **({"subresources": parts} if parts else {}),
    }


# --- OpenAPI


def openapi_index(registry: Registry, prefix: str) -> Obj:
    """`/openapi/v3` of a server that is reached below `prefix`.

    The hash lets kubectl keep a document until the kinds change.
    """
    paths = {}
    for name, versions in registry.versions().items():
        for version in versions:
            path = f"apis/{name}/{version}" if name else f"api/{version}"
            kinds = [(kind.plural, id(kind)) for kind in registry.of(name, version)]
            digest = hashlib.sha256(repr(kinds).encode()).hexdigest()[:32].upper()
            paths[path] = {"serverRelativeURL": f"{prefix}/openapi/v3/{path}?hash={digest}"}
    return {"paths": paths}


def openapi_document(registry: Registry, name: str, version: str) -> Obj | None:
    """`/openapi/v3/apis/GROUP/VERSION`: the PATCH operations and the schemas; None when nothing is served."""
    kinds = registry.of(name, version)
    paths: Obj = {}
    schemas: Obj = {}
    base = f"/apis/{name}/{version}" if name else f"/api/{version}"
    for kind in kinds:
        gvk = {"group": kind.group, "version": kind.version, "kind": kind.kind}
        scope = "/namespaces/{namespace}" if kind.namespaced else ""
        get = {"x-kubernetes-group-version-kind": gvk, "responses": {"200": {"description": "OK"}}}
        medias = _PATCHES[: 3 if kind.custom else None]
        content: Obj = {f"application/{media}": {"schema": {}} for media in medias}
        patch = {**get, "parameters": _PARAMETERS, "requestBody": {"content": content}}
        paths[f"{base}{scope}/{kind.plural}/{{name}}"] = {"get": get, "patch": patch}
        schema = _schema(kind.node, schemas, root=True)
        properties = schema.get("properties", {})
        if "metadata" in kind.node.fields:
            reference = _reference(registry.types.node("ObjectMeta"), schemas)
            told = "Standard object's metadata."
            properties = {**properties, "metadata": {"allOf": [reference], "description": told, "default": {}}}
        schema["properties"] = {
            "apiVersion": {"type": "string", "description": "The API group and version of the object."},
            "kind": {"type": "string", "description": "The type of the object."},
            **properties,
        }
        if kind.custom:
            schema["description"] = kind.node.openapi.get("description", "")
        schemas[_schema_name(kind)] = {**schema, "x-kubernetes-group-version-kind": [gvk]}
    info = {"title": "Kubernetes", "version": "unversioned"}
    body = {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}
    return body if kinds else None


def _schema_name(kind: Kind) -> str:
    if kind.custom:
        return ".".join([*reversed(kind.group.split(".")), kind.version, kind.kind])
    return f"{_package(kind.node)}.{kind.kind}"


def _package(node: Node) -> str:
    package = node.go_type.replace("/", ".")
    meta = package.endswith(".meta.v1")
    return package.replace("io.k8s.", "io.k8s.apimachinery.pkg.apis." if meta else "io.k8s.api.")


def _reference(node: Node, schemas: Obj) -> Obj:
    name = f"{_package(node)}.{node.type_name.rpartition('_')[2]}"
    if name not in schemas:
        schemas[name] = {}
        schemas[name] = _schema(node, schemas, root=True)
    return {"$ref": f"#/components/schemas/{name}"}


def _schema(node: Node, schemas: Obj, *, root: bool = False) -> Obj:
    """A node as OpenAPI. Custom ones are shown as they were written."""
    if not node.strict and node.openapi:
        return dict(node.openapi)
    if node.shape is Shape.OBJECT and node.type_name and not root:
        return {"allOf": [_reference(node, schemas)], "default": {}}
    result: dict[str, Any] = dict(_SIMPLE[node.shape])
    if node.shape is Shape.OBJECT:
        result["properties"] = {name: _schema(sub, schemas) for name, sub in node.fields.items()}
    if node.items is not None:
        result["items" if node.shape is Shape.LIST else "additionalProperties"] = _schema(node.items, schemas)
    more = {
        "required": [name for name, sub in node.fields.items() if sub.required],
        "x-kubernetes-list-type": "map" if node.keys else "",
        "x-kubernetes-list-map-keys": list(node.keys),
        "x-kubernetes-patch-strategy": "merge" if node.merge else "",
        "x-kubernetes-patch-merge-key": node.merge_key,
        "enum": list(node.enum),
    }
    result.update({name: value for name, value in more.items() if value})
    if node.has_default and node.shape is not Shape.OBJECT:
        result["default"] = node.default
    return result


_SIMPLE: dict[Shape, Obj] = {
    **{shape: {"type": "object"} for shape in (Shape.OBJECT, Shape.MAP, Shape.ANY)},
    **{shape: {"type": str(shape)} for shape in (Shape.STRING, Shape.INTEGER, Shape.NUMBER, Shape.BOOLEAN)},
    Shape.LIST: {"type": "array"},
    Shape.BYTES: {"type": "string", "format": "byte"},
    Shape.QUANTITY: {"type": "string"},
    Shape.TIME: {"type": "string", "format": "date-time"},
    Shape.INT_OR_STRING: {"type": "string", "format": "int-or-string"},
}
_PATCHES = ("json-patch+json", "merge-patch+json", "apply-patch+yaml", "strategic-merge-patch+json")
_PARAMETERS = [
    {"name": name, "in": "query", "description": told, "schema": {"type": kind, "uniqueItems": True}}
    for name, told, kind in (
        ("dryRun", "All: the request is checked and answered, nothing is stored.", "string"),
        ("fieldManager", "Who makes the change, for managedFields. Required for apply.", "string"),
        ("fieldValidation", "Strict, Warn or Ignore: what to do about unknown and duplicate fields.", "string"),
        ("force", "Apply only: take over fields that others own.", "boolean"),
    )
]
