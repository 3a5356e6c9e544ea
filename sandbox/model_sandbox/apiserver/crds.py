"""CustomResourceDefinitions: checked, established, served.

A stored definition becomes kinds in the registry; its objects are checked by the validators kept here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from model_sandbox.apiserver.errors import Cause, Obj, invalid_value, not_supported, required
from model_sandbox.apiserver.kinds import Kind, Registry
from model_sandbox.apiserver.schema import Node, Shape, from_openapi
from model_sandbox.apiserver.store import Store
from model_sandbox.apiserver.validation import Validator, check_schema

DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
_SCHEMA = "spec.validation.openAPIV3Schema"
# In the order in which the API server names the verbs of a custom kind.
_VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
_ROOT_METADATA = ("name", "generateName")


@dataclass(slots=True)
class Definitions:
    """The custom kinds that are served, by definition name."""

    registry: Registry
    store: Store
    _validators: dict[Kind, Validator] = field(default_factory=dict)
    _served: dict[str, list[Kind]] = field(default_factory=dict)

    def causes(self, body: Obj, old: Obj | None) -> list[Cause]:
        """What is wrong with a definition."""
        spec, name = body["spec"], body["metadata"].get("name", "")
        names = spec.get("names", {})
        causes: list[Cause] = []
        if name != f"{names.get('plural', '')}.{spec.get('group', '')}":
            causes.append(invalid_value("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
        if names.get("kind", "") == "" and not names.get("listKind"):
            causes.append(required("spec.names.listKind"))
        if spec.get("scope") and spec["scope"] not in ("Cluster", "Namespaced"):
            causes.append(not_supported("spec.scope", spec["scope"], ["Cluster", "Namespaced"]))
        if (spec.get("conversion") or {}).get("strategy", "None") != "None":
            given = spec["conversion"]["strategy"]
            causes.append(not_supported("spec.conversion.strategy", given, ["None"]))
        versions = spec.get("versions") or []
        if sum(bool(version.get("storage")) for version in versions) != 1:
            why = "must have exactly one version marked as storage version"
            causes.append(invalid_value("spec.versions", [one.get("name") for one in versions], why))
            if not any(version.get("storage") for version in versions):
                causes.append(invalid_value("status.storedVersions", None, "must have at least one stored version"))
        for index, version in enumerate(versions):
            causes += _version_causes(version, f"spec.versions[{index}]")
        if old is not None:
            before = old["spec"]
            for label, new_value, old_value in (
                ("spec.scope", spec.get("scope"), before.get("scope")),
                ("spec.group", spec.get("group"), before.get("group")),
                ("spec.names.plural", names.get("plural"), before["names"].get("plural")),
                ("spec.names.kind", names.get("kind"), before["names"].get("kind")),
            ):
                if new_value != old_value:
                    causes.append(invalid_value(label, new_value, "field is immutable"))
        return causes

    def check(self, kind: Kind, body: Obj, old: Obj | None) -> list[Cause]:
        """What a custom kind's schema has against an object."""
        validator = self._validators[kind]
        causes = validator.check(_for_rules(kind, body), _for_rules(kind, old) if old else None)
        path = (kind.scale or {}).get("specReplicasPath")
        if path:
            causes = [*causes, *_scale_causes(body, path)]
        return causes

    def establish(self, body: Obj, now: str) -> Obj | None:
        """Serve what a stored definition defines; the answer is its new status, or None if that stays."""
        name = body["metadata"]["name"]
        if body["metadata"].get("deletionTimestamp"):
            return None
        self._stop(name)
        served = []
        for version in body["spec"]["versions"]:
            if version.get("served"):
                kind = self._kind(body, version)
                served.append(kind)
                self.registry.add(kind)
        self._served[name] = served
        return _established(body, now)

    def retire(self, body: Obj) -> None:
        """Stop serving a definition that is gone."""
        for kind in self._stop(body["metadata"]["name"]):
            self.store.drop(kind.storage)

    def _stop(self, name: str) -> list[Kind]:
        kinds = self._served.pop(name, [])
        for kind in kinds:
            self.registry.remove(kind)
            self._validators.pop(kind, None)
        return kinds

    def is_terminating(self, kind: Kind) -> bool:
        """Whether a kind's definition is being deleted."""
        entry = self.store.get(DEFINITIONS, ("", kind.storage))
        return entry is not None and bool(entry.body["metadata"].get("deletionTimestamp"))

    def served(self, name: str) -> list[Kind]:
        """The kinds of a definition."""
        return self._served.get(name, [])

    def _kind(self, body: Obj, version: Obj) -> Kind:
        spec, names = body["spec"], body["spec"]["names"]
        metadata = self.registry.types.node("ObjectMeta")
        node = from_openapi(version["schema"]["openAPIV3Schema"], metadata)
        subresources = version.get("subresources") or {}
        resource = f"{names['plural']}.{spec['group']}"

        kind = Kind(
            group=spec["group"],
            version=version["name"],
            kind=names["kind"],
            plural=names["plural"],
            node=node,
            singular=names.get("singular", ""),
            list_kind=names["listKind"],
            namespaced=spec["scope"] == "Namespaced",
            short=tuple(names.get("shortNames") or ()),
            categories=tuple(names.get("categories") or ()),
            storage=resource,
            status="status" in subresources,
            scale=subresources.get("scale"),
            generation=True,
            custom=True,
            columns=tuple(version.get("additionalPrinterColumns") or ()),
            fields=tuple(one["jsonPath"].lstrip(".") for one in version.get("selectableFields") or ()),
            warning=_deprecation(spec, version),
            verbs=_VERBS,
        )
        validator = Validator(node)
        validator.compile()
        self._validators[kind] = validator
        return kind


def _established(body: Obj, now: str) -> Obj | None:
    names, status = body["spec"]["names"], dict(body.get("status") or {})
    if status.get("acceptedNames") == names and status.get("conditions"):
        return None
    held = {one["type"]: one for one in status.get("conditions") or []}
    for name, reason, told in (
        ("NamesAccepted", "NoConflicts", "no conflicts found"),
        ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ):
        told_now = {"lastTransitionTime": now, "reason": reason, "message": told}
        held.setdefault(name, {"type": name, "status": "True", **told_now})
    return {**status, "acceptedNames": dict(names), "conditions": list(held.values())}


def _deprecation(spec: Obj, version: Obj) -> str:
    if not version.get("deprecated"):
        return ""
    told = f"{spec['group']}/{version['name']} {spec['names']['kind']} is deprecated"
    return str(version.get("deprecationWarning") or told)


def _for_rules(kind: Kind, body: Obj) -> Obj:
    """An object as rules see it: of metadata only the names."""
    metadata = {name: body["metadata"][name] for name in _ROOT_METADATA if name in body["metadata"]}
    return {**body, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}


def _scale_causes(body: Obj, path: str) -> list[Cause]:
    at: object = body
    for name in path.lstrip(".").split("."):
        if at is None:
            return []
        if not isinstance(at, dict):
            told = f"{path} accessor error: {at} is of the type string, expected map[string]interface{{}}"
            return [Cause("FieldValueInvalid", path, f"Invalid value: 0: {told}")]
        at = at.get(name)
    if isinstance(at, int) and at < 0:
        return [invalid_value(path, at, "should be a non-negative integer")]
    return []


def _version_causes(version: Obj, path: str) -> list[Cause]:
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if not schema:
        return [required(f"{path}.schema.openAPIV3Schema")]
    if not schema.get("type"):
        return [required(f"{_SCHEMA}.type", "must not be empty at the root")]
    if schema["type"] != "object":
        return [invalid_value(f"{_SCHEMA}.type", schema["type"], "must be object at the root")]
    node = from_openapi(schema, Node(Shape.OBJECT, fields={name: Node(Shape.STRING) for name in _ROOT_METADATA}))
    validator = Validator(node)
    validator.compile()
    return [*_structural_causes(schema, node, _SCHEMA), *validator.problems]


def _structural_causes(schema: Obj, node: Node, path: str) -> list[Cause]:
    """Where a schema is not structural, and defaults that it would refuse itself."""
    causes: list[Cause] = []
    typed = schema.get("type") or schema.get("x-kubernetes-int-or-string")
    if not typed and not schema.get("x-kubernetes-preserve-unknown-fields"):
        causes.append(required(f"{path}.type", "must not be empty for specified object fields"))
    if schema.get("type") == "array" and not schema.get("items"):
        causes.append(required(f"{path}.items", "must be specified"))
    if schema.get("x-kubernetes-list-type") == "map" and not schema.get("x-kubernetes-list-map-keys"):
        causes.append(
            required(f"{path}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map")
        )
    if "default" in schema:
        for cause in check_schema(node, schema["default"], ""):
            where = f"{path}.default{'.' if cause.field else ''}{cause.field}"
            causes.append(Cause(cause.reason, where, cause.message))
    for name, sub in (schema.get("properties") or {}).items():
        if name in node.fields and not (path == _SCHEMA and name == "metadata"):
            causes += _structural_causes(sub, node.fields[name], f"{path}.properties[{name}]")
    if node.items is not None and isinstance(schema.get("items"), dict):
        causes += _structural_causes(schema["items"], node.items, f"{path}.items")
    extra = schema.get("additionalProperties")
    if node.items is not None and isinstance(extra, dict):
        causes += _structural_causes(extra, node.items, f"{path}.additionalProperties")
    return causes
