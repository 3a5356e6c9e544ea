"""CustomResourceDefinitions: checked, established, served, and what their status says.

A stored definition becomes kinds in the registry; `resources.py` asks here before it stores or deletes one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from model_sandbox.apiserver import jsonpath
from model_sandbox.apiserver.approval import approval_causes, approval_condition
from model_sandbox.apiserver.defaults import apply_defaults
from model_sandbox.apiserver.errors import (
    Cause,
    Obj,
    forbidden_field,
    go_value,
    invalid_value,
    not_supported,
    required,
)
from model_sandbox.apiserver.kinds import Kind, Registry
from model_sandbox.apiserver.schema import JSON_TYPES, Node, decode, from_openapi
from model_sandbox.apiserver.store import Store
from model_sandbox.apiserver.validation import check, check_schema, compile_rules
from model_sandbox.cel.rules import RULES, Problem, check_rules

DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
# What all versions have in common the API server calls by names of its own, which its messages show.
_COMMON = {
    "schema": "validation",
    **{name: name for name in ("subresources", "additionalPrinterColumns", "selectableFields")},
}
# In the order in which the API server names the verbs of a custom kind.
_VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
_REASONS = tuple(f"FieldValue{one}" for one in ("Invalid", "Forbidden", "Required", "Duplicate"))  # that rules may give
_ROOT_METADATA = ("name", "generateName")
_NAMES_ACCEPTED = "the initial names have been accepted"
_MARKED = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
# What a definition's conditions say, stage by stage: type, status, reason, message.
STAGES = {
    "named": [
        ("NamesAccepted", "True", "NoConflicts", "no conflicts found"),
        ("Established", "False", "Installing", _NAMES_ACCEPTED),
    ],
    "established": [("Established", "True", "InitialNamesAccepted", _NAMES_ACCEPTED)],
    "renamed": [],
    "marked": [("Terminating", "True", "InstanceDeletionPending", _MARKED)],
    "deleting": [("Terminating", "True", "InstanceDeletionInProgress", "CustomResource deletion is in progress")],
    "waiting": [
        ("Terminating", "True", "InstanceDeletionFailed", "could not list instances: storage is (re)initializing")
    ],
}


def at_stage(status: Obj, stage: str, now: str) -> Obj:
    """A definition's status with the conditions of a stage."""
    held = {one["type"]: one for one in status.get("conditions") or []}
    for kind, value, reason, message in STAGES[stage]:
        entry = {"type": kind, "status": value, "lastTransitionTime": now, "reason": reason, "message": message}
        held[kind] = entry
    return {**status, "conditions": list(held.values())}


@dataclass(slots=True)
class Definitions:
    """The custom kinds that are served, by definition name."""

    registry: Registry
    store: Store
    _served: dict[str, list[Kind]] = field(default_factory=dict)
    _specs: dict[str, Obj] = field(default_factory=dict)
    _renewed: set[str] = field(default_factory=set)  # changed definitions, until the first request for their kind

    def establish(self, body: Obj) -> bool:
        """Serve what a stored definition defines; the answer is whether its status does not say so yet."""
        if body["metadata"].get("deletionTimestamp"):
            return False
        name, status = body["metadata"]["name"], body.get("status") or {}
        self._stop(name)
        versions = [version for version in body["spec"]["versions"] if version.get("served")]
        served = self._served[name] = [_kind(body["spec"], version, self.registry) for version in versions]
        for kind in served:
            self.registry.add(kind)
        if self._specs.get(name) != body["spec"]:
            self._renew(name, body["spec"])
        told = status.get("conditions") or []
        named = status.get("acceptedNames") == body["spec"]["names"] and told
        return not named or approval_condition(body, told) is not None

    def _renew(self, name: str, spec: Obj) -> None:
        """Read what is stored as a new or changed definition says: without unknown fields, and with its defaults."""
        is_new, self._specs[name] = name not in self._specs, spec
        stored = next(version for version in spec["versions"] if version.get("storage"))
        node = _kind(spec, stored, self.registry).node

        def shown(body: Obj) -> Obj:
            content = {part: value for part, value in body.items() if part != "metadata"}
            read: Obj = apply_defaults(node, {"metadata": body["metadata"], **decode(node, content, [])})
            return read

        if self.store.renew(name, shown) and not is_new:
            self._renewed.add(name)

    def ready(self, kind: Kind) -> bool:
        """Whether a kind's storage is set up. The first request after a change of its definition does that."""
        if kind.storage not in self._renewed:
            return True
        self._renewed.remove(kind.storage)
        return False

    def retire(self, body: Obj) -> None:
        """Stop serving a definition that is gone."""
        name = body["metadata"]["name"]
        self._specs.pop(name, None)
        self._renewed.discard(name)
        for kind in self._stop(name):
            self.store.drop(kind.storage)

    def _stop(self, name: str) -> list[Kind]:
        kinds = self._served.pop(name, [])
        for kind in kinds:
            self.registry.remove(kind)
        return kinds

    def is_terminating(self, kind: Kind) -> bool:
        """Whether a kind's definition is being deleted."""
        entry = self.store.get(DEFINITIONS, ("", kind.storage))
        return entry is not None and bool(entry.body["metadata"].get("deletionTimestamp"))

    def served(self, name: str) -> list[Kind]:
        """The kinds of a definition."""
        return self._served.get(name, [])


def _kind(spec: Obj, version: Obj, registry: Registry) -> Kind:
    names, subresources = spec["names"], version.get("subresources") or {}
    node = from_openapi(version["schema"]["openAPIV3Schema"], registry.types.node("ObjectMeta"))
    deprecated = f"{spec['group']}/{version['name']} {names['kind']} is deprecated"
    return Kind(
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
        storage=f"{names['plural']}.{spec['group']}",
        status="status" in subresources,
        scale=subresources.get("scale"),
        generation=True,
        custom=True,
        columns=tuple(version.get("additionalPrinterColumns") or ()),
        fields=tuple(one["jsonPath"].lstrip(".") for one in version.get("selectableFields") or ()),
        warning=(version.get("deprecationWarning") or deprecated) if version.get("deprecated") else "",
        verbs=_VERBS,
    )


def check_custom(kind: Kind, body: Obj, old: Obj | None) -> list[Cause]:
    """What a custom kind's schema has against an object."""
    causes = check(kind.node, _for_rules(kind, body), _for_rules(kind, old) if old else None)
    path = (kind.scale or {}).get("specReplicasPath", "")
    at: object = body
    for name in filter(None, path.split(".")):
        if at is not None and not isinstance(at, dict):
            told = f"{path} accessor error: {at} is of the type string, expected map[string]interface{{}}"
            return [*causes, Cause("FieldValueInvalid", path, f"Invalid value: 0: {told}")]
        at = at.get(name) if isinstance(at, dict) else None
    if path and isinstance(at, int) and at < 0:
        causes.append(invalid_value(path, at, "should be a non-negative integer"))
    return causes


def _for_rules(kind: Kind, body: Obj) -> Obj:
    """An object as rules see it: of metadata only the names."""
    metadata = {name: body["metadata"][name] for name in _ROOT_METADATA if name in body["metadata"]}
    return {**body, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}


def hoisted(body: Obj, causes: Sequence[Cause]) -> list[Cause]:
    """The causes with what all versions have in common told once, and not of a version."""
    versions = body["spec"].get("versions") or []
    for part, name in _COMMON.items():
        first = versions[0].get(part) if versions else None
        if first and all(version.get(part) == first for version in versions):
            place, to = re.compile(rf"\bspec\.versions\[\d+\]\.{part}\b"), f"spec.{name}"
            causes = [Cause(one.reason, place.sub(to, one.field), place.sub(to, one.message)) for one in causes]
    return list(dict.fromkeys(causes))


def check_definition(body: Obj, old: Obj | None = None) -> list[Cause]:
    """What is wrong with a definition beyond the rules of its own type. Schemas that are as in `old` are not judged."""
    spec, name = body["spec"], body["metadata"].get("name", "")
    versions, causes = spec.get("versions") or [], []
    if name != f"{spec['names'].get('plural', '')}.{spec.get('group', '')}":
        causes.append(invalid_value("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
    stored = sum(bool(version.get("storage")) for version in versions)
    if stored != 1:
        why = "must have exactly one version marked as storage version"
        causes.append(invalid_value("spec.versions", [one.get("name") for one in versions], why))
    if not stored:
        causes.append(invalid_value("status.storedVersions", None, "must have at least one stored version"))
    judged = (old or {}).get("spec", {}).get("versions") or []
    for index, version in enumerate(versions):
        causes += _version_causes(version, f"spec.versions[{index}]") if version not in judged else []
    return [*causes, *approval_causes(body, old)]


def _version_causes(version: Obj, path: str) -> list[Cause]:
    columns, fields = version.get("additionalPrinterColumns") or [], version.get("selectableFields") or []
    paths = [(f"{path}.additionalPrinterColumns[{index}].JSONPath", one) for index, one in enumerate(columns)]
    paths += [(f"{path}.selectableFields[{index}].jsonPath", one) for index, one in enumerate(fields)]
    return [*_schema_causes(version, path), *(cause for where, one in paths for cause in _path_causes(one, where))]


def _path_causes(column: Obj, where: str) -> list[Cause]:
    try:
        jsonpath.parse(column.get("jsonPath", ""))
    except ValueError as error:
        return [invalid_value(where, column["jsonPath"], str(error))]
    return []


def _schema_causes(version: Obj, path: str) -> list[Cause]:
    schema, path = (version.get("schema") or {}).get("openAPIV3Schema"), f"{path}.schema.openAPIV3Schema"
    if not schema:
        return [required(path)]
    if not schema.get("type"):
        return [required(f"{path}.type", "must not be empty at the root")]
    if schema["type"] != "object":
        return [invalid_value(f"{path}.type", schema["type"], "must be object at the root")]
    names = {"type": "object", "properties": {name: {"type": "string"} for name in _ROOT_METADATA}}
    node = from_openapi(schema, from_openapi(names))
    causes = _structural_causes(schema, node, path, root=True)
    return causes or [_rule_cause(one) for one in check_rules(schema, path)] or compile_rules(node, path)


# The fields of a rule in the API server, whose messages show it so.
_RULE = {"rule": "", "message": "", "messageExpression": "", "reason": None, "fieldPath": "", "optionalOldSelf": None}
_HTML = str.maketrans({letter: f"\\u{ord(letter):04x}" for letter in "<>&"})  # as Go's JSON escapes them


def _rule_cause(problem: Problem) -> Cause:
    if problem.is_cost:
        return forbidden_field(problem.path, problem.message)
    if not isinstance(problem.value, dict):
        return invalid_value(problem.path, problem.value, problem.message)
    shown = {name[0].upper() + name[1:]: problem.value.get(name, default) for name, default in _RULE.items()}
    told = f"Invalid value: {go_value(shown).translate(_HTML)}: {problem.message}"
    return Cause("FieldValueInvalid", problem.path, told)


def _structural_causes(schema: Obj, node: Node, path: str, *, root: bool = False) -> list[Cause]:
    """Where a schema is not structural, and defaults that it would refuse itself."""
    causes: list[Cause] = []
    try:
        re.compile(schema.get("pattern", ""))
    except re.error as error:
        why = f"must be a valid regular expression, but isn't: {error}"
        causes.append(invalid_value(f"{path}.pattern", schema["pattern"], why))
    if schema.get("type", JSON_TYPES[0]) not in JSON_TYPES:
        causes.append(not_supported(f"{path}.type", schema["type"], JSON_TYPES))
    typed = schema.get("type") or schema.get("x-kubernetes-int-or-string")
    if not typed and not schema.get("x-kubernetes-preserve-unknown-fields"):
        causes.append(required(f"{path}.type", "must not be empty for specified object fields"))
    if schema.get("type") == "array" and not schema.get("items"):
        causes.append(required(f"{path}.items", "must be specified"))
    if schema.get("x-kubernetes-list-type") == "map" and not schema.get("x-kubernetes-list-map-keys"):
        why = "must not be empty if x-kubernetes-list-type is map"
        causes.append(required(f"{path}.x-kubernetes-list-map-keys", why))
    for index, rule in enumerate(schema.get(RULES) or ()):
        if not rule.get("rule", "").strip():
            causes.append(required(f"{path}.{RULES}[{index}].rule", "rule is not specified"))
        if rule.get("reason", _REASONS[0]) not in _REASONS:
            causes.append(not_supported(f"{path}.{RULES}[{index}].reason", rule["reason"], sorted(_REASONS)))
    for cause in check_schema(node, schema["default"], "") if "default" in schema else ():
        where = f"{path}.default{'.' if cause.field else ''}{cause.field}"
        causes.append(Cause(cause.reason, where, cause.message))
    for name, sub in (schema.get("properties") or {}).items():
        if name in node.fields and not (root and name == "metadata"):
            causes += _structural_causes(sub, node.fields[name], f"{path}.properties[{name}]")
    for name in ("items", "additionalProperties"):
        if node.items is not None and isinstance(schema.get(name), dict):
            causes += _structural_causes(schema[name], node.items, f"{path}.{name}")
    return causes
